"""Internal clients: hello, rooms, call membership and media (reference 3.4, 4.1, 7.3, 9.3, 11.3)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.core.limits import Backend
from gateway.wire import checksum
from tests.gateway.flows.fakes import FakeRoom
from tests.gateway.flows.harness import CLOUD, INTERNAL_SECRET, OTHER_CLOUD, WALL_TIME, FakeClient, FlowHarness, Json
from tests.gateway.flows.virtual_time import settle

LONG_ID = "r" * 32


def params(secret: str = INTERNAL_SECRET, random: str = LONG_ID, backend: str | None = CLOUD.urls[0]) -> Json:
    given = {"random": random, "token": checksum.sign(secret, random, b"")}
    return given if backend is None else {**given, "backend": backend}


async def hello(
    harness: FlowHarness, params: Any, version: str = "1.0", features: tuple[str, ...] = ()
) -> tuple[FakeClient, Json]:
    client = harness.connect()
    client.received()
    body = {"version": version, "features": features, "auth": {"type": "internal", "params": params}}
    client.send({"id": "1", "type": "hello", "hello": body})
    for _ in range(100):
        await asyncio.sleep(0.5)
        if messages := client.received():
            return client, messages[0]
    raise AssertionError("no answer")


async def join(client: FakeClient, room: str = "r") -> list[Json]:
    client.join(room)
    await settle()
    return client.received()


def set_own_flags(client: FakeClient, flags: int | None) -> None:
    client.send_internal("incall", id="i", incall=flags)


def listed_users(message: Json) -> list[Json]:
    assert (message["event"]["target"], message["event"]["type"]) == ("participants", "update"), message
    users: list[Json] = message["event"]["update"]["users"]
    return users


def own_entry(client: FakeClient, flags: int, **more: Any) -> Json:
    now = int(WALL_TIME + client.harness.services.clock())
    return {"inCall": flags, "sessionId": client.sessionid, "lastPing": now, "internal": True, **more}


# -- hello


@pytest.mark.parametrize("version", ["1.0", "2.0"])
async def test_internal_client_is_authenticated_by_the_shared_secret(version: str) -> None:
    async with FlowHarness() as harness:
        _, reply = await hello(harness, params(backend="https://cloud.example:443"), version, ("a",))
        body = reply["hello"]
        assert (body["version"], body["userid"]) == (version, "")
        assert body["server"]["features"] == ["a", "internal"]
        session = harness.hub.sessions[body["sessionid"]]
        assert session.url == "https://cloud.example/"
        assert harness.nextcloud.requests == []


# reference 3.4-a
@pytest.mark.parametrize(
    ("given", "code"),
    [
        (params(secret="another"), "invalid_token"),
        (params(random="r" * 31), "invalid_token"),
        ({"backend": CLOUD.urls[0]}, "invalid_token"),
        ({"random": LONG_ID, "token": "ä", "backend": CLOUD.urls[0]}, "invalid_token"),
        (params(backend="https://nobody.example/"), "invalid_backend"),
        (params(secret="another", backend="https://nobody.example/"), "invalid_token"),
        (params(backend=None), "invalid_format"),
        (params(backend="cloud.example"), "invalid_format"),
        ("text", "invalid_format"),
        ({"random": 1, "backend": CLOUD.urls[0]}, "invalid_format"),
    ],
)
async def test_hello_of_an_internal_client_is_refused(given: Any, code: str) -> None:
    async with FlowHarness() as harness:
        _, reply = await hello(harness, given)
        assert reply["error"]["code"] == code
        assert not harness.hub.sessions


# reference 3.4-a
async def test_without_a_secret_the_client_type_is_not_supported() -> None:
    async with FlowHarness() as harness:
        harness.change_settings(internal_secret="")
        _, reply = await hello(harness, params(secret=""))
        assert reply["error"]["code"] == "invalid_client_type"


# reference 3.4-a
async def test_failures_are_answered_late_and_too_many_never_block_the_right_secret() -> None:
    async with FlowHarness() as harness:
        started = harness.services.clock()
        for _ in range(10):
            _, reply = await hello(harness, params(secret="another"))
            assert reply["error"]["code"] == "invalid_token"
            await harness.sweep(30)
        assert harness.services.clock() - started > 51
        started = harness.services.clock()
        _, reply = await hello(harness, params(secret="another"))
        assert reply["error"]["code"] == "too_many_requests"
        assert harness.services.clock() - started >= 25
        _, reply = await hello(harness, params())
        assert reply["type"] == "hello"


# reference 3.4-b
async def test_internal_sessions_have_no_session_limit_and_no_join_timer() -> None:
    limited = Backend("limited", ("https://limited.example/",), "secret", session_limit=1)
    async with FlowHarness(limited) as harness:
        first, second = (
            await harness.internal_hello(backend=limited),
            await harness.internal_hello(backend=limited),
        )
        await harness.hello("alice", limited)
        await harness.sweep(60)
        assert first.received() == second.received() == []
        assert not first.connection.finished


# -- rooms and call membership


# reference 4.1-b
async def test_internal_client_joins_without_a_request_to_nextcloud() -> None:
    async with FlowHarness() as harness:
        harness.nextcloud.rooms["r"] = FakeRoom(error={"code": "no_such_room", "message": "no"})
        bridge = await harness.internal_hello("a", "b")
        reply, own, users = await join(bridge)
        assert reply == {"type": "room", "id": "join", "room": {"roomid": "r"}}
        assert own["event"]["join"] == [{"sessionid": bridge.sessionid, "userid": "", "features": ["a", "b"]}]
        assert listed_users(users) == [own_entry(bridge, 3, features=["a", "b"])]
        assert harness.nextcloud.requests == []
        bridge.leave()
        await harness.sweep(60)
        assert bridge.received() == [{"type": "room", "id": "leave", "room": {"roomid": ""}}]
        assert harness.nextcloud.requests == []
        assert not harness.hub.rooms


# reference 4.3-d, 7.3-b
async def test_members_receive_a_list_with_the_internal_client() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        harness.rooms_api("r", {"type": "incall", "incall": {"users": [{"sessionId": "nc-alice", "inCall": 1}]}})
        alice.received()
        bridge = await harness.internal_hello()
        await join(bridge)
        joined, users = alice.received()
        assert joined["event"]["join"][0]["sessionid"] == bridge.sessionid
        listed = {"sessionId": alice.sessionid, "inCall": 1}
        assert listed_users(users) == [listed, own_entry(bridge, 3)]
        harness.rooms_api("r", {"type": "participants", "participants": {"users": [{"sessionId": "nc-alice", "x": 1}]}})
        assert listed_users(alice.received()[0]) == [{"sessionId": alice.sessionid, "x": 1}, own_entry(bridge, 3)]
        bridge.send({"type": "bye"})
        await settle()
        left, users = alice.received()
        assert left["event"]["leave"] == [bridge.sessionid]
        assert listed_users(users) == [listed]


async def test_no_participants_update_for_an_empty_list() -> None:
    async with FlowHarness() as harness:
        alice, bridge = await harness.member("alice"), await harness.internal_hello()
        await join(bridge)
        alice.received()
        bridge.send({"type": "bye"})
        await settle()
        assert [message["event"]["type"] for message in alice.received()] == ["leave"]


async def test_resumed_session_receives_the_list_with_internal_clients() -> None:
    async with FlowHarness() as harness:
        alice, bridge = await harness.member("alice", in_call=True), await harness.internal_hello()
        await join(bridge)
        alice.disconnect()
        again = await harness.resume(alice)
        _, users = again.received()
        assert listed_users(users) == [{"sessionId": alice.sessionid, "inCall": 7}, own_entry(bridge, 3)]


# reference 7.3-m
@pytest.mark.parametrize("change", ["joins", "virtual session", "flags", "resume", "leaves"])
async def test_no_list_is_sent_for_members_that_nextcloud_has_not_listed(change: str) -> None:
    async with FlowHarness() as harness:
        alice, bridge = await harness.member("alice"), await harness.internal_hello()
        await join(bridge)
        if change == "virtual session":
            bridge.send_internal("addsession", sessionid="p", roomid="r")
        elif change == "flags":
            set_own_flags(bridge, 7)
        elif change == "resume":
            alice.disconnect()
            alice = await harness.resume(alice)
        elif change == "leaves":
            bridge.leave()
        await settle()
        for client in (alice, bridge):
            events = [message["event"] for message in client.received() if message["type"] == "event"]
            assert "participants" not in [event["target"] for event in events]


# reference 7.3-m
@pytest.mark.parametrize("of_all", [True, False])
async def test_list_for_an_internal_client_has_each_member(of_all: bool) -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        request: Json = {"all": True, "incall": 7}
        if not of_all:
            request = {"users": [{"sessionId": f"nc-{name}", "inCall": 7} for name in ("alice", "bob")]}
        harness.rooms_api("r", {"type": "incall", "incall": request})
        guest, bridge = await harness.member(""), await harness.internal_hello()
        listed = {entry["sessionId"]: entry["inCall"] for entry in listed_users((await join(bridge))[-1])}
        assert listed == {alice.sessionid: 7, bob.sessionid: 7, guest.sessionid: 0, bridge.sessionid: 3}


# reference 7.3-m
async def test_internal_client_alone_in_a_room_receives_the_list() -> None:
    async with FlowHarness() as harness:
        bridge = await harness.internal_hello()
        assert listed_users((await join(bridge))[-1]) == [own_entry(bridge, 3)]


# reference 11.3-c
async def test_internal_client_sets_its_own_in_call_flags() -> None:
    async with FlowHarness() as harness:
        alice, bridge = await harness.member("alice", in_call=True), await harness.internal_hello("internal-incall")
        await join(bridge)
        room = harness.room()
        alice.received()
        bridge.received()
        set_own_flags(bridge, 0)
        set_own_flags(bridge, -3)
        set_own_flags(bridge, None)
        assert alice.received() == []
        set_own_flags(bridge, 3)
        (users,) = alice.received()
        own = own_entry(bridge, 3, features=["internal-incall"])
        assert listed_users(users) == [{"sessionId": alice.sessionid, "inCall": 7}, own]
        assert bridge.sessionid in room.in_call
        assert [message["type"] for message in bridge.received()] == ["event"]
        set_own_flags(bridge, 3)
        assert alice.received() == []
        set_own_flags(bridge, 2)
        assert len(alice.received()) == 1
        assert bridge.sessionid not in room.in_call


# reference 7.1-b
async def test_internal_client_enters_the_call_by_a_change_of_flags_only() -> None:
    async with FlowHarness() as harness:
        (alice,) = await harness.callers("alice")
        bridge = await harness.internal_hello()
        await join(bridge)
        alice.received()
        alice.send_message({"type": "call"}, "x")
        assert bridge.received() == []
        set_own_flags(bridge, 1)
        bridge.received()
        alice.send_message({"type": "call"}, "x")
        assert [message["type"] for message in bridge.received()] == ["message"]


async def test_flags_that_were_set_outside_of_a_room_are_listed_in_the_next_one() -> None:
    async with FlowHarness() as harness:
        bridge = await harness.internal_hello()
        set_own_flags(bridge, 1)
        assert bridge.received() == []
        assert listed_users((await join(bridge))[-1]) == [own_entry(bridge, 1)]


async def test_all_in_call_reaches_clients_and_none_in_call_reaches_all() -> None:
    async with FlowHarness() as harness:
        alice, bridge = await harness.member("alice"), await harness.internal_hello()
        await join(bridge)
        alice.received()
        harness.rooms_api("r", {"type": "incall", "incall": {"incall": 1, "all": True}})
        assert len(alice.received()) == 1
        assert bridge.received() == []
        set_own_flags(bridge, 1)
        alice.received()
        bridge.received()
        harness.rooms_api("r", {"type": "incall", "incall": {"incall": 0, "all": True}})
        expected = {"roomid": "r", "incall": 0, "all": True}
        assert [message["event"]["update"] for message in alice.received()] == [expected]
        assert [message["event"]["update"] for message in bridge.received()] == [expected]


# reference 11.3-c
async def test_leaving_the_call_closes_the_streams_of_an_internal_client() -> None:
    async with FlowHarness() as harness:
        bridge = await harness.internal_hello()
        await join(bridge)
        bridge.offer()
        await settle()
        assert harness.publisher(bridge) is not None
        set_own_flags(bridge, 0)
        await settle()
        assert harness.publisher(bridge) is None
        assert harness.mcu.is_empty


# -- permissions


# reference 5.3-a
async def test_internal_client_needs_no_permissions_for_control_and_transient_data() -> None:
    async with FlowHarness() as harness:
        harness.nextcloud.rooms["r"] = FakeRoom(permissions=[])
        alice, bridge = await harness.member("alice"), await harness.internal_hello()
        await join(bridge)
        alice.received()
        recipient = {"type": "session", "sessionid": alice.sessionid}
        bridge.send({"type": "control", "control": {"recipient": recipient, "data": 1}})
        bridge.send({"type": "transient", "transient": {"type": "set", "key": f"sd:{alice.sessionid}", "value": 1}})
        assert [message["type"] for message in alice.received()] == ["control", "transient"]


# reference 9.3-b
async def test_internal_client_may_subscribe_from_outside_and_be_subscribed_to_in_its_room() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.callers("alice", "bob")
        bridge = await harness.internal_hello()
        alice.offer()
        bridge.offer()
        await settle()
        for client in (alice, bob, bridge):
            client.received()
        bridge.media(alice, "requestoffer")
        await settle()
        assert [message["type"] for message in bridge.data()] == ["offer"]
        bob.media(bridge, "requestoffer")
        assert bob.error_codes() == ["not_allowed"]
        await join(bridge)
        bob.received()
        bob.media(bridge, "requestoffer")
        await settle()
        assert [message["type"] for message in bob.data()] == ["offer"]


async def test_internal_client_of_another_backend_cannot_subscribe() -> None:
    async with FlowHarness() as harness:
        (alice,) = await harness.callers("alice")
        alice.offer()
        bridge = await harness.internal_hello(backend=OTHER_CLOUD)
        bridge.media(alice, "requestoffer")
        await harness.sweep(11)
        assert bridge.error_codes() == ["client_not_found"]


# -- ignored and malformed messages


# reference 2.4-f
@pytest.mark.parametrize(
    ("type", "body"),
    [
        ("incall", {"incall": 7}),
        ("addsession", {"sessionid": "p", "roomid": "r"}),
        ("dialout", {"type": "status", "roomid": "r", "status": {"callid": "c", "status": "ringing"}}),
    ],
)
async def test_internal_message_of_another_client_has_no_effect(type: str, body: Json) -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.callers("alice", "bob")
        alice.received()
        alice.send_internal(type, id="i", **body)
        await settle()
        assert alice.received() == bob.received() == []
        assert harness.nextcloud.sessions() == []
        assert not harness.hub.virtuals


async def test_malformed_internal_message_of_another_client_is_invalid() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        alice.send({"id": "i", "type": "internal", "internal": None})
        alice.send({"id": "i", "type": "internal", "internal": {}})
        assert alice.error_codes() == ["invalid_format", "invalid_format"]


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
async def test_internal_message_without_a_required_member_is_invalid(body: Any) -> None:
    async with FlowHarness() as harness:
        bridge = await harness.internal_hello()
        bridge.send({"id": "i", "type": "internal", "internal": body})
        (error,) = bridge.received()
        assert (error["id"], error["error"]["code"]) == ("i", "invalid_format")


# reference 11.1-a
@pytest.mark.parametrize("flags", ["3", 1.5])
async def test_flags_are_integers(flags: Any) -> None:
    async with FlowHarness() as harness:
        bridge = await harness.internal_hello()
        set_own_flags(bridge, flags)
        (error,) = bridge.received()
        assert error["error"]["code"] == "invalid_format"
        assert "id" not in error


# reference 11.1-a
async def test_internal_messages_of_unknown_types_are_ignored() -> None:
    async with FlowHarness() as harness:
        bridge = await harness.internal_hello()
        bridge.send_internal("future", id="i")
        assert bridge.received() == []
