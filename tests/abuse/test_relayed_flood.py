"""Floods of long messages do not end the sessions that receive them (docs/protocol.md, "Limits")."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from pathlib import Path

import pytest

from tests.abuse.scene import running
from tests.abuse.test_internal_clients import read_slowly
from tests.gateway.edge.raw_client import RawClient, masked

pytestmark = pytest.mark.full

DURATION = 3.0  # seconds


@pytest.mark.parametrize("attackers", [1, 20])
async def test_flood_of_long_messages_ends_no_receiver(tmp_path: Path, attackers: int) -> None:
    async with running(tmp_path) as scene, scene.undisturbed(memory=96 << 20):
        reader = await scene.attacker("reader", room="flooded", receive_buffer=65536)
        reading = asyncio.create_task(read_slowly(reader))
        flooders = [await scene.attacker(f"mallory {number}", room="flooded") for number in range(attackers)]
        await asyncio.gather(*map(flood, flooders))
        assert not reading.done(), "the connection of the receiver was closed"
        reading.cancel()
        for client in (reader, *flooders):
            client.writer.transport.abort()


async def flood(client: RawClient) -> None:
    """Send messages of 60 kB as fast as the gateway reads them, and discard the received ones."""
    message = {"type": "message", "message": {"recipient": {"type": "room"}, "data": {"x": "x" * 60_000}}}
    octets = masked(json.dumps(message))
    reading = asyncio.create_task(client.wait_closed())
    end = time.monotonic() + DURATION
    with contextlib.suppress(ConnectionError, TimeoutError):
        while time.monotonic() < end and not reading.done():
            client.writer.write(octets)
            async with asyncio.timeout(end - time.monotonic()):
                await client.writer.drain()
            await asyncio.sleep(0)
    reading.cancel()
