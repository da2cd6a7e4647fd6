"""A whole gateway with two real Janus: failover, draining, placement by country, and the states that it reports."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import msgspec
import pytest

from gateway.app import Gateway
from gateway.config import Config, GeoIpSection, HttpSection, McuSection, SessionsSection
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_client import WAIT_TIMEOUT, TalkClient
from gateway.tools.talk_publishing import REPUBLISH, TalkPublisher
from mcu.janus.settings import JanusServerSettings
from tests.interop.conftest import SECRET
from tests.interop.member import Member
from tests.janus_process import ADMIN_KEY, API_SECRET, JanusProcess
from tests.media import PublishingPeer

pytestmark = pytest.mark.full

ALL_READY = '{\n  "state": "ok"'  # the beginning of the body of ``/readyz``
POLL_INTERVAL = 0.1  # seconds between two requests


class TwoJanusGateway:
    """A gateway with two Janus, and the members of a call."""

    def __init__(self, stack: AsyncExitStack, nextcloud: FakeNextcloud, janus: list[JanusProcess]) -> None:
        self.janus = janus
        self.servers = [
            JanusServerSettings(process.url, api_secret=API_SECRET, admin_key=ADMIN_KEY) for process in janus
        ]
        self.nextcloud = nextcloud
        self.url = ""
        self._gateway: Gateway
        self._stack = stack

    def config(self) -> Config:
        """Return the configuration with the current Janus settings."""
        return Config(
            sessions=SessionsSection(secret=SECRET),
            http=HttpSection(listen=("127.0.0.1:0",)),
            backends=(self.nextcloud.backend(),),
            mcu=McuSection(type="janus", settings=tuple(self.servers)),
            geoip=GeoIpSection(overrides={"127.0.0.1": "DE"}),
        )

    async def start(self) -> None:
        """Start the gateway, and wait until both Janus are connected."""
        self._gateway = Gateway(self.config())
        (self.url,) = await self._gateway.start()
        self._stack.push_async_callback(self._gateway.stop)
        await self.wait_for_body("/readyz", ALL_READY)

    async def reconfigure(self, index: int, **settings: Any) -> None:
        """Change the settings of one Janus, and reload the configuration."""
        self.servers[index] = msgspec.structs.replace(self.servers[index], **settings)
        assert await self._gateway.reload(self.config()) == []

    async def get(self, path: str) -> str:
        """Return the body of the gateway's response."""
        async with aiohttp.ClientSession() as http, http.get(self.url + path) as response:
            return await response.text()

    async def wait_for_body(self, path: str, expected: str) -> None:
        """Wait until the body of the gateway's response contains a text."""
        async with asyncio.timeout(WAIT_TIMEOUT):
            while expected not in await self.get(path):  # noqa: ASYNC110 - the gateway has no event for it
                await asyncio.sleep(POLL_INTERVAL)

    async def rooms(self) -> list[int]:
        """Return the number of rooms on each running Janus."""
        return [len(await process.rooms()) for process in self.janus if process.runs]

    async def join(self, name: str, number: int) -> tuple[Member, TalkPublisher]:
        """Return a member that has joined the call, and its publishing client, which can be asked to offer again."""
        member = Member(self.url, self.nextcloud, name, number)
        member.client = TalkClient(self.url, self.nextcloud.url, features=(REPUBLISH,))
        publishing = TalkPublisher(member.client)
        self._stack.push_async_callback(publishing.close)
        await self._stack.enter_async_context(member)
        await member.set_in_call()
        return member, publishing


@pytest.fixture
async def two_janus(loopback: None, janus_version: str) -> AsyncIterator[TwoJanusGateway]:
    async with AsyncExitStack() as stack:
        janus = [await stack.enter_async_context(JanusProcess()) for _ in range(2)]
        nextcloud = await stack.enter_async_context(FakeNextcloud())
        yield TwoJanusGateway(stack, nextcloud, janus)


async def publish(member: Member, publishing: TalkPublisher) -> None:
    await publishing.publish("video", lambda: PublishingPeer(member.number, member.frequency))


