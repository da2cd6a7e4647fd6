"""Joins between two gateways that the client withdraws while the host waits for its Nextcloud.

In the process of the test, which reads the sessions of both gateways.

Source: reference 12.3-e.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from gateway.tools.talk_client import TalkClient
from tests.gateway.federated import ROOM, FederatedGateways, Json, two_servers

LIMIT = 60.0  # seconds, far less than ``federation.timeout`` here


async def request_join(servers: FederatedGateways, client: TalkClient, id: str) -> None:
    """Request to join the host's room."""
    room = {"roomid": ROOM, "sessionid": servers.session_of("alice"), "federation": servers.target("alice")}
    await client.send({"id": id, "type": "room", "room": room})


async def wait_for_reply(client: TalkClient, id: str) -> Json:
    return await client.wait_for(lambda message: message.get("id") == id, limit=LIMIT)


def joins_of_alice(servers: FederatedGateways) -> list[Json]:
    requests = [request.body for request in servers.host_cloud.requests if request.type == "room"]
    return [body for body in requests if body.get("userid") == "alice" and "action" not in body]


async def wait_until_only_bob_is_at_host(servers: FederatedGateways) -> None:
    async with asyncio.timeout(LIMIT):
        while [session.userid for session in servers.host.hub.sessions.values()] != ["bob"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("requested", ["leave", "bye", "local room"])
@pytest.mark.parametrize("answered", ["late", "at once"])
async def test_withdrawn_join_leaves_no_session_at_the_host(requested: str, answered: str) -> None:
    """The host's Nextcloud answers after the client's next request, or at the same time as it is sent."""
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(two_servers(rules={"timeout": 600.0}))
        bob = await stack.enter_async_context(servers.at_host("bob"))
        alice = await stack.enter_async_context(servers.at_home("alice"))
        await servers.join(alice, "alice")  # the host has the key of its Nextcloud now
        assert (await alice.join(""))["room"]["roomid"] == ""
        await wait_until_only_bob_is_at_host(servers)
        gate = servers.host_cloud.gate = asyncio.Event()
        joins_before = len(joins_of_alice(servers))
        await request_join(servers, alice, "j")
        async with asyncio.timeout(LIMIT):
            while len(joins_of_alice(servers)) == joins_before:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        if answered == "at once":
            gate.set()
        if requested == "bye":
            await alice.send({"id": "n", "type": "bye"})
        else:
            here = {"roomid": "here", "sessionid": "nc"} if requested == "local room" else {"roomid": ""}
            await alice.send({"id": "n", "type": "room", "room": here})
        first = await wait_for_reply(alice, "j")
        if answered != "at once":
            assert first["error"]["code"] == "room_join_failed"
        if requested == "bye":
            await wait_for_reply(alice, "n")
        elif requested == "local room":
            assert (await wait_for_reply(alice, "n"))["room"]["roomid"] == "here"
        assert servers.home.hub.seated == {}
        if answered == "late":
            gate.set()
        await wait_until_only_bob_is_at_host(servers)
        (room,) = servers.host.hub.rooms.values()
        assert list(room.members) == [bob.session_id]
