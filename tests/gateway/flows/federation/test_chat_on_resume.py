"""Chat messages of a host that are sent again to a client after a resume of its own session.

Source: docs/protocol.md, "Chat messages after a lost connection"; reference 5.6.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.gateway.flows.federation.fake_host import FakeHost
from tests.gateway.flows.federation.seats import harness_with, relayed, request_join, seated_client
from tests.gateway.flows.harness import FakeClient, Json
from tests.gateway.flows.virtual_time import settle

FIRST: Json = {"type": "chat", "chat": {"comment": {"id": 1}}}
SECOND: Json = {"type": "chat", "chat": {"comment": {"id": 2}}}
WITHOUT_ID: Json = {"type": "chat", "chat": {"comment": {"message": "text"}}}
REFRESH: Json = {"type": "chat", "chat": {"refresh": True}}
OTHER: Json = {"type": "other", "chat": {"comment": {"id": 3}}}
JOIN: Json = {"type": "event", "event": {"target": "room", "type": "join", "join": [{"sessionid": "bob"}]}}


def room_message(data: Json, room: str = "R") -> Json:
    """Return a message of the host's Nextcloud to a room."""
    return {"type": "event", "event": {"target": "room", "type": "message", "message": {"roomid": room, "data": data}}}


async def deliver(host: FakeHost, client: FakeClient, *messages: Json) -> None:
    """Deliver messages of the host, which the client's connection writes after them, as real ones do."""
    client.connection.stuck = True
    for message in messages:
        host.connection.deliver(message)
    await settle()
    client.connection.stuck = False
    client.connection.wake()
    assert len(client.received()) == len(messages)


# reference 5.6-e
async def test_unconfirmed_chat_of_the_host_alone_is_sent_again_after_a_resume() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        alice = await seated_client(harness, "alice", "chat-relay")
        others = (JOIN, relayed(1), room_message(OTHER), room_message(WITHOUT_ID))
        await deliver(host, alice, room_message(FIRST), *others, room_message(REFRESH))
        alice.disconnect()
        host.connection.deliver(room_message(SECOND))
        await settle()
        again = await harness.resume(alice)
        assert again.received()[1:] == [room_message(data, "L") for data in (FIRST, REFRESH, SECOND)]


async def test_chat_of_the_host_is_sent_again_after_an_interruption_and_a_new_session_there() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        alice = await seated_client(harness, "alice", "chat-relay")
        await deliver(host, alice, room_message(FIRST))
        host.resume = {"code": "no_such_session", "message": ""}
        host.connection.lose()
        await asyncio.sleep(2.0)
        assert [message["type"] for message in alice.received()] == ["event", "event", "room"]
        again = await harness.resume(alice)
        assert again.received()[1:] == [room_message(FIRST, "L")]


@pytest.mark.parametrize("next_room", ["none", "of the same host", "of another host", "of this server"])
async def test_chat_of_a_hosts_room_that_the_client_left_is_not_sent_again(next_room: str) -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        alice = await seated_client(harness, "alice", "chat-relay")
        await deliver(host, alice, room_message(FIRST))
        if next_room == "none":
            alice.leave()
        elif next_room == "of this server":
            alice.join("local", "nc-local")
        else:
            other = {"signaling": "wss://other.example/"} if next_room == "of another host" else {}
            request_join(alice, room="L2", roomid="R2", **other)
        await settle()
        assert "error" not in [message["type"] for message in alice.received()]
        again = await harness.resume(alice)
        assert again.received()[1:] == []
