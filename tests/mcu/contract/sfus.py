"""The SFUs that the contract is tested on; streams are counted on the SFU, not in the gateway's objects."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from mcu.base import Mcu, McuStatus, SfuState
from mcu.inprocess import InprocessSettings
from mcu.inprocess.backend import InprocessMcu
from mcu.janus.backend import JanusMcu
from mcu.janus.settings import JanusServerSettings
from tests.janus_process import ADMIN_KEY, API_SECRET, CURRENT, JanusProcess, select_janus

START = 60.0  # seconds until an SFU accepts streams
CLEAN_TIMEOUT = 60.0  # seconds for the clean-up after a cancelled call: Janus may take 5 s to answer


class Sfu(ABC):
    """An SFU that accepts streams."""

    mcu: Mcu

    @abstractmethod
    async def open_streams(self) -> int:
        """Return how many PeerConnections, of publishers and subscribers, the SFU holds now."""

    async def clean(self) -> None:
        """Wait until the SFU has no stream: it cleans up by itself after a cancelled call."""
        try:
            async with asyncio.timeout(CLEAN_TIMEOUT):
                while await self.open_streams() > 0:  # noqa: ASYNC110 - no SFU notifies of the end of its clean-up
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"not clean within {CLEAN_TIMEOUT} s: {await self.describe()}") from None

    async def describe(self) -> str:
        """Return a text about the open streams for a failure's message."""
        return f"{await self.open_streams()} streams"


class InprocessSfu(Sfu):
    """The SFU in this process."""

    def __init__(self) -> None:
        self.mcu: Mcu = InprocessMcu(InprocessSettings(address="127.0.0.1"))

    async def open_streams(self) -> int:
        """Count publishers, subscribers and tasks: a PeerConnection that is being opened or closed has a task."""
        tasks = [task for task in asyncio.all_tasks() if task.get_name().startswith("inprocess-") and not task.done()]
        (sfu,) = self.mcu.status().sfus
        return sfu.publishers + sfu.subscribers + len(tasks)


class JanusSfu(Sfu):
    """One Janus, or several that act as one."""

    def __init__(self, *janus: JanusProcess) -> None:
        servers = tuple(
            JanusServerSettings(process.url, api_secret=API_SECRET, admin_key=ADMIN_KEY) for process in janus
        )
        self._janus = janus
        self.mcu: Mcu = JanusMcu(servers, timeout=30.0)

    async def open_streams(self) -> int:
        """Count handles other than the control handle, or rooms if there are more: rooms may outlive their handles."""
        return sum([max(len(await janus.handles()) - 1, len(await janus.rooms())) for janus in self._janus])

    async def describe(self) -> str:
        """Return the handles and rooms."""
        return "; ".join([await self._describe(janus) for janus in self._janus])

    async def _describe(self, janus: JanusProcess) -> str:
        handles = [handle.get("plugin_specific") for handle in await janus.handles()]
        return f"handles {handles}, rooms {await janus.rooms()}"


async def inprocess(stack: AsyncExitStack) -> Sfu:
    """Create the in-process SFU."""
    return InprocessSfu()


async def one_janus(stack: AsyncExitStack) -> Sfu:
    """Run one Janus until the stack ends."""
    return JanusSfu(await stack.enter_async_context(JanusProcess()))


async def current_janus(stack: AsyncExitStack) -> Sfu:
    """Run one current Janus until the stack ends."""
    with select_janus(CURRENT.version):
        return await one_janus(stack)


async def two_janus(stack: AsyncExitStack) -> Sfu:
    """Run the system's Janus and a current one until the stack ends."""
    with select_janus(CURRENT.version):
        current = JanusProcess()
    return JanusSfu(*[await stack.enter_async_context(janus) for janus in (JanusProcess(), current)])


# Each entry creates an SFU that is not started yet; the suite runs on all of them.
SFUS: dict[str, Callable[[AsyncExitStack], Awaitable[Sfu]]] = {
    "inprocess": inprocess,
    "janus": one_janus,
    "janus-1.4": current_janus,
    "two-janus": two_janus,
}
FULL_ONLY = frozenset({"janus-1.4", "two-janus"})  # run in make test-full only
PARAMETERS = [pytest.param(name, marks=pytest.mark.full) if name in FULL_ONLY else name for name in SFUS]


@asynccontextmanager
async def open_sfu(name: str) -> AsyncIterator[Sfu]:
    """Start an SFU, wait until all its parts accept streams, and stop it at the end."""
    async with AsyncExitStack() as stack:
        sfu = await SFUS[name](stack)
        stack.push_async_callback(sfu.mcu.stop)
        ready = asyncio.Event()

        def on_state(status: McuStatus) -> None:
            if all(part.state is SfuState.READY for part in status.sfus):
                ready.set()

        await sfu.mcu.start(on_state)
        try:
            async with asyncio.timeout(START):
                await ready.wait()
        except TimeoutError:
            raise AssertionError(f"not ready within {START} s: {sfu.mcu.status()}; {await sfu.describe()}") from None
        yield sfu
