"""Who is invited to rooms, shown out of them, and sent to others (reference 2.7, 6.1, 6.2, 6.8)."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.flows.backend.requests import MalformedRequest
from tests.gateway.flows.harness import OTHER, FlowHarness, Json
from tests.gateway.flows.virtual_time import settle


def roomlist(type: str, **body: Any) -> Json:
    return {"type": "event", "event": {"target": "roomlist", "type": type, type: {"roomid": "r", **body}}}


def switched(**body: Any) -> Json:
    return {"type": "event", "event": {"target": "room", "type": "switchto", "switchto": {"roomid": "other", **body}}}


# reference 6.1-a
async def test_invited_users_and_the_other_members_are_told() -> None:
    async with FlowHarness() as harness:
        alice, again, bob = [await harness.hello(name) for name in ("alice", "alice", "bob")]
        eve, nobody = await harness.hello("alice", OTHER), await harness.hello("")
        body = {"userids": ["alice", "alice"], "alluserids": ["bob", "alice", "gone"], "properties": {"name": "R"}}
        harness.rooms_api("r", {"type": "invite", "invite": body})
        assert alice.received() == again.received() == [roomlist("invite", properties={"name": "R"})]
        assert bob.received() == [roomlist("update", properties={"name": "R"})]
        assert eve.received() == nobody.received() == []


async def test_empty_invitation_has_no_effect() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        harness.rooms_api("r", {"type": "invite", "invite": {}})
        harness.rooms_api("r", {"type": "disinvite", "disinvite": {"sessionids": None}})
        assert alice.received() == []


# reference 2.7-b, 6.2-a
async def test_disinvited_users_are_shown_out_of_the_room_and_told_elsewhere() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        elsewhere, lobby = await harness.hello("alice"), await harness.hello("alice")
        elsewhere.send({"type": "room", "room": {"roomid": "elsewhere"}})
        await settle()
        for it in (alice, elsewhere):
            it.received()
        body = {"userids": ["alice"], "alluserids": ["bob", "alice"], "properties": {"a": 1}}
        harness.rooms_api("r", {"type": "disinvite", "disinvite": body})
        await settle()
        told = roomlist("disinvite", reason="disinvited")
        assert alice.received() == elsewhere.received() == lobby.received() == [told]
        assert alice.connection.finished
        assert alice.sessionid not in harness.hub.sessions
        assert not elsewhere.connection.finished
        leave, update = bob.received()
        assert leave["event"]["leave"] == [alice.sessionid]
        assert update == roomlist("update", properties={"a": 1})
        assert [it.sessionid for it in harness.nextcloud.leaves()] == ["nc-alice"]


# reference 6.2-a
async def test_guests_are_disinvited_by_their_sessions() -> None:
    async with FlowHarness() as harness:
        alice, guest = await harness.member("alice"), await harness.member("")
        other = await harness.member("bob", "elsewhere")
        alice.received()
        ids = ["nc-", "0", "nobody", "nc-bob"]
        harness.rooms_api("r", {"type": "disinvite", "disinvite": {"sessionids": ids}})
        told = [roomlist("disinvite", reason="disinvited")]
        assert guest.received() == other.received() == told
        assert guest.connection.finished
        assert not other.connection.finished
        (leave,) = alice.received()
        assert leave["event"]["leave"] == [guest.sessionid]


# reference 2.7-c
async def test_disinvited_session_that_is_away_hears_of_it_when_it_is_back_and_ends_then() -> None:
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
        hello, before, told = again.received()
        assert hello["type"] == "hello"
        assert before["event"]["message"]["data"] == "before"
        assert told == roomlist("disinvite", reason="disinvited")
        assert again.connection.finished
        assert [it["event"].get("leave") for it in bob.received()] == [[alice.sessionid]]
        assert [it.sessionid for it in harness.nextcloud.leaves()] == ["nc-alice"]
        assert (await harness.resume(alice)).error_codes() == ["no_such_session"]


async def test_disinvited_session_that_stays_away_expires() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        alice.disconnect()
        harness.rooms_api("r", {"type": "disinvite", "disinvite": {"userids": ["alice"]}})
        await harness.sweep(31.0)
        assert not harness.hub.sessions
        assert [it.sessionid for it in harness.nextcloud.leaves()] == ["nc-alice"]


# reference 2.7-c
async def test_disinvited_session_that_is_back_when_the_room_is_gone_stays() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        alice.disconnect()
        harness.rooms_api("r", {"type": "disinvite", "disinvite": {"userids": ["alice"]}})
        harness.rooms_api("r", {"type": "delete", "delete": {"userids": []}})
        harness.rooms_api("s", {"type": "invite", "invite": {"userids": ["alice"], "alluserids": ["alice"]}})
        again = await harness.resume(alice)
        assert [it["event"]["type"] for it in again.received() if it["type"] == "event"] == ["disinvite", "invite"]
        assert not again.connection.finished


async def test_session_that_is_away_from_another_room_only_hears_of_a_disinvitation() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice", "elsewhere")
        alice.disconnect()
        harness.rooms_api("r", {"type": "disinvite", "disinvite": {"userids": ["alice"]}})
        again = await harness.resume(alice)
        assert again.received()[-1] == roomlist("disinvite", reason="disinvited")
        assert not again.connection.finished


async def test_who_is_named_by_user_and_by_session_hears_twice_unless_shown_out() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.member("alice", "elsewhere"), await harness.member("bob")
        body = {"userids": ["alice", "bob"], "sessionids": ["nc-alice", "nc-bob"]}
        harness.rooms_api("r", {"type": "disinvite", "disinvite": body})
        assert alice.received() == [roomlist("disinvite", reason="disinvited")] * 2
        assert bob.received() == [roomlist("disinvite", reason="disinvited")]


# reference 6.8-a
async def test_sessions_are_sent_to_another_room() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        eve = await harness.member("eve", backend=OTHER)
        alice.received()
        sessions = ["nc-bob", "0", "nobody", "nc-eve"]
        harness.rooms_api("r", {"type": "switchto", "switchto": {"roomid": "other", "sessions": sessions}})
        assert bob.received() == [switched()]
        assert alice.received() == eve.received() == []


# reference 6.8-a
async def test_sessions_in_other_rooms_are_sent_too_but_not_out_of_a_room_that_is_not_here() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        request = {"type": "switchto", "switchto": {"roomid": "other", "sessions": ["nc-alice"]}}
        harness.rooms_api("q", request)
        assert alice.received() == []
        await harness.member("bob", "q")
        harness.rooms_api("q", request)
        assert alice.received() == [switched()]


# reference 6.8-a
async def test_each_session_gets_its_own_details() -> None:
    async with FlowHarness() as harness:
        alice, bob, carol = [await harness.member(name) for name in ("alice", "bob", "carol")]
        for it in (alice, bob):
            it.received()
        sessions = {"nc-alice": {"a": [1]}, "nc-bob": None, "nc-carol": "text", "0": 1}
        harness.rooms_api("r", {"type": "switchto", "switchto": {"roomid": "other", "sessions": sessions}})
        assert alice.received() == [switched(details={"a": [1]})]
        assert bob.received() == [switched()]
        assert carol.received() == [switched(details="text")]


async def test_who_left_the_room_is_not_sent_anywhere() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        alice.send({"type": "room", "room": {"roomid": ""}})
        alice.received()
        harness.rooms_api("r", {"type": "switchto", "switchto": {"roomid": "other", "sessions": ["nc-alice"]}})
        assert alice.received() == []


# reference 6.8-b
@pytest.mark.parametrize("sessions", ["nc-alice", 1, True, ["nc-alice", 1], [["nc-alice"]]])
async def test_malformed_sessions_are_refused(sessions: Any) -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        with pytest.raises(MalformedRequest):
            harness.rooms_api("r", {"type": "switchto", "switchto": {"roomid": "other", "sessions": sessions}})
        assert alice.received() == []


@pytest.mark.parametrize("body", [{}, {"roomid": "other"}, {"sessions": None}, {"sessions": []}, {"sessions": {}}])
async def test_nobody_to_send_anywhere(body: Json) -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        harness.rooms_api("r", {"type": "switchto", "switchto": body})
        assert alice.received() == []
