"""Runs each test of the contract on every SFU."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.mcu.contract.sfus import PARAMETERS, Sfu, open_sfu
from tests.media.loopback import loopback

__all__ = ["loopback"]


@pytest_asyncio.fixture(params=PARAMETERS)
async def sfu(request: pytest.FixtureRequest, loopback: None) -> AsyncIterator[Sfu]:
    """Yield an SFU that accepts streams and has none."""
    async with open_sfu(request.param) as opened:
        yield opened
