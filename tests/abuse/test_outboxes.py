"""Outboxes that fill up together: the sessions with the largest ones end first (docs/operations.md, "Limits")."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from gateway.core.acknowledged import FEATURE
from gateway.tools.talk_client import ACK_EVERY, TalkClient
from tests.abuse.scene import PATIENCE, running
from tests.gateway.edge.raw_client import masked

pytestmark = pytest.mark.full

TOTAL = 10 << 20  # bytes in the outboxes of all sessions
ATTACKERS = 6  # clients that never acknowledge a message
MESSAGES = 110  # to each, of 60 kB: less than its own outbox may hold
MEMBER_MESSAGES = 2 * ACK_EVERY + 8  # to the member; the last ones wait for its next acknowledgement
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
        counts = {client.session_id: MESSAGES for client in attackers} | {member.session_id: MEMBER_MESSAGES}
        for session_id, count in counts.items():
            sender.writer.write(long_message(session_id) * count)
            await sender.writer.drain()
        sender.send(END)
        while (await sender.receive()).get("id") != END["id"]:
            pass
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


def long_message(session_id: str) -> bytes:
    """Return the frame of a message of 60 kB to a session."""
    body = {"recipient": {"type": "session", "sessionid": session_id}, "data": {"x": "x" * 60_000}}
    return masked(json.dumps({"type": "message", "message": body}))
