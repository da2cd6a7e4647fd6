"""Several real Janus as one backend, and calls on them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import msgspec

from mcu.base import BackendId, PublisherId, SfuState, SfuStatus, StreamKey, StreamType
from mcu.janus.backend import JanusMcu
from tests.janus_process import JanusProcess
from tests.mcu.janus.conftest import INSTANCE, WAIT, Call, States, server

PATIENCE = 10.0  # seconds for what a real Janus lets go of
LOOK = 0.02

T = TypeVar("T")


def key(name: str, type: StreamType = StreamType.VIDEO) -> StreamKey:
    """Name a stream."""
    return StreamKey(BackendId("cloud"), PublisherId(name), type)


class Several:
    """Some Janus, and the backend that uses them all."""

    def __init__(self, janus: list[JanusProcess], stack: AsyncExitStack, **settings: Any) -> None:
        self.janus = janus
        self.servers = [msgspec.structs.replace(server(process), **settings) for process in janus]
        self.states = States()
        self.mcu: JanusMcu
        self._stack = stack

    async def start(self) -> None:
        """Connect, and return when each that is not drained takes streams."""
        self.mcu = JanusMcu(tuple(self.servers), timeout=WAIT, instance=INSTANCE)
        self._stack.push_async_callback(self.mcu.stop)
        await self.mcu.start(self.states)
        wanted = {server.url for server in self.servers if not server.draining}
        await self.states.until(
            lambda status: wanted <= {sfu.url for sfu in status.sfus if sfu.state is SfuState.READY}, PATIENCE
        )

    def call(self) -> Call:
        """Return who publishes and subscribes until the end."""
        return Call(self.mcu, self._stack)

    def change(self, place: int, **settings: Any) -> None:
        """Change the settings of one Janus; ``reload`` hands them over."""
        self.servers[place] = msgspec.structs.replace(self.servers[place], **settings)

    async def reload(self) -> None:
        """Hand the settings to the backend, as a reload does."""
        await self.mcu.reconfigure(tuple(self.servers))

    def status(self, place: int) -> SfuStatus:
        """Return what the backend says of one Janus."""
        return next(sfu for sfu in self.mcu.status().sfus if sfu.url == self.janus[place].url)

    async def rooms(self) -> list[int]:
        """Ask each Janus how many rooms it has."""
        return [len(await process.rooms()) for process in self.janus]

    async def handles(self) -> list[int]:
        """Ask each Janus how many handles it has, the gateway's own excepted."""
        return [max(len(await process.handles()) - 1, 0) for process in self.janus]

    async def is_clean(self) -> None:
        """Wait until no Janus has a room or a handle."""
        none = [0] * len(self.janus)
        await comes_to(self.rooms, none)
        await comes_to(self.handles, none)


async def comes_to(ask: Callable[[], Awaitable[T]], wanted: T) -> None:
    """Ask again and again until the answer is ``wanted``."""
    found = None
    try:
        async with asyncio.timeout(PATIENCE):
            while (found := await ask()) != wanted:  # noqa: ASYNC110  no Janus tells when it has let go
                await asyncio.sleep(LOOK)
    except TimeoutError:
        raise AssertionError(f"{found} is not {wanted} within {PATIENCE} s") from None


@asynccontextmanager
async def several(count: int, **settings: Any) -> AsyncIterator[Several]:
    """Start that many Janus; the backend is to be started when its settings are as they should be."""
    async with AsyncExitStack() as stack:
        janus = [await stack.enter_async_context(JanusProcess()) for _ in range(count)]
        yield Several(janus, stack, **settings)
