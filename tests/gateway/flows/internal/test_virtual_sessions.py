"""Virtual sessions (reference 4.5, 7.3, 7.5, 11.2-11.4)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.core.limits import Limits
from gateway.flows.call_log import SessionEnd
from gateway.flows.ports import NextcloudError
from gateway.wire.backend import PingEntry, PingRequest, RoomRequest, SessionRequest
from tests.gateway.flows.fakes import FakeRoom
from tests.gateway.flows.harness import OTHER_CLOUD, WALL_TIME, FakeClient, FlowHarness, Json
from tests.gateway.flows.virtual_time import settle

ACTOR = {"actorId": "+491", "actorType": "phones"}


async def add(bridge: FakeClient, name: str = "phone", room: str = "r", **more: Any) -> list[Json]:
    bridge.send_internal("addsession", id="a", sessionid=name, roomid=room, **more)
    await settle()
    return bridge.received()


def change(bridge: FakeClient, name: str = "phone", room: str = "r", **more: Any) -> None:
    bridge.send_internal("updatesession", sessionid=name, roomid=room, **more)


async def remove(bridge: FakeClient, name: str = "phone", room: str = "r") -> list[Json]:
    bridge.send_internal("removesession", id="x", sessionid=name, roomid=room)
    await settle()
    return bridge.received()


def public_id(bridge: FakeClient, name: str = "phone") -> str:
    return bridge.session.virtuals[name].id


def entry(bridge: FakeClient, flags: int, name: str = "phone") -> Json:
    now = int(WALL_TIME + bridge.harness.services.clock())
    return {"inCall": flags, "sessionId": public_id(bridge, name), "lastPing": now, "virtual": True}


def users(message: Json) -> Any:
    """Return the list of a participants update without Alice's entry from ``member_and_internal_client``."""
    return [entry for entry in message["event"]["update"]["users"] if "listed" not in entry]


async def member_and_internal_client(harness: FlowHarness, *features: str) -> tuple[FakeClient, FakeClient]:
    """Return a member of room ``r``, and an internal client that is in no room."""
    alice = await harness.member("alice")
    listed = {"sessionId": "nc-alice", "inCall": 0, "listed": True}
    harness.rooms_api("r", {"type": "incall", "incall": {"changed": [], "users": [listed]}})
    alice.received()
    return alice, await harness.internal_hello(*features)


# -- add


# reference 11.2-c
async def test_members_receive_the_events_of_a_virtual_session_in_order() -> None:
    async with FlowHarness() as harness:
        alice, bridge = await member_and_internal_client(harness)
        assert await add(bridge, userid="u", user={"type": "phone"}, flags=4) == []
        joined, update, flags = alice.received()
        id = public_id(bridge)
        assert joined["event"]["join"] == [{"sessionid": id, "userid": "u", "user": {"type": "phone"}}]
        assert users(update) == [entry(bridge, 9)]
        shown = {"roomid": "r", "sessionid": id, "flags": 4}
        assert flags == {"type": "event", "event": {"target": "participants", "type": "flags", "flags": shown}}
        assert id not in (bridge.sessionid, alice.sessionid)
        (asked,) = harness.nextcloud.sessions()
        assert asked == SessionRequest("r", "add", id, "u", asked.user, "1.0")
        assert bytes(asked.user) == b'{"type": "phone"}'


# reference 11.2-a
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
async def test_initial_in_call_flags_of_a_virtual_session(features: tuple[str, ...], given: Json, flags: int) -> None:
    async with FlowHarness() as harness:
        alice, bridge = await member_and_internal_client(harness, *features)
        await add(bridge, **given)
        joined, update = alice.received()
        assert joined["event"]["join"] == [{"sessionid": public_id(bridge), "userid": ""}]
        assert users(update) == [entry(bridge, flags)]


# reference 11.2-b
async def test_actor_joins_at_nextcloud_as_a_participant() -> None:
    async with FlowHarness() as harness:
        alice, bridge = await member_and_internal_client(harness)
        await add(bridge, options=ACTOR, userid="u")
        request = harness.nextcloud.joins()[-1]
        assert request == RoomRequest(
            "r", "u", public_id(bridge), actorid="+491", actortype="phones", incall=9, version="1.0"
        )
        assert len(alice.received()) == 2


