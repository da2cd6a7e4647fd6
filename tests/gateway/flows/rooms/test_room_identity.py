"""The registration of sessions under Nextcloud session ids, and its takeover (reference 4.1, 4.4)."""

from __future__ import annotations

import asyncio

from tests.gateway.flows.harness import FakeClient, FlowHarness
from tests.gateway.flows.virtual_time import settle


def join(client: FakeClient, room: str = "r", nc: str = "") -> None:
    client.send({"id": "j", "type": "room", "room": {"roomid": room, "sessionid": nc}})


async def late_answer(harness: FlowHarness, other_nc: str) -> FakeClient:
    """End a session while it joins ``r1`` as nc-alice; return the one that joined as ``other_nc`` meanwhile."""
    alice, again = await harness.member("alice", "r0"), await harness.hello("alice")
    held = harness.nextcloud.gate = asyncio.Event()
    join(alice, "r1", "nc-alice")
    await settle()
    harness.nextcloud.gate = None
    join(again, "r1", other_nc)
    await settle()
    alice.send({"type": "bye", "bye": {}})
    await settle()
    held.set()
    await settle()
    return again


async def test_late_answer_to_a_join_does_not_end_the_nextcloud_session_of_a_later_join() -> None:
    async with FlowHarness() as harness:
        again = await late_answer(harness, "nc-alice")
        assert harness.hub.of_room_session("cloud", "nc-alice") is again.session
        assert harness.nextcloud.leaves() == []


# reference 4.1-i
async def test_join_of_an_ended_session_is_undone() -> None:
    async with FlowHarness() as harness:
        await late_answer(harness, "nc-other")
        leaves = [(request.roomid, request.sessionid) for request in harness.nextcloud.leaves()]
        assert leaves == [("r0", "nc-alice"), ("r1", "nc-alice")]


# reference 4.1-j
async def test_join_of_the_current_room_does_not_take_the_nextcloud_session_of_another_session() -> None:
    async with FlowHarness() as harness:
        alice, eve = await harness.member("alice"), await harness.member("eve")
        alice.received()
        join(eve, nc="nc-alice")
        await settle()
        assert eve.error_codes() == ["already_joined"]
        assert harness.hub.of_room_session("cloud", "nc-alice") is alice.session
        assert harness.hub.of_room_session("cloud", "nc-eve") is eve.session
        assert alice.received() == []


# reference 4.1-a
async def test_join_of_the_current_room_without_a_nextcloud_session_registers_the_public_id() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        join(alice)
        await settle()
        assert alice.error_codes() == ["already_joined"]
        assert harness.hub.of_room_session("cloud", "nc-alice") is None
        assert harness.hub.of_room_session("cloud", alice.sessionid) is alice.session
        bob = await harness.hello("bob")
        join(bob, nc="nc-bob")
        await settle()
        (entry,) = bob.received()[-1]["event"]["join"]
        assert entry["roomsessionid"] == alice.sessionid
        alice.send({"type": "room", "room": {"roomid": ""}})
        await settle()
        assert [request.sessionid for request in harness.nextcloud.leaves()] == [alice.sessionid]


# reference 4.1-j
async def test_internal_client_does_not_take_the_nextcloud_session_of_another_session() -> None:
    async with FlowHarness() as harness:
        alice, internal = await harness.member("alice"), await harness.internal_hello()
        join(internal, nc="nc-alice")
        await settle()
        assert internal.received()[0]["room"]["roomid"] == "r"
        assert alice.session.open
        assert harness.hub.of_room_session("cloud", "nc-alice") is alice.session
        assert harness.hub.of_room_session("cloud", internal.sessionid) is internal.session
        assert [message["type"] for message in alice.received()] == [
            "event"
        ] * 2  # it came, and the list of participants


async def test_internal_client_registers_a_free_nextcloud_session() -> None:
    async with FlowHarness() as harness:
        internal = await harness.internal_hello()
        join(internal, nc="nc-free")
        await settle()
        assert harness.hub.of_room_session("cloud", "nc-free") is internal.session
