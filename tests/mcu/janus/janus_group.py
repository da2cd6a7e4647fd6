"""Several real Janus behind one backend, and calls on them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import msgspec

from mcu.base import BackendId, PublisherId, SfuState, SfuStatus, StreamKey, StreamType
from mcu.janus.backend import JanusMcu
from tests.janus_process import JanusProcess
from tests.mcu.janus.conftest import INSTANCE, POLL, WAIT, JanusCall, RecordedStates, settings_for

TIME_LIMIT = 60.0  # seconds for the removal of rooms and handles by a real Janus

T = TypeVar("T")


def stream_key(publisher: str, type: StreamType = StreamType.VIDEO) -> StreamKey:
    """Return the key of a publisher's stream."""
    return StreamKey(BackendId("cloud"), PublisherId(publisher), type)


class JanusGroup:
    """Several Janus, and the backend that uses them all."""

    def __init__(self, janus: list[JanusProcess], stack: AsyncExitStack, **settings: Any) -> None:
        self.janus = janus
        self.servers = [msgspec.structs.replace(settings_for(process), **settings) for process in janus]
        self.states = RecordedStates()
        self.mcu: JanusMcu
        self._stack = stack

    async def start(self) -> None:
        """Start the backend, and return when each Janus that is not draining accepts streams."""
        self.mcu = JanusMcu(tuple(self.servers), timeout=WAIT, instance=INSTANCE)
        self._stack.push_async_callback(self.mcu.stop)
        await self.mcu.start(self.states)
        wanted = {server.url for server in self.servers if not server.draining}
        await self.states.until(
            lambda status: wanted <= {sfu.url for sfu in status.sfus if sfu.state is SfuState.READY}, TIME_LIMIT
        )

    def new_call(self) -> JanusCall:
        """Return a call whose peers are closed at the end of the test."""
        return JanusCall(self.mcu, self._stack)

    def change(self, index: int, **settings: Any) -> None:
        """Change the settings of one Janus; they apply after ``reload``."""
        self.servers[index] = msgspec.structs.replace(self.servers[index], **settings)

    async def reload(self) -> None:
        """Apply the settings to the backend, as SIGHUP does."""
        self.mcu.reconfigure(tuple(self.servers))

    def status(self, index: int) -> SfuStatus:
        """Return the status of one Janus."""
        return next(sfu for sfu in self.mcu.status().sfus if sfu.url == self.janus[index].url)

    async def room_counts(self) -> list[int]:
        """Return the number of rooms on each Janus."""
        return [len(await process.rooms()) for process in self.janus]

    async def handle_counts(self) -> list[int]:
        """Return the number of handles on each Janus, without the control handle."""
        return [max(len(await process.handles()) - 1, 0) for process in self.janus]

    async def until_clean(self) -> None:
        """Wait until no Janus has a room or a handle."""
        none = [0] * len(self.janus)
        await until_equal(self.room_counts, none)
        await until_equal(self.handle_counts, none)


async def until_equal(ask: Callable[[], Awaitable[T]], wanted: T) -> None:
    """Call ``ask`` repeatedly until it returns ``wanted``."""
    found = None
    try:
        async with asyncio.timeout(TIME_LIMIT):
            while (found := await ask()) != wanted:  # noqa: ASYNC110  Janus sends no event of it
                await asyncio.sleep(POLL)
    except TimeoutError:
        raise AssertionError(f"{found} is not {wanted} within {TIME_LIMIT} s") from None


@asynccontextmanager
async def start_several(count: int, **settings: Any) -> AsyncIterator[JanusGroup]:
    """Start ``count`` Janus; the test starts the backend after it has changed the settings."""
    async with start_all([JanusProcess() for _ in range(count)], **settings) as group:
        yield group


@asynccontextmanager
async def start_all(janus: list[JanusProcess], **settings: Any) -> AsyncIterator[JanusGroup]:
    """Start these Janus; the test starts the backend after it has changed the settings."""
    async with AsyncExitStack() as stack:
        yield JanusGroup([await stack.enter_async_context(process) for process in janus], stack, **settings)
