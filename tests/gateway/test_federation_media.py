"""Media of a federated room: a client publishes to the host's SFU and receives from it, in both directions.

In the full tests both gateways are processes of ``portunus serve``; the quick test runs them in its own process.

Source: reference 12.1, 12.2, 9.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from gateway.tools.talk_client import Json
from tests.gateway.federated import REMOTE_ROOM, FederatedServers, two_servers
from tests.gateway.federated_processes import INPROCESS_SFU, read_stats, two_processes, wait_for_stats
from tests.gateway.test_federation import entries, is_event, is_federated
from tests.interop.member import Member
from tests.janus_process import ADMIN_KEY, API_SECRET, JanusProcess


class HostMember(Member):
    """A client of the host in its room."""

    def __init__(self, servers: FederatedServers, name: str, number: int) -> None:
        super().__init__(servers.host_url, servers.host_cloud, name, number)

    async def join(self) -> None:
        await self.client.join(REMOTE_ROOM, self.room_session)


class FederatedMember(Member):
    """A client of the other server in the host's room."""

    def __init__(self, servers: FederatedServers, name: str, number: int) -> None:
        super().__init__(servers.home_url, servers.home_cloud, name, number)
        self._servers = servers

    @property
    def room_session(self) -> str:
        """See ``Member.room_session``."""
        return self._servers.session_of(self.name)

    async def join(self) -> None:
        await self._servers.join(self.client, self.name, self.room_session)


class MemberAtHost:
    """A federated member with the id of its session at the host, by which the clients of the host know it."""

    def __init__(self, joined: Json, member: Member) -> None:
        (self.id,) = [entry["sessionid"] for entry in entries(joined) if entry["userid"] == member.name]
        self.number = member.number


async def enter_call(servers: FederatedServers, *members: Member) -> None:
    """Let the host's Nextcloud report that the members are in the call."""
    entries: list[Json] = [{"sessionId": member.room_session, "inCall": 7} for member in members]
    body = {"type": "incall", "incall": {"incall": 7, "changed": entries, "users": entries}}
    assert (await servers.host_cloud.send(servers.host_url, REMOTE_ROOM, body))[0] == 200
    for member in members:
        await member.client.wait_for(is_event("participants", "update"))


@asynccontextmanager
async def servers_with(sfu: str, folder: Path) -> AsyncIterator[FederatedServers]:
    """Run both servers, the host with this SFU."""
    async with AsyncExitStack() as stack:
        if sfu == "one process":
            yield await stack.enter_async_context(two_servers(sfu=True))
            return
        host = INPROCESS_SFU
        if sfu == "janus":
            janus = await stack.enter_async_context(JanusProcess())
            keys = f'url = "{janus.url}"\napi_secret = "{API_SECRET}"\nadmin_key = "{ADMIN_KEY}"\n'
            host = f'[mcu]\ntype = "janus"\n[[mcu.janus]]\n{keys}'
        yield await stack.enter_async_context(two_processes(folder, home=INPROCESS_SFU, host=host))


FULL = pytest.mark.full


@pytest.mark.parametrize(
    "sfu", ["one process", pytest.param("inprocess", marks=FULL), pytest.param("janus", marks=FULL)]
)
async def test_camera_and_screen_pass_the_hosts_sfu_in_both_directions(tmp_path: Path, sfu: str) -> None:
    async with servers_with(sfu, tmp_path) as servers:
        alice, bob = FederatedMember(servers, "alice", 1), HostMember(servers, "bob", 2)
        async with alice, bob:
            await enter_call(servers, alice, bob)
            alice_at_host = cast("Member", MemberAtHost(await bob.client.wait_for(is_federated), alice))
            await asyncio.gather(alice.publish("video", "a"), bob.publish("video", "b"))
            await bob.request_offer(alice_at_host)
            await alice.request_offer(bob)
            await bob.wait_for_picture(alice_at_host)
            await alice.wait_for_picture(bob)
            await alice.publish("screen", "a-screen")
            await alice.offer_stream_to(bob, "screen")
            await bob.wait_for_picture(alice_at_host, "screen")
            await bob.publish("screen", "b-screen")
            await bob.offer_stream_to(alice_at_host, "screen")
            await alice.wait_for_picture(bob, "screen")
            assert _senders(alice) <= {alice.id, bob.id}
            assert await streams(servers.home_url) == 0
            assert await streams(servers.host_url) == 4
            await alice.client.join("")
            await wait_for_stats(servers.host_url, lambda stats: stats["mcu"]["publishers"] == 2)


@pytest.mark.full
async def test_each_server_hosts_a_room_with_clients_of_the_other_one(tmp_path: Path) -> None:
    async with two_processes(tmp_path, home=INPROCESS_SFU, host=INPROCESS_SFU) as servers:
        back = servers.swapped()
        alice, bob = FederatedMember(servers, "alice", 1), HostMember(servers, "bob", 2)
        carol, dave = FederatedMember(back, "carol", 3), HostMember(back, "dave", 4)
        async with alice, bob, carol, dave:
            await enter_call(servers, alice, bob)
            await enter_call(back, carol, dave)
            await asyncio.gather(*(member.publish("video", "a") for member in (alice, bob, carol, dave)))
            for guest, resident in ((alice, bob), (carol, dave)):
                guest_at_host = cast("Member", MemberAtHost(await resident.client.wait_for(is_federated), guest))
                await resident.request_offer(guest_at_host)
                await guest.request_offer(resident)
                await resident.wait_for_picture(guest_at_host)
                await guest.wait_for_picture(resident)
            assert await streams(servers.home_url) == await streams(servers.host_url) == 2


def _senders(member: Member) -> set[str]:
    """Return all session ids in the media messages that a client received."""
    data = [message["message"]["data"] for message in member.client.messages if message["type"] == "message"]
    return {item[name] for item in data for name in ("from", "to") if name in item}


async def streams(url: str) -> int:
    """Return the number of streams that the clients of a gateway's SFU publish."""
    publishers: int = (await read_stats(url))["mcu"]["publishers"]
    return publishers
