"""Clients in rooms of a fake host."""

from __future__ import annotations

from typing import Any

from tests.gateway.flows.federation.fake_host import FakeHost
from tests.gateway.flows.harness import FakeClient, FlowHarness, Json
from tests.gateway.flows.virtual_time import settle

TARGET = {"signaling": "wss://host.example/", "url": "https://cloud.host.example/", "roomid": "R", "token": "t"}


def harness_with(host: FakeHost) -> FlowHarness:
    """Return a harness in which each URL of a remote server is that of ``host``."""
    harness = FlowHarness()
    harness.services.remote_servers = host
    return harness


def request_join(client: FakeClient, id: str = "j", room: str = "L", **target: Any) -> None:
    """Request to join a room of the host as ``room``; ``target`` replaces members of ``TARGET``."""
    federation = TARGET | target
    client.send({"id": id, "type": "room", "room": {"roomid": room, "sessionid": "nc", "federation": federation}})


async def seated_client(harness: FlowHarness, userid: str = "alice", *features: str) -> FakeClient:
    """Return a client that has joined a room of the host; all messages so far are read."""
    client = await harness.hello(userid, features=features)
    request_join(client)
    await settle()
    reply = client.received()
    assert [message["type"] for message in reply] == ["room"], reply
    return client


def relayed(data: Any, sender: str = "other") -> Json:
    """Return a message from a session at the host."""
    body = {"sender": {"type": "session", "sessionid": sender}, "data": data}
    return {"type": "message", "message": body}


def types_of(messages: list[Json]) -> list[str]:
    """Return the types of messages, and of events in place of ``event``."""
    return [message.get("event", message)["type"] for message in messages]
