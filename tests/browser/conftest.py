"""Each SFU behind a demo gateway, and Chromium in front of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from playwright.async_api import Browser

from gateway.config import McuSection
from gateway.tools.demo import Demo
from mcu import factory
from mcu.janus.settings import JanusServerSettings
from tests.browser.chromium import CAMERA_GRANTED, FAKE_DEVICES, chromium
from tests.janus_process import ADMIN_KEY, API_SECRET, JanusProcess


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Run Chromium with a fake camera and microphone, and the permission to use them."""
    async with chromium(FAKE_DEVICES, CAMERA_GRANTED) as running:
        yield running


@pytest.fixture(params=["inprocess", "janus"])
async def mcu(request: pytest.FixtureRequest) -> AsyncIterator[McuSection]:
    """Yield the settings of each SFU in turn."""
    async with AsyncExitStack() as stack:
        yield inprocess() if request.param == "inprocess" else janus(await stack.enter_async_context(JanusProcess()))


@pytest.fixture
async def demo(mcu: McuSection) -> AsyncIterator[Demo]:
    """Run a demo gateway with each SFU in turn."""
    async with demo_with(mcu) as running:
        yield running


@pytest.fixture
async def inprocess_demo() -> AsyncIterator[Demo]:
    """Run a demo gateway with the in-process SFU, for tests that do not depend on the SFU."""
    async with demo_with(inprocess()) as running:
        yield running


@asynccontextmanager
async def demo_with(mcu: McuSection) -> AsyncIterator[Demo]:
    """Run a demo gateway with an SFU on a free port."""
    running = Demo("127.0.0.1", 0, mcu)
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


def inprocess() -> McuSection:
    """Return the settings of the in-process SFU on loopback."""
    return McuSection(type="inprocess", settings=factory.settings_type("inprocess")(address="127.0.0.1"))


def janus(process: JanusProcess) -> McuSection:
    """Return the settings of a running Janus."""
    server = JanusServerSettings(url=process.url, api_secret=API_SECRET, admin_key=ADMIN_KEY)
    return McuSection(type="janus", settings=(server,))
