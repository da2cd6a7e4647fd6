"""Federated sessions at the server that hosts their room (reference 3.3, 4.1, 7.4, 12.4)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.tools.fake_nextcloud import SigningKey
from gateway.wire.backend import PingRequest, encode_request
from tests.gateway.flows.harness import CLOUD, WALL_TIME, FakeClient, FlowHarness, Json
from tests.gateway.flows.virtual_time import settle

URL = CLOUD.urls[0]


async def federated_client(
    harness: FlowHarness, *, features: Sequence[str] = (), userid: str = "zoe", **userdata: Any
) -> FakeClient:
    """Return a client with a federated session that has joined the room; its messages are read."""
    key = SigningKey()
    harness.nextcloud.keys[URL] = key.published
    harness.nextcloud.features.add("federation-v2")
    token = key.sign({"iat": WALL_TIME + 1000, "exp": WALL_TIME + 1300, "sub": userid, "userdata": userdata})
    client = harness.connect()
    auth = {"type": "federation", "url": URL, "params": {"token": token}}
    client.send({"id": "h", "type": "hello", "hello": {"version": "2.0", "auth": auth, "features": features}})
    await settle()
    reply = client.received()[-1]
    assert reply["type"] == "hello", reply
    client.sessionid, client.resumeid = reply["hello"]["sessionid"], reply["hello"]["resumeid"]
    client.join("r", "nc-zoe")
    await settle()
    return client


def join_entries(messages: list[Json]) -> list[Json]:
    return [entry for message in messages if message["type"] == "event" for entry in message["event"].get("join", ())]


# reference 4.3-c, 12.4-b
async def test_join_event_marks_a_federated_session() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        await federated_client(harness, displayname="Zoe")
        (entry,) = join_entries(alice.received())
        assert (entry["federated"], entry["userid"], entry["user"]) == (True, "zoe", {"displayname": "Zoe"})


# reference 4.1-c, 12.4-a
async def test_join_and_leave_requests_name_the_actor() -> None:
    async with FlowHarness() as harness:
        zoe = await federated_client(harness, actorType="federated_users", actorId="zoe@there.example")
        zoe.leave()
        await settle()
        sent = [msgspec.to_builtins(request) for request in (*harness.nextcloud.joins(), *harness.nextcloud.leaves())]
        actor = {"actortype": "federated_users", "actorid": "zoe@there.example"}
        assert [{name: request[name] for name in actor} for request in sent] == [actor, actor]


# reference 4.1-n
async def test_federated_session_without_a_user_id_is_replaced_by_one_of_its_actor() -> None:
    async with FlowHarness() as harness:
        actor = {"actorType": "federated_users", "actorId": "zoe@there.example"}
        first, second = [await federated_client(harness, userid="", **actor) for _ in range(2)]
        assert harness.hub.find_by_room_session("cloud", "nc-zoe") is second.session
        assert first.sessionid not in harness.hub.sessions


# reference 4.5-b, 12.4-c
async def test_pings_name_the_actor_of_a_federated_session() -> None:
    async with FlowHarness() as harness:
        await federated_client(harness, actorType="federated_users", actorId="zoe@there.example")
        harness.pings.sweep(harness.services.clock() + 10.0)
        await settle()
        (ping,) = [
            json.loads(encode_request(request))
            for _, _, request in harness.nextcloud.requests
            if isinstance(request, PingRequest)
        ]
        actor = {"actorid": "zoe@there.example", "actortype": "federated_users"}
        assert ping["ping"]["entries"] == [{"userid": "zoe", "sessionid": "nc-zoe", **actor}]


# reference 4.3-c, 12.1-a
async def test_join_event_leaves_out_features_that_concern_the_other_server_only() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        zoe = await federated_client(harness, features=["chat-relay", "ack"])
        (entry,) = join_entries(alice.received())
        assert entry["features"] == ["chat-relay"]
        assert zoe.session.features == ("chat-relay", "ack")


async def test_actor_needs_id_and_type_as_strings() -> None:
    async with FlowHarness() as harness:
        await federated_client(harness, actorType="federated_users", actorId=5)
        (join,) = harness.nextcloud.joins()
        assert (join.actorid, join.actortype) == ("", "")


# reference 12.4-b
async def test_incall_all_removes_federated_sessions_from_the_call_but_adds_none() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        zoe = await federated_client(harness)
        room = harness.room()
        alice.received()
        zoe.received()
        harness.rooms_api("r", {"type": "incall", "incall": {"incall": 7, "all": True}})
        await settle()
        assert room.in_call == {alice.sessionid}
        assert zoe.received() == []
        harness.set_in_call("r", "zoe")
        await settle()
        zoe.received()
        harness.rooms_api("r", {"type": "incall", "incall": {"incall": 0, "all": True}})
        await settle()
        assert room.in_call == set()
        assert [message["event"]["update"]["incall"] for message in zoe.received()] == [0]


# reference 12.4-b
async def test_federated_session_counts_in_the_session_limit() -> None:
    limited = msgspec.structs.replace(CLOUD, session_limit=1)
    async with FlowHarness(limited) as harness:
        await federated_client(harness)
        client = harness.connect()
        client.send_hello("alice")
        await settle()
        assert client.received()[-1]["error"]["code"] == "session_limit_exceeded"
