"""Limits of internal clients: floods of their requests neither end the members of a room nor fill the memory.

Source: docs/protocol.md, "Limits"; reference 11.2.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.core.limits import Limits
from tests.gateway.flows.harness import FakeClient, FlowHarness, Json
from tests.gateway.flows.virtual_time import settle

LIMITS = Limits(relayed_bytes_burst=20_000, relayed_bytes_per_second=1000)


def send_request(bridge: FakeClient, type: str, name: str = "phone", room: str = "r", **fields: Any) -> None:
    """Send a request about a virtual session."""
    bridge.send_internal(type, id=name, sessionid=name, roomid=room, **fields)


async def call_with_phones(harness: FlowHarness, phones: int = 1) -> tuple[FakeClient, FakeClient]:
    """Return a member of a call in room ``r``, and an internal client with virtual sessions there."""
    harness.change_settings(limits=LIMITS)
    alice, bridge = await harness.member("alice", in_call=True), await harness.internal_hello()
    listed = {"sessionId": "nc-alice", "inCall": 7}
    harness.rooms_api("r", {"type": "incall", "incall": {"changed": [listed], "users": [listed]}})
    for number in range(phones):
        send_request(bridge, "addsession", f"phone {number}", incall=0)
        await settle()
    alice.received()
    await asyncio.sleep(20)  # the budget is full again
    return alice, bridge


def change_flags(bridge: FakeClient, number: int) -> None:
    send_request(bridge, "updatesession", "phone 0", flags=number)


def change_call_flags(bridge: FakeClient, number: int) -> None:
    send_request(bridge, "updatesession", "phone 0", incall=number)


def change_own_call_flags(bridge: FakeClient, number: int) -> None:
    bridge.send_internal("incall", incall=number)


def join_or_leave(bridge: FakeClient, number: int) -> None:
    bridge.join("r" if number % 2 else "")


def add_session(bridge: FakeClient, number: int) -> None:
    send_request(bridge, "addsession", f"further phone {number}")


@pytest.mark.parametrize("change", [change_flags, change_call_flags, change_own_call_flags, join_or_leave, add_session])
async def test_floods_of_events_are_slowed_down_and_none_is_lost(change: Any) -> None:
    async with FlowHarness() as harness:
        alice, bridge = await call_with_phones(harness, phones=5)
        if change is change_own_call_flags:
            join_or_leave(bridge, 1)
        written = len(alice.connection.written)
        for number in range(1, 401):
            change(bridge, number)
        await settle()
        at_once = sum(map(len, alice.connection.written[written:]))
        assert 10_000 < at_once < 45_000  # at most twice the burst
        assert bridge.connection.paused
        await asyncio.sleep(10)
        later = sum(map(len, alice.connection.written[written:]))
        assert at_once + 5000 < later < at_once + 20_000
        assert alice.session.open
        assert harness.counters.limits_met["relayed_bytes_per_second"] > 0


async def test_flood_of_events_delays_neither_messages_of_the_room_nor_another_internal_client() -> None:
    async with FlowHarness() as harness:
        alice, bridge = await call_with_phones(harness)
        bob, other = await harness.member("bob", "elsewhere"), await harness.internal_hello()
        for number in range(1, 401):
            change_flags(bridge, number)
        send_request(other, "addsession", "phone", "elsewhere")
        await settle()
        alice.received()
        bob.received()
        carol = await harness.member("carol")
        alice.received()
        carol.send_message({"type": "room"}, {"type": "x", "padding": "x" * 9000})
        send_request(other, "updatesession", "phone", "elsewhere", flags=1)
        await settle()
        assert len(alice.data()) == 1
        assert [message["event"]["type"] for message in bob.received()] == ["flags"]


# reference 11.2-e
@pytest.mark.parametrize(
    "fields",
    [
        {"sessionid": "x" * 11},
        {"userid": "x" * 11},
        {"options": {"actorId": "x" * 11, "actorType": "phones"}},
        {"options": {"actorId": "x", "actorType": "x" * 11}},
    ],
)
async def test_names_and_ids_of_virtual_sessions_are_limited_in_length(fields: Json) -> None:
    async with FlowHarness() as harness:
        harness.change_settings(limits=Limits(id_length=10))
        await harness.member("alice")
        bridge = await harness.internal_hello()
        bridge.send_internal("addsession", **{"sessionid": "phone", "roomid": "r", **fields})
        await settle()
        assert bridge.error_codes() == ["limit_exceeded"]
        assert harness.counters.limits_met == {"id_length": 1}
        assert not harness.hub.virtuals