@pytest.mark.parametrize("options", [{}, {"actorId": "a"}, {"actorType": "t", "actorId": ""}])
async def test_incomplete_actor_counts_as_none(options: Json) -> None:
    async with FlowHarness() as harness:
        _, bridge = await member_and_internal_client(harness)
        await add(bridge, options=options)
        assert len(harness.nextcloud.sessions()) == 1


# reference 11.2-b
@pytest.mark.parametrize(
    ("options", "answer", "message"),
    [
        ({}, NextcloudError("no"), "Could not add virtual session."),
        (ACTOR, NextcloudError("no"), "Could not join virtual session."),
        (ACTOR, {"type": "error", "error": {"code": "x", "message": "Not here."}}, "Not here."),
        (ACTOR, {"type": "error"}, "Could not join virtual session."),
    ],
)
async def test_virtual_session_that_nextcloud_refuses_is_not_added(options: Json, answer: Any, message: str) -> None:
    async with FlowHarness() as harness:
        alice, bridge = await member_and_internal_client(harness)
        harness.nextcloud.answer = lambda request: answer
        (error,) = await add(bridge, options=options)
        assert error == {"type": "error", "id": "a", "error": {"code": "add_failed", "message": message}}
        assert alice.received() == []
        assert not harness.hub.virtuals


# reference 11.2-b
async def test_virtual_session_without_an_actor_is_added_whatever_nextcloud_answers() -> None:
    async with FlowHarness() as harness:
        alice, bridge = await member_and_internal_client(harness)
        harness.nextcloud.answer = lambda request: {"type": "error", "error": {"code": "x", "message": "y"}}
        assert await add(bridge) == []
        assert len(alice.received()) == 2


# reference 11.1-a
async def test_virtual_session_for_an_unknown_room_is_ignored() -> None:
    async with FlowHarness() as harness:
        _, bridge = await member_and_internal_client(harness)
        await harness.member("eve", "theirs", backend=OTHER_CLOUD)
        before = len(harness.nextcloud.requests)
        assert await add(bridge, room="elsewhere") == await add(bridge, room="theirs") == []
        assert len(harness.nextcloud.requests) == before


# reference 11.2-d
async def test_second_virtual_session_with_the_same_name_is_refused_per_client() -> None:
    async with FlowHarness() as harness:
        alice, bridge = await member_and_internal_client(harness)
        other = await harness.internal_hello()
        await add(bridge)
        first = public_id(bridge)
        (error,) = await add(bridge)
        assert error["error"] == {"code": "add_failed", "message": "Could not create virtual session."}
        assert await add(other) == []
        assert public_id(bridge) == first != public_id(other)
        assert len(alice.received()) == 4


async def test_virtual_sessions_of_an_internal_client_are_limited() -> None:
    async with FlowHarness() as harness:
        _, bridge = await member_and_internal_client(harness)
        harness.change_settings(limits=Limits(virtual_sessions=1))
        assert await add(bridge) == []
        (error,) = await add(bridge, "another")
        assert error["error"]["code"] == "limit_exceeded"
        assert harness.counters.limits_met["virtual_sessions"] == 1


@pytest.mark.parametrize("ended", ["owner", "room"])
async def test_virtual_session_is_removed_if_its_owner_or_room_ends_before_the_answer(ended: str) -> None:
    async with FlowHarness() as harness:
        alice, bridge = await member_and_internal_client(harness)
        harness.nextcloud.gate = asyncio.Event()
        await add(bridge)
        if ended == "room":
            alice.leave()
        else:
            harness.flows.session_closer.end(bridge.session, SessionEnd.REMOVED)
        harness.nextcloud.gate.set()
        await settle()
        assert [request.action for request in harness.nextcloud.sessions()] == ["add", "remove"]
        assert not harness.hub.virtuals
        assert bridge.received() == []


