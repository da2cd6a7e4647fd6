"""Joining and leaving rooms: requests to Nextcloud, replies and the order of events (reference 4)."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from gateway.core.limits import Backend
from gateway.flows.ports import NextcloudError
from gateway.flows.settings import MediaLimits
from gateway.tools.talk_rooms import TalkRoom
from gateway.wire.backend import RoomRequest, encode_request
from tests.gateway.flows.fakes import FakeRoom
from tests.gateway.flows.harness import OTHER_CLOUD, FlowHarness, Json
from tests.gateway.flows.virtual_time import settle

PROPERTIES = TalkRoom("r", "r").properties("alice") | {"name": "r"}


def join_events(messages: list[Json]) -> list[list[str]]:
    return [
        [entry["sessionid"] for entry in message["event"]["join"]] for message in messages if message["type"] == "event"
    ]


# reference 4.3-b
async def test_joining_session_receives_the_reply_before_its_join_event() -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        alice.join(nc="nc1")
        await settle()
        reply, own = alice.received()
        assert reply == {"id": "join", "type": "room", "room": {"roomid": "r", "properties": PROPERTIES}}
        entry = {
            "sessionid": alice.sessionid,
            "userid": "alice",
            "user": {"displayname": "Alice"},
            "roomsessionid": "nc1",
        }
        assert own == {"type": "event", "event": {"target": "room", "type": "join", "join": [entry]}}


# reference 4.3-a
async def test_joining_session_receives_its_own_entry_and_then_one_event_with_all_others() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        alice.received()
        carol = await harness.hello("")
        carol.join()
        await settle()
        messages = carol.received()
        assert [message["type"] for message in messages] == ["room", "event", "event"]
        assert join_events(messages) == [[carol.sessionid], [alice.sessionid, bob.sessionid]]
        assert messages[1]["event"]["join"] == [{"sessionid": carol.sessionid, "userid": ""}]
        assert join_events(alice.received()) == join_events(bob.received()) == [[carol.sessionid]]


# reference 4.1-c
async def test_join_request_to_nextcloud_has_no_action() -> None:
    async with FlowHarness() as harness:
        alice, guest = await harness.hello("alice"), await harness.hello("")
        alice.join(nc="nc1")
        guest.join()
        await settle()
        sent = [encode_request(request) for request in harness.nextcloud.joins()]
        assert sent == [
            b'{"type":"room","room":{"roomid":"r","userid":"alice","sessionid":"nc1","version":"1.0"}}',
            b'{"type":"room","room":{"roomid":"r","userid":"","sessionid":"%s","version":"1.0"}}'
            % guest.sessionid.encode(),
        ]


# reference 4.1-a
async def test_join_of_the_current_room_is_refused_and_exchanges_the_nextcloud_session() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        alice.received()
        alice.join(nc="nc-new")
        await settle()
        (reply,) = alice.received()
        assert (reply["id"], reply["type"]) == ("join", "error")
        assert reply["error"] == {
            "code": "already_joined",
            "message": "Already joined this room.",
            "details": {"room": {"roomid": "r", "properties": PROPERTIES}},
        }
        assert bob.received() == []
        assert [request.sessionid for request in harness.nextcloud.joins()] == ["nc-alice", "nc-bob", "nc-new"]
        alice.join(nc="nc-new")
        await settle()
        assert alice.error_codes() == ["already_joined"]
        assert len(harness.nextcloud.joins()) == 3
        assert harness.hub.find_by_room_session("cloud", "nc-new") is alice.session
        assert harness.hub.find_by_room_session("cloud", "nc-alice") is None
        alice.join()
        await settle()
        assert harness.hub.find_by_room_session("cloud", alice.sessionid) is alice.session


# reference 4.1-d
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"type": "error", "error": {"code": "no_such_room", "message": "?", "details": {"a": 1}}}, "no_such_room"),
        ({"type": "error", "error": {"code": "duplicate_session"}}, "duplicate_session"),
        ({"type": "error", "error": {"code": "no_such_room", "message": None, "details": []}}, "no_such_room"),
        ({"type": "error", "error": {"code": None, "message": "?"}}, ""),
        ({"type": "error"}, "room_join_failed"),
        ({"type": "room"}, "room_join_failed"),
        ({"type": "auth", "auth": {}}, "room_join_failed"),
        (NextcloudError("throttled OCS response"), "internal_error"),
    ],
)
async def test_refused_join_keeps_the_current_room(answer: Any, code: str) -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        alice.received()
        harness.nextcloud.answer = lambda request: answer
        alice.join("other", nc="nc2")
        await settle()
        (reply,) = alice.received()
        assert (reply["id"], reply["error"]["code"]) == ("join", code)
        if isinstance(answer, NextcloudError):
            assert reply["error"]["message"] == "throttled OCS response"
        elif "details" in answer.get("error", {}):
            assert reply["error"]["details"] == answer["error"]["details"]
        assert bob.received() == []
        assert alice.session.room == ("cloud", "r")
        assert list(harness.hub.rooms) == [("cloud", "r")]


# reference 4.1-e
async def test_room_change_leaves_the_old_room_after_nextcloud_allowed_the_new_one() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        alice.received()
        alice.join("new", nc="nc2")
        await settle()
        assert [message["type"] for message in alice.received()] == ["room", "event"]
        assert bob.received() == [
            {"type": "event", "event": {"target": "room", "type": "leave", "leave": [alice.sessionid]}}
        ]
        requests = [request for _, _, request in harness.nextcloud.requests if isinstance(request, RoomRequest)][2:]
        assert [(request.action, request.roomid, request.sessionid) for request in requests] == [
            ("", "new", "nc2"),
            ("leave", "r", "nc-alice"),
        ]


# reference 4.4-b
async def test_session_that_changes_the_room_with_its_nextcloud_session_is_not_ended() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        alice.join("new", nc="nc-alice")
        await settle()
        assert [message["type"] for message in alice.received()] == ["room", "event"]
        assert alice.session.open


# reference 4.1-g
async def test_room_id_in_the_answer_of_nextcloud_replaces_the_requested_one() -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        harness.nextcloud.answer = lambda request: {"type": "room", "room": {"roomid": "real"}}
        alice.join("alias")
        await settle()
        assert alice.received()[0]["room"] == {"roomid": "real"}
        assert alice.session.room == ("cloud", "real")


@pytest.mark.parametrize("session", [[], None, {"userid": None}, {"userid": 5}, "text"])
async def test_empty_members_of_an_answer_as_php_writes_them_count_as_absent(session: Any) -> None:
    async with FlowHarness() as harness:
        guest = await harness.hello()
        room = {"roomid": None, "properties": [], "session": session, "permissions": None}
        harness.nextcloud.answer = lambda request: {"type": "room", "room": room}
        guest.join(nc="nc-g")
        await settle()
        assert guest.received()[0]["room"] == {"roomid": "r", "properties": []}
        assert guest.session.shown_userid == ""


# reference 4.1-f
async def test_room_keeps_the_properties_of_the_first_join() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.hello("alice"), await harness.hello("bob")
        harness.nextcloud.rooms["r"] = FakeRoom(properties=[1])
        alice.join()
        await settle()
        harness.nextcloud.rooms["r"] = FakeRoom(properties=[2])
        bob.join()
        await settle()
        assert bob.received()[0]["room"]["properties"] == [1]


# reference 4.1-g
async def test_guest_has_the_user_id_that_nextcloud_gave_for_the_room() -> None:
    async with FlowHarness() as harness:
        bob, guest = await harness.member("bob"), await harness.hello("")
        harness.nextcloud.rooms["r"] = FakeRoom(session={"userid": "mail-guest"})
        guest.join(nc="nc-g")
        await settle()
        assert bob.received()[0]["event"]["join"][0]["userid"] == "mail-guest"
        guest.send_message({"type": "room"}, "x")
        assert bob.received()[0]["message"]["sender"]["userid"] == "mail-guest"
        again = await harness.resume(guest)
        assert again.received()[0]["hello"]["userid"] == "mail-guest"
        again.leave()
        await settle()
        assert harness.nextcloud.leaves()[0].userid == ""


# reference 4.1-h
async def test_bandwidth_is_the_smaller_of_both_limits() -> None:
    backend = Backend("b", ("https://b.example/",), "s", max_stream_bitrate=500, max_screen_bitrate=0)
    async with FlowHarness(backend, media_limits=MediaLimits(1000, 2000)) as harness:
        alice = await harness.hello("alice", backend)
        alice.join()
        await settle()
        assert alice.received()[0]["room"]["bandwidth"] == {"maxstreambitrate": 500, "maxscreenbitrate": 2000}


# reference 4.1-h
@pytest.mark.parametrize("mcu", [True, False])
async def test_bandwidth_is_absent_without_limits_or_sfu(mcu: bool) -> None:
    async with FlowHarness(mcu=mcu, media_limits=MediaLimits(0 if mcu else 1000, 0)) as harness:
        alice = await harness.hello("alice")
        alice.join()
        await settle()
        assert "bandwidth" not in alice.received()[0]["room"]


# -- leave


# reference 4.2-a
async def test_leaving_is_answered_and_sent_to_members_and_nextcloud() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        alice.received()
        alice.leave()
        await settle()
        assert alice.received() == [{"id": "leave", "type": "room", "room": {"roomid": ""}}]
        assert bob.received()[0]["event"]["leave"] == [alice.sessionid]
        (leave,) = harness.nextcloud.leaves()
        assert (leave.roomid, leave.userid, leave.sessionid) == ("r", "alice", "nc-alice")


# reference 4.2-a
@pytest.mark.parametrize("room", [{}, {"roomid": None}, {"roomid": ""}])
async def test_leaving_no_room_is_not_answered(room: Json) -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        alice.send({"id": "l", "type": "room", "room": room})
        assert alice.received() == []


async def test_room_without_a_body_is_invalid() -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        alice.send({"id": "x", "type": "room"})
        alice.send({"id": "x", "type": "room", "room": None})
        assert alice.error_codes() == ["invalid_format"] * 2


# reference 4.2-b
async def test_session_without_a_nextcloud_session_leaves_without_a_leave_request() -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        alice.join()
        await settle()
        alice.leave()
        await settle()
        assert harness.nextcloud.leaves() == []


# reference 4.2-b
async def test_failed_leave_request_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.member("alice"), await harness.hello("bob")
        harness.nextcloud.answer = lambda request: NextcloudError("down")
        alice.leave()
        await settle()
        harness.nextcloud.answer = lambda request: None
        bob.join(nc="nc-bob")
        await settle()
        harness.nextcloud.answer = lambda request: {"type": "error", "error": {"code": "x"}}
        bob.leave()
        await settle()
        assert "down" in caplog.text
        assert "refused" in caplog.text
        assert not [record for record in caplog.records if record.levelname == "ERROR"]


# reference 4.2-e
async def test_usual_answer_to_a_leave_request_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "portunus")
    async with FlowHarness() as harness:
        members = [await harness.member(name) for name in ("alice", "bob", "carol", "dave", "erin")]
        caplog.clear()
        answers: list[Json] = [
            {"type": "error", "error": {"code": "no_such_room", "message": "The user is not invited to this room."}},
            {"type": "room", "room": {"version": "1.0", "roomid": "r", "permissions": ["control"], "properties": {}}},
            {"type": "room", "room": {"version": "1.0", "roomid": "r"}},
        ]
        for member, answer in zip(members, answers, strict=False):
            harness.nextcloud.answer = lambda request, answer=answer: answer  # type: ignore[misc]
            member.leave()
            await settle()
        assert caplog.records == []
        harness.nextcloud.answer = lambda request: {"type": "error", "error": {"code": "invalid"}}
        for member in members[3:]:
            member.leave()
            await settle()
        assert [record.getMessage() for record in caplog.records] == ["backend cloud refused a leave request: invalid"]


# reference 3.7-i
async def test_many_leave_requests_delay_no_join_and_do_not_undo_one() -> None:
    async with FlowHarness() as harness:
        members = [await harness.member(f"member {number}") for number in range(20)]
        gate = harness.nextcloud.gate = asyncio.Event()
        for member in members:
            member.leave()
        await settle()
        assert len(harness.nextcloud.leaves()) == 4
        harness.nextcloud.gate = None
        await harness.member("newcomer")
        last = members[-1]
        last.join(nc=f"nc-{last.session.userid}")  # while its leave request waits
        await settle()
        assert last.session.room is not None
        gate.set()
        await settle()
        left = {request.sessionid for request in harness.nextcloud.leaves()}
        assert left == {f"nc-{member.session.userid}" for member in members[:-1]}


# reference 2.5-b
async def test_guest_that_left_its_room_must_join_another_one() -> None:
    async with FlowHarness() as harness:
        guest = await harness.member("")
        await harness.sweep(60)
        guest.leave()
        guest.received()
        await harness.sweep(9.9)
        assert guest.received() == []
        await harness.sweep(0.1)
        assert guest.received()[0]["bye"]["reason"] == "room_join_timeout"


# -- duplicates (4.4)


# reference 4.4-a
async def test_second_session_with_the_same_nextcloud_session_ends_the_first() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        alice.received()
        again = await harness.hello("alice")
        again.join(nc="nc-alice")
        await settle()
        assert alice.received() == [{"type": "bye", "bye": {"reason": "room_session_reconnected"}}]
        assert alice.connection.finished
        assert [message["event"]["type"] for message in bob.received()] == ["leave", "join"]
        assert harness.nextcloud.leaves() == []
        alice.disconnect()
        assert (await harness.resume(alice)).error_codes() == ["no_such_session"]


# reference 4.4-a
@pytest.mark.parametrize(
    "answer",
    [
        {"type": "error", "error": {"code": "duplicate_session", "message": "?"}},
        {"type": "room"},
        {"type": "auth", "auth": {}},
        NextcloudError("down"),
    ],
)
@pytest.mark.parametrize("userid", ["alice", "", "eve"])
async def test_join_that_nextcloud_does_not_allow_does_not_end_the_holder_of_the_nextcloud_session(
    answer: Any, userid: str
) -> None:
    async with FlowHarness() as harness:
        alice, again = await harness.member("alice"), await harness.hello(userid)
        harness.nextcloud.answer = lambda request: answer
        again.join(nc="nc-alice")
        await settle()
        assert len(again.error_codes()) == 1
        assert alice.received() == []
        assert harness.hub.find_by_room_session("cloud", "nc-alice") is alice.session
        again.send({"type": "bye"})
        await settle()
        assert harness.nextcloud.leaves() == []


async def test_same_nextcloud_session_id_at_another_backend_is_another_session() -> None:
    async with FlowHarness() as harness:
        alice, eve = await harness.member("alice"), await harness.member("alice", backend=OTHER_CLOUD)
        assert alice.received() == []
        assert alice.session.open
        assert eve.session.room == ("other", "r")


async def test_two_joins_with_one_nextcloud_session_at_once_leave_one_session() -> None:
    async with FlowHarness() as harness:
        alice, again = await harness.hello("alice"), await harness.hello("alice")
        harness.nextcloud.gate = asyncio.Event()
        alice.join(nc="nc")
        again.join(nc="nc")
        await settle()
        harness.nextcloud.gate.set()
        await settle()
        assert len(harness.hub.sessions) == 1
        assert len(harness.room().members) == 1


# -- hidden names (5.4)


# reference 5.4-b, 5.4-c
async def test_names_are_hidden_from_clients_that_must_not_see_them() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        harness.nextcloud.rooms["r"] = FakeRoom(permissions=["hide-displaynames"])
        limited = await harness.hello("limited")
        limited.join()
        await settle()
        entries = [entry for message in limited.received()[1:] for entry in message["event"]["join"]]
        assert [entry["userid"] for entry in entries] == ["limited", "alice"]
        assert not [entry for entry in entries if "user" in entry]
        del harness.nextcloud.rooms["r"]
        alice.received()
        carol = await harness.hello("carol")
        carol.join()
        await settle()
        assert "user" not in limited.received()[0]["event"]["join"][0]
        assert alice.received()[0]["event"]["join"][0]["user"] == {"displayname": "Carol"}
        carol.send_message({"type": "room"}, {"type": "nickChanged", "name": "C"})
        carol.send_message(limited, {"type": "nickChanged", "name": "C"})
        carol.send_message(limited, {"type": "nickChanged", "payload": "C"})  # not in the form of a media message
        carol.send_message({"type": "user", "userid": "limited"}, {"type": "nickChanged", "payload": "C", "sid": 1})
        carol.send_message({"type": "room"}, {"type": "raiseHand"})
        assert [message["type"] for message in limited.data()] == ["raiseHand"]
        assert [message["type"] for message in alice.data()] == ["nickChanged", "raiseHand"]
