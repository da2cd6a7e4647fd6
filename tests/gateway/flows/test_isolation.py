"""Isolation of two backends for every type of message, with equal names of rooms, users and Nextcloud sessions.

Source: reference 3.6, 5.1, 5.3; invariant 9.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.limits import Backend
from gateway.core.session import ClientType
from tests.gateway.flows.harness import OTHER_CLOUD, FakeClient, FlowHarness, Json
from tests.gateway.flows.sessions.test_federation import federated_client
from tests.gateway.flows.virtual_time import settle

MessageFactory = Callable[[str, str], Json]  # makes a message from the public ids of a session and of a virtual session


def media(type: str, **data: Any) -> MessageFactory:
    return lambda session, _: message("message", {"type": "session", "sessionid": session}, {"type": type, **data})


def message(type: str, recipient: Json, data: Any = "hello") -> Json:
    return {"type": type, type: {"recipient": recipient, "data": data}}


MESSAGES: dict[str, MessageFactory] = {
    "message to the session": lambda session, _: message("message", {"type": "session", "sessionid": session}),
    "message to the virtual session": lambda _, virtual: message("message", {"type": "session", "sessionid": virtual}),
    "message to the user": lambda *_: message("message", {"type": "user", "userid": "bob"}),
    "message to the room": lambda *_: message("message", {"type": "room"}),
    "message to the call": lambda *_: message("message", {"type": "call"}),
    "control to the session": lambda session, _: message("control", {"type": "session", "sessionid": session}),
    "control to the virtual session": lambda _, virtual: message("control", {"type": "session", "sessionid": virtual}),
    "control to the user": lambda *_: message("control", {"type": "user", "userid": "bob"}),
    "control to the room": lambda *_: message("control", {"type": "room"}),
    "control to the call": lambda *_: message("control", {"type": "call"}),
    "requestoffer": media("requestoffer", roomType="video"),
    "sendoffer": media("sendoffer", roomType="video"),
    "selectStream": media("selectStream", roomType="video", payload={"substream": 1}),
    "endOfCandidates": media("endOfCandidates", roomType="video"),
    "unshareScreen": media("unshareScreen"),
    "transient set": lambda *_: {"type": "transient", "transient": {"type": "set", "key": "k", "value": 2}},
    "transient remove": lambda *_: {"type": "transient", "transient": {"type": "remove", "key": "k"}},
    "transient of the session": lambda session, _: {
        "type": "transient",
        "transient": {"type": "remove", "key": f"sd:{session}"},
    },
    "room": lambda *_: {"type": "room", "room": {"roomid": "q", "sessionid": "nc-alice"}},
    "leave": lambda *_: {"type": "room", "room": {"roomid": ""}},
    "bye": lambda *_: {"type": "bye"},
}

ENTRY = {"sessionId": "nc-alice", "inCall": 0, "permissions": []}
ROOMS_API_REQUESTS: dict[str, Json] = {
    "invite": {"userids": ["alice", "bob"], "alluserids": ["alice", "bob"]},
    "disinvite": {"userids": ["alice", "bob"], "sessionids": ["nc-alice", "nc-bob"], "alluserids": []},
    "update": {"userids": ["alice", "bob"], "properties": {"name": "changed"}},
    "delete": {"userids": ["alice", "bob"]},
    "incall": {"incall": 0, "changed": [ENTRY], "users": [ENTRY]},
    "participants": {"changed": [ENTRY], "users": [ENTRY]},
    "message": {"data": {"type": "chat"}},
    "switchto": {"roomid": "x", "sessions": ["nc-alice", "nc-bob"]},
}

INTERNAL_REQUESTS: dict[str, Json] = {
    "addsession": {"sessionid": "mine", "roomid": "only there"},
    "updatesession": {"sessionid": "phone", "roomid": "r", "flags": 4, "incall": 0},
    "removesession": {"sessionid": "phone", "roomid": "r"},
    "incall": {"incall": 0},
    "dialout": {"type": "status", "roomid": "only there", "status": {"callid": "1", "status": "ringing"}},
}


async def call_with_a_phone(harness: FlowHarness) -> tuple[list[FakeClient], str]:
    """Return the clients in a call of one backend, one of them internal, and the id of its virtual session."""
    alice, bob = [await harness.member(name, in_call=True) for name in ("alice", "bob")]
    bridge = await harness.internal_hello()
    bridge.join()
    bridge.send_internal("addsession", sessionid="phone", roomid="r")
    lonely = await harness.member("lonely", "only there")
    alice.send({"type": "transient", "transient": {"type": "set", "key": "k", "value": 1}})
    alice.send({"type": "transient", "transient": {"type": "set", "key": f"sd:{alice.sessionid}", "value": 1}})
    alice.offer()
    await settle()
    clients = [alice, bob, bridge, lonely]
    for client in clients:
        client.received()
    (virtual,) = harness.hub.virtuals
    return clients, virtual


def are_undisturbed(clients: list[FakeClient]) -> bool:
    return all(client.received() == [] and client.session.open and not client.connection.finished for client in clients)


# reference 3.6-b
@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("internal", [False, True])
async def test_no_message_reaches_another_backend(name: str, internal: bool) -> None:
    async with FlowHarness() as harness:
        clients, virtual = await call_with_a_phone(harness)
        eve = await (harness.internal_hello(backend=OTHER_CLOUD) if internal else harness.hello("alice", OTHER_CLOUD))
        eve.join("r", "nc-alice")
        await settle()
        harness.rooms_api("r", {"type": "incall", "incall": {"incall": 7, "all": True}}, OTHER_CLOUD)
        asked = len(harness.nextcloud.requests)
        eve.send(MESSAGES[name](clients[0].sessionid, virtual))
        await settle()
        assert are_undisturbed(clients)
        assert harness.publisher(clients[0]) is not None
        assert all(backend is OTHER_CLOUD for backend, _, _ in harness.nextcloud.requests[asked:])
        alice = harness.hub.find_by_room_session("cloud", "nc-alice")
        assert alice is clients[0].session


# reference 6-a
@pytest.mark.parametrize("name", ROOMS_API_REQUESTS)
async def test_no_request_of_a_nextcloud_reaches_the_room_of_another_backend(name: str) -> None:
    async with FlowHarness() as harness:
        clients, _ = await call_with_a_phone(harness)
        await harness.member("alice", backend=OTHER_CLOUD, in_call=True)
        before = clients[0].session.permissions.listed
        harness.rooms_api("r", {"type": name, name: ROOMS_API_REQUESTS[name]}, OTHER_CLOUD)
        await settle()
        assert are_undisturbed(clients)
        assert harness.publisher(clients[0]) is not None
        assert clients[0].session.permissions.listed == before


@pytest.mark.parametrize("name", INTERNAL_REQUESTS)
async def test_no_internal_client_reaches_the_rooms_of_another_backend(name: str) -> None:
    async with FlowHarness() as harness:
        clients, virtual = await call_with_a_phone(harness)
        eve = await harness.internal_hello(backend=OTHER_CLOUD)
        eve.send_internal(name, **INTERNAL_REQUESTS[name])
        await settle()
        assert are_undisturbed(clients)
        assert list(harness.hub.virtuals) == [virtual]


async def test_dialout_is_requested_from_clients_of_its_backend_only() -> None:
    async with FlowHarness() as harness:
        await harness.internal_hello("start-dialout", backend=OTHER_CLOUD)
        status, body = await harness.dial_out("12", {"number": "+49123"})
        assert (status, body["error"]["code"]) == (404, "no_client_available")


# -- session limits (3.5)


# reference 3.6-b
async def test_sessions_count_for_the_backend_whichever_of_its_urls_they_name() -> None:
    urls = ("https://one.example/", "https://two.example/cloud/")
    small = Backend("small", urls, "secret", session_limit=2)
    async with FlowHarness(small, OTHER_CLOUD) as harness:

        async def hello(url: str) -> FakeClient:
            client = harness.connect()
            client.received()
            client.send_hello("u", url=url)
            await settle()
            return client

        first, second = [await hello(url) for url in urls]
        assert [client.received()[0]["type"] for client in (first, second)] == ["hello", "hello"]
        for url in urls:
            assert (await hello(url)).error_codes() == ["session_limit_exceeded"]
        assert harness.counters.limit_exceeded == {"small": 2}
        second.disconnect()  # it may be resumed, and counts
        assert (await hello(urls[0])).error_codes() == ["session_limit_exceeded"]
        internal = await harness.internal_hello(backend=small)
        assert internal.session.is_internal
        assert (await hello(OTHER_CLOUD.urls[0])).received()[0]["type"] == "hello"
        await harness.sweep(31)
        assert (await hello(urls[1])).received()[0]["type"] == "hello"
        assert (await hello(urls[1])).error_codes() == ["session_limit_exceeded"]


async def test_federated_sessions_count_and_virtual_ones_do_not() -> None:
    limited = Backend("cloud", ("https://cloud.example/",), "secret of the cloud", session_limit=2)
    async with FlowHarness(limited) as harness:
        await harness.member("alice", backend=limited)
        bridge = await harness.internal_hello(backend=limited)
        for name in ("a", "b"):
            bridge.send_internal("addsession", sessionid=name, roomid="r")
        await settle()
        assert len(harness.hub.virtuals) == 2
        zoe = await federated_client(harness)
        assert zoe.session.client_type is ClientType.FEDERATION
        guest = harness.connect()
        guest.received()
        guest.send_hello("", url=limited.urls[0])
        await settle()
        assert guest.error_codes() == ["session_limit_exceeded"]
