"""``python -m bench.overload``: the gateway under twice the load that it can carry, and after it.

First it measures how many messages the gateway relays per second of CPU time when it gets as many as it accepts; then
it offers twice as many per second. Two probes run all the time: a message from one client to another every 10 ms, and
requests to ``/healthz`` and ``/readyz`` on new connections every 50 ms. The gateway has one core, the load and the
probes share the other. The load fails when a message is lost, repeated or out of order.
"""

# ruff: noqa: T201 - a command that prints its results

from __future__ import annotations

import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import processes
from bench.client import BenchClient, ServerRefused
from bench.servers import BenchSetup, RunningServer
from bench.tokens import TokenKeys

PAIRS = 100
IDLE_SECONDS = 3.0  # without load, before and after
CAPACITY_SECONDS = 4.0  # in which the capacity is measured
OVERLOAD_SECONDS = 6.0
PROBE_PERIOD, HEALTH_PERIOD = 0.01, 0.05  # seconds
WINDOW = 0.1  # seconds over which a latency is the median

Samples = list[tuple[float, float]]  # time of sending, by the monotonic clock, and seconds


class MessageProbe:
    """Two clients in a room, one of which sends to the other; ``samples`` are the latencies."""

    def __init__(self, port: int, backend: str) -> None:
        self.samples: Samples = []
        self._room = f"probe-{uuid.uuid4().hex[:8]}"
        self._clients = [BenchClient(port) for _ in range(2)]
        for number, client in enumerate(self._clients):
            client.upgrade(port)
            client.hello(backend, f"{self._room}-{number}")
            client.join(self._room, f"{self._room}-{number}")
        self._sent: list[float] = []
        threading.Thread(target=self._receive, daemon=True).start()

    def send(self) -> None:
        """Send a message."""
        recipient = {"type": "session", "sessionid": self._clients[1].session}
        data = {"type": "nickChanged", "payload": {"name": str(len(self._sent))}}
        self._sent.append(time.monotonic())
        self._clients[0].send({"type": "message", "message": {"recipient": recipient, "data": data}})

    def _receive(self) -> None:
        while True:
            try:
                message = self._clients[1].expect("message")
            except (ServerRefused, OSError):  # the gateway is stopped
                return
            sent = self._sent[int(message["message"]["data"]["payload"]["name"])]
            self.samples.append((sent, time.monotonic() - sent))


class HealthProbe:
    """Requests to the health endpoints; ``samples`` are the times until the answers."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.samples: Samples = []

    def send(self) -> None:
        """Request both endpoints."""
        for path in ("/healthz", "/readyz"):
            begun = time.monotonic()
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
            connection.request("GET", path)
            status = connection.getresponse().status
            connection.close()
            if status != 200:
                raise SystemExit(f"{path}: {status}")
            self.samples.append((begun, time.monotonic() - begun))


@contextlib.contextmanager
def repeating(act: Callable[[], None], period: float) -> Iterator[None]:
    """Call ``act`` periodically in a thread, for the time of the block."""
    ended = threading.Event()

    def loop() -> None:
        due = time.monotonic()
        while not ended.wait(max(0.0, due - time.monotonic())):
            act()
            due = max(due + period, time.monotonic())

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def between(samples: Samples, begin: float, end: float) -> list[float]:
    """Return the latencies, in milliseconds, of the samples sent in a period."""
    return [seconds * 1000 for at, seconds in samples if begin <= at < end]


def recovery_time(samples: Samples, stopped: float, limit: float) -> float:
    """Return the seconds from ``stopped`` until the median of each further window is at most ``limit`` milliseconds."""
    seconds = 0.0
    for number in range(int(IDLE_SECONDS / WINDOW)):
        begin = stopped + number * WINDOW
        window = between(samples, begin, begin + WINDOW)
        if not window or statistics.median(window) > limit:
            seconds = (number + 1) * WINDOW
    return seconds


def run_load(load: subprocess.Popen[str], rate: float, seconds: float) -> dict[str, Any]:
    """Have the load program run a load, and return its result."""
    assert load.stdin is not None
    assert load.stdout is not None
    load.stdin.write(f"{rate} {seconds}\n")
    load.stdin.flush()
    line = load.stdout.readline()
    if not line:
        raise SystemExit("the load has failed")
    result: dict[str, Any] = json.loads(line)
    return result


def show(name: str, milliseconds: list[float]) -> None:
    """Print a distribution."""
    ranked = sorted(milliseconds)
    figures = [statistics.median(ranked), ranked[int(len(ranked) * 0.99)], ranked[-1]]
    print(f"{name:38}{'  '.join(f'{figure:8.2f}' for figure in figures)}")


def measure(server: RunningServer, backend: str) -> None:
    """Run all loads, and print the figures."""
    port = server.port
    command = [sys.executable, "-m", "bench.overload_load", str(port), backend, str(PAIRS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
        assert load.stdout is not None
        if load.stdout.readline() != "ready\n":
            raise SystemExit("the load has failed")
        probe, health = MessageProbe(port, backend), HealthProbe(port)
        with repeating(probe.send, PROBE_PERIOD), repeating(health.send, HEALTH_PERIOD):
            begun = time.monotonic()
            time.sleep(IDLE_SECONDS)
            rest = begun, time.monotonic()
            used = server.cpu()
            rate = run_load(load, 0, CAPACITY_SECONDS)["sent"] / (server.cpu() - used)
            time.sleep(IDLE_SECONDS)
            result = run_load(load, 2 * rate, OVERLOAD_SECONDS)
            time.sleep(max(0.0, result["stopped"] + IDLE_SECONDS - time.monotonic()))
        assert load.stdin is not None
        load.stdin.close()
    during = result["began"], result["stopped"]
    at_rest = statistics.median(between(probe.samples, *rest))
    offered = result["offered"] / OVERLOAD_SECONDS
    print(f"capacity {rate:,.0f} messages per CPU second; offered {offered:,.0f}/s, ", end="")
    print(f"delivered {result['delivered'] / (during[1] - during[0]):,.0f}/s, each once and in order; ", end="")
    print(f"load average {os.getloadavg()[0]:.1f}")
    print(f"{'milliseconds':38}  median      99 %     worst")
    show("message at rest", between(probe.samples, *rest))
    show("message at twice the capacity", between(probe.samples, *during))
    show("/healthz, /readyz at rest", between(health.samples, *rest))
    show("/healthz, /readyz at twice the capacity", between(health.samples, *during))
    print(f"the last message is delivered {result['drained'] - result['stopped']:.2f} s after the load")
    recovery = recovery_time(probe.samples, during[1], 2 * at_rest)
    print(f"latency under twice its value at rest {recovery:.1f} s after it")


def main() -> None:
    """Start the gateway and measure."""
    os.sched_setaffinity(0, {processes.LOAD_CORE})
    with tempfile.TemporaryDirectory(prefix="portunus-bench-") as name:
        scratch = Path(name)
        command = [sys.executable, "-m", "bench.nextcloud", str(TokenKeys().write_published(scratch))]
        with processes.listening(command, processes.LOAD_CORE) as (_, nextcloud):
            site = BenchSetup(scratch, nextcloud, None)
            with site.run(site.names[0]) as server:
                measure(server, site.backend())


if __name__ == "__main__":
    main()
