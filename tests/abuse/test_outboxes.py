"""Outboxes that fill up together: attackers are slowed down or end, nobody else (docs/operations.md, "Limits")."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

import pytest

from gateway.core.acknowledged import FEATURE
from gateway.tools.talk_client import ACK_EVERY, TalkClient
from tests.abuse.scene import PATIENCE, Scene, running
from tests.gateway.edge.raw_client import RawClient, masked

pytestmark = pytest.mark.full

TOTAL = 10 << 20  # bytes in the outboxes of all sessions
ATTACKERS = 6  # clients that never acknowledge a message
MESSAGES = 100  # of each, of 60 kB: its answers are less than its own outbox may hold
MEMBER_MESSAGES = 2 * ACK_EVERY + 8  # to the member; the last ones wait for its next acknowledgement
AWAY = 8  # members that have lost their connections
FLOOD = 30  # messages of 60 kB to each of them, in all more than the total
CONFIGURATION = f"[limits]\noutbox_bytes_process = {TOTAL}\nbytes_per_second = 0\nrelayed_bytes_per_second = 0\n"
END = {"id": "end", "type": "message"}  # is answered with an error when all messages before it are handled


async def test_clients_that_never_acknowledge_are_ended_before_all_others(tmp_path: Path) -> None:
    async with (
        running(tmp_path, CONFIGURATION) as scene,
        scene.undisturbed(memory=96 << 20),
        TalkClient(scene.url, scene.cloud.url, features=(FEATURE,)) as member,
    ):
        await member.hello(scene.cloud.ticket("member"))
        await member.join("den")
        attackers = [
            await scene.attacker(f"mallory {number}", room="den", features=[FEATURE]) for number in range(ATTACKERS)
        ]
        open_ones = {asyncio.create_task(client.wait_closed()) for client in attackers}
        sender = await scene.attacker("mallory", room="den")
        await send_all(sender, long_message(member.session_id) * MEMBER_MESSAGES)
        refused = masked(json.dumps({"id": "x" * 60_000, "type": "message"}))  # is answered with an error of this id
        for client in attackers:
            client.writer.write(refused * MESSAGES)
        async with asyncio.timeout(PATIENCE):
            while not await scene.limits_met("outbox_bytes_process"):  # noqa: ASYNC110 - checked once a second
                await asyncio.sleep(0.05)
            while ATTACKERS - len(open_ones) < await scene.limits_met("outbox_bytes_process"):
                _, open_ones = await asyncio.wait(open_ones, return_when=asyncio.FIRST_COMPLETED)
        await member.request("room", {"roomid": ""})  # its session is still open
        assert sum(message["type"] == "message" for message in member.messages) == MEMBER_MESSAGES
        for task in open_ones:
            task.cancel()
        for client in (*attackers, sender):
            client.writer.transport.abort()


async def test_senders_that_fill_the_outboxes_of_members_away_wait_and_end_no_session(tmp_path: Path) -> None:
    async with running(tmp_path, CONFIGURATION) as scene, scene.undisturbed(memory=96 << 20):
        members = [await scene.attacker(f"member {number}", room="den", receive_buffer=65536) for number in range(AWAY)]
        slow, *away = members  # the first one reads nothing for a while
        for member in away:
            member.writer.transport.abort()
        senders = [await scene.attacker(f"mallory {number}", room="den") for number in range(2)]
        flood = b"".join(long_message(member.session_id) for member in members) * (FLOOD // len(senders))
        sending = [asyncio.create_task(send_all(sender, flood)) for sender in senders]
        async with asyncio.timeout(PATIENCE):
            while await scene.limits_met("outbox_bytes_process") < len(senders):  # noqa: ASYNC110 - of the metrics
                await asyncio.sleep(0.05)
        assert not any(task.done() for task in sending)
        returned = [await resume(scene, member) for member in away]
        async with asyncio.timeout(PATIENCE):
            counts = await asyncio.gather(*(count_messages(client, FLOOD) for client in (slow, *returned)))
            await asyncio.gather(*sending)
        assert counts == [FLOOD] * AWAY
        for client in (slow, *returned, *senders):
            client.writer.transport.abort()
        assert not [line for line in scene.lines if "its outbox is full" in line]


async def send_all(sender: RawClient, octets: bytes) -> None:
    """Send messages; return when the gateway has handled all of them."""
    sender.writer.write(octets)
    sender.send(END)
    while (await sender.receive()).get("id") != END["id"]:
        pass


async def resume(scene: Scene, member: RawClient) -> RawClient:
    """Resume the session of a member that has lost its connection."""
    client = await scene.connect()
    client.send({"type": "hello", "hello": {"version": "1.0", "resumeid": member.resume_id}})
    while (reply := await client.receive())["type"] != "hello":
        assert reply["type"] == "welcome", reply
    assert reply["hello"]["sessionid"] == member.session_id
    return client


async def count_messages(client: RawClient, expected: int) -> int:
    """Count the long messages that a client receives, up to the expected number."""
    count = 0
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while count < expected:
            count += (await client.receive())["type"] == "message"
    return count


def long_message(session_id: str) -> bytes:
    """Return the frame of a message of 60 kB to a session."""
    body = {"recipient": {"type": "session", "sessionid": session_id}, "data": {"x": "x" * 60_000}}
    return masked(json.dumps({"type": "message", "message": body}))
