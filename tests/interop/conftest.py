"""A gateway with a real SFU, and a fake Nextcloud over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest
import pytest_asyncio

from gateway.app import Gateway
from gateway.config import Config, HttpSection, InternalSection, McuSection, SessionsSection
from gateway.core.limits import QualityRules
from gateway.tools.fake_nextcloud import FakeNextcloud
from mcu.inprocess import InprocessSettings
from mcu.janus.settings import JanusServerSettings
from tests.interop.bridge import SipBridge
from tests.interop.member import Member
from tests.janus_process import ADMIN_KEY, API_SECRET, JanusProcess, janus_version
from tests.media.loopback import loopback

__all__ = ["janus_version", "loopback"]

SFUS = ("inprocess", "janus")
SECRET = "6f1b0c7d9ae24835b6cf01d27e9a4488"
INTERNAL_SECRET = "c2b1e7a95f4d4f0f8d9e"
CONTROL_HANDLES = 1  # Janus handles of the gateway that belong to no stream


@dataclass
class CallGateway:
    """A running gateway with its Nextcloud, the members of a call, and the number of streams on its SFU."""

    url: str
    nextcloud: FakeNextcloud
    streams_on_sfu: Callable[[], Awaitable[int]]
    stack: AsyncExitStack

    async def join(self, name: str, number: int, *, in_call: bool = True) -> Member:
        """Return a member that has joined the room, and the call."""
        member = await self.stack.enter_async_context(Member(self.url, self.nextcloud, name, number))
        if in_call:
            await member.set_in_call()
        return member

    async def connect_bridge(self, *features: str) -> SipBridge:
        """Return a SIP bridge that is connected."""
        return await self.stack.enter_async_context(SipBridge(self.url, self.nextcloud, INTERNAL_SECRET, *features))

    async def wait_for_streams(self, count: int) -> None:
        """Wait until the SFU has this many streams: it removes streams in the background."""
        async with asyncio.timeout(60):
            while await self.streams_on_sfu() != count:  # noqa: ASYNC110 - an SFU has no event for it
                await asyncio.sleep(0.05)


@asynccontextmanager
async def start_gateway(sfu: str, quality: QualityRules | None = None) -> AsyncIterator[CallGateway]:
    """Start Nextcloud, the SFU and the gateway."""
    async with AsyncExitStack() as stack:
        nextcloud = await stack.enter_async_context(FakeNextcloud())
        janus = await stack.enter_async_context(JanusProcess()) if sfu == "janus" else None
        settings: object = InprocessSettings(address="127.0.0.1")
        if janus is not None:
            settings = (JanusServerSettings(janus.url, api_secret=API_SECRET, admin_key=ADMIN_KEY),)
        config = Config(
            sessions=SessionsSection(secret=SECRET),
            http=HttpSection(listen=("127.0.0.1:0",)),
            internal=InternalSection(secret=INTERNAL_SECRET),
            backends=(nextcloud.backend(),),
            mcu=McuSection(type=sfu, settings=settings),
            quality=quality or QualityRules(),
        )
        gateway = Gateway(config)
        (url,) = await gateway.start()
        nextcloud.gateway = url
        stack.push_async_callback(gateway.stop)

        async def streams() -> int:
            if janus is not None:
                return max(len(await janus.handles()) - CONTROL_HANDLES, len(await janus.rooms()))
            assert gateway.mcu is not None
            (status,) = gateway.mcu.status().sfus
            return status.publishers + status.subscribers

        members = await stack.enter_async_context(AsyncExitStack())
        yield CallGateway(url, nextcloud, streams, members)


@pytest_asyncio.fixture(params=SFUS)
async def gateway(request: pytest.FixtureRequest, loopback: None) -> AsyncIterator[CallGateway]:
    """Yield a gateway with each SFU in turn."""
    async with start_gateway(request.param) as running:
        yield running
