"""Floods of WebSocket frames before and after a hello: they count as messages and do not block the event loop.

Source: docs/protocol.md, "Limits".
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from tests.abuse.scene import running
from tests.gateway.edge.raw_client import PING, PONG, RawClient, masked

pytestmark = pytest.mark.full

DURATION = 2.0  # seconds of a flood
CLOSE_TIMEOUT = 20.0  # seconds from the end of a flood until the client has received the end of its connection
CHUNK = 64  # KiB in one write
ATTACKERS = 10  # clients for each entry of ``FRAMES``

# The frame that a client sends again and again. All but the last are valid.
FRAMES = {
    "ping": masked(b"x" * 10, PING),
    "empty ping": masked(b"", PING),
    "pong": masked(b"x" * 10, PONG),
    "continuation": masked(b"", 0, final=False),  # after the first fragment of a message
    "unmasked": b"\x81\x01x",  # a protocol error (RFC 6455, 5.1), which ends the connection at once
}


async def test_flood_of_frames_before_a_hello_ends_its_connection(tmp_path: Path) -> None:
    async with running(tmp_path) as scene, scene.undisturbed(memory=48 << 20):
        names = [name for name in FRAMES for _ in range(ATTACKERS)]
        ended = await asyncio.gather(*[flood(await scene.connect(), name) for name in names])
        assert all(ended)
        # The limit ended the connections, not the time limit for a hello; the unmasked frames did not count.
        assert await scene.limits_met("messages_before_hello") == ATTACKERS * (len(FRAMES) - 1)


async def test_flood_of_frames_in_a_session_ends_its_connection(tmp_path: Path) -> None:
    async with running(tmp_path) as scene, scene.undisturbed(memory=48 << 20):
        names = [name for name in FRAMES for _ in range(ATTACKERS)]
        attackers = [await scene.attacker(f"mallory {number}", room="flooded") for number in range(len(names))]
        ended = await asyncio.gather(*map(flood, attackers, names))
        assert all(ended)
        assert await scene.limits_met("messages_per_second") == ATTACKERS * (len(FRAMES) - 1)


async def flood(client: RawClient, name: str) -> bool:
    """Send one of ``FRAMES`` for ``DURATION`` or until the connection ends; return whether the gateway has ended it."""
    frame = FRAMES[name]
    first_fragment = masked(b"", final=False) if name == "continuation" else b""
    reading = asyncio.create_task(client.wait_closed())
    chunk = frame * (CHUNK * 1024 // len(frame))
    client.writer.write(first_fragment)
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(DURATION):
            while not reading.done():
                client.writer.write(chunk)
                await client.writer.drain()
                await asyncio.sleep(0)
    # A write may have failed before the reading task has received the end of the connection.
    await asyncio.wait([reading], timeout=CLOSE_TIMEOUT)
    ended = reading.done()
    reading.cancel()
    client.writer.transport.abort()
    return ended
