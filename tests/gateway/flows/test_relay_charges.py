"""A relayed message is charged to the sessions that get it, once.

Source: docs/protocol.md, "Limits".
"""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.limits import Limits
from gateway.core.outbox_totals import sessions_to_end
from tests.gateway.flows.harness import Json
from tests.gateway.flows.limited_calls import beside_a_call, limits_met

ACK = ("ack",)
LONG = "x" * 25_000


@pytest.mark.parametrize("recipient", ["session", "user", "other room"])
async def test_messages_that_nobody_gets_count_as_relayed_to_nobody(recipient: str) -> None:
    async with beside_a_call(Limits(outbox_bytes_room=400_000)) as harness:
        mallory = await harness.member("mallory", features=ACK)
        victim = await harness.member("victim", "other", features=ACK)
        to: dict[str, Json] = {
            "session": {"type": "session", "sessionid": mallory.sessionid},
            "user": {"type": "user", "userid": "victim"},
            "other room": {"type": "session", "sessionid": victim.sessionid},
        }
        for _ in range(20):
            mallory.send({"type": "control", "control": {"recipient": to[recipient], "data": "x" * 50_000}})
            mallory.send_message(to[recipient], {"type": "control", "x": "x" * 50_000})
        for client in (mallory, victim):
            assert client.session.relay_budget.relayed == 0
        assert limits_met(harness).get("outbox_bytes_room", 0) == 0
        for _ in range(5):
            mallory.send({"id": "x" * 50_000, "type": "message"})
        assert sessions_to_end([mallory.session, victim.session], 200_000) == [mallory.session]


async def test_message_to_a_user_that_waits_for_one_session_is_charged_to_none() -> None:
    async with beside_a_call(Limits(relayed_bytes_per_second=1000, relayed_bytes_burst=20_000)) as harness:
        alice = await harness.member("alice")
        first, second = [await harness.hello("bob", features=ACK) for _ in range(2)]
        alice.send_message(second, LONG)
        for client in (first, second):
            client.received()
        alice.send_message({"type": "user", "userid": "bob"}, "x" * 9000)
        await asyncio.sleep(3)
        assert first.received() == second.received() == []
        await asyncio.sleep(7)
        assert len(first.received()) == len(second.received()) == 1
        alice.send_message(first, "x" * 9000)
        assert len(first.received()) == 1
