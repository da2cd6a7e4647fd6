"""The compared SFUs, each in its own process on the first core."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import msgspec

from bench.processes import MEASURED_CORE
from bench.sfu_host import KEY, Command, HostReply, IgnoringListener
from mcu.base import PublishOptions, SubscribeOptions
from mcu.janus.backend import JanusMcu
from mcu.janus.settings import JanusServerSettings
from sdp.document import parse
from tests.janus_process import ADMIN_KEY, API_SECRET, JanusProcess


class MeasuredSfu(Protocol):
    """An SFU in its own process."""

    name: str
    pid: int
    port: int  # of the SFU's gateway; 0 = none

    async def publish(self, offer: str) -> str:
        """Publish an offer and return the answer."""

    async def subscribe(self) -> tuple[int, str]:
        """Subscribe and return the subscription's number and the SFU's offer."""

    async def accept(self, subscriber: int, answer: str) -> None:
        """Send an answer to the SFU."""


class InprocessSfuProcess:
    """The in-process SFU, in a gateway in another process."""

    name = "in-process"
    port = 0

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    async def start(self) -> None:
        """Wait until the gateway listens."""
        self.port = (await self._read()).port

    async def publish(self, offer: str) -> str:
        """Publish an offer and return the answer."""
        return (await self._ask(Command("publish", offer))).sdp

    async def subscribe(self) -> tuple[int, str]:
        """Subscribe and return the subscription's number and the SFU's offer."""
        reply = await self._ask(Command("subscribe"))
        return reply.subscriber, reply.sdp

    async def accept(self, subscriber: int, answer: str) -> None:
        """Send an answer to the SFU."""
        await self._ask(Command("accept", answer, subscriber))

    async def _ask(self, command: Command) -> HostReply:
        if self._process.stdin is None:
            raise RuntimeError("the SFU's process has no pipes")
        self._process.stdin.write(msgspec.json.encode(command) + b"\n")
        return await self._read()

    async def _read(self) -> HostReply:
        if self._process.stdout is None:
            raise RuntimeError("the SFU's process has no pipes")
        return msgspec.json.decode(await self._process.stdout.readline(), type=HostReply)


class MeasuredJanus:
    """Janus, controlled by this process."""

    name = "Janus"
    port = 0

    def __init__(self, janus: JanusProcess, mcu: JanusMcu) -> None:
        self._mcu = mcu
        self._subscribers: list[object] = []
        self.pid = janus.pid

    async def publish(self, offer: str) -> str:
        """Publish an offer and return the answer."""
        self._publisher, answer = await self._mcu.publish(
            KEY, parse(offer).freeze(), PublishOptions(), IgnoringListener()
        )
        return str(answer)

    async def subscribe(self) -> tuple[int, str]:
        """Subscribe and return the subscription's number and Janus' offer."""
        subscriber, offer = await self._mcu.subscribe(KEY, SubscribeOptions(), IgnoringListener())
        self._subscribers.append(subscriber)
        self._accept = subscriber.accept
        return len(self._subscribers) - 1, str(offer)

    async def accept(self, subscriber: int, answer: str) -> None:
        """Send the answer to the last offer."""
        await self._accept(parse(answer).freeze())


@asynccontextmanager
async def inprocess() -> AsyncIterator[InprocessSfuProcess]:
    """Start the in-process SFU in its own process."""
    process = await asyncio.create_subprocess_exec(
        *("taskset", "-c", str(MEASURED_CORE), sys.executable, "-m", "bench.sfu_host"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        limit=1 << 20,
    )
    sfu = InprocessSfuProcess(process)
    try:
        await sfu.start()
        yield sfu
    finally:
        if process.stdin is not None:
            process.stdin.close()
        await process.wait()


def pin(pid: int) -> None:
    """Pin all threads of a process, and threads that they start later, to the first core."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {MEASURED_CORE})


@asynccontextmanager
async def janus() -> AsyncIterator[MeasuredJanus]:
    """Start Janus on the first core, and connect to it."""
    async with JanusProcess() as process:
        pin(process.pid)
        mcu = JanusMcu((JanusServerSettings(process.url, api_secret=API_SECRET, admin_key=ADMIN_KEY),), timeout=10.0)
        ready = asyncio.Event()
        await mcu.start(lambda status: ready.set() if status.ready else None)
        async with asyncio.timeout(10):
            await ready.wait()
        try:
            yield MeasuredJanus(process, mcu)
        finally:
            await mcu.stop()
