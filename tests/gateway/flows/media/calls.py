"""Calls in which streams are published and received."""

from __future__ import annotations

from typing import Any

from tests.gateway.flows.harness import FakeClient, FlowHarness, Json
from tests.gateway.flows.media.descriptions import CANDIDATE, answer
from tests.gateway.flows.media.fake_mcu import FakeSubscriber
from tests.gateway.flows.virtual_time import settle


def candidate_payload(text: str = CANDIDATE, **fields: Any) -> Json:
    """Return the ``payload`` of a ``candidate`` message."""
    return {"candidate": {"candidate": text, **fields}}


def set_permissions(harness: FlowHarness, userid: str, *names: str) -> None:
    """Change the permissions of a user in room ``r`` by the rooms API."""
    changed = [{"sessionId": f"nc-{userid}", "permissions": names}]
    harness.rooms_api("r", {"type": "participants", "participants": {"changed": changed}})


async def subscribe(subscriber: FakeClient, publisher: FakeClient) -> FakeSubscriber:
    """Request a client's stream and return the subscription; its offer has been received."""
    subscriber.media(publisher, "requestoffer")
    await settle()
    subscriber.received()
    return subscriber.harness.mcu.subscribers[-1]


async def publishing_call(*userids: str) -> tuple[FlowHarness, list[FakeClient]]:
    """Return a harness and clients in one call, the first of which publishes; all messages so far are read."""
    harness = FlowHarness()
    clients = await harness.callers(*userids)
    clients[0].offer()
    await settle()
    for client in clients:
        client.received()
    return harness, clients


async def call_of(harness: FlowHarness, *features: tuple[str, ...]) -> list[FakeClient]:
    """Return Alice, Bob and Carol, as many as there are sets of client features, in one call."""
    names = ("alice", "bob", "carol")[: len(features)]
    clients = [
        await harness.member(name, in_call=True, features=own) for name, own in zip(names, features, strict=True)
    ]
    for client in clients:
        client.received()
    return clients


async def publish(client: FakeClient, connection: str = "one", *, sid: str = "1", room_type: str = "video") -> None:
    """Publish a stream; check that only its answer is received."""
    client.offer(connection, sid=sid, roomType=room_type)
    await settle()
    assert [message["type"] for message in client.data()] == ["answer"]


def send_answer(subscriber: FakeClient, publisher: FakeClient, sid: str = "") -> None:
    """Answer the offer of a publisher's stream."""
    subscriber.media(publisher, "answer", sid=sid, payload={"type": "answer", "sdp": answer()})
