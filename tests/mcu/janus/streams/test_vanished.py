"""Clients that vanish without ending their connections: Janus detects it by consent checks (RFC 7675) since 1.2."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from mcu.base import CloseReason
from tests.janus_process import CURRENT, JanusProcess, select_janus
from tests.mcu.janus.conftest import CAMERA, SCREEN, JanusCall, until_room_count

HANGUP_TIMEOUT = 60.0  # seconds; measured 29


@pytest.fixture
def janus_version() -> Iterator[str]:
    """Run the tests with the current Janus only: 1.1 has no consent checks."""
    with select_janus(CURRENT.version):
        yield CURRENT.version


@pytest.mark.full
@pytest.mark.timeout(120)
async def test_clients_that_vanish_are_hung_up(call: JanusCall, janus: JanusProcess) -> None:
    _, vanishing, published = await call.publish(1)
    _, steady, other = await call.publish(2, key=SCREEN)
    _, left, remaining = await call.subscribe(CAMERA)
    _, watcher, subscribed = await call.subscribe(SCREEN)
    await asyncio.gather(left.wait_for_tone(vanishing.frequency), watcher.wait_for_tone(steady.frequency))
    watcher.cut()
    vanishing.cut()
    assert await subscribed.close_reason(HANGUP_TIMEOUT) is CloseReason.ICE_FAILED
    assert await published.close_reason(HANGUP_TIMEOUT) is CloseReason.ICE_FAILED
    assert await remaining.close_reason() is CloseReason.PUBLISHER_GONE
    assert other.closed == []
    await until_room_count(janus, 1)
