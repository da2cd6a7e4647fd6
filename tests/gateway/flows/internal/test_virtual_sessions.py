"""Virtual sessions (reference 4.5, 7.3, 7.5, 11.2-11.4)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.core.limits import Limits
from gateway.flows.ports import NextcloudError
from gateway.wire.backend import PingEntry, PingRequest, RoomRequest, SessionRequest
from tests.gateway.flows.fakes import FakeRoom
from tests.gateway.flows.house import OTHER, WALL, House, Json, Talker
from tests.gateway.flows.virtual_time import settle

ACTOR = {"actorId": "+491", "actorType": "phones"}


async def add(bridge: Talker, name: str = "phone", room: str = "r", **more: Any) -> list[Json]:
    body = {"sessionid": name, "roomid": room, **more}
    bridge.say({"id": "a", "type": "internal", "internal": {"type": "addsession", "addsession": body}})
    await settle()
    return bridge.heard()


def change(bridge: Talker, name: str = "phone", room: str = "r", **more: Any) -> None:
    body = {"sessionid": name, "roomid": room, **more}
    bridge.say({"type": "internal", "internal": {"type": "updatesession", "updatesession": body}})


async def remove(bridge: Talker, name: str = "phone", room: str = "r") -> list[Json]:
    body = {"sessionid": name, "roomid": room}
    bridge.say({"id": "x", "type": "internal", "internal": {"type": "removesession", "removesession": body}})
    await settle()
    return bridge.heard()


def public(bridge: Talker, name: str = "phone") -> str:
    return bridge.session.virtuals[name].id


def entry(bridge: Talker, flags: int, name: str = "phone") -> Json:
    now = int(WALL + bridge.house.services.clock())
    return {"inCall": flags, "sessionId": public(bridge, name), "lastPing": now, "virtual": True}


def users(message: Json) -> Any:
    return message["event"]["update"]["users"]


async def scene(house: House, *features: str) -> tuple[Talker, Talker]:
    """Return a member of room r, and an internal client that is in no room."""
    return await house.member("alice"), await house.open_internal(*features)


# -- add


async def test_members_hear_of_a_virtual_session_in_order() -> None:
    async with House() as house:
        alice, bridge = await scene(house)
        assert await add(bridge, userid="u", user={"type": "phone"}, flags=4) == []
        joined, update, flags = alice.heard()
        id = public(bridge)
        assert joined["event"]["join"] == [{"sessionid": id, "userid": "u", "user": {"type": "phone"}}]
        assert users(update) == [entry(bridge, 9)]
        told = {"roomid": "r", "sessionid": id, "flags": 4}
        assert flags == {"type": "event", "event": {"target": "participants", "type": "flags", "flags": told}}
        assert id not in (bridge.sessionid, alice.sessionid)
        (asked,) = house.nextcloud.sessions()
        assert asked == SessionRequest("r", "add", id, "u", asked.user, "1.0")
        assert bytes(asked.user) == b'{"type": "phone"}'


@pytest.mark.parametrize(
    ("features", "given", "flags"),
    [
        ((), {}, 9),
        (("internal-incall",), {}, 0),
        ((), {"incall": 1}, 1),
        ((), {"incall": -1}, 0),
        ((), {"incall": 0}, 0),
    ],
)
async def test_in_call_flags_at_the_start(features: tuple[str, ...], given: Json, flags: int) -> None:
    async with House() as house:
        alice, bridge = await scene(house, *features)
        await add(bridge, **given)
        joined, update = alice.heard()
        assert joined["event"]["join"] == [{"sessionid": public(bridge), "userid": ""}]
        assert users(update) == [entry(bridge, flags)]


async def test_actor_joins_as_a_participant() -> None:
    async with House() as house:
        alice, bridge = await scene(house)
        await add(bridge, options=ACTOR, userid="u")
        request = house.nextcloud.joins()[-1]
        assert request == RoomRequest(
            "r", "u", public(bridge), actorid="+491", actortype="phones", incall=9, version="1.0"
        )
        assert len(alice.heard()) == 2


@pytest.mark.parametrize("options", [{}, {"actorId": "a"}, {"actorType": "t", "actorId": ""}])
async def test_half_an_actor_is_none(options: Json) -> None:
    async with House() as house:
        _, bridge = await scene(house)
        await add(bridge, options=options)
        assert len(house.nextcloud.sessions()) == 1


@pytest.mark.parametrize(
    ("options", "answer", "message"),
    [
        ({}, NextcloudError("no"), "Could not add virtual session."),
        (ACTOR, NextcloudError("no"), "Could not join virtual session."),
        (ACTOR, {"type": "error", "error": {"code": "x", "message": "Not here."}}, "Not here."),
        (ACTOR, {"type": "error"}, "Could not join virtual session."),
    ],
)
async def test_refused_virtual_session(options: Json, answer: Any, message: str) -> None:
    async with House() as house:
        alice, bridge = await scene(house)
        house.nextcloud.answer = lambda request: answer
        (error,) = await add(bridge, options=options)
        assert error == {"type": "error", "id": "a", "error": {"code": "add_failed", "message": message}}
        assert alice.heard() == []
        assert not house.hub.virtuals


async def test_answer_of_nextcloud_to_a_session_of_ours_does_not_matter() -> None:
    async with House() as house:
        alice, bridge = await scene(house)
        house.nextcloud.answer = lambda request: {"type": "error", "error": {"code": "x", "message": "y"}}
        assert await add(bridge) == []
        assert len(alice.heard()) == 2


async def test_room_that_is_not_here_is_ignored() -> None:
    async with House() as house:
        _, bridge = await scene(house)
        await house.member("eve", "theirs", backend=OTHER)
        before = len(house.nextcloud.asked)
        assert await add(bridge, room="elsewhere") == await add(bridge, room="theirs") == []
        assert len(house.nextcloud.asked) == before


async def test_name_is_taken_once_for_each_client() -> None:
    async with House() as house:
        alice, bridge = await scene(house)
        other = await house.open_internal()
        await add(bridge)
        first = public(bridge)
        (error,) = await add(bridge)
        assert error["error"] == {"code": "add_failed", "message": "Could not create virtual session."}
        assert await add(other) == []
        assert public(bridge) == first != public(other)
        assert len(alice.heard()) == 4


async def test_limit_of_virtual_sessions() -> None:
    async with House() as house:
        _, bridge = await scene(house)
        house.services.limits = Limits(virtual_sessions=1)
        assert await add(bridge) == []
        (error,) = await add(bridge, "another")
        assert error["error"]["code"] == "limit_exceeded"
        assert house.counters.limits_met["virtual_sessions"] == 1


@pytest.mark.parametrize("gone", ["owner", "room"])
async def test_what_ended_while_nextcloud_was_asked_leaves_nothing(gone: str) -> None:
    async with House() as house:
        alice, bridge = await scene(house)
        house.nextcloud.gate = asyncio.Event()
        await add(bridge)
        if gone == "room":
            alice.say({"type": "room", "room": {"roomid": ""}})
        else:
            house.sessions.end(bridge.session)
        house.nextcloud.gate.set()
        await settle()
        assert [it.action for it in house.nextcloud.sessions()] == ["add", "remove"]
        assert not house.hub.virtuals
        assert bridge.heard() == []


async def test_who_joins_later_hears_of_it_and_of_its_flags() -> None:
    async with House() as house:
        _, bridge = await scene(house)
        await add(bridge, user={"displayname": "Phone"}, flags=1)
        await add(bridge, "silent")
        house.nextcloud.rooms["r"] = FakeRoom(permissions=["hide-displaynames"])
        bob = await house.open("bob")
        bob.say({"type": "room", "room": {"roomid": "r"}})
        await settle()
        _, _, others, flags = bob.heard()
        listed = {it["sessionid"]: it for it in others["event"]["join"]}
        assert listed[public(bridge)] == {"sessionid": public(bridge), "userid": ""}
        assert public(bridge, "silent") in listed
        assert flags["event"]["flags"] == {"roomid": "r", "sessionid": public(bridge), "flags": 1}


# -- update


async def test_changes_are_told_once() -> None:
    async with House() as house:
        alice, bridge = await scene(house)
        await add(bridge, flags=1)
        alice.heard()
        change(bridge, flags=1, incall=9)
        change(bridge)
        change(bridge, "unknown", flags=2)
        change(bridge, room="another", flags=2)
        assert alice.heard() == []
        change(bridge, flags=0, incall=3)
        flags, update = alice.heard()
        assert flags["event"]["flags"]["flags"] == 0
        assert users(update) == [entry(bridge, 3)]
        assert bridge.session.virtuals["phone"].in_call
        assert house.counters.calls_total == {("cloud", "virtual"): 1}
        assert house.counters.call_rooms_total == {"cloud": 1}
        assert house.counters.sessions_total["cloud", "virtual"] == 1
        change(bridge, incall=-5)
        assert users(alice.heard()[0]) == [entry(bridge, 0)]
        assert not bridge.session.virtuals["phone"].in_call


async def test_nextcloud_knows_it_by_its_public_id() -> None:
    async with House() as house:
        alice, bridge = await scene(house)
        await add(bridge)
        alice.heard()
        id = public(bridge)
        told = [{"sessionId": id, "inCall": 1, "userId": ""}, {"sessionId": "nc-alice", "inCall": 1}]
        house.backend("r", {"type": "incall", "incall": {"incall": 1, "changed": told, "users": told}})
        (update,) = alice.heard()
        virtual = {"sessionId": id, "inCall": 9, "userId": "", "virtual": True}
        assert users(update) == [virtual, {"sessionId": alice.sessionid, "inCall": 1}]
        assert bridge.session.virtuals["phone"].in_call
        house.backend("r", {"type": "incall", "incall": {"users": [{"sessionId": id, "userId": "u"}]}})
        assert users(alice.heard()[0]) == [{"sessionId": id, "userId": "u"}]
        await remove(bridge)
        alice.heard()
        other = await house.open_internal()
        await add(other)
        assert users(alice.heard()[1]) == [entry(other, 9)]


async def test_nobody_in_call_concerns_virtual_sessions() -> None:
    async with House() as house:
        alice, bridge = await scene(house)
        await add(bridge)
        change(bridge, incall=1)
        alice.heard()
        house.backend("r", {"type": "incall", "incall": {"incall": 0, "all": True}})
        assert [it["event"]["update"] for it in alice.heard()] == [{"roomid": "r", "incall": 0, "all": True}]
        assert not bridge.session.virtuals["phone"].in_call
        assert bridge.heard() == []


# -- remove


async def test_removed_session_leaves_and_nextcloud_hears_of_it() -> None:
    async with House() as house:
        alice, bridge = await scene(house)
        await add(bridge)
        id = public(bridge)
        key = f"sd:{id}"
        alice.heard()
        house.shared.set(next(iter(house.hub.rooms.values())), key, house.hub.sessions[alice.sessionid].user)
        alice.heard()
        assert await remove(bridge, "unknown") == await remove(bridge, room="another") == await remove(bridge) == []
        leave, data = alice.heard()
        assert leave["event"]["leave"] == [id]
        assert (data["transient"]["type"], data["transient"]["key"]) == ("remove", key)
        assert house.nextcloud.sessions()[-1] == SessionRequest("r", "remove", id, version="1.0")
        assert not bridge.session.virtuals


async def test_actor_leaves_as_a_participant() -> None:
    async with House() as house:
        _, bridge = await scene(house)
        await add(bridge, options=ACTOR)
        id = public(bridge)
        await remove(bridge)
        expected = RoomRequest("r", "", id, action="leave", actorid="+491", actortype="phones", version="1.0")
        assert house.nextcloud.leaves() == [expected]


@pytest.mark.parametrize(
    ("options", "answer", "message"),
    [
        ({}, NextcloudError("no"), "Could not remove virtual session from backend."),
        ({}, {"type": "error", "error": {"code": "x", "message": "y"}}, None),
        (ACTOR, {"type": "error", "error": {"code": "x", "message": "y"}}, "y"),
        (ACTOR, {"type": "error"}, "Could not remove virtual session from backend."),
        (ACTOR, {"type": "error", "error": {"code": "no_such_room", "message": "y"}}, None),
    ],
)
async def test_owner_hears_when_nextcloud_was_not_told(options: Json, answer: Any, message: str | None) -> None:
    async with House() as house:
        _, bridge = await scene(house)
        await add(bridge, options=options)
        house.nextcloud.answer = lambda request: answer
        heard = await remove(bridge)
        expected = [{"type": "error", "id": "x", "error": {"code": "remove_failed", "message": message}}]
        assert heard == (expected if message else [])


async def test_owner_that_is_gone_hears_of_no_failure() -> None:
    async with House() as house:
        _, bridge = await scene(house)
        await add(bridge)
        house.nextcloud.gate = asyncio.Event()
        house.nextcloud.answer = lambda request: NextcloudError("no")
        await remove(bridge)
        bridge.say({"id": "b", "type": "bye"})
        house.nextcloud.gate.set()
        await settle()
        assert bridge.heard() == [{"type": "bye", "id": "b"}]


async def test_end_of_the_owner_takes_its_sessions_along() -> None:
    async with House() as house:
        alice, bridge = await scene(house)
        await add(bridge)
        await add(bridge, "other", options=ACTOR)
        ids = [public(bridge), public(bridge, "other")]
        alice.heard()
        bridge.lose()
        await house.sweep(29)
        assert alice.heard() == []
        await house.sweep(2)
        assert [it["event"]["leave"] for it in alice.heard()] == [[id] for id in ids]
        assert house.nextcloud.sessions()[-1].action == "remove"
        assert [it.action for it in house.nextcloud.leaves()] == ["leave"]
        assert not house.hub.virtuals


async def test_room_lives_as_long_as_a_virtual_session_does() -> None:
    async with House() as house:
        alice, bridge = await scene(house)
        await add(bridge)
        alice.say({"type": "room", "room": {"roomid": ""}})
        assert house.hub.rooms
        await remove(bridge)
        assert not house.hub.rooms


async def test_deleted_room_takes_its_virtual_sessions_along() -> None:
    async with House() as house:
        alice, bridge = await scene(house)
        await add(bridge)
        bridge.say({"type": "room", "room": {"roomid": "r"}})
        await settle()
        alice.heard()
        bridge.heard()
        house.backend("r", {"type": "delete", "delete": {}})
        await settle()
        assert bridge.heard() == [
            {"type": "event", "event": {"target": "room", "type": "delete"}},
            {"type": "room", "room": {"roomid": ""}},
        ]
        assert alice.heard() == [{"type": "room", "room": {"roomid": ""}}]
        assert not house.hub.rooms
        assert not bridge.session.virtuals
        assert house.nextcloud.sessions()[-1].action == "remove"


# -- what it is told


@pytest.mark.parametrize("kind", ["message", "control"])
async def test_owner_hears_what_is_said_to_a_virtual_session(kind: str) -> None:
    async with House() as house:
        alice, bridge = await scene(house)
        await add(bridge, userid="u")
        eve = await house.member("eve", backend=OTHER)
        recipient = {"type": "session", "sessionid": public(bridge)}
        for it in (alice, eve):
            it.say({"type": kind, kind: {"recipient": recipient, "data": {"type": "mute", "audio": 1.0}}})
        (heard,) = bridge.heard()
        assert heard == {
            "type": kind,
            kind: {
                "sender": {"type": "session", "sessionid": alice.sessionid, "userid": "alice"},
                "recipient": {"type": "session", "sessionid": "phone"},
                "data": {"type": "mute", "audio": 1.0},
            },
        }


async def test_control_to_a_virtual_session_needs_the_permission() -> None:
    async with House() as house:
        house.nextcloud.rooms["r"] = FakeRoom(permissions=[])
        alice, bridge = await scene(house)
        await add(bridge)
        recipient = {"type": "session", "sessionid": public(bridge)}
        alice.say({"type": "control", "control": {"recipient": recipient, "data": 1}})
        assert bridge.heard() == []


async def test_messages_to_all_reach_the_owner_once_at_most() -> None:
    async with House() as house:
        alice, bridge = await scene(house)
        await add(bridge, userid="u")
        change(bridge, incall=1)
        for recipient in ({"type": "room"}, {"type": "call"}, {"type": "user", "userid": "u"}):
            alice.tell(recipient, "x")
        assert bridge.heard() == []
        bridge.say({"type": "room", "room": {"roomid": "r"}})
        await settle()
        bridge.heard()
        alice.tell({"type": "room"}, "x")
        assert len(bridge.heard()) == 1


async def test_disinvited_virtual_session_is_to_be_hung_up() -> None:
    async with House() as house:
        alice, bridge = await scene(house)
        await add(bridge, userid="u")
        alice.heard()
        body = {"sessionids": [public(bridge), public(bridge)], "userids": ["u"]}
        house.backend("another", {"type": "disinvite", "disinvite": body})
        assert bridge.heard() == []
        house.backend("r", {"type": "disinvite", "disinvite": body})
        (heard,) = bridge.heard()
        assert heard == {
            "type": "control",
            "control": {
                "sender": None,
                "recipient": {"type": "session", "sessionid": "phone", "userid": "u"},
                "data": {"type": "hangup", "hangup": {"reason": "disinvited"}},
            },
        }
        assert house.hub.virtuals
        assert alice.heard() == []


async def test_owner_is_offered_what_is_sent_to_a_virtual_session() -> None:
    async with House() as house:
        alice, bridge = await scene(house)
        await add(bridge)
        alice.offer()
        await settle()
        alice.heard()
        recipient = {"type": "session", "sessionid": public(bridge)}
        alice.tell(recipient, {"type": "sendoffer", "roomType": "video"}, id="s")
        await settle()
        (offered,) = bridge.data()
        assert (offered["type"], offered["from"]) == ("offer", alice.sessionid)
        assert alice.heard() == []
        bridge.tell(recipient, {"type": "sendoffer", "roomType": "video"}, id="s")
        assert bridge.heard() == []


async def test_publisher_elsewhere_sends_a_virtual_session_nothing() -> None:
    async with House() as house:
        _, bridge = await scene(house)
        await add(bridge)
        bob = await house.member("bob", "elsewhere")
        bob.tell({"type": "session", "sessionid": public(bridge)}, {"type": "sendoffer", "roomType": "video"})
        assert bob.errors() == ["not_allowed"]


# -- keep-alive


async def test_virtual_sessions_are_pinged() -> None:
    async with House() as house:
        _, bridge = await scene(house)
        await add(bridge, userid="u")
        await add(bridge, "other")
        await house.sweep(10)
        house.pings.sweep(house.services.clock())
        await settle()
        (ping,) = [request for _, _, request in house.nextcloud.asked if isinstance(request, PingRequest)]
        assert ping.roomid == "r"
        assert set(ping.entries) == {
            PingEntry("alice", "nc-alice"),
            PingEntry("u", public(bridge)),
            PingEntry("", public(bridge, "other")),
        }
