"""Floods of frames before a hello: they count like messages and do not block the loop (docs/protocol.md, "Limits")."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from tests.abuse.scene import Scene, running
from tests.gateway.edge.raw_client import PING, PONG, masked

pytestmark = pytest.mark.full

DURATION = 2.0  # seconds of an attack
LAST_WAIT = 20.0  # seconds within which the end of the connection is noticed
CHUNK = 64  # KiB in one write
ATTACKERS = 10  # of each form


FRAMES = {
    "ping": masked(b"x" * 10, PING),
    "empty ping": masked(b"", PING),
    "pong": masked(b"x" * 10, PONG),
    "fragment": masked(b"", 0, final=False),  # sent after a first fragment
    "after a protocol error": b"\x81\x01x",
}


async def test_flood_of_frames_without_a_hello(tmp_path: Path) -> None:
    async with running(tmp_path) as scene, scene.undisturbed(memory=48 << 20):
        ended = await asyncio.gather(*(flood(scene, form) for form in FRAMES for _ in range(ATTACKERS)))
        assert all(ended)
        # by the limit, and not by the time limit for a hello; the last form is a protocol error
        assert await scene.met("messages_before_hello") == ATTACKERS * (len(FRAMES) - 1)


async def flood(scene: Scene, form: str) -> bool:
    """Send frames of a form for ``DURATION`` or until the connection ends; return whether the gateway has ended it."""
    frame, first = FRAMES[form], masked(b"", final=False) if form == "fragment" else b""
    client = await scene.connect()
    reading = asyncio.create_task(client.wait_closed())
    chunk = frame * (CHUNK * 1024 // len(frame))
    client.writer.write(first)
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(DURATION):
            while not reading.done():
                client.writer.write(chunk)
                await client.writer.drain()
                await asyncio.sleep(0)
    # The end may be noticed by a write before it is noticed by the reading task.
    await asyncio.wait([reading], timeout=LAST_WAIT)
    ended = reading.done()
    reading.cancel()
    client.writer.transport.abort()
    return ended
