"""Compares the in-process SFU with Janus in one run: CPU time, delay of packets, and delay of relayed messages.

One publisher sends 720p VP8 of about 1 Mbit/s, encoded once and sent in a loop. Each SFU runs in a process of its own
on the first core, load and measurement run on the second. The SFUs are measured alternately. CPU time is that of the
SFU's process alone, user and system, from the kernel. Run with ``python -m bench.sfu``; docs/performance.md has the
method and the results.
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
from bench.measured_sfus import MeasuredSfu, inprocess, janus
from bench.processes import LOAD_CORE, cpu_seconds
from bench.sfu_load import FRAMES_PER_SECOND, RtpPublisher, RtpSubscriber, encoded_frames

SUBSCRIBERS = 50
MANY_SUBSCRIBERS = 250  # in the last round, for the number of streams that one core serves
ROUND_SECONDS = 10.0
ROUNDS = 3
SETTLE = 3.0  # seconds before each measurement
PROBE_EVERY = 10  # every tenth subscriber decrypts its packets and reads their send times
MESSAGE_SECONDS = 20.0  # for the delays of relayed messages

# Targets
MAX_CPU_RATIO = 1.7  # CPU time relative to Janus
MAX_ADDED_DELAY = 5.0  # ms, median
MAX_MESSAGE_DELAY = 50.0  # ms, 99th percentile


@dataclass
class SfuMeasurements:
    """The measurements of one SFU with one number of subscribers."""

    cores: list[float] = field(default_factory=list)  # by round: CPU seconds per second
    delivered: list[float] = field(default_factory=list)  # by round: share of the packets sent, mean of the subscribers
    delays: list[float] = field(default_factory=list)  # seconds; of all packets of the probes in all rounds


@asynccontextmanager
async def running_stream(
    sfu: MeasuredSfu, frames: list[list[bytes]], count: int
) -> AsyncIterator[tuple[RtpPublisher, list[RtpSubscriber]]]:
    """Connect a publisher and ``count`` subscribers to an SFU, start to send, and close all at the end."""
    publisher = RtpPublisher(frames)
    await publisher.accept(await sfu.publish(await publisher.offer()))
    subscribers: list[RtpSubscriber] = []
    try:
        await publisher.connected.wait()
        for index in range(count):
            number, offer = await sfu.subscribe()
            subscriber = RtpSubscriber(probe=index % PROBE_EVERY == PROBE_EVERY // 2)
            subscribers.append(subscriber)
            await sfu.accept(number, await subscriber.answer(offer))
            await subscriber.connected.wait()
        publisher.start()
        yield publisher, subscribers
    finally:
        await publisher.close()
        for subscriber in subscribers:
            await subscriber.close()


async def measure(
    sfu: MeasuredSfu, publisher: RtpPublisher, subscribers: list[RtpSubscriber], result: SfuMeasurements
) -> None:
    """Measure CPU time, delivered packets and delays for ``ROUND_SECONDS``, and add them to ``result``."""
    await asyncio.sleep(SETTLE)
    for subscriber in subscribers:
        subscriber.delays.clear()
    sent_before, received_before = publisher.packets, sum(subscriber.packets for subscriber in subscribers)
    start, cpu_before = time.monotonic(), cpu_seconds(sfu.pid)
    await asyncio.sleep(ROUND_SECONDS)
    result.cores.append((cpu_seconds(sfu.pid) - cpu_before) / (time.monotonic() - start))
    received = sum(subscriber.packets for subscriber in subscribers) - received_before
    result.delivered.append(received / len(subscribers) / (publisher.packets - sent_before))
    result.delays += [delay for subscriber in subscribers for delay in subscriber.delays]


async def delays_without_sfu(frames: list[list[bytes]]) -> list[float]:
    """Return the delays of packets in seconds from a publisher to a subscriber that are connected directly."""
    publisher, subscriber = RtpPublisher(frames), RtpSubscriber(probe=True)
    await publisher.accept(await subscriber.answer(await publisher.offer()))
    await asyncio.gather(publisher.connected.wait(), subscriber.connected.wait())
    publisher.start()
    await asyncio.sleep(SETTLE)
    subscriber.delays.clear()
    await asyncio.sleep(ROUND_SECONDS / 2)
    delays = subscriber.delays
    await publisher.close()
    await subscriber.close()
    return delays


async def message_delays(sfu: MeasuredSfu, backend_url: str) -> list[float]:
    """Return the delays in ms of messages that the gateway of the SFU relays."""
    process = await asyncio.create_subprocess_exec(
        *("taskset", "-c", str(LOAD_CORE), sys.executable, "-m", "bench.message_delay"),
        *(str(sfu.port), backend_url, str(MESSAGE_SECONDS)),
        stdout=subprocess.PIPE,
    )
    output, _ = await process.communicate()
    delays: list[float] = json.loads(output)
    return delays


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the percentile of some values: ``percent`` of them (0 to 100) are below it; 100: the greatest."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def print_result(name: str, count: int, result: SfuMeasurements, base_delay: float) -> None:
    """Print the result for ``count`` subscribers; ``base_delay``: median without an SFU, in seconds."""
    cores = statistics.median(result.cores)
    rounds = " ".join(f"{round_cores:.3f}" for round_cores in result.cores)
    added = [(percentile(result.delays, percent) - base_delay) * 1000 for percent in (50, 99)]
    print(
        f"{count:>4} subscribers  {name:>10}  {cores:.3f} core ({rounds})  {cores / count * 1000:.2f} per 1000 streams"
        f"  added delay {added[0]:.1f} ms, p99 {added[1]:.1f} ms  delivered {min(result.delivered):.2%}",
        flush=True,
    )


async def compare(
    frames: list[list[bytes]], count: int, rounds: int, base_delay: float
) -> tuple[SfuMeasurements, SfuMeasurements]:
    """Measure both SFUs alternately, print their results, and return them: the in-process SFU's, Janus'."""
    ours, theirs = SfuMeasurements(), SfuMeasurements()
    for _ in range(rounds):
        for start_sfu, result in ((inprocess, ours), (janus, theirs)):
            async with (
                asyncio.timeout(180),
                start_sfu() as sfu,
                running_stream(sfu, frames, count) as (publisher, subscribers),
            ):
                await measure(sfu, publisher, subscribers, result)
    print_result("in-process", count, ours, base_delay)
    print_result("Janus", count, theirs, base_delay)
    return ours, theirs


async def idle_and_busy_message_delays(frames: list[list[bytes]], backend_url: str) -> tuple[list[float], list[float]]:
    """Return the delays in ms of messages that a gateway relays, without streams and with ``SUBSCRIBERS`` of them."""
    async with inprocess() as sfu:
        idle = await message_delays(sfu, backend_url)
        async with running_stream(sfu, frames, SUBSCRIBERS):
            await asyncio.sleep(SETTLE)
            busy = await message_delays(sfu, backend_url)
    return idle, busy


async def main(backend_url: str) -> None:
    """Run the benchmark and print the results."""
    frames = encoded_frames()
    packets = sum(map(len, frames)) * FRAMES_PER_SECOND // len(frames)
    bits = 8 * sum(len(payload) for frame in frames for payload in frame) * FRAMES_PER_SECOND // len(frames)
    print(f"{cpu_model()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}; {versions()}")
    print(f"720p VP8, {bits // 1000} kbit/s, {packets} packets/s; {ROUNDS} rounds of {ROUND_SECONDS:g} s", flush=True)
    base_delay = statistics.median(await delays_without_sfu(frames))
    print(f"delay without an SFU {base_delay * 1000:.2f} ms (median), subtracted from the following")
    ours, theirs = await compare(frames, SUBSCRIBERS, ROUNDS, base_delay)
    ratio = statistics.median(ours.cores) / statistics.median(theirs.cores)
    print_verdict("CPU against Janus", f"{ratio:.2f} times", ratio <= MAX_CPU_RATIO, f"{MAX_CPU_RATIO}")
    delay = (statistics.median(ours.delays) - base_delay) * 1000
    print_verdict("median added delay", f"{delay:.1f} ms", delay < MAX_ADDED_DELAY, f"{MAX_ADDED_DELAY:g} ms")
    idle, busy = await idle_and_busy_message_delays(frames, backend_url)
    for name, delays in (("0 streams", idle), (f"{SUBSCRIBERS} streams", busy)):
        figures = [percentile(delays, percent) for percent in (50, 90, 99, 100)]
        print(
            f"relayed message with {name}: "
            + ", ".join(f"{figure:.2f}" for figure in figures)
            + " ms (p50, p90, p99, max)"
        )
    p99 = percentile(busy, 99)
    print_verdict("p99 of a relayed message", f"{p99:.1f} ms", p99 < MAX_MESSAGE_DELAY, f"{MAX_MESSAGE_DELAY:g} ms")
    many, _ = await compare(frames, MANY_SUBSCRIBERS, 1, base_delay)
    (cores,) = many.cores
    reached = cores <= 1 and many.delivered[0] > 0.99
    print_verdict("streams per core", f"{MANY_SUBSCRIBERS / cores:.0f}", reached, f"{MANY_SUBSCRIBERS}")


def print_verdict(quantity: str, value: str, reached: bool, target: str) -> None:
    """Print a measured value, its target, and whether the target is reached."""
    print(f"{quantity}: {value} (target {target}: {'reached' if reached else 'MISSED'})", flush=True)


def cpu_model() -> str:
    """Return the name of the machine's processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def versions() -> str:
    """Return the versions of the kernel, Python, the in-process SFU's packages, and Janus."""
    janus_version = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", "janus"], capture_output=True, text=True, check=True
    )
    packages = ", ".join(f"{name} {version(name)}" for name in ("aiortc", "aioice", "pylibsrtp", "uvloop"))
    return f"Linux {platform.release()}, Python {platform.python_version()}, {packages}, Janus {janus_version.stdout}"


if __name__ == "__main__":
    os.sched_setaffinity(0, {LOAD_CORE})
    with (
        processes.listening([sys.executable, "-m", "bench.nextcloud"], LOAD_CORE) as (_, nextcloud),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(main(f"http://127.0.0.1:{nextcloud}/"))
