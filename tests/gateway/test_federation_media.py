"""Media of a federated room: a client publishes to the host's SFU and receives from it, in both directions.

Source: reference 12.1, 12.2, 9.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from gateway.config.sections import McuSection
from gateway.tools.talk_client import Json
from mcu.janus.settings import JanusServerSettings
from tests.gateway.federated import REMOTE_ROOM, FederatedGateways, two_servers
from tests.gateway.test_federation import is_event
from tests.interop.member import Member
from tests.janus_process import ADMIN_KEY, API_SECRET, JanusProcess


class HostMember(Member):
    """A client of the host in its room."""

    def __init__(self, servers: FederatedGateways, name: str, number: int) -> None:
        super().__init__(servers.host_url, servers.host_cloud, name, number)

    async def join(self) -> None:
        await self.client.join(REMOTE_ROOM, self.room_session)


class FederatedMember(Member):
    """A client of the other server in the host's room."""

    def __init__(self, servers: FederatedGateways, name: str, number: int) -> None:
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

    def __init__(self, servers: FederatedGateways, member: Member) -> None:
        sessions = servers.host.hub.sessions.values()
        (self.id,) = [session.id for session in sessions if session.userid == member.name]
        self.number = member.number


async def enter_call(servers: FederatedGateways, *members: Member) -> None:
    """Let the host's Nextcloud report that the members are in the call."""
    entries: list[Json] = [{"sessionId": member.room_session, "inCall": 7} for member in members]
    body = {"type": "incall", "incall": {"incall": 7, "changed": entries, "users": entries}}
    assert (await servers.host_cloud.send(servers.host_url, REMOTE_ROOM, body))[0] == 200
    for member in members:
        await member.client.wait_for(is_event("participants", "update"))


@asynccontextmanager
async def hosts_sfu(name: str) -> AsyncIterator[McuSection | None]:
    """Yield the configuration of the host's SFU."""
    if name == "inprocess":
        yield None
        return
    async with JanusProcess() as janus:
        settings = JanusServerSettings(janus.url, api_secret=API_SECRET, admin_key=ADMIN_KEY)
        yield McuSection(type=name, settings=(settings,))


@pytest.mark.parametrize("sfu", ["inprocess", pytest.param("janus", marks=pytest.mark.full)])
async def test_camera_and_screen_pass_the_hosts_sfu_in_both_directions(sfu: str) -> None:
    async with hosts_sfu(sfu) as host_sfu, two_servers(sfu=True, host_sfu=host_sfu) as servers:
        alice, bob = FederatedMember(servers, "alice", 1), HostMember(servers, "bob", 2)
        async with alice, bob:
            await enter_call(servers, alice, bob)
            alice_at_host = cast("Member", MemberAtHost(servers, alice))
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
            assert _streams(servers.home) == 0
            assert _streams(servers.host) == 4
            await alice.client.join("")
            async with asyncio.timeout(60.0):
                while _streams(servers.host) > 2:  # noqa: ASYNC110 - the host ends the streams of a session that left
                    await asyncio.sleep(0.01)


def _senders(member: Member) -> set[str]:
    """Return all session ids in the media messages that a client received."""
    data = [message["message"]["data"] for message in member.client.messages if message["type"] == "message"]
    return {item[name] for item in data for name in ("from", "to") if name in item}


def _streams(gateway: Any) -> int:
    """Return the number of streams that the clients of a gateway publish."""
    return sum(sfu.publishers for sfu in gateway.mcu.status().sfus)
