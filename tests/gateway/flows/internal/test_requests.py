"""Internal clients: hello, rooms, the call and media (reference 3.4, 4.1, 7.3, 9.3, 11.3)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.wire import checksum
from tests.gateway.flows.fakes import FakeRoom
from tests.gateway.flows.house import CLOUD, INTERNAL_SECRET, OTHER, WALL, House, Json, Talker
from tests.gateway.flows.virtual_time import settle

LONG = "r" * 32


def params(secret: str = INTERNAL_SECRET, random: str = LONG, backend: str | None = CLOUD.urls[0]) -> Json:
    given = {"random": random, "token": checksum.sign(secret, random, b"")}
    return given if backend is None else {**given, "backend": backend}


async def hello(house: House, params: Any, version: str = "1.0", features: tuple[str, ...] = ()) -> tuple[Talker, Json]:
    talker = house.connect()
    talker.heard()
    body = {"version": version, "features": features, "auth": {"type": "internal", "params": params}}
    talker.say({"id": "1", "type": "hello", "hello": body})
    for _ in range(100):
        await asyncio.sleep(0.5)
        if heard := talker.heard():
            return talker, heard[0]
    raise AssertionError("no answer")


async def join(talker: Talker, room: str = "r") -> list[Json]:
    talker.say({"id": "j", "type": "room", "room": {"roomid": room}})
    await settle()
    return talker.heard()


def incall(talker: Talker, flags: int | None) -> None:
    talker.say({"id": "i", "type": "internal", "internal": {"type": "incall", "incall": {"incall": flags}}})


def update(message: Json) -> list[Json]:
    assert (message["event"]["target"], message["event"]["type"]) == ("participants", "update"), message
    users: list[Json] = message["event"]["update"]["users"]
    return users


def own_entry(talker: Talker, flags: int, **more: Any) -> Json:
    now = int(WALL + talker.house.services.clock())
    return {"inCall": flags, "sessionId": talker.sessionid, "lastPing": now, "internal": True, **more}


# -- hello


@pytest.mark.parametrize("version", ["1.0", "2.0"])
async def test_internal_client_is_let_in_by_the_secret(version: str) -> None:
    async with House() as house:
        _, reply = await hello(house, params(backend="https://cloud.example:443"), version, ("a",))
        body = reply["hello"]
        assert (body["version"], body["userid"]) == (version, "")
        assert body["server"]["features"] == ["a", "internal"]
        session = house.hub.sessions[body["sessionid"]]
        assert session.url == "https://cloud.example/"
        assert house.nextcloud.asked == []


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (params(secret="another"), "invalid_token"),
        (params(random="r" * 31), "invalid_token"),
        ({"backend": CLOUD.urls[0]}, "invalid_token"),
        ({"random": LONG, "token": "ä", "backend": CLOUD.urls[0]}, "invalid_token"),
        (params(backend="https://nobody.example/"), "invalid_backend"),
        (params(secret="another", backend="https://nobody.example/"), "invalid_token"),
        (params(backend=None), "invalid_format"),
        (params(backend="cloud.example"), "invalid_format"),
        ("text", "invalid_format"),
        ({"random": 1, "backend": CLOUD.urls[0]}, "invalid_format"),
    ],
)
async def test_internal_client_is_refused(given: Any, code: str) -> None:
    async with House() as house:
        _, reply = await hello(house, given)
        assert reply["error"]["code"] == code
        assert not house.hub.sessions


async def test_without_a_secret_the_client_type_is_not_supported() -> None:
    async with House() as house:
        house.services.internal_secret = ""
        _, reply = await hello(house, params(secret=""))
        assert reply["error"]["code"] == "invalid_client_type"


async def test_failures_are_delayed_and_too_many_of_them_block_the_right_secret_too() -> None:
    async with House() as house:
        started = house.services.clock()
        talker = house.connect()
        for _ in range(10):
            _, reply = await hello(house, params(secret="another"))
            assert reply["error"]["code"] == "invalid_token"
            await house.sweep(30)
            talker = house.connect()
        assert house.services.clock() - started > 51
        assert talker
        _, reply = await hello(house, params())
        assert reply["error"]["code"] == "too_many_requests"


async def test_internal_sessions_do_not_count_and_need_no_room() -> None:
    limited = CLOUD.__class__("limited", ("https://limited.example/",), "secret", session_limit=1)
    async with House(limited) as house:
        one, other = await house.open_internal(backend=limited), await house.open_internal(backend=limited)
        await house.open("alice", limited)
        await house.sweep(60)
        assert one.heard() == other.heard() == []
        assert not one.connection.finished


# -- rooms and the call


async def test_internal_client_enters_a_room_unasked() -> None:
    async with House() as house:
        house.nextcloud.rooms["r"] = FakeRoom(error={"code": "no_such_room", "message": "no"})
        bridge = await house.open_internal("a", "b")
        reply, own, users = await join(bridge)
        assert reply == {"type": "room", "id": "j", "room": {"roomid": "r"}}
        assert own["event"]["join"] == [{"sessionid": bridge.sessionid, "userid": "", "features": ["a", "b"]}]
        assert update(users) == [own_entry(bridge, 3, features=["a", "b"])]
        assert house.nextcloud.asked == []
        bridge.say({"id": "l", "type": "room", "room": {"roomid": ""}})
        await house.sweep(60)
        assert bridge.heard() == [{"type": "room", "id": "l", "room": {"roomid": ""}}]
        assert house.nextcloud.asked == []
        assert not house.hub.rooms


async def test_members_hear_of_it_in_the_list_of_participants() -> None:
    async with House() as house:
        alice = await house.member("alice")
        house.backend("r", {"type": "incall", "incall": {"users": [{"sessionId": "nc-alice", "inCall": 1}]}})
        alice.heard()
        bridge = await house.open_internal()
        await join(bridge)
        joined, users = alice.heard()
        assert joined["event"]["join"][0]["sessionid"] == bridge.sessionid
        listed = {"sessionId": alice.sessionid, "inCall": 1}
        assert update(users) == [listed, own_entry(bridge, 3)]
        house.backend("r", {"type": "participants", "participants": {"users": [{"sessionId": "nc-alice", "x": 1}]}})
        assert update(alice.heard()[0]) == [{"sessionId": alice.sessionid, "x": 1}, own_entry(bridge, 3)]
        bridge.say({"type": "bye"})
        await settle()
        left, users = alice.heard()
        assert left["event"]["leave"] == [bridge.sessionid]
        assert update(users) == [listed]


async def test_no_update_when_the_list_is_empty_afterwards() -> None:
    async with House() as house:
        alice, bridge = await house.member("alice"), await house.open_internal()
        await join(bridge)
        alice.heard()
        bridge.say({"type": "bye"})
        await settle()
        assert [it["event"]["type"] for it in alice.heard()] == ["leave"]


async def test_resumed_session_hears_of_internal_clients() -> None:
    async with House() as house:
        alice, bridge = await house.member("alice"), await house.open_internal()
        await join(bridge)
        alice.lose()
        again = await house.resume(alice)
        _, users = again.heard()
        assert update(users) == [own_entry(bridge, 3)]


async def test_own_flags() -> None:
    async with House() as house:
        alice, bridge = await house.member("alice"), await house.open_internal("internal-incall")
        await join(bridge)
        room = house.hub.rooms[house.hub.sessions[bridge.sessionid].room]  # type: ignore[index]  # it is in one
        alice.heard()
        bridge.heard()
        incall(bridge, 0)
        incall(bridge, -3)
        incall(bridge, None)
        assert alice.heard() == []
        incall(bridge, 3)
        (users,) = alice.heard()
        assert update(users) == [own_entry(bridge, 3, features=["internal-incall"])]
        assert bridge.sessionid in room.in_call
        assert [it["type"] for it in bridge.heard()] == ["event"]
        incall(bridge, 3)
        assert alice.heard() == []
        incall(bridge, 2)
        assert len(alice.heard()) == 1
        assert bridge.sessionid not in room.in_call


async def test_default_flags_do_not_put_it_into_the_call_but_a_change_does() -> None:
    async with House() as house:
        (alice,) = await house.callers("alice")
        bridge = await house.open_internal()
        await join(bridge)
        alice.heard()
        alice.tell({"type": "call"}, "x")
        assert bridge.heard() == []
        incall(bridge, 1)
        bridge.heard()
        alice.tell({"type": "call"}, "x")
        assert [it["type"] for it in bridge.heard()] == ["message"]


async def test_flags_set_outside_of_a_room_are_shown_in_the_next_one() -> None:
    async with House() as house:
        bridge = await house.open_internal()
        incall(bridge, 1)
        assert bridge.heard() == []
        assert update((await join(bridge))[-1]) == [own_entry(bridge, 1)]


async def test_everybody_in_call_concerns_clients_and_nobody_in_call_concerns_all() -> None:
    async with House() as house:
        alice, bridge = await house.member("alice"), await house.open_internal()
        await join(bridge)
        alice.heard()
        house.backend("r", {"type": "incall", "incall": {"incall": 1, "all": True}})
        assert len(alice.heard()) == 1
        assert bridge.heard() == []
        incall(bridge, 1)
        alice.heard()
        bridge.heard()
        house.backend("r", {"type": "incall", "incall": {"incall": 0, "all": True}})
        told = {"roomid": "r", "incall": 0, "all": True}
        assert [it["event"]["update"] for it in alice.heard()] == [told]
        assert [it["event"]["update"] for it in bridge.heard()] == [told]


async def test_end_of_its_call_ends_its_media() -> None:
    async with House() as house:
        bridge = await house.open_internal()
        await join(bridge)
        bridge.offer()
        await settle()
        assert house.publisher(bridge) is not None
        incall(bridge, 0)
        await settle()
        assert house.publisher(bridge) is None
        assert house.mcu.clean


# -- what it may


async def test_internal_client_may_control_and_share_without_permissions() -> None:
    async with House() as house:
        house.nextcloud.rooms["r"] = FakeRoom(permissions=[])
        alice, bridge = await house.member("alice"), await house.open_internal()
        await join(bridge)
        alice.heard()
        recipient = {"type": "session", "sessionid": alice.sessionid}
        bridge.say({"type": "control", "control": {"recipient": recipient, "data": 1}})
        bridge.say({"type": "transient", "transient": {"type": "set", "key": f"sd:{alice.sessionid}", "value": 1}})
        assert [it["type"] for it in alice.heard()] == ["control", "transient"]


async def test_internal_client_may_receive_from_anybody_and_send_to_who_is_in_the_call() -> None:
    async with House() as house:
        alice, bob = await house.callers("alice", "bob")
        bridge = await house.open_internal()
        alice.offer()
        bridge.offer()
        await settle()
        for it in (alice, bob, bridge):
            it.heard()
        bridge.media(alice, "requestoffer")
        await settle()
        assert [it["type"] for it in bridge.data()] == ["offer"]
        bob.media(bridge, "requestoffer")
        assert bob.errors() == ["not_allowed"]
        await join(bridge)
        bob.heard()
        bob.media(bridge, "requestoffer")
        await settle()
        assert [it["type"] for it in bob.data()] == ["offer"]


async def test_internal_client_of_another_backend_hears_nobody() -> None:
    async with House() as house:
        (alice,) = await house.callers("alice")
        alice.offer()
        bridge = await house.open_internal(backend=OTHER)
        bridge.media(alice, "requestoffer")
        await house.sweep(11)
        assert bridge.errors() == ["client_not_found"]


# -- what is ignored, and what is wrong


async def test_internal_messages_of_others_are_ignored_once_they_are_well_formed() -> None:
    async with House() as house:
        alice = await house.member("alice")
        for body in (None, {}, {"type": "incall", "incall": {"incall": 0}}):
            alice.say({"id": "i", "type": "internal", "internal": body})
        assert alice.errors() == ["invalid_format", "invalid_format"]


@pytest.mark.parametrize(
    "body",
    [
        None,
        {},
        {"type": ""},
        {"type": "incall"},
        {"type": "addsession"},
        {"type": "addsession", "addsession": {"sessionid": "p"}},
        {"type": "addsession", "addsession": {"roomid": "r"}},
        {"type": "updatesession", "updatesession": {"sessionid": "", "roomid": "r"}},
        {"type": "removesession", "removesession": {"sessionid": "p", "roomid": None}},
        {"type": "dialout"},
        {"type": "dialout", "dialout": {}},
        {"type": "dialout", "dialout": {"type": "error"}},
        {"type": "dialout", "dialout": {"type": "error", "error": None}},
        {"type": "dialout", "dialout": {"type": "status"}},
    ],
)
async def test_incomplete_messages_are_invalid(body: Any) -> None:
    async with House() as house:
        bridge = await house.open_internal()
        bridge.say({"id": "i", "type": "internal", "internal": body})
        (error,) = bridge.heard()
        assert (error["id"], error["error"]["code"]) == ("i", "invalid_format")


@pytest.mark.parametrize("flags", ["3", 1.5])
async def test_flags_are_integers(flags: Any) -> None:
    async with House() as house:
        bridge = await house.open_internal()
        incall(bridge, flags)
        (error,) = bridge.heard()
        assert error["error"]["code"] == "invalid_format"
        assert "id" not in error


async def test_unknown_kinds_are_ignored() -> None:
    async with House() as house:
        bridge = await house.open_internal()
        bridge.say({"id": "i", "type": "internal", "internal": {"type": "future", "future": {}}})
        assert bridge.heard() == []
