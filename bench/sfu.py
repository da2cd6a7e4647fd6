"""The in-process SFU against Janus under one load in one run: CPU, delay, and the delay of relayed messages.

One publisher sends 720p VP8 of about 1 Mbit/s, encoded once and sent again and again. Each SFU runs in a process of its
own on the first core, the load and what measures on the second. Rounds take turns; CPU time is the kernel's, user and
system, of the SFU's process alone. Run with ``python -m bench.sfu``; how and what stands in docs/performance.md.
"""

# ruff: noqa: T201 - a command that prints its results

from __future__ import annotations

import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import uvloop

from bench import processes
from bench.processes import REST, cpu_seconds
from bench.sfu_load import Listening, Sending, encoded_picture
from bench.sfu_stages import Stage, inprocess, janus

SUBSCRIBERS = 50
MANY = 250
SECONDS = 10.0  # per round
ROUNDS = 3
SETTLE = 3.0  # seconds before each round
PROBE = 10  # one of so many subscribers reads the send times of its packets
LAG_SECONDS = 20.0
RATIO, DELAY, LAG = 1.7, 5.0, 50.0  # targets: times Janus' CPU, ms (median) and ms (99th percentile)


@dataclass
class Result:
    """The measurements of one SFU with one number of subscribers."""

    cores: list[float] = field(default_factory=list)
    delivered: list[float] = field(default_factory=list)  # share of the packets sent
    delays: list[float] = field(default_factory=list)  # seconds


