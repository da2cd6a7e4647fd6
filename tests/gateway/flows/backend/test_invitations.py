"""Who is invited to rooms, shown out of them, and sent to others (reference 2.7, 6.1, 6.2, 6.8)."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.flows.backend.requests import Malformed
from tests.gateway.flows.house import OTHER, House, Json
from tests.gateway.flows.virtual_time import settle


def roomlist(type: str, **body: Any) -> Json:
    return {"type": "event", "event": {"target": "roomlist", "type": type, type: {"roomid": "r", **body}}}


def switched(**body: Any) -> Json:
    return {"type": "event", "event": {"target": "room", "type": "switchto", "switchto": {"roomid": "other", **body}}}


async def test_invited_users_and_the_other_members_are_told() -> None:
    async with House() as house:
        alice, again, bob = [await house.open(name) for name in ("alice", "alice", "bob")]
        eve, nobody = await house.open("alice", OTHER), await house.open("")
        body = {"userids": ["alice", "alice"], "alluserids": ["bob", "alice", "gone"], "properties": {"name": "R"}}
        house.backend("r", {"type": "invite", "invite": body})
        assert alice.heard() == again.heard() == [roomlist("invite", properties={"name": "R"})]
        assert bob.heard() == [roomlist("update", properties={"name": "R"})]
        assert eve.heard() == nobody.heard() == []


async def test_empty_invitation_has_no_effect() -> None:
    async with House() as house:
        alice = await house.member("alice")
        house.backend("r", {"type": "invite", "invite": {}})
        house.backend("r", {"type": "disinvite", "disinvite": {"sessionids": None}})
        assert alice.heard() == []


async def test_disinvited_users_are_shown_out_of_the_room_and_told_elsewhere() -> None:
    async with House() as house:
        alice, bob = await house.member("alice"), await house.member("bob")
        elsewhere, lobby = await house.open("alice"), await house.open("alice")
        elsewhere.say({"type": "room", "room": {"roomid": "elsewhere"}})
        await settle()
        for it in (alice, elsewhere):
            it.heard()
        body = {"userids": ["alice"], "alluserids": ["bob", "alice"], "properties": {"a": 1}}
        house.backend("r", {"type": "disinvite", "disinvite": body})
        await settle()
        told = roomlist("disinvite", reason="disinvited")
        assert alice.heard() == elsewhere.heard() == lobby.heard() == [told]
        assert alice.connection.finished
        assert alice.sessionid not in house.hub.sessions
        assert not elsewhere.connection.finished
        leave, update = bob.heard()
        assert leave["event"]["leave"] == [alice.sessionid]
        assert update == roomlist("update", properties={"a": 1})
        assert [it.sessionid for it in house.nextcloud.leaves()] == ["nc-alice"]


async def test_guests_are_disinvited_by_their_sessions() -> None:
    async with House() as house:
        alice, guest = await house.member("alice"), await house.member("")
        other = await house.member("bob", "elsewhere")
        alice.heard()
        ids = ["nc-", "0", "nobody", "nc-bob"]
        house.backend("r", {"type": "disinvite", "disinvite": {"sessionids": ids}})
        told = [roomlist("disinvite", reason="disinvited")]
        assert guest.heard() == other.heard() == told
        assert guest.connection.finished
        assert not other.connection.finished
        (leave,) = alice.heard()
        assert leave["event"]["leave"] == [guest.sessionid]


async def test_disinvited_session_that_is_away_hears_of_it_when_it_is_back_and_ends_then() -> None:
    async with House() as house:
        alice, bob = await house.member("alice"), await house.member("bob")
        alice.lose()
        house.backend("r", {"type": "message", "message": {"data": "before"}})
        for _ in range(2):
            house.backend("r", {"type": "disinvite", "disinvite": {"userids": ["alice"], "sessionids": ["nc-alice"]}})
        house.backend("r", {"type": "message", "message": {"data": "not for alice any more"}})
        incall = {"changed": [{"sessionId": "nc-bob", "inCall": 1}], "users": [{"sessionId": "nc-bob", "inCall": 1}]}
        house.backend("r", {"type": "incall", "incall": incall})
        assert alice.sessionid in house.hub.sessions
        bob.heard()
        again = await house.resume(alice)
        hello, before, told = again.heard()
        assert hello["type"] == "hello"
        assert before["event"]["message"]["data"] == "before"
        assert told == roomlist("disinvite", reason="disinvited")
        assert again.connection.finished
        assert [it["event"].get("leave") for it in bob.heard()] == [[alice.sessionid]]
        assert [it.sessionid for it in house.nextcloud.leaves()] == ["nc-alice"]
        assert (await house.resume(alice)).errors() == ["no_such_session"]


async def test_disinvited_session_that_stays_away_expires() -> None:
    async with House() as house:
        alice = await house.member("alice")
        alice.lose()
        house.backend("r", {"type": "disinvite", "disinvite": {"userids": ["alice"]}})
        await house.sweep(31.0)
        assert not house.hub.sessions
        assert [it.sessionid for it in house.nextcloud.leaves()] == ["nc-alice"]


async def test_disinvited_session_that_is_back_when_the_room_is_gone_stays() -> None:
    async with House() as house:
        alice = await house.member("alice")
        alice.lose()
        house.backend("r", {"type": "disinvite", "disinvite": {"userids": ["alice"]}})
        house.backend("r", {"type": "delete", "delete": {"userids": []}})
        house.backend("s", {"type": "invite", "invite": {"userids": ["alice"], "alluserids": ["alice"]}})
        again = await house.resume(alice)
        assert [it["event"]["type"] for it in again.heard() if it["type"] == "event"] == ["disinvite", "invite"]
        assert not again.connection.finished


async def test_session_that_is_away_from_another_room_only_hears_of_a_disinvitation() -> None:
    async with House() as house:
        alice = await house.member("alice", "elsewhere")
        alice.lose()
        house.backend("r", {"type": "disinvite", "disinvite": {"userids": ["alice"]}})
        again = await house.resume(alice)
        assert again.heard()[-1] == roomlist("disinvite", reason="disinvited")
        assert not again.connection.finished


async def test_who_is_named_by_user_and_by_session_hears_twice_unless_shown_out() -> None:
    async with House() as house:
        alice, bob = await house.member("alice", "elsewhere"), await house.member("bob")
        body = {"userids": ["alice", "bob"], "sessionids": ["nc-alice", "nc-bob"]}
        house.backend("r", {"type": "disinvite", "disinvite": body})
        assert alice.heard() == [roomlist("disinvite", reason="disinvited")] * 2
        assert bob.heard() == [roomlist("disinvite", reason="disinvited")]


async def test_sessions_are_sent_to_another_room() -> None:
    async with House() as house:
        alice, bob = await house.member("alice"), await house.member("bob")
        eve = await house.member("eve", backend=OTHER)
        alice.heard()
        sessions = ["nc-bob", "0", "nobody", "nc-eve"]
        house.backend("r", {"type": "switchto", "switchto": {"roomid": "other", "sessions": sessions}})
        assert bob.heard() == [switched()]
        assert alice.heard() == eve.heard() == []


async def test_sessions_in_other_rooms_are_sent_too_but_not_out_of_a_room_that_is_not_here() -> None:
    async with House() as house:
        alice = await house.member("alice")
        request = {"type": "switchto", "switchto": {"roomid": "other", "sessions": ["nc-alice"]}}
        house.backend("q", request)
        assert alice.heard() == []
        await house.member("bob", "q")
        house.backend("q", request)
        assert alice.heard() == [switched()]


async def test_each_session_gets_its_own_details() -> None:
    async with House() as house:
        alice, bob, carol = [await house.member(name) for name in ("alice", "bob", "carol")]
        for it in (alice, bob):
            it.heard()
        sessions = {"nc-alice": {"a": [1]}, "nc-bob": None, "nc-carol": "text", "0": 1}
        house.backend("r", {"type": "switchto", "switchto": {"roomid": "other", "sessions": sessions}})
        assert alice.heard() == [switched(details={"a": [1]})]
        assert bob.heard() == [switched()]
        assert carol.heard() == [switched(details="text")]


async def test_who_left_the_room_is_not_sent_anywhere() -> None:
    async with House() as house:
        alice = await house.member("alice")
        alice.say({"type": "room", "room": {"roomid": ""}})
        alice.heard()
        house.backend("r", {"type": "switchto", "switchto": {"roomid": "other", "sessions": ["nc-alice"]}})
        assert alice.heard() == []


@pytest.mark.parametrize("sessions", ["nc-alice", 1, True, ["nc-alice", 1], [["nc-alice"]]])
async def test_malformed_sessions_are_refused(sessions: Any) -> None:
    async with House() as house:
        alice = await house.member("alice")
        with pytest.raises(Malformed):
            house.backend("r", {"type": "switchto", "switchto": {"roomid": "other", "sessions": sessions}})
        assert alice.heard() == []


@pytest.mark.parametrize("body", [{}, {"roomid": "other"}, {"sessions": None}, {"sessions": []}, {"sessions": {}}])
async def test_nobody_to_send_anywhere(body: Json) -> None:
    async with House() as house:
        alice = await house.member("alice")
        house.backend("r", {"type": "switchto", "switchto": body})
        assert alice.heard() == []
