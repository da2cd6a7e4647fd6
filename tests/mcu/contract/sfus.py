"""The SFUs that the contract is tested on; each says what is open on it, asked of the SFU and not of our objects."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from mcu.base import Mcu, McuStatus, SfuState
from mcu.inprocess import InprocessSettings
from mcu.inprocess.backend import InprocessMcu
from mcu.janus.backend import JanusMcu
from mcu.janus.settings import JanusServerSettings
from tests.janus_process import ADMIN_KEY, API_SECRET, JanusProcess

JANUS = {"inprocess": 0, "janus": 1, "two-janus": 2}  # how many processes of it
CLEAN = 15.0  # seconds to clean up after a cancelled call: up to 5 for what Janus still owes, and to look


class Sfu(ABC):
    """A backend that is ready, and the SFU behind it."""

    mcu: Mcu

    @abstractmethod
    async def open_streams(self) -> int:
        """Return how many connections, publishers' and subscribers', the SFU holds now."""

    async def clean(self) -> None:
        """Wait until nothing is left on the SFU: after a cancelled call it cleans up by itself."""
        try:
            async with asyncio.timeout(CLEAN):
                while await self.open_streams() > 0:  # noqa: ASYNC110  no SFU tells when it has cleaned up
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"not clean within {CLEAN} s: {await self.describe()}") from None

    async def describe(self) -> str:
        """Return what is open, for people to read."""
        return f"{await self.open_streams()} streams"


class InprocessSfu(Sfu):
    """The SFU in this process."""

    def __init__(self) -> None:
        self.mcu: Mcu = InprocessMcu(InprocessSettings(address="127.0.0.1"))

    async def start(self) -> None:
        """Be ready."""
        await self.mcu.start(lambda status: None)

    async def open_streams(self) -> int:
        """Count what it lists, and its tasks: a connection that is coming up or going down has one."""
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
        self._ready = asyncio.Event()
        self.mcu: Mcu = JanusMcu(servers, timeout=10.0)

    async def start(self) -> None:
        """Return when each Janus takes streams."""
        await self.mcu.start(self._look)
        async with asyncio.timeout(CLEAN):
            await self._ready.wait()

    def _look(self, status: McuStatus) -> None:
        if all(sfu.state is SfuState.READY for sfu in status.sfus):
            self._ready.set()

    async def open_streams(self) -> int:
        """Count handles, the backend's own excepted; a room that outlived its handles counts too."""
        return sum([max(len(await janus.handles()) - 1, len(await janus.rooms())) for janus in self._janus])

    async def describe(self) -> str:
        """Return the handles and rooms."""
        return "; ".join([await self._describe(janus) for janus in self._janus])

    async def _describe(self, janus: JanusProcess) -> str:
        handles = [handle.get("plugin_specific") for handle in await janus.handles()]
        return f"handles {handles}, rooms {await janus.rooms()}"


@asynccontextmanager
async def open_sfu(name: str) -> AsyncIterator[Sfu]:
    """Start an SFU by name and stop it in the end."""
    async with AsyncExitStack() as stack:
        janus = [await stack.enter_async_context(JanusProcess()) for _ in range(JANUS[name])]
        sfu = JanusSfu(*janus) if janus else InprocessSfu()
        stack.push_async_callback(sfu.mcu.stop)
        await sfu.start()
        yield sfu
