"""Invitations, disinvitations and switchto requests of Nextcloud (reference 2.7, 6.1, 6.2, 6.8)."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.flows.backend.requests import MalformedRequest
from tests.gateway.flows.harness import OTHER_CLOUD, FlowHarness, Json
from tests.gateway.flows.virtual_time import settle


def roomlist_event(type: str, **body: Any) -> Json:
    return {"type": "event", "event": {"target": "roomlist", "type": type, type: {"roomid": "r", **body}}}


def switchto_event(**body: Any) -> Json:
    return {"type": "event", "event": {"target": "room", "type": "switchto", "switchto": {"roomid": "other", **body}}}


# reference 6.1-a
async def test_invited_users_and_the_other_members_receive_events() -> None:
    async with FlowHarness() as harness:
        alice, again, bob = [await harness.hello(name) for name in ("alice", "alice", "bob")]
        eve, guest = await harness.hello("alice", OTHER_CLOUD), await harness.hello("")
        body = {"userids": ["alice", "alice"], "alluserids": ["bob", "alice", "gone"], "properties": {"name": "R"}}
        harness.rooms_api("r", {"type": "invite", "invite": body})
        assert alice.received() == again.received() == [roomlist_event("invite", properties={"name": "R"})]
        assert bob.received() == [roomlist_event("update", properties={"name": "R"})]
        assert eve.received() == guest.received() == []


async def test_empty_invitation_has_no_effect() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        harness.rooms_api("r", {"type": "invite", "invite": {}})
        harness.rooms_api("r", {"type": "disinvite", "disinvite": {"sessionids": None}})
        assert alice.received() == []


# reference 6.1-b
async def test_invitation_without_a_list_of_all_users_reaches_the_sessions_in_the_room() -> None:
    async with FlowHarness() as harness:
        alice, guest, bridge = await harness.member("alice"), await harness.member(""), await harness.internal_hello()
        bridge.join()
        again, carol = await harness.hello("alice"), await harness.hello("carol")
        await settle()
        for client in (alice, guest, bridge):
            client.received()
        for userids in (["carol"], [], None):
            request = {"type": "invite", "invite": {"userids": userids, "properties": {"name": "R"}}}
            harness.rooms_api("r", request)
            assert alice.received() == guest.received() == [roomlist_event("update", properties={"name": "R"})]
        assert carol.received() == [roomlist_event("invite", properties={"name": "R"})]
        harness.rooms_api("r", {"type": "invite", "invite": {"alluserids": [], "properties": {"name": "R"}}})
        assert alice.received() == guest.received() == again.received() == bridge.received() == []


# reference 6.2-b
async def test_sessions_that_a_disinvitation_ends_receive_the_update_before_it() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        alice.received()
        harness.rooms_api("r", {"type": "disinvite", "disinvite": {"sessionids": ["nc-bob"], "properties": {"a": 1}}})
        update, disinvited = (
            roomlist_event("update", properties={"a": 1}),
            roomlist_event("disinvite", reason="disinvited"),
        )
        assert bob.received() == [update, disinvited]
        assert bob.connection.finished
        assert alice.received()[0] == update


# reference 6.4-b
@pytest.mark.parametrize("body", [{}, {"userids": None}])
async def test_members_of_a_room_that_is_deleted_without_a_list_of_users_receive_the_reason(body: Any) -> None:
    async with FlowHarness() as harness:
        alice, guest = await harness.member("alice"), await harness.member("")
        again = await harness.hello("alice")
        alice.received()
        harness.rooms_api("r", {"type": "delete", "delete": body})
        expected = [roomlist_event("disinvite", reason="deleted"), {"type": "room", "room": {"roomid": ""}}]
        assert alice.received() == guest.received() == expected
        assert again.received() == []
        assert not harness.hub.rooms


# reference 2.7-b, 6.2-a
async def test_disinvited_users_receive_an_event_and_are_evicted_from_the_room() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        elsewhere, without_room = await harness.hello("alice"), await harness.hello("alice")
        elsewhere.join("elsewhere")
        await settle()
        for client in (alice, elsewhere):
            client.received()
        body = {"userids": ["alice"], "alluserids": ["bob", "alice"], "properties": {"a": 1}}
        harness.rooms_api("r", {"type": "disinvite", "disinvite": body})
        await settle()
        disinvited = roomlist_event("disinvite", reason="disinvited")
        assert alice.received() == elsewhere.received() == without_room.received() == [disinvited]
        assert alice.connection.finished
        assert alice.sessionid not in harness.hub.sessions
        assert not elsewhere.connection.finished
        leave, update = bob.received()
        assert leave["event"]["leave"] == [alice.sessionid]
        assert update == roomlist_event("update", properties={"a": 1})
        assert [request.sessionid for request in harness.nextcloud.leaves()] == ["nc-alice"]


# reference 6.2-a
async def test_guests_are_disinvited_by_their_sessions() -> None:
    async with FlowHarness() as harness:
        alice, guest = await harness.member("alice"), await harness.member("")
        other = await harness.member("bob", "elsewhere")
        alice.received()
        ids = ["nc-", "0", "nobody", "nc-bob"]
        harness.rooms_api("r", {"type": "disinvite", "disinvite": {"sessionids": ids}})
        disinvited = [roomlist_event("disinvite", reason="disinvited")]
        assert guest.received() == other.received() == disinvited
        assert guest.connection.finished
        assert not other.connection.finished
        (leave,) = alice.received()
        assert leave["event"]["leave"] == [guest.sessionid]


# reference 2.7-c
async def test_disconnected_session_receives_the_disinvitation_after_the_resume_and_ends() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        alice.disconnect()
        harness.rooms_api("r", {"type": "message", "message": {"data": "before"}})
        for _ in range(2):
            harness.rooms_api(
                "r", {"type": "disinvite", "disinvite": {"userids": ["alice"], "sessionids": ["nc-alice"]}}
            )
        harness.rooms_api("r", {"type": "message", "message": {"data": "not for alice any more"}})
        incall = {"changed": [{"sessionId": "nc-bob", "inCall": 1}], "users": [{"sessionId": "nc-bob", "inCall": 1}]}
        harness.rooms_api("r", {"type": "incall", "incall": incall})
        assert alice.sessionid in harness.hub.sessions
        bob.received()
        again = await harness.resume(alice)
        hello, before, disinvited = again.received()
        assert hello["type"] == "hello"
        assert before["event"]["message"]["data"] == "before"
        assert disinvited == roomlist_event("disinvite", reason="disinvited")
        assert again.connection.finished
        assert [message["event"].get("leave") for message in bob.received()] == [[alice.sessionid]]
        assert [request.sessionid for request in harness.nextcloud.leaves()] == ["nc-alice"]
        assert (await harness.resume(alice)).error_codes() == ["no_such_session"]


async def test_disinvited_session_without_a_resume_expires() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        alice.disconnect()
        harness.rooms_api("r", {"type": "disinvite", "disinvite": {"userids": ["alice"]}})
        await harness.sweep(31.0)
        assert not harness.hub.sessions
        assert [request.sessionid for request in harness.nextcloud.leaves()] == ["nc-alice"]


# reference 2.7-c
async def test_disinvited_session_stays_open_if_the_room_was_deleted_before_the_resume() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        alice.disconnect()
        harness.rooms_api("r", {"type": "disinvite", "disinvite": {"userids": ["alice"]}})
        harness.rooms_api("r", {"type": "delete", "delete": {"userids": []}})
        harness.rooms_api("s", {"type": "invite", "invite": {"userids": ["alice"], "alluserids": ["alice"]}})
        again = await harness.resume(alice)
        assert [message["event"]["type"] for message in again.received() if message["type"] == "event"] == [
            "disinvite",
            "invite",
        ]
        assert not again.connection.finished


async def test_disconnected_session_of_another_room_receives_the_disinvitation_only() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice", "elsewhere")
        alice.disconnect()
        harness.rooms_api("r", {"type": "disinvite", "disinvite": {"userids": ["alice"]}})
        again = await harness.resume(alice)
        assert again.received()[-1] == roomlist_event("disinvite", reason="disinvited")
        assert not again.connection.finished


async def test_session_that_is_listed_twice_receives_the_disinvitation_twice_unless_evicted() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.member("alice", "elsewhere"), await harness.member("bob")
        body = {"userids": ["alice", "bob"], "sessionids": ["nc-alice", "nc-bob"]}
        harness.rooms_api("r", {"type": "disinvite", "disinvite": body})
        assert alice.received() == [roomlist_event("disinvite", reason="disinvited")] * 2
        assert bob.received() == [roomlist_event("disinvite", reason="disinvited")]


# reference 6.8-a
async def test_listed_sessions_receive_switchto() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        eve = await harness.member("eve", backend=OTHER_CLOUD)
        alice.received()
        sessions = ["nc-bob", "0", "nobody", "nc-eve"]
        harness.rooms_api("r", {"type": "switchto", "switchto": {"roomid": "other", "sessions": sessions}})
        assert bob.received() == [switchto_event()]
        assert alice.received() == eve.received() == []


# reference 6.8-a
async def test_switchto_reaches_sessions_of_other_rooms_but_needs_a_known_room() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        request = {"type": "switchto", "switchto": {"roomid": "other", "sessions": ["nc-alice"]}}
        harness.rooms_api("q", request)
        assert alice.received() == []
        await harness.member("bob", "q")
        harness.rooms_api("q", request)
        assert alice.received() == [switchto_event()]


# reference 6.8-a
async def test_switchto_has_the_details_of_each_session() -> None:
    async with FlowHarness() as harness:
        alice, bob, carol = [await harness.member(name) for name in ("alice", "bob", "carol")]
        for client in (alice, bob):
            client.received()
        sessions = {"nc-alice": {"a": [1]}, "nc-bob": None, "nc-carol": "text", "0": 1}
        harness.rooms_api("r", {"type": "switchto", "switchto": {"roomid": "other", "sessions": sessions}})
        assert alice.received() == [switchto_event(details={"a": [1]})]
        assert bob.received() == [switchto_event()]
        assert carol.received() == [switchto_event(details="text")]


async def test_session_that_left_the_room_receives_no_switchto() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        alice.leave()
        alice.received()
        harness.rooms_api("r", {"type": "switchto", "switchto": {"roomid": "other", "sessions": ["nc-alice"]}})
        assert alice.received() == []


# reference 6.8-b
@pytest.mark.parametrize("sessions", ["nc-alice", 1, True, ["nc-alice", 1], [["nc-alice"]]])
async def test_switchto_with_malformed_sessions_is_refused(sessions: Any) -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        with pytest.raises(MalformedRequest):
            harness.rooms_api("r", {"type": "switchto", "switchto": {"roomid": "other", "sessions": sessions}})
        assert alice.received() == []


@pytest.mark.parametrize("body", [{}, {"roomid": "other"}, {"sessions": None}, {"sessions": []}, {"sessions": {}}])
async def test_switchto_without_sessions_has_no_effect(body: Json) -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        harness.rooms_api("r", {"type": "switchto", "switchto": body})
        assert alice.received() == []
