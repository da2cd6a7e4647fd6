"""Many members of a room that flood it at once end no other session, whichever messages they send.

Source: docs/protocol.md, "Limits".
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.tools.talk_answers import NextcloudRoom
from gateway.tools.talk_client import Json
from tests.abuse.scene import running
from tests.abuse.test_internal_clients import read_slowly
from tests.gateway.edge.raw_client import RawClient, masked

pytestmark = pytest.mark.full

ROOM = "flooded"
DURATION = 4.0  # seconds
FLOODERS = 4  # of each form


def transient_keys(number: int, reader_id: str) -> list[Json]:
    """Return messages that set and remove an entry whose key is long and whose value is short."""
    key = f"{number % 100}".ljust(1000, "k")
    return [
        {"type": "transient", "transient": {"type": "set", "key": key, "value": number}},
        {"type": "transient", "transient": {"type": "remove", "key": key}},
    ]


def transient_values(number: int, reader_id: str) -> list[Json]:
    """Return a message that replaces a long value by another one."""
    return [
        {"type": "transient", "transient": {"type": "set", "key": "k", "value": [number, "x" * 50_000], "ttl": 10**7}}
    ]


def control_to(recipient: Callable[[str], Json], size: int) -> Callable[[int, str], list[Json]]:
    """Return a form of flood: ``control`` messages with data of ``size`` characters to a recipient."""
    return lambda number, reader_id: [
        {"type": "control", "control": {"recipient": recipient(reader_id), "data": {"n": number, "x": "x" * size}}}
    ]


def messages_to_a_user(number: int, reader_id: str) -> list[Json]:
    """Return a message to all sessions of a user."""
    recipient = {"type": "user", "userid": "reader"}
    return [{"type": "message", "message": {"recipient": recipient, "data": {"n": number, "x": "x" * 20_000}}}]


FORMS: tuple[Callable[[int, str], list[Json]], ...] = (
    transient_keys,
    transient_values,
    control_to(lambda reader_id: {"type": "room"}, 20_000),
    control_to(lambda reader_id: {"type": "call"}, 10),
    control_to(lambda reader_id: {"type": "session", "sessionid": reader_id}, 100),
    messages_to_a_user,
)


async def test_flooding_members_end_no_other_session(tmp_path: Path) -> None:
    async with running(tmp_path) as scene, scene.undisturbed(memory=96 << 20):
        scene.cloud.rooms[ROOM] = NextcloudRoom(permissions=["transient-data", "control", "publish-media"])
        readers = [await scene.attacker("reader", room=ROOM, receive_buffer=65536) for _ in range(3)]
        reading = [asyncio.create_task(read_slowly(reader)) for reader in readers]
        flooders = [
            (await scene.attacker(f"mallory {number}", room=ROOM), form) for number in range(FLOODERS) for form in FORMS
        ]
        reader_id = readers[0].session_id
        await asyncio.gather(*(flood(client, form, reader_id) for client, form in flooders))
        assert not any(task.done() for task in reading), "the connection of a reader was closed"
        assert await scene.limits_met("relayed_bytes_per_second") > 0
        for task in reading:
            task.cancel()
        for client in (*readers, *(client for client, _ in flooders)):
            client.writer.transport.abort()


async def flood(client: RawClient, form: Callable[[int, str], list[Json]], reader_id: str) -> None:
    """Send messages as fast as the gateway reads them, and discard the received ones."""
    reading = asyncio.create_task(client.wait_closed())
    end, number = time.monotonic() + DURATION, 0
    with contextlib.suppress(ConnectionError, TimeoutError):
        while time.monotonic() < end and not reading.done():
            for message in form(number, reader_id):
                client.writer.write(masked(json.dumps(message)))
            async with asyncio.timeout(end - time.monotonic()):
                await client.writer.drain()
            number += 1
            await asyncio.sleep(0)
    reading.cancel()