@asynccontextmanager
async def call(stage: Stage, picture: list[list[bytes]], count: int) -> AsyncIterator[tuple[Sending, list[Listening]]]:
    """Set up the publisher and its subscribers."""
    sending = Sending(picture)
    await sending.accept(await stage.publish(await sending.offer()))
    listeners: list[Listening] = []
    try:
        await sending.up.wait()
        for place in range(count):
            number, offer = await stage.subscribe()
            listening = Listening(probe=place % PROBE == PROBE // 2)
            listeners.append(listening)
            await stage.accept(number, await listening.answer(offer))
            await listening.up.wait()
        sending.start()
        yield sending, listeners
    finally:
        await sending.close()
        for listening in listeners:
            await listening.close()


async def measure(stage: Stage, sending: Sending, listeners: list[Listening], into: Result) -> None:
    """Measure over one round."""
    await asyncio.sleep(SETTLE)
    for listening in listeners:
        listening.delays.clear()
    sent, packets = sending.packets, sum(listening.packets for listening in listeners)
    begun, used = time.monotonic(), cpu_seconds(stage.pid)
    await asyncio.sleep(SECONDS)
    into.cores.append((cpu_seconds(stage.pid) - used) / (time.monotonic() - begun))
    received = sum(listening.packets for listening in listeners) - packets
    into.delivered.append(received / len(listeners) / (sending.packets - sent))
    into.delays += [delay for listening in listeners for delay in listening.delays]


async def direct(picture: list[list[bytes]]) -> list[float]:
    """Return the delays of the load program without an SFU."""
    sending, listening = Sending(picture), Listening(probe=True)
    await sending.accept(await listening.answer(await sending.offer()))
    await asyncio.gather(sending.up.wait(), listening.up.wait())
    sending.start()
    await asyncio.sleep(SETTLE)
    listening.delays.clear()
    await asyncio.sleep(SECONDS / 2)
    delays = listening.delays
    await sending.close()
    await listening.close()
    return delays


async def lag(stage: Stage, backend: str) -> list[float]:
    """Return the delays of messages through the gateway in ms."""
    process = await asyncio.create_subprocess_exec(
        *("taskset", "-c", str(REST), sys.executable, "-m", "bench.sfu_lag"),
        *(str(stage.port), backend, str(LAG_SECONDS)),
        stdout=subprocess.PIPE,
    )
    output, _ = await process.communicate()
    delays: list[float] = json.loads(output)
    return delays


def percentile(values: Sequence[float], share: float) -> float:
    """Return a percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share / 100))]


def show(name: str, count: int, result: Result, without: float) -> None:
    """Print one line of results."""
    cores = statistics.median(result.cores)
    rounds = " ".join(f"{cores:.3f}" for cores in result.cores)
    added = [(percentile(result.delays, share) - without) * 1000 for share in (50, 99)]
    print(
        f"{count:>4} subscribers  {name:>10}  {cores:.3f} core ({rounds})  {cores / count * 1000:.2f} per 1000 streams"
        f"  added delay {added[0]:.1f} ms, p99 {added[1]:.1f} ms  delivered {min(result.delivered):.2%}",
        flush=True,
    )


async def compare(picture: list[list[bytes]], count: int, rounds: int, without: float) -> tuple[Result, Result]:
    """Measure both SFUs alternately."""
    ours, theirs = Result(), Result()
    for _ in range(rounds):
        for open_stage, result in ((inprocess, ours), (janus, theirs)):
            async with asyncio.timeout(180), open_stage() as stage, call(stage, picture, count) as (sending, listeners):
                await measure(stage, sending, listeners, result)
    show("in-process", count, ours, without)
    show("Janus", count, theirs, without)
    return ours, theirs


async def lags(picture: list[list[bytes]], backend: str) -> tuple[list[float], list[float]]:
    """Return the delays of messages through a gateway in ms, without streams and with them."""
    async with inprocess() as stage:
        idle = await lag(stage, backend)
        async with call(stage, picture, SUBSCRIBERS):
            await asyncio.sleep(SETTLE)
            busy = await lag(stage, backend)
    return idle, busy


async def main(backend: str) -> None:
    """Run the benchmark and print the results."""
    picture = encoded_picture()
    packets = sum(map(len, picture)) * 30 // len(picture)
    bits = 8 * sum(len(payload) for frame in picture for payload in frame) * 30 // len(picture)
    print(f"{cpu_model()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}; {versions()}")
    print(f"720p VP8, {bits // 1000} kbit/s, {packets} packets/s; {ROUNDS} rounds of {SECONDS:g} s", flush=True)
    without = statistics.median(await direct(picture))
    print(f"without an SFU the load itself takes {without * 1000:.2f} ms (median)")
    ours, theirs = await compare(picture, SUBSCRIBERS, ROUNDS, without)
    ratio = statistics.median(ours.cores) / statistics.median(theirs.cores)
    verdict("CPU against Janus", f"{ratio:.2f} times", ratio <= RATIO, f"{RATIO}")
    delay = (statistics.median(ours.delays) - without) * 1000
    verdict("median added delay", f"{delay:.1f} ms", delay < DELAY, f"{DELAY:g} ms")
    idle, busy = await lags(picture, backend)
    for name, delays in (("0 streams", idle), (f"{SUBSCRIBERS} streams", busy)):
        figures = [percentile(delays, share) for share in (50, 90, 99, 100)]
        print(
            f"relayed message with {name}: "
            + ", ".join(f"{figure:.2f}" for figure in figures)
            + " ms (p50, p90, p99, max)"
        )
    worst = percentile(busy, 99)
    verdict("p99 of a relayed message", f"{worst:.1f} ms", worst < LAG, f"{LAG:g} ms")
    many, _ = await compare(picture, MANY, 1, without)
    core = many.cores[0]
    verdict("streams per core", f"{MANY / core:.0f}", core <= 1 and many.delivered[0] > 0.99, f"{MANY}")


def verdict(what: str, value: str, kept: bool, target: str) -> None:
    """Print whether a target is reached."""
    print(f"{what}: {value} (target {target}: {'kept' if kept else 'MISSED'})", flush=True)


def cpu_model() -> str:
    """Return the name of the machine's processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def versions() -> str:
    """Return the versions of the measured software."""
    debian = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", "janus"], capture_output=True, text=True, check=True
    )
    ours = ", ".join(f"{name} {version(name)}" for name in ("aiortc", "aioice", "pylibsrtp", "uvloop"))
    return f"Linux {platform.release()}, Python {platform.python_version()}, {ours}, Janus {debian.stdout}"


if __name__ == "__main__":
    os.sched_setaffinity(0, {REST})
    with (
        processes.listening([sys.executable, "-m", "bench.nextcloud"], REST) as (_, nextcloud),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(main(f"http://127.0.0.1:{nextcloud}/"))
