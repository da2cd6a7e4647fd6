"""Joins of one user, or of the guests of one address, do not fill the outboxes of a room's members."""

from __future__ import annotations

import asyncio

from gateway.core.limits import Limits
from gateway.wire.backend import RoomRequest
from tests.gateway.flows.harness import FakeClient, FlowHarness
from tests.gateway.flows.limited_calls import beside_a_call, limits_met
from tests.gateway.flows.virtual_time import settle

REFUSAL = {"type": "error", "error": {"code": "no_such_room", "message": "There is no such room."}}
LONG_FEATURES = tuple(f"{number:064}" for number in range(64))


async def guest(harness: FlowHarness, address: str = "192.0.2.1") -> FakeClient:
    """Return a guest with the longest permitted features."""
    client = harness.connect(address)
    client.send_hello(features=LONG_FEATURES)
    await client.read_hello_reply()
    return client


async def test_joins_again_and_again_do_not_fill_the_outbox_of_a_member_that_is_away() -> None:
    async with FlowHarness(outbox_bytes=2 << 20) as harness:
        bob, attacker = await harness.member("bob"), await guest(harness)
        bob.disconnect()
        for _ in range(500):
            attacker.join("r")
            attacker.leave()
            await settle()
        await asyncio.sleep(25)
        assert bob.session.open
        limits = Limits()
        assert bob.session.outbox.size < limits.join_bytes_burst + 30 * limits.join_bytes_per_second
        assert limits_met(harness)["join_bytes_per_second"] > 0


async def test_new_sessions_of_one_address_share_the_budget() -> None:
    async with beside_a_call(Limits(join_bytes_per_second=1000, join_bytes_burst=20_000)) as harness:
        bob = await harness.member("bob")
        for _ in range(10):
            (await guest(harness)).join("r")
        await settle()
        assert len(bob.received()) == 4
        assert sum(map(len, bob.connection.written[-4:])) <= 20_000
        other = await guest(harness, "198.51.100.1")
        other.join("r")
        alice = await harness.member("alice", features=LONG_FEATURES)
        assert [entry["sessionid"] for event in bob.received() for entry in event["event"]["join"]] == [
            other.sessionid,
            alice.sessionid,
        ]
        await asyncio.sleep(6)
        assert len(bob.received()) == 1
        assert set(limits_met(harness)) == {"join_bytes_per_second"}


async def test_joins_of_other_rooms_do_not_wait() -> None:
    async with beside_a_call(Limits(join_bytes_per_second=1000, join_bytes_burst=5000)) as harness:
        for room in ("one", "two", "three"):
            await harness.member("first", room, features=LONG_FEATURES)
            await harness.member("second", room, features=LONG_FEATURES)
        assert limits_met(harness) == {}


async def test_refused_join_takes_nothing_from_the_budget() -> None:
    async with beside_a_call(Limits(join_bytes_per_second=1, join_bytes_burst=5500)) as harness:
        await harness.member("bob")
        alice, answer = await harness.hello("alice", features=LONG_FEATURES), harness.nextcloud.answer
        for allowed in (False, False, True):
            harness.nextcloud.answer = answer if allowed else lambda request: REFUSAL
            alice.join("r", "nc-alice")
            await settle()
        assert [message["type"] for message in alice.received()][:3] == ["error", "error", "room"]
        assert limits_met(harness) == {}


async def member_that_waits(harness: FlowHarness) -> FakeClient:
    """Return a client that has joined and left room ``r``, and waits to join it again."""
    alice = await harness.hello("alice", features=LONG_FEATURES)
    alice.join("r", "nc-alice")
    alice.leave()
    alice.join("r", "nc-alice", id="again")
    await settle()
    assert alice.received()[-1]["type"] == "room"
    return alice


async def test_join_that_waits_is_undone_when_its_session_has_ended() -> None:
    async with beside_a_call(Limits(join_bytes_per_second=1, join_bytes_burst=6000)) as harness:
        bob = await harness.member("bob")
        alice = await member_that_waits(harness)
        bob.received()
        alice.disconnect()
        requests = len(harness.nextcloud.requests)
        await harness.sweep(31)
        await asyncio.sleep(1)
        assert bob.received() == []
        assert [type(request) for _, _, request in harness.nextcloud.requests[requests:]] == [RoomRequest]


async def test_join_that_waits_goes_on_when_the_others_have_left() -> None:
    async with beside_a_call(Limits(join_bytes_per_second=1, join_bytes_burst=6000)) as harness:
        bob = await harness.member("bob")
        alice = await member_that_waits(harness)
        bob.leave()
        await asyncio.sleep(1)
        assert [message["type"] for message in alice.received()] == ["room", "event"]
