"""Many short connections and requests do not delay other clients (docs/protocol.md, "Limits")."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from tests.abuse.scene import PATIENCE, Scene, running
from tests.gateway.edge.raw_client import RawClient, masked

pytestmark = pytest.mark.full

DURATION = 2.0  # seconds of an attack
FLOODERS = 20

Attack = Callable[[Scene], Awaitable[None]]


async def repeat(scene: Scene, attack: Attack) -> None:
    """Run the attack again and again for ``DURATION``."""
    end = time.monotonic() + DURATION
    while time.monotonic() < end:
        with contextlib.suppress(ConnectionError, TimeoutError, asyncio.IncompleteReadError, aiohttp.ClientError):
            await attack(scene)


async def connect_and_send_junk(scene: Scene) -> None:
    """Open a connection, and send invalid messages until it is closed."""
    async with await scene.connect() as client:
        client.writer.write(masked("{") * 200)
        await client.wait_closed()


async def send_pipelined_requests(scene: Scene) -> None:
    """Send 50 requests on one TCP connection without waiting for the responses."""
    reader, writer = await asyncio.open_connection(*scene.address)
    writer.write(b"GET /api/v1/welcome HTTP/1.1\r\nHost: h\r\n\r\n" * 50)
    for _ in range(50):
        await reader.readuntil(b"}\n")
    writer.transport.abort()


async def post_junk(scene: Scene) -> None:
    """Open a long-polling connection, and post numbers instead of messages."""
    async with aiohttp.ClientSession() as http:
        async with http.post(scene.url + "/spreed/poll") as opened:
            secret = (await opened.json())["secret"]
        body = json.dumps({"messages": [1] * 50_000})
        for _ in range(5):
            async with http.post(
                scene.url + "/spreed/poll", data=body, headers={"Spreed-Signaling-Poll": secret}
            ) as answer:
                if answer.status != 200:
                    return


async def guess_resume_ids(scene: Scene) -> None:
    """Open a connection and guess resume ids until it is closed."""
    async with await scene.connect() as client:
        hello = {"type": "hello", "hello": {"version": "1.0", "resumeid": "A" * 48}}
        client.writer.write(masked(json.dumps(hello)) * 100)
        await client.wait_closed()


async def test_short_connections_and_requests_delay_no_other_client(tmp_path: Path) -> None:
    attacks = (connect_and_send_junk, send_pipelined_requests, post_junk, guess_resume_ids)
    async with running(tmp_path) as scene, scene.undisturbed(memory=48 << 20):
        await asyncio.gather(*(repeat(scene, attack) for attack in attacks for _ in range(15)))


@pytest.mark.parametrize("recipient", ["room", "session"])
async def test_floods_of_short_messages_delay_no_other_client(tmp_path: Path, recipient: str) -> None:
    """Messages to a room wait for its other members; those to a single session end the connection that sends them."""
    async with running(tmp_path) as scene, scene.undisturbed(memory=64 << 20):
        flooders = [await scene.attacker(f"mallory {number}", room="flooded") for number in range(FLOODERS)]
        to = {"type": recipient, "sessionid": "A" * 48} if recipient == "session" else {"type": recipient}
        octets = masked(json.dumps({"type": "message", "message": {"recipient": to, "data": 1}})) * 500
        limit = DURATION if recipient == "room" else PATIENCE
        ended = await asyncio.gather(*(flood(client, octets, limit) for client in flooders))
        assert ended == [recipient == "session"] * FLOODERS
        assert await scene.limits_met("messages_per_second") == sum(ended)


async def flood(client: RawClient, octets: bytes, limit: float) -> bool:
    """Send octets for ``limit`` seconds, or until the gateway has ended the connection; return whether it has."""
    reading = asyncio.create_task(client.wait_closed())
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit):
            with contextlib.suppress(ConnectionError):
                while not reading.done():
                    client.writer.write(octets)
                    await client.writer.drain()  # the gateway reads from a slowed client late
                    await asyncio.sleep(0)
            await asyncio.wait([reading])  # a write may have failed before the end was received
    ended = reading.done()
    reading.cancel()
    client.writer.transport.abort()
    return ended
