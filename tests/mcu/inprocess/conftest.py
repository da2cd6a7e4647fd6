"""Fixtures of the in-process SFU's tests: an SFU that is ready, aiortc peers on 127.0.0.1, and Chromium."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mcu.inprocess import InprocessSettings
from mcu.inprocess.backend import InprocessMcu
from tests.mcu.inprocess.tabs import chromium, tabs
from tests.media.loopback import loopback

__all__ = ["chromium", "loopback", "tabs"]


@pytest.fixture
async def mcu(loopback: None) -> AsyncIterator[InprocessMcu]:
    """Yield an SFU that is ready."""
    running = InprocessMcu(InprocessSettings(address="127.0.0.1"))
    await running.start(lambda status: None)
    yield running
    await running.stop()
