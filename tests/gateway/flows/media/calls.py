"""Calls in which streams are published and received."""

from __future__ import annotations

from typing import Any

from tests.gateway.flows.harness import FakeClient, FlowHarness, Json
from tests.gateway.flows.media.descriptions import CANDIDATE
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
    """Return a harness and clients in one call, the first of which publishes; nothing is left to be received."""
    harness = FlowHarness()
    clients = await harness.callers(*userids)
    clients[0].offer()
    await settle()
    for client in clients:
        client.received()
    return harness, clients