# reference 7.5-a
async def test_later_member_receives_the_virtual_session_and_its_flags() -> None:
    async with FlowHarness() as harness:
        _, bridge = await member_and_internal_client(harness)
        await add(bridge, user={"displayname": "Phone"}, flags=1)
        await add(bridge, "silent")
        harness.nextcloud.rooms["r"] = FakeRoom(permissions=["hide-displaynames"])
        bob = await harness.hello("bob")
        bob.join()
        await settle()
        _, _, others, flags = bob.received()
        listed = {entry["sessionid"]: entry for entry in others["event"]["join"]}
        assert listed[public_id(bridge)] == {"sessionid": public_id(bridge), "userid": ""}
        assert public_id(bridge, "silent") in listed
        assert flags["event"]["flags"] == {"roomid": "r", "sessionid": public_id(bridge), "flags": 1}


# -- update


# reference 11.3-a
async def test_changed_flags_are_sent_once() -> None:
    async with FlowHarness() as harness:
        alice, bridge = await member_and_internal_client(harness)
        await add(bridge, flags=1)
        alice.received()
        change(bridge, flags=1, incall=9)
        change(bridge)
        change(bridge, "unknown", flags=2)
        change(bridge, room="another", flags=2)
        assert alice.received() == []
        change(bridge, flags=0, incall=3)
        flags, update = alice.received()
        assert flags["event"]["flags"]["flags"] == 0
        assert users(update) == [entry(bridge, 3)]
        assert bridge.session.virtuals["phone"].in_call
        assert harness.counters.calls_total == {("cloud", "virtual"): 1}
        assert harness.counters.call_rooms_total == {"cloud": 1}
        assert harness.counters.sessions_total["cloud", "virtual"] == 1
        change(bridge, incall=-5)
        assert users(alice.received()[0]) == [entry(bridge, 0)]
        assert not bridge.session.virtuals["phone"].in_call


# reference 7.2-b
async def test_rooms_api_names_a_virtual_session_by_its_public_id() -> None:
    async with FlowHarness() as harness:
        alice, bridge = await member_and_internal_client(harness)
        await add(bridge)
        alice.received()
        id = public_id(bridge)
        entries = [{"sessionId": id, "inCall": 1, "userId": ""}, {"sessionId": "nc-alice", "inCall": 1}]
        harness.rooms_api("r", {"type": "incall", "incall": {"incall": 1, "changed": entries, "users": entries}})
        (update,) = alice.received()
        virtual = {"sessionId": id, "inCall": 9, "userId": "", "virtual": True}
        assert users(update) == [virtual, {"sessionId": alice.sessionid, "inCall": 1}]
        assert bridge.session.virtuals["phone"].in_call
        harness.rooms_api("r", {"type": "incall", "incall": {"users": [{"sessionId": id, "userId": "u"}]}})
        assert users(alice.received()[0]) == [{"sessionId": id, "userId": "u"}]
        await remove(bridge)
        alice.received()
        other = await harness.internal_hello()
        await add(other)
        assert users(alice.received()[1])[1:] == [entry(other, 9)]


# reference 7.4-b
async def test_none_in_call_applies_to_virtual_sessions() -> None:
    async with FlowHarness() as harness:
        alice, bridge = await member_and_internal_client(harness)
        await add(bridge)
        change(bridge, incall=1)
        alice.received()
        harness.rooms_api("r", {"type": "incall", "incall": {"incall": 0, "all": True}})
        assert [message["event"]["update"] for message in alice.received()] == [
            {"roomid": "r", "incall": 0, "all": True}
        ]
        assert not bridge.session.virtuals["phone"].in_call
        assert bridge.received() == []


# -- remove


# reference 11.3-b
async def test_removed_virtual_session_leaves_the_room_and_nextcloud() -> None:
    async with FlowHarness() as harness:
        alice, bridge = await member_and_internal_client(harness)
        await add(bridge)
        id = public_id(bridge)
        key = f"sd:{id}"
        alice.received()
        (room,) = harness.hub.rooms.values()
        harness.flows.transient.set(room, key, alice.session.user)
        alice.received()
        assert await remove(bridge, "unknown") == await remove(bridge, room="another") == await remove(bridge) == []
        leave, data = alice.received()
        assert leave["event"]["leave"] == [id]
        assert (data["transient"]["type"], data["transient"]["key"]) == ("remove", key)
        assert harness.nextcloud.sessions()[-1] == SessionRequest("r", "remove", id, version="1.0")
        assert not bridge.session.virtuals