async def test_streams_of_a_killed_janus_are_restored_on_the_other_one(two_janus: TwoJanusGateway) -> None:
    await two_janus.start()
    anna, anna_publishing = await two_janus.join("anna", 1)
    ben, ben_publishing = await two_janus.join("ben", 2)
    await publish(anna, anna_publishing)
    await publish(ben, ben_publishing)
    assert await two_janus.rooms() == [1, 1]
    await anna.request_offer(ben)
    await ben.request_offer(anna)
    from_ben, from_anna = await anna.wait_for_picture(ben), await ben.wait_for_picture(anna)
    await two_janus.janus[0].kill()
    restored = await ben.wait_for_picture(anna, other_than=from_anna.sid)  # no member sent a request
    await restored.peer.wait_for_tone(anna.frequency)
    await from_ben.peer.wait_for_picture(ben.number)
    assert anna.received[ben.id, "video"].sid == from_ben.sid
    assert await two_janus.rooms() == [2]
    url = two_janus.servers[0].url
    await two_janus.wait_for_body("/readyz", f'"sfu Janus 1",\n      "url": "{url}",\n      "state": "away"')
    await two_janus.wait_for_body("/metrics", f'portunus_sfu_up{{sfu="{url}"}} 0.0')
    await two_janus.janus[0].start()
    await two_janus.wait_for_body("/readyz", ALL_READY)
    assert await two_janus.rooms() == [0, 2]


@pytest.mark.timeout(180)
async def test_media_are_restored_after_each_of_ten_kills_of_a_janus(two_janus: TwoJanusGateway) -> None:
    await two_janus.start()
    anna, anna_publishing = await two_janus.join("anna", 1)
    ben, _ = await two_janus.join("ben", 2)
    await publish(anna, anna_publishing)
    await ben.request_offer(anna)
    received = await ben.wait_for_picture(anna)
    outages = []
    for _ in range(10):
        index = 0 if await two_janus.janus[0].rooms() else 1
        killed = time.monotonic()
        await two_janus.janus[index].kill()
        received = await ben.wait_for_picture(anna, other_than=received.sid)
        outages.append(time.monotonic() - killed)
        await two_janus.janus[index].start()
        await two_janus.wait_for_body("/readyz", ALL_READY)
        assert sorted(await two_janus.rooms()) == [0, 1]
    summary = f"{statistics.median(outages):.2f} s, worst {max(outages):.2f} s"
    print(f"\nfrom the kill to a picture from the other Janus: {summary}")  # noqa: T201 - shown with pytest -s, for docs/mcu.md


async def test_janus_drained_by_a_reload_keeps_its_streams_and_is_disconnected_after_them(
    two_janus: TwoJanusGateway,
) -> None:
    await two_janus.start()
    anna, anna_publishing = await two_janus.join("anna", 1)
    ben, ben_publishing = await two_janus.join("ben", 2)
    await publish(anna, anna_publishing)
    assert await two_janus.rooms() == [1, 0]
    await two_janus.reconfigure(0, draining=True)
    url = two_janus.servers[0].url
    await two_janus.wait_for_body("/readyz", '"reason": "accepts no new streams, and is disconnected when')
    await two_janus.wait_for_body("/api/v1/serverinfo", '"connected": true')
    await publish(ben, ben_publishing)
    assert await two_janus.rooms() == [1, 1]
    await ben.request_offer(anna)
    await anna.request_offer(ben)
    await ben.wait_for_picture(anna)
    await anna.wait_for_picture(ben)
    await anna.client.bye()
    await two_janus.wait_for_body("/readyz", '"reason": "drained"')
    assert await two_janus.janus[0].handles() == []
    await two_janus.wait_for_body("/metrics", f'signaling_mcu_backend_load{{url="{url}"}} 0.0')


async def test_streams_are_placed_by_country_and_forwarded_between_janus(two_janus: TwoJanusGateway) -> None:
    two_janus.servers = [msgspec.structs.replace(server, remote_streams=True) for server in two_janus.servers]
    await two_janus.start()
    anna, anna_publishing = await two_janus.join("anna", 1)
    ben, _ = await two_janus.join("ben", 2)
    await publish(anna, anna_publishing)
    assert await two_janus.rooms() == [1, 0]
    await two_janus.reconfigure(1, country="DE")
    await ben.request_offer(anna)
    received = await ben.wait_for_picture(anna)
    await received.peer.wait_for_tone(anna.frequency)
    assert await two_janus.rooms() == [1, 1]
    assert [len(await process.handles()) for process in two_janus.janus] == [2, 2]
    await publish(anna, anna_publishing)  # from another PeerConnection, which is placed in Germany
    await ben.wait_for_picture(anna, other_than=received.sid)
    assert await two_janus.rooms() == [0, 1]
