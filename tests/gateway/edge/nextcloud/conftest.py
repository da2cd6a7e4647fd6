"""Fixtures of the tests of requests to Nextcloud."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.tools.fake_nextcloud import FakeNextcloud
from tests.gateway.manual_clock import ManualClock


@pytest.fixture
async def cloud() -> AsyncIterator[FakeNextcloud]:
    async with FakeNextcloud() as fake:
        yield fake


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1000.0)
