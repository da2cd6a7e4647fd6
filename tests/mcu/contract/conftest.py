"""Runs every test of the contract on each SFU."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.mcu.contract.sfus import Sfu, open_sfu
from tests.media.loopback import loopback

__all__ = ["loopback"]

SFUS = ("inprocess", "janus", pytest.param("two-janus", marks=pytest.mark.full))


@pytest_asyncio.fixture(params=SFUS)
async def sfu(request: pytest.FixtureRequest, loopback: None) -> AsyncIterator[Sfu]:
    """Return an SFU that is ready; nothing is on it."""
    async with open_sfu(request.param) as opened:
        yield opened
