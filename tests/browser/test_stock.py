"""A call without a camera: the page may not use devices, and the browser hides its host addresses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from aioice.ice import get_host_addresses

from gateway.config import McuSection
from gateway.tools.demo import Demo
from mcu import factory
from tests.browser.call_page import CallPage
from tests.browser.chromium import chromium
from tests.browser.conftest import janus
from tests.janus_process import JanusProcess

pytestmark = pytest.mark.full

_HOSTS = r"""[...portunus.call.publishing.connection("video").localDescription.sdp
  .matchAll(/^a=candidate:\S+ \d \w+ \d+ (\S+) /gm)].map(found => found[1])"""


@pytest.fixture
async def mcu(request: pytest.FixtureRequest) -> AsyncIterator[McuSection]:
    """Each SFU on an address of the machine that is not loopback; the first as in ``portunus demo``."""
    async with AsyncExitStack() as stack:
        if request.param == "inprocess":
            yield McuSection(type="inprocess", settings=factory.settings_type("inprocess")())
        else:
            (address, *_) = get_host_addresses(use_ipv4=True, use_ipv6=False)
            yield janus(await stack.enter_async_context(JanusProcess(ICE_INTERFACES=address)))


@pytest.mark.parametrize("mcu", ["inprocess", "janus"], indirect=True)
async def test_a_generated_picture_reaches_a_listener_with_hidden_addresses(demo: Demo) -> None:
    async with chromium(stock=True) as browser:
        ada = await CallPage.open(browser, demo.url)
        await ada.join("Ada", wanted="generated")
        bob = await CallPage.open(browser, demo.url)
        await bob.join("Bob", wanted="listen")
        await bob.until_advances("Ada")
        await ada.until_state("Connected, in the call with 1 other")
        await ada.until("gathered", "portunus.call.publishing.connection('video').iceGatheringState === 'complete'")
        hosts = await ada.page.evaluate(_HOSTS)
        assert hosts
        assert [host for host in hosts if not host.endswith(".local")] == []
        assert ada.problems + bob.problems == []
