"""Floods of internal clients end no member of the room and delay no other client (docs/protocol.md, "Limits")."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.tools.talk_client import Json
from gateway.wire import checksum
from tests.abuse.scene import Scene, running
from tests.gateway.edge.raw_client import RawClient, masked

pytestmark = pytest.mark.full

SECRET = "0123456789abcdef" * 2
CONFIGURATION = f'[internal]\nsecret = "{SECRET}"\n'
DURATION = 4.0  # seconds
VIRTUALS = 40  # virtual sessions of each internal client
READ_RATE = 2_500_000  # bytes per second of a slow member
ROOM = "den"


def request(type: str, name: str, **fields: Any) -> Json:
    """Return a request about a virtual session."""
    return {
        "id": name,
        "type": "internal",
        "internal": {"type": type, type: {"sessionid": name, "roomid": ROOM, **fields}},
    }


def change_flags(number: int) -> list[Json]:
    return [request("updatesession", f"phone {number % VIRTUALS}", flags=1 + number // VIRTUALS % 2)]


def change_call_flags(number: int) -> list[Json]:
    return [request("updatesession", f"phone {number % VIRTUALS}", incall=1 + number // VIRTUALS % 2)]


def add_and_remove(number: int) -> list[Json]:
    name = f"further phone {number}"
    return [request("addsession", name, userid="x" * 500, flags=1), request("removesession", name)]


def join_and_leave(number: int) -> list[Json]:
    return [{"type": "room", "room": {"roomid": ROOM if number % 2 else ""}}]


def add_with_long_names(number: int) -> list[Json]:
    return [request("addsession", f"{number}".ljust(20_000, "x"), userid="x" * 20_000)]


FLOODS: tuple[Callable[[int], list[Json]], ...] = (
    change_flags,
    change_call_flags,
    add_and_remove,
    join_and_leave,
    add_with_long_names,
)


async def test_floods_about_virtual_sessions_end_no_member(tmp_path: Path) -> None:
    async with running(tmp_path, CONFIGURATION) as scene, scene.undisturbed(memory=64 << 20):
        member = await scene.attacker("member", room=ROOM, receive_buffer=65536)
        reading = asyncio.create_task(read_slowly(member))
        in_call = [{"sessionId": member.session_id, "inCall": 7}]
        body = {"type": "incall", "incall": {"incall": 7, "changed": in_call, "users": in_call}}
        assert (await scene.cloud.send(scene.url, ROOM, body))[0] == 200
        bridges = [await internal_client(scene) for _ in FLOODS]
        for bridge in bridges:
            for number in range(VIRTUALS):
                bridge.send(request("addsession", f"phone {number}", incall=1))
            bridge.send({"id": "end", "type": "message"})
            while (await bridge.receive()).get("id") != "end":
                pass
        await asyncio.gather(*(flood(bridge, messages) for bridge, messages in zip(bridges, FLOODS, strict=True)))
        assert not reading.done(), "the connection of a member was closed"
        assert await scene.limits_met("relayed_bytes_per_second") > 0
        assert await scene.limits_met("id_length") > 0
        reading.cancel()
        for client in (member, *bridges):
            client.writer.transport.abort()


async def internal_client(scene: Scene) -> RawClient:
    """Open the session of an internal client."""
    client = await scene.connect()
    await client.receive()  # welcome
    params = {"random": "r" * 32, "token": checksum.sign(SECRET, "r" * 32, b""), "backend": scene.cloud.url}
    client.send({"type": "hello", "hello": {"version": "1.0", "auth": {"type": "internal", "params": params}}})
    assert (await client.receive())["type"] == "hello"
    return client


async def flood(client: RawClient, messages: Callable[[int], list[Json]]) -> None:
    """Send messages as fast as the gateway reads them, and discard the received ones."""
    reading = asyncio.create_task(client.wait_closed())
    end, number = time.monotonic() + DURATION, 0
    with contextlib.suppress(ConnectionError, TimeoutError):
        while time.monotonic() < end and not reading.done():
            for message in messages(number):
                client.writer.write(masked(json.dumps(message)))
            async with asyncio.timeout(end - time.monotonic()):
                await client.writer.drain()
            number += 1
            await asyncio.sleep(0)
    reading.cancel()


async def read_slowly(client: RawClient) -> None:
    """Read at ``READ_RATE`` until the connection ends."""
    while octets := await client._reader.read(50_000):  # noqa: ASYNC110 - the pause is the rate
        await asyncio.sleep(len(octets) / READ_RATE)
