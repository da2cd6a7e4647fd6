"""The SFUs that the contract is tested on; each says what is open on it, asked of the SFU and not of our objects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from mcu.base import Mcu
from mcu.inprocess import Settings
from mcu.inprocess.backend import InprocessMcu


class Sfu(Protocol):
    """A backend that is ready, and the SFU behind it."""

    name: str
    mcu: Mcu

    async def open_streams(self) -> int:
        """Return how many connections, publishers' and subscribers', the SFU holds now."""


class InprocessSfu:
    """The SFU in this process."""

    name = "inprocess"

    def __init__(self) -> None:
        self.mcu: Mcu = InprocessMcu(Settings(address="127.0.0.1"))

    async def open_streams(self) -> int:
        """Count what it lists, and its tasks: a connection that is coming up or going down has one."""
        tasks = [task for task in asyncio.all_tasks() if task.get_name().startswith("inprocess-") and not task.done()]
        (sfu,) = self.mcu.status().sfus
        return sfu.publishers + sfu.subscribers + len(tasks)


@asynccontextmanager
async def open_sfu(name: str) -> AsyncIterator[Sfu]:
    """Start an SFU by name and stop it in the end."""
    if name != "inprocess":
        raise ValueError(f"no SFU is called {name!r}")
    sfu = InprocessSfu()
    await sfu.mcu.start(lambda status: None)
    try:
        yield sfu
    finally:
        await sfu.mcu.stop()
