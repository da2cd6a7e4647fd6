"""A Janus behind a network that can be cut, and the backend on this side of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from mcu.base import (
    SfuState,
)
from mcu.janus.backend import JanusMcu
from mcu.janus.settings import JanusServerSettings
from tests.janus_process import ADMIN_KEY, ADMIN_SECRET, API_SECRET, JanusProcess
from tests.mcu.janus.conftest import INSTANCE, WAIT, Call, States
from tests.mcu.janus.relay import Relay
from tests.media import WatchingPeer


class House:
    """A Janus behind a network that can be cut, and the backend on this side of it."""

    def __init__(self, janus: JanusProcess, relay: Relay, states: States, stack: AsyncExitStack) -> None:
        self.janus = janus
        self.relay = relay
        self.states = states
        self._stack = stack

    async def open(self, *, admin: bool = False) -> Call:
        """Start the backend; with the Admin API, which the network does not touch."""
        admin_url, admin_secret = (self.janus.admin_url, ADMIN_SECRET) if admin else ("", "")
        server = JanusServerSettings(self.relay.url, API_SECRET, "", ADMIN_KEY, admin_url, admin_secret)
        self.mcu = JanusMcu((server,), timeout=WAIT, instance=INSTANCE)
        await self.mcu.start(self.states)
        self._stack.push_async_callback(self.mcu.stop)
        await self.states.until(lambda status: status.ready)
        return Call(self.mcu, self._stack)

    async def back(self, limit: float = WAIT) -> None:
        """Wait until Janus can be used again."""
        await self.states.until(lambda status: status.ready, limit)

    async def away(self, limit: float = WAIT) -> str:
        """Wait until Janus cannot be used, and return the reason that is given."""
        status = await self.states.until(lambda status: not status.ready, limit)
        assert status.sfus[0].state is SfuState.CONNECTING
        return status.sfus[0].reason

    async def handles(self) -> set[int]:
        """Ask Janus for its handles."""
        return {handle["handle_id"] for handle in await self.janus.handles()}

    async def comes_to(self, *, rooms: int, handles: int) -> None:
        """Ask Janus until it has that many rooms, and handles beside the control handle."""
        async with asyncio.timeout(WAIT):
            while (len(await self.janus.rooms()), len(await self.janus.handles()) - 1) != (rooms, handles):
                pass


@pytest.fixture
async def house(janus: JanusProcess, states: States, loopback: None) -> AsyncIterator[House]:
    async with Relay(janus.values["WS_PORT"]) as relay, AsyncExitStack() as stack:
        yield House(janus, relay, states, stack)


class Pace:
    """Notes the longest time between two pictures that a peer decodes, in seconds."""

    def __init__(self, watcher: WatchingPeer) -> None:
        self._watcher = watcher
        self._frames = 0
        self._last = 0.0
        self.longest = 0.0
        self.pictures = 0

    async def keep(self) -> None:
        """Watch until cancelled."""
        await self._watcher.until(self._look, "never", 3600)

    def _look(self) -> bool:
        frames, now = sum(self._watcher.frames.values()), time.monotonic()
        if frames != self._frames:
            if self._frames:
                self.longest = max(self.longest, now - self._last)
                self.pictures += frames - self._frames
            self._frames, self._last = frames, now
        return False
