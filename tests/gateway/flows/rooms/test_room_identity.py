"""The registration of sessions under Nextcloud session ids, and its takeover (reference 4.1, 4.4)."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from gateway.flows.call_log import SessionEnd
from gateway.flows.ports import NextcloudError
from tests.gateway.flows.fakes import FakeRoom
from tests.gateway.flows.harness import CLOUD, OTHER_CLOUD, FakeClient, FlowHarness
from tests.gateway.flows.virtual_time import settle


async def end_while_joining(harness: FlowHarness, other_nc: str) -> FakeClient:
    """End a session while it joins ``r1`` as nc-alice; return the client that joined as ``other_nc`` meanwhile."""
    alice, again = await harness.member("alice", "r0"), await harness.hello("alice")
    held = harness.nextcloud.gate = asyncio.Event()
    alice.join("r1", "nc-alice")
    await settle()
    harness.nextcloud.gate = None
    again.join("r1", other_nc)
    await settle()
    alice.send({"type": "bye", "bye": {}})
    await settle()
    held.set()
    await settle()
    return again


async def test_late_answer_to_a_join_does_not_end_the_nextcloud_session_of_a_later_join() -> None:
    async with FlowHarness() as harness:
        again = await end_while_joining(harness, "nc-alice")
        assert harness.hub.find_by_room_session("cloud", "nc-alice") is again.session
        assert harness.nextcloud.leaves() == []


# reference 4.1-i
async def test_join_of_an_ended_session_is_undone() -> None:
    async with FlowHarness() as harness:
        await end_while_joining(harness, "nc-other")
        leaves = [(request.roomid, request.sessionid) for request in harness.nextcloud.leaves()]
        assert leaves == [("r0", "nc-alice"), ("r1", "nc-alice")]


REFUSED_JOIN = {"type": "error", "error": {"code": "no_such_room", "message": "?"}}


# reference 4.1-i
@pytest.mark.parametrize(
    ("nc", "answer"),
    [("nc-alice", REFUSED_JOIN), ("nc-alice", {"type": "auth", "auth": {}}), ("", None)],
    ids=["refused", "another answer", "no Nextcloud session id"],
)
async def test_join_of_an_ended_session_that_left_nothing_at_nextcloud_is_not_undone(nc: str, answer: Any) -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        held = harness.nextcloud.gate = asyncio.Event()
        harness.nextcloud.answer = lambda request: answer
        alice.join(nc=nc)
        await settle()
        harness.flows.session_closer.end(alice.session, SessionEnd.REMOVED)
        held.set()
        await settle()
        assert len(harness.nextcloud.joins()) == 1
        assert harness.nextcloud.leaves() == []


# reference 4.1-j
@pytest.mark.parametrize(
    ("answer", "held"),
    [
        *itertools.product([REFUSED_JOIN, {"type": "room"}, NextcloudError("down")], [True, False]),
        (None, True),  # Nextcloud confirms it, but another session holds it
    ],
)
async def test_join_of_the_current_room_does_not_take_a_nextcloud_session_that_is_not_confirmed(
    answer: Any, held: bool
) -> None:
    async with FlowHarness() as harness:
        alice, eve = await harness.member("alice") if held else None, await harness.member("eve")
        harness.nextcloud.answer = lambda request: answer
        if alice is not None:
            alice.received()
        eve.join(nc="nc-alice")
        await settle()
        assert eve.error_codes() == ["already_joined"]
        assert harness.hub.find_by_room_session("cloud", "nc-alice") is (None if alice is None else alice.session)
        assert harness.hub.find_by_room_session("cloud", "nc-eve") is eve.session
        if alice is not None:
            assert alice.received() == []
        eve.leave()
        await settle()
        assert [request.sessionid for request in harness.nextcloud.leaves()] == ["nc-eve"]


async def test_participants_request_for_an_unconfirmed_nextcloud_session_gives_no_permissions() -> None:
    async with FlowHarness() as harness:
        harness.nextcloud.rooms["r"] = FakeRoom(permissions=[])
        guest = await harness.member("")
        harness.nextcloud.answer = lambda request: REFUSED_JOIN
        guest.join(nc="nc-moderator")
        await settle()
        assert guest.error_codes() == ["already_joined"]
        changed = [{"sessionId": "nc-moderator", "permissions": ["control", "publish-media"]}]
        harness.rooms_api("r", {"type": "participants", "participants": {"changed": changed}})
        assert not guest.session.may("control")


# reference 4.1-j
async def test_confirmed_exchange_of_the_nextcloud_session_applies_its_permissions() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        alice.offer()
        await settle()
        alice.received()
        harness.nextcloud.rooms["r"] = FakeRoom(permissions=["control"])
        alice.join(nc="nc-2")
        await settle()
        assert alice.error_codes() == ["already_joined"]
        assert harness.hub.find_by_room_session("cloud", "nc-2") is alice.session
        assert harness.hub.find_by_room_session("cloud", "nc-alice") is None
        assert alice.session.permissions.listed == frozenset({"control"})
        assert harness.publisher(alice) is None


# reference 4.1-j
@pytest.mark.parametrize(("holder", "other"), [("alice", ""), ("alice", "eve"), ("", "eve")])
async def test_nextcloud_session_does_not_move_to_a_session_of_another_user(holder: str, other: str) -> None:
    async with FlowHarness() as harness:
        alice, eve = await harness.member(holder), await harness.hello(other)
        eve.join(nc=f"nc-{holder}")
        await settle()
        assert eve.error_codes() == ["room_join_failed"]
        assert alice.received() == []
        assert harness.hub.find_by_room_session("cloud", f"nc-{holder}") is alice.session
        assert eve.session.room is None
        assert harness.nextcloud.leaves() == []


# reference 4.1-j, 4.4-a
@pytest.mark.parametrize(("userid", "room", "taken"), [("", "r", True), ("", "r2", False), ("alice", "r2", True)])
async def test_guest_takes_a_nextcloud_session_over_in_its_own_room_only(userid: str, room: str, taken: bool) -> None:
    async with FlowHarness() as harness:
        first, second = await harness.member(userid), await harness.hello(userid)
        if not userid:
            first.disconnect()
        second.join(room, f"nc-{userid}")
        await settle()
        holder = second if taken else first
        assert harness.hub.find_by_room_session("cloud", f"nc-{userid}") is holder.session
        assert (first.sessionid in harness.hub.sessions) is not taken


# reference 4.1-n
async def test_guest_does_not_take_a_nextcloud_session_over_from_a_guest_with_a_connection() -> None:
    async with FlowHarness() as harness:
        first, mallory = await harness.member(""), await harness.hello("")
        first.disconnect()
        again = await harness.resume(first)
        again.received()
        mallory.join(nc="nc-")
        await settle()
        assert mallory.error_codes() == ["room_join_failed"]
        assert again.received() == []
        assert harness.hub.find_by_room_session("cloud", "nc-") is first.session
        mallory.send({"type": "bye"})
        await settle()
        assert harness.nextcloud.leaves() == []


# reference 4.1-j
@pytest.mark.parametrize("userid", ["", "alice"])
async def test_nextcloud_session_does_not_move_to_another_client_type(userid: str) -> None:
    async with FlowHarness() as harness:
        first, second = await harness.member(userid), harness.connect()
        auth = {"type": "federation", "url": CLOUD.urls[0], "params": harness.nextcloud.ticket(userid)}
        second.send({"type": "hello", "hello": {"version": "1.0", "auth": auth}})
        await settle()
        second.received()
        second.join(nc=f"nc-{userid}")
        await settle()
        assert second.error_codes() == ["room_join_failed"]
        assert harness.hub.find_by_room_session("cloud", f"nc-{userid}") is first.session


# reference 4.1-j
@pytest.mark.parametrize("owner", ["own", "other session", "virtual session", "other backend"])
@pytest.mark.parametrize("joined", [False, True])
async def test_public_ids_are_not_accepted_as_nextcloud_session_ids(owner: str, joined: bool) -> None:
    async with FlowHarness() as harness:
        alice, bridge = await harness.member("alice"), await harness.internal_hello()
        bridge.send_internal("addsession", sessionid="p", roomid="r")
        eve, foreign = (
            await (harness.member("eve") if joined else harness.hello("eve")),
            await harness.hello("x", OTHER_CLOUD),
        )
        await settle()
        ids = {
            "own": eve.sessionid,
            "other session": alice.sessionid,
            "virtual session": next(iter(harness.hub.virtuals)),
            "other backend": foreign.sessionid,
        }
        asked = len(harness.nextcloud.requests)
        for client in (alice, eve):
            client.received()
        eve.join(nc=ids[owner])
        await settle()
        assert eve.error_codes() == ["room_join_failed"]
        assert len(harness.nextcloud.requests) == asked
        assert alice.received() == []
        assert harness.hub.find_by_room_session("cloud", ids[owner]) is None


async def test_nextcloud_session_of_two_exchanges_at_once_goes_to_one_session() -> None:
    async with FlowHarness() as harness:
        first, second = await harness.member("alice"), await harness.hello("alice")
        second.join(nc="nc-2")
        await settle()
        held = harness.nextcloud.gate = asyncio.Event()
        first.join(nc="nc-3")
        second.join(nc="nc-3")
        await settle()
        held.set()
        await settle()
        assert harness.hub.find_by_room_session("cloud", "nc-3") is first.session
        assert harness.hub.find_by_room_session("cloud", "nc-2") is second.session
        assert harness.nextcloud.leaves() == []
        assert len(harness.hub.pending_joins) == 0


# reference 4.1-i
@pytest.mark.parametrize("gone", ["bye", "deleted"])
async def test_exchange_of_a_session_that_left_meanwhile_is_undone(gone: str) -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        held = harness.nextcloud.gate = asyncio.Event()
        alice.join(nc="nc-2")
        await settle()
        if gone == "bye":
            harness.flows.session_closer.end(alice.session, SessionEnd.REMOVED)
        else:
            harness.rooms_api("r", {"type": "delete", "delete": {}})
        held.set()
        await settle()
        assert [request.sessionid for request in harness.nextcloud.leaves()] == ["nc-alice", "nc-2"]
        assert harness.hub.find_by_room_session("cloud", "nc-2") is None


async def test_ended_join_is_not_undone_while_another_session_joins_with_its_nextcloud_session() -> None:
    async with FlowHarness() as harness:
        alice, again = await harness.hello("alice"), await harness.hello("alice")
        first, second = asyncio.Event(), asyncio.Event()
        harness.nextcloud.gate = first
        alice.join(nc="nc")
        await settle()
        harness.nextcloud.gate = second
        again.join(nc="nc")
        await settle()
        harness.flows.session_closer.end(alice.session, SessionEnd.REMOVED)
        first.set()
        await settle()
        second.set()
        await settle()
        assert harness.hub.find_by_room_session("cloud", "nc") is again.session
        assert harness.nextcloud.leaves() == []


# reference 4.1-a
async def test_join_of_the_current_room_without_a_nextcloud_session_registers_the_public_id() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        alice.join()
        await settle()
        assert alice.error_codes() == ["already_joined"]
        assert harness.hub.find_by_room_session("cloud", alice.sessionid) is alice.session
        bob = await harness.hello("bob")
        bob.join(nc="nc-bob")
        await settle()
        (entry,) = bob.received()[-1]["event"]["join"]
        assert entry["roomsessionid"] == alice.sessionid
        alice.leave()
        await settle()
        assert [request.sessionid for request in harness.nextcloud.leaves()] == [alice.sessionid]


# reference 4.1-m
@pytest.mark.parametrize("request_", ["disinvitation", "end of the call", "another session"])
async def test_replaced_nextcloud_session_still_names_the_session(request_: str) -> None:
    async with FlowHarness() as harness:
        guest = await harness.hello()
        guest.join(nc="nc-")
        await settle()
        harness.set_in_call("r", "")
        guest.offer()
        await settle()
        for _ in range(2):
            guest.join()
            await settle()
        if request_ == "disinvitation":
            harness.rooms_api("r", {"type": "disinvite", "disinvite": {"sessionids": ["nc-"]}})
        elif request_ == "end of the call":
            harness.set_in_call("r", "", flags=0)
        else:
            guest.disconnect()
            (await harness.hello()).join(nc="nc-")
        await settle()
        assert harness.publisher(guest) is None
        assert (guest.sessionid in harness.hub.sessions) is (request_ == "end of the call")


# reference 4.1-m
@pytest.mark.parametrize("ends", ["leave", "exchange"])
async def test_replaced_nextcloud_session_is_forgotten_when_the_session_leaves_or_has_another(ends: str) -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        alice.join()
        await settle()
        alice.join("" if ends == "leave" else "r", "nc-2")
        await settle()
        assert harness.hub.find_by_room_session("cloud", "nc-alice") is None
        assert harness.hub.find_by_room_session("cloud", alice.sessionid) is None
        assert len(harness.hub._sessions_by_room_session) == (ends == "exchange")


# reference 4.1-j
async def test_internal_client_does_not_take_the_nextcloud_session_of_another_session() -> None:
    async with FlowHarness() as harness:
        alice, internal = await harness.member("alice", in_call=True), await harness.internal_hello()
        internal.join(nc="nc-alice")
        await settle()
        assert internal.received()[0]["room"]["roomid"] == "r"
        assert alice.session.open
        assert harness.hub.find_by_room_session("cloud", "nc-alice") is alice.session
        assert harness.hub.find_by_room_session("cloud", internal.sessionid) is internal.session
        assert [message["type"] for message in alice.received()] == [
            "event"
        ] * 2  # the join event, and the list of participants


# reference 4.1-j
@pytest.mark.parametrize("joined", [False, True])
async def test_nextcloud_session_of_an_internal_client_is_not_registered(joined: bool) -> None:
    async with FlowHarness() as harness:
        internal = await harness.internal_hello()
        internal.join(nc="" if joined else "nc-free")
        await settle()
        internal.join(nc="nc-free")
        await settle()
        assert harness.hub.find_by_room_session("cloud", "nc-free") is None
        assert harness.hub.find_by_room_session("cloud", internal.sessionid) is internal.session
        assert harness.nextcloud.requests == []
