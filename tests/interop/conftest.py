"""A gateway with a real SFU and a Nextcloud over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest
import pytest_asyncio

from gateway.app import Gateway
from gateway.config import Config, HttpSection, InternalSection, McuSection, SessionsSection
from gateway.core.limits import Quality
from gateway.tools.fake_nextcloud import FakeNextcloud
from mcu.inprocess import InprocessSettings
from mcu.janus.settings import JanusServerSettings
from tests.interop.bridge import Bridge
from tests.interop.member import Member
from tests.janus_process import ADMIN_KEY, API_SECRET, JanusProcess
from tests.media.loopback import loopback

__all__ = ["loopback"]

SFUS = ("inprocess", "janus")
SECRET = "6f1b0c7d9ae24835b6cf01d27e9a4488"
INTERNAL_SECRET = "c2b1e7a95f4d4f0f8d9e"
CONTROL_HANDLES = 1  # Janus handles that the backend keeps for itself


@dataclass
class House:
    """A running gateway, who asks it, and how many streams its SFU says it has."""

    url: str
    nextcloud: FakeNextcloud
    streams_on_sfu: Callable[[], Awaitable[int]]
    stack: AsyncExitStack

    async def enter(self, name: str, number: int, *, in_call: bool = True) -> Member:
        """Let a member join the room, and the call."""
        member = await self.stack.enter_async_context(Member(self.url, self.nextcloud, name, number))
        if in_call:
            await member.in_call()
        return member

    async def bridge(self, *features: str) -> Bridge:
        """Connect a SIP bridge."""
        return await self.stack.enter_async_context(Bridge(self.url, self.nextcloud, INTERNAL_SECRET, *features))

    async def has_streams(self, count: int) -> None:
        """Wait until the SFU says that it has this many: it cleans up behind our back."""
        async with asyncio.timeout(10):
            while await self.streams_on_sfu() != count:  # noqa: ASYNC110 - an SFU can only be asked
                await asyncio.sleep(0.05)


@asynccontextmanager
async def open_house(sfu: str, quality: Quality | None = None) -> AsyncIterator[House]:
    """Start Nextcloud, SFU and gateway."""
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
            quality=quality or Quality(),
        )
        gateway = Gateway(config)
        (url,) = await gateway.start()
        stack.push_async_callback(gateway.stop)

        async def streams() -> int:
            if janus is not None:
                return max(len(await janus.handles()) - CONTROL_HANDLES, len(await janus.rooms()))
            assert gateway.mcu is not None
            (status,) = gateway.mcu.status().sfus
            return status.publishers + status.subscribers

        members = await stack.enter_async_context(AsyncExitStack())
        yield House(url, nextcloud, streams, members)


@pytest_asyncio.fixture(params=SFUS)
async def house(request: pytest.FixtureRequest, loopback: None) -> AsyncIterator[House]:
    """Return a gateway with each SFU in turn."""
    async with open_house(request.param) as opened:
        yield opened