# reference 11.3-b
async def test_actor_leaves_at_nextcloud_as_a_participant() -> None:
    async with FlowHarness() as harness:
        _, bridge = await member_and_internal_client(harness)
        await add(bridge, options=ACTOR)
        id = public_id(bridge)
        await remove(bridge)
        expected = RoomRequest("r", "", id, action="leave", actorid="+491", actortype="phones", version="1.0")
        assert harness.nextcloud.leaves() == [expected]


# reference 11.3-b
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
async def test_owner_receives_an_error_if_the_removal_fails_at_nextcloud(
    options: Json, answer: Any, message: str | None
) -> None:
    async with FlowHarness() as harness:
        _, bridge = await member_and_internal_client(harness)
        await add(bridge, options=options)
        harness.nextcloud.answer = lambda request: answer
        errors = await remove(bridge)
        expected = [{"type": "error", "id": "x", "error": {"code": "remove_failed", "message": message}}]
        assert errors == (expected if message else [])


async def test_ended_owner_receives_no_error() -> None:
    async with FlowHarness() as harness:
        _, bridge = await member_and_internal_client(harness)
        await add(bridge)
        harness.nextcloud.gate = asyncio.Event()
        harness.nextcloud.answer = lambda request: NextcloudError("no")
        await remove(bridge)
        bridge.send({"id": "b", "type": "bye"})
        harness.nextcloud.gate.set()
        await settle()
        assert bridge.received() == [{"type": "bye", "id": "b"}]


# reference 11.3-d
async def test_end_of_the_owner_ends_its_virtual_sessions() -> None:
    async with FlowHarness() as harness:
        alice, bridge = await member_and_internal_client(harness)
        await add(bridge)
        await add(bridge, "other", options=ACTOR)
        ids = [public_id(bridge), public_id(bridge, "other")]
        alice.received()
        bridge.disconnect()
        await harness.sweep(29)
        assert alice.received() == []
        await harness.sweep(2)
        assert [message["event"]["leave"] for message in alice.received()] == [[id] for id in ids]
        assert harness.nextcloud.sessions()[-1].action == "remove"
        assert [request.action for request in harness.nextcloud.leaves()] == ["leave"]
        assert not harness.hub.virtuals


async def test_room_exists_as_long_as_it_has_a_virtual_session() -> None:
    async with FlowHarness() as harness:
        alice, bridge = await member_and_internal_client(harness)
        await add(bridge)
        alice.leave()
        assert harness.hub.rooms
        await remove(bridge)
        assert not harness.hub.rooms


# reference 4.6-c
async def test_deletion_of_a_room_ends_its_virtual_sessions() -> None:
    async with FlowHarness() as harness:
        alice, bridge = await member_and_internal_client(harness)
        await add(bridge)
        bridge.join()
        await settle()
        alice.received()
        bridge.received()
        harness.rooms_api("r", {"type": "delete", "delete": {"userids": []}})
        await settle()
        assert bridge.received() == [
            {"type": "event", "event": {"target": "room", "type": "delete"}},
            {"type": "room", "room": {"roomid": ""}},
        ]
        assert alice.received() == [{"type": "room", "room": {"roomid": ""}}]
        assert not harness.hub.rooms
        assert not bridge.session.virtuals
        assert harness.nextcloud.sessions()[-1].action == "remove"


# -- messages to virtual sessions


# reference 11.4-a
@pytest.mark.parametrize("type", ["message", "control"])
async def test_owner_receives_the_messages_for_a_virtual_session(type: str) -> None:
    async with FlowHarness() as harness:
        alice, bridge = await member_and_internal_client(harness)
        await add(bridge, userid="u")
        eve = await harness.member("eve", backend=OTHER_CLOUD)
        recipient = {"type": "session", "sessionid": public_id(bridge)}
        for client in (alice, eve):
            client.send({"type": type, type: {"recipient": recipient, "data": {"type": "mute", "audio": 1.0}}})
        (message,) = bridge.received()
        assert message == {
            "type": type,
            type: {
                "sender": {"type": "session", "sessionid": alice.sessionid, "userid": "alice"},
                "recipient": {"type": "session", "sessionid": "phone"},
                "data": {"type": "mute", "audio": 1.0},
            },
        }


