"""CPU of the in-process SFU against Janus on the same load in the same run.

One publisher sends 720p VP8 of about 1 Mbit/s, encoded once and sent again and again; 50 subscribers receive and
decrypt it. The load is in this process, each SFU in its own. Rounds alternate; CPU time is the kernel's, user and
system, of the SFU's process alone. Run with ``python -m bench.sfu``.
"""

from __future__ import annotations

import asyncio
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import msgspec

from bench.sfu_host import KEY, Answer, Deaf, Order
from bench.sfu_load import Listening, Sending, encoded_picture
from mcu.base import PublishOptions, SubscribeOptions
from mcu.janus.backend import JanusMcu
from mcu.janus.settings import JanusServer
from tests.janus_process import ADMIN_KEY, API_SECRET, JanusProcess

SUBSCRIBERS = 50
SECONDS = 10.0  # per round
ROUNDS = 3
SETTLE = 2.0  # seconds before each round
TARGET = 2.2  # times Janus' CPU
TICKS = os.sysconf("SC_CLK_TCK")


class Stage(Protocol):
    """An SFU in a process of its own."""

    name: str
    pid: int

    async def publish(self, offer: str) -> str:
        """Return the answer."""

    async def subscribe(self) -> tuple[int, str]:
        """Return a subscription's number and the SFU's offer."""

    async def accept(self, subscriber: int, answer: str) -> None:
        """Hand over an answer."""


class InprocessStage:
    """The in-process SFU, in another process."""

    name = "in-process"

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    async def _ask(self, order: Order) -> Answer:
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the SFU's process has no pipes")
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        return msgspec.json.decode(await self._process.stdout.readline(), type=Answer)

    async def publish(self, offer: str) -> str:
        """Return the answer."""
        return (await self._ask(Order("publish", offer))).sdp

    async def subscribe(self) -> tuple[int, str]:
        """Return a subscription's number and the SFU's offer."""
        answer = await self._ask(Order("subscribe"))
        return answer.subscriber, answer.sdp

    async def accept(self, subscriber: int, answer: str) -> None:
        """Hand over an answer."""
        await self._ask(Order("accept", answer, subscriber))


class JanusStage:
    """Janus, driven from here."""

    name = "Janus"

    def __init__(self, janus: JanusProcess, mcu: JanusMcu) -> None:
        self._mcu = mcu
        self._subscribers: list[object] = []
        self.pid = janus.pid

    async def publish(self, offer: str) -> str:
        """Return the answer."""
        self._publisher, answer = await self._mcu.publish(KEY, offer, PublishOptions(), Deaf())
        return answer

    async def subscribe(self) -> tuple[int, str]:
        """Return a subscription's number and Janus' offer."""
        subscriber, offer = await self._mcu.subscribe(KEY, SubscribeOptions(), Deaf())
        self._subscribers.append(subscriber)
        self._accept = subscriber.accept
        return len(self._subscribers) - 1, offer

    async def accept(self, subscriber: int, answer: str) -> None:
        """Hand over the answer to the last offer."""
        await self._accept(answer)


@asynccontextmanager
async def inprocess() -> AsyncIterator[InprocessStage]:
    """Start the in-process SFU in a process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.sfu_host", stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=1 << 20
    )
    try:
        yield InprocessStage(process)
    finally:
        if process.stdin is not None:
            process.stdin.close()
        await process.wait()


@asynccontextmanager
async def janus() -> AsyncIterator[JanusStage]:
    """Start Janus."""
    async with JanusProcess() as process:
        mcu = JanusMcu((JanusServer(process.url, api_secret=API_SECRET, admin_key=ADMIN_KEY),), timeout=10.0)
        ready = asyncio.Event()
        await mcu.start(lambda status: ready.set() if status.ready else None)
        async with asyncio.timeout(10):
            await ready.wait()
        try:
            yield JanusStage(process, mcu)
        finally:
            await mcu.stop()


def cpu_seconds(pid: int) -> float:
    """Return what a process has used, in all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@asynccontextmanager
async def call(stage: Stage, picture: list[list[bytes]]) -> AsyncIterator[list[Listening]]:
    """Set up the publisher and its subscribers."""
    sending = Sending(picture)
    await sending.accept(await stage.publish(await sending.offer()))
    listeners: list[Listening] = []
    try:
        await sending.up.wait()
        for _ in range(SUBSCRIBERS):
            number, offer = await stage.subscribe()
            listening = Listening()
            listeners.append(listening)
            await stage.accept(number, await listening.answer(offer))
            await listening.up.wait()
        sending.start()
        yield listeners
    finally:
        await sending.close()
        for listening in listeners:
            await listening.close()


async def measure(stage: Stage, listeners: list[Listening]) -> tuple[float, float]:
    """Return the cores used and the packets per second each subscriber got, over one round."""
    await asyncio.sleep(SETTLE)
    packets = sum(listening.packets for listening in listeners)
    begun, used = time.monotonic(), cpu_seconds(stage.pid)
    await asyncio.sleep(SECONDS)
    passed = time.monotonic() - begun
    received = sum(listening.packets for listening in listeners) - packets
    return (cpu_seconds(stage.pid) - used) / passed, received / passed / len(listeners)


async def main() -> None:
    """Measure and print."""
    picture = encoded_picture()
    bits = 8 * sum(len(payload) for frame in picture for payload in frame) * 30 // len(picture)
    cores: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for open_stage in (inprocess, janus):
            async with asyncio.timeout(120), open_stage() as stage, call(stage, picture) as listeners:
                used, rate = await measure(stage, listeners)
            cores.setdefault(stage.name, []).append(used)
            print(f"{stage.name:>10}: {used:.3f} core, {rate:.1f} packets/s per subscriber")  # noqa: T201
    ours, theirs = (statistics.median(cores[name]) for name in (InprocessStage.name, JanusStage.name))
    ratio = ours / theirs
    print(  # noqa: T201
        f"{SUBSCRIBERS} subscribers of 720p VP8 at {bits // 1000} kbit/s: in-process {ours:.3f} core, Janus "
        f"{theirs:.3f} core, ratio {ratio:.2f} (target at most {TARGET}: {'kept' if ratio <= TARGET else 'MISSED'})"
    )
    print(f"{cpu_model()}, {os.cpu_count()} cores; Python {platform.python_version()}, {versions()}")  # noqa: T201


def cpu_model() -> str:
    """Name the machine's processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def versions() -> str:
    """Name what was measured."""
    debian = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", "janus"], capture_output=True, text=True, check=True
    )
    ours = ", ".join(f"{name} {version(name)}" for name in ("aiortc", "aioice", "pylibsrtp"))
    return f"{ours}, Janus {debian.stdout}"


if __name__ == "__main__":
    asyncio.run(main())
