"""Floods of sessions in one room, in every form that reaches others, end no session (docs/protocol.md, "Limits")."""

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


def transient_keys(number: int, reader: str) -> list[Json]:
    """Set and remove an entry whose key is long and whose value is short."""
    key = f"{number % 100}".ljust(1000, "k")
    return [
        {"type": "transient", "transient": {"type": "set", "key": key, "value": number}},
        {"type": "transient", "transient": {"type": "remove", "key": key}},
    ]


def transient_values(number: int, reader: str) -> list[Json]:
    """Replace a long value by another one."""
    return [
        {"type": "transient", "transient": {"type": "set", "key": "k", "value": [number, "x" * 50_000], "ttl": 10**7}}
    ]


def control_of(recipient: Callable[[str], Json], size: int) -> Callable[[int, str], list[Json]]:
    """Return a flood of ``control`` messages with data of ``size`` characters to a recipient."""
    return lambda number, reader: [
        {"type": "control", "control": {"recipient": recipient(reader), "data": {"n": number, "x": "x" * size}}}
    ]


def messages_to_a_user(number: int, reader: str) -> list[Json]:
    """Send to all sessions of a user."""
    recipient = {"type": "user", "userid": "reader"}
    return [{"type": "message", "message": {"recipient": recipient, "data": {"n": number, "x": "x" * 20_000}}}]


FORMS: tuple[Callable[[int, str], list[Json]], ...] = (
    transient_keys,
    transient_values,
    control_of(lambda reader: {"type": "room"}, 20_000),
    control_of(lambda reader: {"type": "call"}, 10),
    control_of(lambda reader: {"type": "session", "sessionid": reader}, 100),
    messages_to_a_user,
)


async def test_floods_in_every_form_that_reaches_others(tmp_path: Path) -> None:
    async with running(tmp_path) as scene, scene.undisturbed(memory=96 << 20):
        scene.cloud.rooms[ROOM] = NextcloudRoom(permissions=["transient-data", "control", "publish-media"])
        readers = [await scene.attacker("reader", room=ROOM, receive_buffer=65536) for _ in range(3)]
        reading = [asyncio.create_task(read_slowly(reader)) for reader in readers]
        flooders = [
            (await scene.attacker(f"mallory {number}", room=ROOM), form) for number in range(FLOODERS) for form in FORMS
        ]
        to = readers[0].session_id
        await asyncio.gather(*(flood(client, form, to) for client, form in flooders))
        assert not any(task.done() for task in reading), "a receiver was ended"
        assert await scene.limits_met("relayed_bytes_per_second") > 0
        for task in reading:
            task.cancel()
        for client in (*readers, *(client for client, _ in flooders)):
            client.writer.transport.abort()


async def flood(client: RawClient, form: Callable[[int, str], list[Json]], reader: str) -> None:
    """Send messages as fast as the gateway reads them, and drop all that is received."""
    reading = asyncio.create_task(client.wait_closed())
    end, number = time.monotonic() + DURATION, 0
    with contextlib.suppress(ConnectionError, TimeoutError):
        while time.monotonic() < end and not reading.done():
            for message in form(number, reader):
                client.writer.write(masked(json.dumps(message)))
            async with asyncio.timeout(end - time.monotonic()):
                await client.writer.drain()
            number += 1
            await asyncio.sleep(0)
    reading.cancel()