async def test_control_to_a_virtual_session_needs_the_permission() -> None:
    async with FlowHarness() as harness:
        harness.nextcloud.rooms["r"] = FakeRoom(permissions=[])
        alice, bridge = await member_and_internal_client(harness)
        await add(bridge)
        recipient = {"type": "session", "sessionid": public_id(bridge)}
        alice.send({"type": "control", "control": {"recipient": recipient, "data": 1}})
        assert bridge.received() == []


# reference 11.4-a
async def test_message_to_a_room_reaches_the_owner_once_at_most() -> None:
    async with FlowHarness() as harness:
        alice, bridge = await member_and_internal_client(harness)
        await add(bridge, userid="u")
        change(bridge, incall=1)
        for recipient in ({"type": "room"}, {"type": "call"}, {"type": "user", "userid": "u"}):
            alice.send_message(recipient, "x")
        assert bridge.received() == []
        bridge.join()
        await settle()
        bridge.received()
        alice.send_message({"type": "room"}, "x")
        assert len(bridge.received()) == 1


# reference 11.4-b
async def test_owner_of_a_disinvited_virtual_session_receives_hangup() -> None:
    async with FlowHarness() as harness:
        alice, bridge = await member_and_internal_client(harness)
        await add(bridge, userid="u")
        alice.received()
        body = {"sessionids": [public_id(bridge), public_id(bridge)], "userids": ["u"]}
        harness.rooms_api("another", {"type": "disinvite", "disinvite": body})
        assert bridge.received() == []
        harness.rooms_api("r", {"type": "disinvite", "disinvite": body})
        (message,) = bridge.received()
        assert message == {
            "type": "control",
            "control": {
                "sender": None,
                "recipient": {"type": "session", "sessionid": "phone", "userid": "u"},
                "data": {"type": "hangup", "hangup": {"reason": "disinvited"}},
            },
        }
        assert harness.hub.virtuals
        assert alice.received() == []


# reference 9.5-a
async def test_owner_receives_an_offer_that_is_sent_to_a_virtual_session() -> None:
    async with FlowHarness() as harness:
        alice, bridge = await member_and_internal_client(harness)
        await add(bridge)
        alice.offer()
        await settle()
        alice.received()
        recipient = {"type": "session", "sessionid": public_id(bridge)}
        alice.send_message(recipient, {"type": "sendoffer", "roomType": "video"}, id="s")
        await settle()
        (offered,) = bridge.data()
        assert (offered["type"], offered["from"]) == ("offer", alice.sessionid)
        assert alice.received() == []
        bridge.send_message(recipient, {"type": "sendoffer", "roomType": "video"}, id="s")
        await asyncio.sleep(11)  # longer than a request waits for a stream
        assert bridge.received() == []  # its own stream is not offered to it


async def test_publisher_of_another_room_cannot_send_an_offer_to_a_virtual_session() -> None:
    async with FlowHarness() as harness:
        _, bridge = await member_and_internal_client(harness)
        await add(bridge)
        bob = await harness.member("bob", "elsewhere")
        bob.send_message(
            {"type": "session", "sessionid": public_id(bridge)}, {"type": "sendoffer", "roomType": "video"}
        )
        assert bob.error_codes() == ["not_allowed"]


# -- keep-alive


# reference 4.5-b
async def test_virtual_sessions_are_pinged() -> None:
    async with FlowHarness() as harness:
        _, bridge = await member_and_internal_client(harness)
        await add(bridge, userid="u")
        await add(bridge, "other")
        await harness.sweep(10)
        harness.pings.sweep(harness.services.clock())
        await settle()
        (ping,) = [request for _, _, request in harness.nextcloud.requests if isinstance(request, PingRequest)]
        assert ping.roomid == "r"
        assert set(ping.entries) == {
            PingEntry("alice", "nc-alice"),
            PingEntry("u", public_id(bridge)),
            PingEntry("", public_id(bridge, "other")),
        }
