"""Floods of frames before a hello: they count like messages and do not block the loop (docs/protocol.md, "Limits")."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import pytest

from tests.abuse.scene import Scene, running
from tests.gateway.edge.raw_client import PING, PONG, RawClient, masked

pytestmark = pytest.mark.soak

DURATION = 4.0  # seconds of an attack
CHUNK = 64  # KiB in one write


FRAMES = {
    "ping": masked(b"x" * 10, PING),
    "empty ping": masked(b"", PING),
    "pong": masked(b"x" * 10, PONG),
    "fragment": masked(b"", 0, final=False),  # sent after a first fragment
    "after a protocol error": b"\x81\x01x",
}


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("attackers", [1, 20])
async def test_flood_of_frames_without_a_hello(tmp_path: Path, frame: str, attackers: int) -> None:
    first = masked(b"", final=False) if frame == "fragment" else b""
    async with running(tmp_path) as scene, scene.undisturbed(memory=48 << 20):
        ended = await asyncio.gather(*(flood(scene, FRAMES[frame], first) for _ in range(attackers)))
        assert all(ended)


async def flood(scene: Scene, frame: bytes, first: bytes) -> bool:
    """Send the frame until the connection ends, at most ``DURATION``; return whether it has ended."""
    client = await RawClient.connect(scene.address)
    reading = asyncio.create_task(client.wait_closed())
    end = time.monotonic() + DURATION
    chunk = frame * (CHUNK * 1024 // len(frame))
    client.writer.write(first)
    with contextlib.suppress(ConnectionError):
        while time.monotonic() < end and not reading.done():
            client.writer.write(chunk)
            await client.writer.drain()
            await asyncio.sleep(0)
    ended = reading.done()
    reading.cancel()
    client.writer.transport.abort()
    return ended
