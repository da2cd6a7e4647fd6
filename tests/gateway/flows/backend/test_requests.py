"""Requests of the rooms API that change rooms, participants and the call (reference 4.6, 6.3-6.7, 7.1-7.4, 8)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.flows.fakes import FakeRoom
from tests.gateway.flows.harness import OTHER_CLOUD, FakeClient, FlowHarness, Json
from tests.gateway.flows.virtual_time import settle


def updates(client: FakeClient) -> list[Json]:
    messages = client.received()
    assert all(
        message["event"]["target"] == "participants" and message["event"]["type"] == "update" for message in messages
    ), messages
    return [message["event"]["update"] for message in messages]


def request_incall(harness: FlowHarness, room: str = "r", **body: Any) -> None:
    harness.rooms_api(room, {"type": "incall", "incall": body})


def request_participants(harness: FlowHarness, **body: Any) -> None:
    harness.rooms_api("r", {"type": "participants", "participants": body})


# -- update and delete


# reference 4.6-a, 6.3-a
async def test_new_properties_are_sent_to_members_and_listed_users() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.member("alice"), await harness.hello("bob")
        eve = await harness.hello("bob", OTHER_CLOUD)
        body = {"userids": ["bob", "bob", "nobody"], "properties": {"name": "new"}}
        harness.rooms_api("r", {"type": "update", "update": body})
        assert alice.received() == [{"type": "room", "room": {"roomid": "r", "properties": {"name": "new"}}}]
        listed = {"target": "roomlist", "type": "update", "update": {"roomid": "r", "properties": {"name": "new"}}}
        assert bob.received() == [{"type": "event", "event": listed}]
        assert eve.received() == []
        harness.rooms_api("r", {"type": "update", "update": body})
        assert alice.received() == []
        assert len(bob.received()) == 1


# reference 6.3-a
async def test_update_of_an_unknown_room_reaches_the_listed_users() -> None:
    async with FlowHarness() as harness:
        bob = await harness.hello("bob")
        harness.rooms_api("r", {"type": "update", "update": {"userids": ["bob"]}})
        assert bob.received()[0]["event"]["update"] == {"roomid": "r"}


# reference 4.6-b, 6.4-a
async def test_deleted_room_is_left_by_all_without_leave_events() -> None:
    async with FlowHarness() as harness:
        alice, bob, away = [await harness.member(name) for name in ("alice", "bob", "away")]
        guest = await harness.member("")
        for client in (alice, bob, guest):
            client.received()
        away.disconnect()
        harness.rooms_api("r", {"type": "delete", "delete": {"userids": ["bob"]}})
        await settle()
        left = {"type": "room", "room": {"roomid": ""}}
        disinvite = {"target": "roomlist", "type": "disinvite", "disinvite": {"roomid": "r", "reason": "deleted"}}
        assert alice.received() == [left]
        assert bob.received() == guest.received() == [{"type": "event", "event": disinvite}, left]
        assert sorted(str(request.sessionid) for request in harness.nextcloud.leaves()) == [
            "nc-",
            "nc-alice",
            "nc-away",
            "nc-bob",
        ]
        assert harness.hub.rooms == {}
        await harness.sweep(10.0)
        assert guest.received() == []  # its join timer was not started
        assert (await harness.resume(away)).received()[0]["type"] == "hello"


# reference 4.6-b
async def test_deletion_of_a_room_closes_the_streams() -> None:
    async with FlowHarness() as harness:
        (alice,) = await harness.callers("alice")
        alice.offer()
        await settle()
        assert harness.publisher(alice) is not None
        harness.rooms_api("r", {"type": "delete", "delete": {}})
        await settle()
        assert harness.mcu.is_empty


# reference 1.4-e, 6-a
@pytest.mark.parametrize("type", ["incall", "participants", "message", "update", "delete"])
async def test_request_for_an_unknown_room_has_no_effect(type: str) -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        harness.rooms_api("elsewhere", {"type": type, type: {"data": 1, "changed": [{"sessionId": "nc-alice"}]}})
        harness.rooms_api("r", {"type": type, type: {"data": 1, "changed": []}}, OTHER_CLOUD)
        assert alice.received() == []


# -- message (6.7)


# reference 6.7-a
async def test_message_of_the_backend_reaches_the_members_unchanged() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        harness.rooms_api("r", {"type": "message", "message": {"data": {"type": "chat", "chat": {"refresh": True}}}})
        harness.rooms_api("r", {"type": "message", "message": {"data": "x"}})
        harness.rooms_api("r", {"type": "message", "message": {"data": None}})
        harness.rooms_api("r", {"type": "message", "message": {}})
        events = [message["event"] for message in alice.received()]
        assert [event["message"]["data"] for event in events] == [{"type": "chat", "chat": {"refresh": True}}, "x"]
        assert {(event["target"], event["type"], event["message"]["roomid"]) for event in events} == {
            ("room", "message", "r")
        }


# -- incall (7.1-7.3)


# reference 7.3-a
async def test_incall_maps_session_ids_and_is_sent_to_all_members() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        alice.received()
        users = [
            {"sessionId": "nc-alice", "userId": "alice", "inCall": 7, "permissions": 3, "extra": {"a": 1}},
            {"sessionId": "0", "userId": "offline"},
            {"sessionId": "unknown"},
            {"userId": "nobody"},
        ]
        changed = [users[0], {"sessionid": "nc-bob", "inCall": 0, "nextcloudSessionId": "nc-bob"}]
        request_incall(harness, incall=7, users=users, changed=changed)
        expected = {
            "roomid": "r",
            "users": [
                {"sessionId": alice.sessionid, "userId": "alice", "inCall": 7, "extra": {"a": 1}},
                {"sessionid": bob.sessionid, "inCall": 0, "nextcloudSessionId": "nc-bob"},
            ],
        }
        assert updates(alice) == updates(bob) == [expected]
        assert harness.room().in_call == {alice.sessionid}
        assert harness.counters.calls_total["cloud", "client"] == 1


# reference 7.1-a
@pytest.mark.parametrize(
    ("flags", "in_call"),
    [(1, True), (7, True), (True, True), (6, False), (0, False), (False, False), ("1", None), (None, None), ([], None)],
)
async def test_flags_decide_call_membership(flags: object, in_call: bool | None) -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        for before in (0, 1):
            harness.set_in_call("r", "alice", flags=before)
            request_incall(harness, changed=[{"sessionId": "nc-alice", "inCall": flags}])
            now = alice.session.id in harness.room().in_call
            assert now is (bool(before) if in_call is None else in_call)


# reference 7.1-a
async def test_only_changed_entries_change_call_membership() -> None:
    async with FlowHarness() as harness:
        await harness.member("alice")
        request_incall(harness, incall=7, users=[{"sessionId": "nc-alice", "inCall": 7}])
        assert harness.room().in_call == set()


# reference 7.2-c
async def test_request_without_known_sessions_sends_no_event() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        request_incall(harness, incall=7, changed=[{"sessionId": "0"}], users=[{"sessionId": "unknown"}])
        request_participants(harness, changed=[{"sessionId": "0"}])
        request_incall(harness, incall=7)
        assert alice.received() == []


# reference 7.2-c
async def test_request_without_known_sessions_keeps_the_last_list() -> None:
    async with FlowHarness() as harness:
        await harness.member("alice")
        request_incall(harness, users=[{"sessionId": "nc-alice", "inCall": 7}])
        known = harness.room().participants.every_entry()
        assert len(known) == 1
        request_incall(harness, changed=[{"sessionId": "0"}], users=[{"sessionId": "unknown"}])
        assert harness.room().participants.every_entry() == known
        request_incall(harness, changed=[{"sessionId": "nc-alice", "inCall": 0}], users=[])
        assert harness.room().participants.shown_entries() == []


# reference 7.1-c
async def test_leaving_the_call_closes_the_streams_and_leaves_the_session_in_the_room() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.callers("alice", "bob")
        alice.offer()
        await settle()
        bob.media(alice, "requestoffer")
        await settle()
        harness.set_in_call("r", "alice", flags=0)
        await settle()
        assert harness.mcu.is_empty
        assert alice.session.room is not None


# reference 7.3-g
@pytest.mark.parametrize("users", [..., None])
async def test_members_that_a_participants_request_does_not_name_keep_their_state(users: Any) -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        request_incall(harness, users=[{"sessionId": "nc-alice", "inCall": 7}, {"sessionId": "nc-bob", "inCall": 3}])
        for client in (alice, bob):
            client.received()
        change: Json = {"changed": [{"sessionId": "nc-alice", "inCall": 7, "participantPermissions": 2}]}
        request_participants(harness, **change, **({} if users is ... else {"users": users}))
        expected = [{**change["changed"][0], "sessionId": alice.sessionid}, {"sessionId": bob.sessionid, "inCall": 3}]
        assert [updates(client)[0]["users"] for client in (alice, bob)] == [expected] * 2


# reference 7.3-f
@pytest.mark.parametrize("name", ["sessionId", "sessionid"])
async def test_merged_list_has_one_entry_for_each_session(name: str) -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        entry = {"sessionId": "nc-alice", "inCall": 7}
        request_incall(harness, users=[entry, entry, {"sessionId": "nc-bob", "inCall": 3}])
        bob.received()
        request_incall(harness, incall=3, changed=[{name: "nc-alice", "inCall": 3}])
        (event,) = bob.received()
        listed = [user.get("sessionId", user.get("sessionid")) for user in event["event"]["update"]["users"]]
        assert listed == [alice.sessionid, bob.sessionid]


# reference 7.3-f
async def test_session_of_another_room_is_not_kept_in_the_list() -> None:
    async with FlowHarness() as harness:
        await harness.member("alice")
        await harness.member("carol", "other")
        request_incall(
            harness, incall=7, changed=[{"sessionId": "nc-alice", "inCall": 7}, {"sessionId": "nc-carol", "inCall": 7}]
        )
        assert len(harness.room().participants.every_entry()) == 1


# reference 7.3-f
async def test_members_that_a_request_does_not_name_keep_their_state() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        request_incall(harness, users=[{"sessionId": "nc-alice", "inCall": 7}, {"sessionId": "nc-bob", "inCall": 3}])
        alice.received()
        request_incall(harness, changed=[{"sessionId": "nc-alice", "inCall": 1, "x": 1}])
        expected = [{"sessionId": alice.sessionid, "inCall": 1, "x": 1}, {"sessionId": bob.sessionid, "inCall": 3}]
        assert updates(alice)[0]["users"] == expected
        carol = await harness.member("carol")
        request_incall(harness, changed=[{"sessionId": "nc-carol", "inCall": 7}])
        assert updates(carol)[0]["users"] == [*expected, {"sessionId": carol.sessionid, "inCall": 7}]
        carol.disconnect()
        again = await harness.resume(carol)
        assert again.received()[-1]["event"]["update"]["users"][:2] == expected
        assert harness.room().in_call == {alice.sessionid, carol.sessionid}


async def test_user_id_of_the_room_replaces_an_empty_user_id() -> None:
    async with FlowHarness() as harness:
        harness.nextcloud.rooms["r"] = FakeRoom(session={"userid": "mail"})
        guest = await harness.member("")
        request_incall(harness, users=[{"sessionId": "nc-", "inCall": 1, "userId": ""}])
        assert updates(guest)[0]["users"][0]["userId"] == "mail"
        request_incall(harness, changed=[{"sessionId": "nc-", "inCall": 1, "userId": ""}])
        assert updates(guest)[0]["users"][0]["userId"] == "mail"
        request_incall(harness, changed=[{"sessionId": "nc-", "inCall": 1, "userId": ""}], users=[])
        assert updates(guest)[0]["users"][0]["userId"] == ""


# -- all participants (7.4)


# reference 7.4-a
async def test_all_members_enter_and_leave_the_call_at_once() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        request_incall(harness, incall=7, changed=[{"sessionId": "nc-alice", "inCall": 7}])
        alice.received()
        bob.received()
        request_incall(harness, incall=3, all=True)
        expected = [{"roomid": "r", "incall": 3, "all": True}]
        assert updates(alice) == updates(bob) == expected
        request_incall(harness, incall=True, all=True)
        assert updates(alice) == []
        alice.offer()
        await settle()
        alice.received()
        request_incall(harness, incall=0, all=True)
        await settle()
        assert updates(alice) == updates(bob) == [{"roomid": "r", "incall": 0, "all": True}]
        assert harness.mcu.is_empty
        request_incall(harness, incall=0, all=True)
        assert updates(bob) == []
        assert harness.counters.calls_total["cloud", "client"] == 2
        assert harness.counters.call_rooms_total == {"cloud": 1}
        request_incall(harness, incall=3, all=True)
        assert harness.counters.call_rooms_total == {"cloud": 2}


# reference 6.5-a
@pytest.mark.parametrize("flags", ["7", None, [], 1.5])
async def test_flags_of_another_type_have_no_effect(flags: object) -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        request_incall(harness, incall=flags, all=True)
        assert alice.received() == []


# reference 7.4-c
async def test_flags_for_all_are_set_in_the_stored_list() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        request_incall(harness, users=[{"sessionId": "nc-alice", "inCall": 0}])
        request_incall(harness, incall=5, all=True)
        alice.disconnect()
        again = await harness.resume(alice)
        assert again.received()[1]["event"]["update"]["users"] == [{"sessionId": alice.sessionid, "inCall": 5}]


# -- participants (6.6, 8)


# reference 6.6-b
async def test_participants_update_is_sent_without_being_stored_or_changing_the_call() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        request_participants(harness, users=[{"sessionId": "nc-alice", "inCall": 7}])
        assert updates(alice) == [{"roomid": "r", "users": [{"sessionId": alice.sessionid, "inCall": 7}]}]
        room = harness.room()
        assert (room.in_call, room.participants.every_entry()) == (set(), [])


# reference 6.6-a, 8-b
@pytest.mark.parametrize(
    ("listed", "allowed"),
    [(["publish-audio"], False), ([], False), (["publish-media"], True), ("publish-audio", True), ([5], True)],
)
async def test_permissions_of_changed_entries_replace_those_of_the_session(listed: object, allowed: bool) -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        request_participants(harness, changed=[{"sessionId": "nc-alice", "permissions": listed}])
        assert "permissions" not in updates(alice)[0]["users"][0]
        assert alice.session.permissions.may_publish(["audio", "video"]) is allowed


# reference 6.6-a
async def test_permissions_of_unchanged_entries_are_ignored() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        request_participants(harness, users=[{"sessionId": "nc-alice", "permissions": []}])
        assert alice.session.permissions.may_publish(["audio"])
