"""Many connections resume one session at once, also beside its takeover, and nothing is lost or held twice.

Source: reference 2.6, 4.1; docs/protocol.md, "Acknowledged delivery".
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from gateway.core.acknowledged import FEATURE
from gateway.tools.talk_rooms import nextcloud_session
from tests.abuse.scene import PATIENCE, Scene, running
from tests.gateway.edge.raw_client import CLOSE, TEXT, Json, RawClient

pytestmark = pytest.mark.full

AT_ONCE = 30  # connections that resume the session
ROUNDS = 5
MESSAGES = 20  # to the session in each round
ROOM = "den"


async def test_messages_are_complete_after_many_resumes_at_once(tmp_path: Path) -> None:
    async with running(tmp_path) as scene, scene.undisturbed(memory=64 << 20):
        owner = await scene.attacker("owner", room=ROOM, features=[FEATURE])
        sender = await scene.attacker("sender", room=ROOM)
        for first in range(0, ROUNDS * MESSAGES, MESSAGES):
            racing = [await scene.connect() for _ in range(AT_ONCE)]
            for number, client in enumerate(racing):
                send_resume(client, owner)
                if number < MESSAGES:
                    send_number(sender, owner, first + number)
            pending = {asyncio.create_task(read_to_end(client)) for client in racing}
            done: set[asyncio.Task[list[Json]]] = set()
            while len(done) < AT_ONCE - 1:  # one of them, not necessarily the last one, has the session
                ended, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                done |= ended
            assert all(task.result()[-1]["type"] == "bye" for task in done)
            pending.pop().cancel()
        last = await scene.connect()
        send_resume(last, owner)
        send_number(sender, owner, -1)
        received: list[int] = []
        while not received or received[-1] >= 0:
            message = await last.receive()
            if message["type"] == "message":
                received.append(message["message"]["data"])
        assert received == [*range(ROUNDS * MESSAGES), -1]  # none was acknowledged
        for client in (owner, sender, last, *racing):
            client.writer.transport.abort()
    assert not [line for line in scene.lines if "Traceback" in line or "level=error" in line]


async def test_resumes_beside_a_takeover_leave_one_session(tmp_path: Path) -> None:
    async with running(tmp_path) as scene, scene.undisturbed(memory=64 << 20):
        watcher = await scene.attacker("watcher", room=ROOM)
        owner = await scene.attacker("owner")
        await join(owner)
        for _ in range(ROUNDS):
            heir = await scene.attacker("owner")
            racing = [await scene.connect() for _ in range(AT_ONCE)]
            for number, client in enumerate(racing):
                send_resume(client, owner)
                if number == AT_ONCE // 2:
                    send_join(heir)  # takes the Nextcloud session id of the owner over
            await read(heir, "room")
            ends = await asyncio.gather(*map(read_to_end, racing))
            assert all(end[-1]["type"] in ("bye", "error") for end in ends), ends
            late = await scene.connect()
            send_resume(late, owner)
            assert (await read(late, "error"))[-1]["error"]["code"] == "no_such_session"
            assert await members(scene) == {watcher.session_id, heir.session_id}
            late.writer.transport.abort()
            owner = heir
        for client in (owner, watcher):
            client.writer.transport.abort()
    assert not [line for line in scene.lines if "Traceback" in line or "level=error" in line]


def send_resume(client: RawClient, owner: RawClient) -> None:
    """Resume a session of which nothing was received."""
    client.send({"type": "hello", "hello": {"version": "1.0", "resumeid": owner.resume_id, "received": 0}})


def send_number(sender: RawClient, recipient: RawClient, number: int) -> None:
    """Send a number to a session."""
    to = {"type": "session", "sessionid": recipient.session_id}
    sender.send({"type": "message", "message": {"recipient": to, "data": number}})


def send_join(client: RawClient) -> None:
    """Join with the Nextcloud session id of the owner."""
    client.send({"id": "j", "type": "room", "room": {"roomid": ROOM, "sessionid": nextcloud_session("owner")}})


async def join(client: RawClient) -> None:
    """Join, and wait for the reply."""
    send_join(client)
    await read(client, "room")


async def read(client: RawClient, type: str) -> list[Json]:
    """Read messages up to one of a type."""
    messages = [await client.receive()]
    while messages[-1]["type"] != type:
        messages.append(await client.receive())
    return messages


async def read_to_end(client: RawClient) -> list[Json]:
    """Read messages up to the end of the connection or an error; close the connection."""
    messages: list[Json] = []
    async with asyncio.timeout(PATIENCE):
        while not messages or messages[-1]["type"] != "error":
            opcode, payload = await client.frame()
            if opcode == CLOSE:
                break
            if opcode == TEXT:
                messages.append(json.loads(payload))
    client.writer.transport.abort()
    return messages


async def members(scene: Scene) -> set[str]:
    """Return the members of the room, as a newcomer sees them."""
    newcomer = await scene.attacker("newcomer", room=ROOM)
    newcomer.send({"id": "b", "type": "bye", "bye": {}})
    joins = [message["event"]["join"] for message in await read(newcomer, "bye") if message["type"] == "event"]
    newcomer.writer.transport.abort()
    return {entry["sessionid"] for join in joins for entry in join} - {newcomer.session_id}
