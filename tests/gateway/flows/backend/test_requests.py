"""What the rooms API does to rooms and their members (reference 4.6, 6.3-6.7, 7.1-7.4, 8)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.flows.fakes import FakeRoom
from tests.gateway.flows.house import OTHER, House, Json, Talker
from tests.gateway.flows.virtual_time import settle


def updates(talker: Talker) -> list[Json]:
    heard = talker.heard()
    assert all(it["event"]["target"] == "participants" and it["event"]["type"] == "update" for it in heard), heard
    return [it["event"]["update"] for it in heard]


def incall(house: House, room: str = "r", **body: Any) -> None:
    house.backend(room, {"type": "incall", "incall": body})


def participants(house: House, **body: Any) -> None:
    house.backend("r", {"type": "participants", "participants": body})


# -- update and delete


async def test_new_properties_are_told_to_members_and_listed_users() -> None:
    async with House() as house:
        alice, bob = await house.member("alice"), await house.open("bob")
        eve = await house.open("bob", OTHER)
        body = {"userids": ["bob", "bob", "nobody"], "properties": {"name": "new"}}
        house.backend("r", {"type": "update", "update": body})
        assert alice.heard() == [{"type": "room", "room": {"roomid": "r", "properties": {"name": "new"}}}]
        listed = {"target": "roomlist", "type": "update", "update": {"roomid": "r", "properties": {"name": "new"}}}
        assert bob.heard() == [{"type": "event", "event": listed}]
        assert eve.heard() == []
        house.backend("r", {"type": "update", "update": body})
        assert alice.heard() == []
        assert len(bob.heard()) == 1


async def test_update_of_a_room_that_is_not_here_reaches_the_users() -> None:
    async with House() as house:
        bob = await house.open("bob")
        house.backend("r", {"type": "update", "update": {"userids": ["bob"]}})
        assert bob.heard()[0]["event"]["update"] == {"roomid": "r"}


async def test_deleted_room_is_left_by_all_without_leave_events() -> None:
    async with House() as house:
        alice, bob, away = [await house.member(name) for name in ("alice", "bob", "away")]
        guest = await house.member("")
        for it in (alice, bob, guest):
            it.heard()
        away.lose()
        house.backend("r", {"type": "delete", "delete": {"userids": ["bob"]}})
        await settle()
        gone = {"type": "room", "room": {"roomid": ""}}
        assert alice.heard() == guest.heard() == [gone]
        first, second = bob.heard()
        assert first == gone
        assert second["event"] == {
            "target": "roomlist",
            "type": "disinvite",
            "disinvite": {"roomid": "r", "reason": "deleted"},
        }
        assert sorted(str(it.sessionid) for it in house.nextcloud.leaves()) == ["nc-", "nc-alice", "nc-away", "nc-bob"]
        assert house.hub.rooms == {}
        await house.sweep(10.0)
        assert guest.heard() == []  # it did not leave by request
        assert (await house.resume(away)).heard()[0]["type"] == "hello"


async def test_deletion_ends_the_media() -> None:
    async with House() as house:
        (alice,) = await house.callers("alice")
        alice.offer()
        await settle()
        assert house.publisher(alice) is not None
        house.backend("r", {"type": "delete", "delete": {}})
        await settle()
        assert house.mcu.clean


@pytest.mark.parametrize("kind", ["incall", "participants", "message", "update", "delete"])
async def test_request_about_nobody_has_no_effect(kind: str) -> None:
    async with House() as house:
        alice = await house.member("alice")
        house.backend("elsewhere", {"type": kind, kind: {"data": 1, "changed": [{"sessionId": "nc-alice"}]}})
        house.backend("r", {"type": kind, kind: {"data": 1, "changed": []}}, OTHER)
        assert alice.heard() == []


# -- message (6.7)


async def test_message_reaches_the_members_as_it_was_written() -> None:
    async with House() as house:
        alice = await house.member("alice")
        house.backend("r", {"type": "message", "message": {"data": {"type": "chat", "chat": {"refresh": True}}}})
        house.backend("r", {"type": "message", "message": {"data": "x"}})
        house.backend("r", {"type": "message", "message": {"data": None}})
        house.backend("r", {"type": "message", "message": {}})
        heard = [it["event"] for it in alice.heard()]
        assert [it["message"]["data"] for it in heard] == [{"type": "chat", "chat": {"refresh": True}}, "x"]
        assert {(it["target"], it["type"], it["message"]["roomid"]) for it in heard} == {("room", "message", "r")}


# -- incall (7.1-7.3)


async def test_incall_maps_sessions_and_tells_everybody() -> None:
    async with House() as house:
        alice, bob = await house.member("alice"), await house.member("bob")
        alice.heard()
        users = [
            {"sessionId": "nc-alice", "userId": "alice", "inCall": 7, "permissions": 3, "extra": {"a": 1}},
            {"sessionId": "0", "userId": "offline"},
            {"sessionId": "unknown"},
            {"userId": "nobody"},
        ]
        changed = [users[0], {"sessionid": "nc-bob", "inCall": 0, "nextcloudSessionId": "nc-bob"}]
        incall(house, incall=7, users=users, changed=changed)
        expected = {
            "roomid": "r",
            "users": [
                {"sessionId": alice.sessionid, "userId": "alice", "inCall": 7, "extra": {"a": 1}},
                {"sessionid": bob.sessionid, "inCall": 0, "nextcloudSessionId": "nc-bob"},
            ],
        }
        assert updates(alice) == updates(bob) == [expected]
        assert house.hub.rooms["cloud", "r"].in_call == {alice.sessionid}  # type: ignore[index]  # a RoomKey is a tuple
        assert house.counters.calls_total["cloud", "client"] == 1


@pytest.mark.parametrize(
    ("flags", "in_call"),
    [(1, True), (7, True), (True, True), (6, False), (0, False), (False, False), ("1", None), (None, None), ([], None)],
)
async def test_flags_decide_who_is_in_the_call(flags: object, in_call: bool | None) -> None:
    async with House() as house:
        alice = await house.member("alice")
        for before in (0, 1):
            house.call("r", "alice", flags=before)
            incall(house, changed=[{"sessionId": "nc-alice", "inCall": flags}])
            now = alice.session.id in house.hub.rooms["cloud", "r"].in_call  # type: ignore[index]
            assert now is (bool(before) if in_call is None else in_call)


async def test_only_changed_entries_count_for_the_call() -> None:
    async with House() as house:
        await house.member("alice")
        incall(house, incall=7, users=[{"sessionId": "nc-alice", "inCall": 7}])
        assert house.hub.rooms["cloud", "r"].in_call == set()  # type: ignore[index]


async def test_request_that_names_nobody_here_is_not_told() -> None:
    async with House() as house:
        alice = await house.member("alice")
        incall(house, incall=7, changed=[{"sessionId": "0"}], users=[{"sessionId": "unknown"}])
        participants(house, changed=[{"sessionId": "0"}])
        incall(house, incall=7)
        assert alice.heard() == []


async def test_request_that_names_nobody_here_leaves_the_known_list_as_it_was() -> None:
    async with House() as house:
        await house.member("alice")
        incall(house, users=[{"sessionId": "nc-alice", "inCall": 7}])
        known = house.hub.rooms["cloud", "r"].users  # type: ignore[index]
        assert len(known) == 1
        incall(house, changed=[{"sessionId": "0"}], users=[{"sessionId": "unknown"}])
        assert house.hub.rooms["cloud", "r"].users == known  # type: ignore[index]
        incall(house, changed=[{"sessionId": "nc-alice", "inCall": 0}])
        assert house.hub.rooms["cloud", "r"].users == []  # type: ignore[index]


async def test_leaving_the_call_ends_the_media_and_not_the_membership() -> None:
    async with House() as house:
        alice, bob = await house.callers("alice", "bob")
        alice.offer()
        await settle()
        bob.media(alice, "requestoffer")
        await settle()
        house.call("r", "alice", flags=0)
        await settle()
        assert house.mcu.clean
        assert alice.session.room is not None


async def test_name_in_the_room_fills_an_empty_user_id() -> None:
    async with House() as house:
        house.nextcloud.rooms["r"] = FakeRoom(session={"userid": "mail"})
        guest = await house.member("")
        incall(house, users=[{"sessionId": "nc-", "inCall": 1, "userId": ""}])
        assert updates(guest)[0]["users"][0]["userId"] == "mail"
        incall(house, changed=[{"sessionId": "nc-", "inCall": 1, "userId": ""}])  # goes behind, as it is
        assert updates(guest)[0]["users"][0]["userId"] == ""


# -- everybody (7.4)


async def test_everybody_enters_and_leaves_the_call_at_once() -> None:
    async with House() as house:
        alice, bob = await house.member("alice"), await house.member("bob")
        incall(house, incall=7, changed=[{"sessionId": "nc-alice", "inCall": 7}])
        alice.heard()
        bob.heard()
        incall(house, incall=3, all=True)
        told = [{"roomid": "r", "incall": 3, "all": True}]
        assert updates(alice) == updates(bob) == told
        incall(house, incall=True, all=True)
        assert updates(alice) == []
        alice.offer()
        await settle()
        alice.heard()
        incall(house, incall=0, all=True)
        await settle()
        assert updates(alice) == updates(bob) == [{"roomid": "r", "incall": 0, "all": True}]
        assert house.mcu.clean
        incall(house, incall=0, all=True)
        assert updates(bob) == []
        assert house.counters.calls_total["cloud", "client"] == 2
        assert house.counters.call_rooms_total == {"cloud": 1}
        incall(house, incall=3, all=True)
        assert house.counters.call_rooms_total == {"cloud": 2}


@pytest.mark.parametrize("flags", ["7", None, [], 1.5])
async def test_flags_of_another_type_do_nothing(flags: object) -> None:
    async with House() as house:
        alice = await house.member("alice")
        incall(house, incall=flags, all=True)
        assert alice.heard() == []


async def test_stored_users_get_the_flags_of_everybody() -> None:
    async with House() as house:
        alice = await house.member("alice")
        incall(house, users=[{"sessionId": "nc-alice", "inCall": 0}])
        incall(house, incall=5, all=True)
        alice.lose()
        again = await house.resume(alice)
        assert again.heard()[1]["event"]["update"]["users"] == [{"sessionId": alice.sessionid, "inCall": 5}]


# -- participants (6.6, 8)


async def test_participants_are_told_and_neither_stored_nor_in_the_call() -> None:
    async with House() as house:
        alice = await house.member("alice")
        participants(house, users=[{"sessionId": "nc-alice", "inCall": 7}])
        assert updates(alice) == [{"roomid": "r", "users": [{"sessionId": alice.sessionid, "inCall": 7}]}]
        room = house.hub.rooms["cloud", "r"]  # type: ignore[index]
        assert (room.in_call, room.users) == (set(), [])


@pytest.mark.parametrize(
    ("listed", "allowed"),
    [(["publish-audio"], False), ([], False), (["publish-media"], True), ("publish-audio", True), ([5], True)],
)
async def test_permissions_of_changed_entries_replace_those_of_the_session(listed: object, allowed: bool) -> None:
    async with House() as house:
        alice = await house.member("alice")
        participants(house, changed=[{"sessionId": "nc-alice", "permissions": listed}])
        assert "permissions" not in updates(alice)[0]["users"][0]
        assert alice.session.permissions.may_publish(["audio", "video"]) is allowed


async def test_permissions_among_the_users_are_not_taken() -> None:
    async with House() as house:
        alice = await house.member("alice")
        participants(house, users=[{"sessionId": "nc-alice", "permissions": []}])
        assert alice.session.permissions.may_publish(["audio"])
