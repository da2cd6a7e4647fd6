"""Hellos of both versions and resumes, from the connect to the close, beside a floor without a backend."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.client import BenchClient, client_frame
from bench.processes import MEASURED_CORE, listening
from bench.report import FLOOR, Row, Targets
from bench.runner import Bench, sessions
from bench.servers import RunningServer
from bench.tokens import ALGORITHMS

COUNT = 1000  # hellos of a round
USERS = 200  # whose hellos are sent in turn
RESUMED = 200  # sessions that are resumed in turn
RATE = 200.0  # hellos a second, for the latencies


@dataclass(frozen=True)
class HelloLoad:
    """Hellos to one backend, ``at_once`` at a time: of one load program, or of as many ``blocking`` threads."""

    work: str
    backend: str
    at_once: int
    targets: Targets
    blocking: bool = False
    floor: bool = False

    @property
    def text(self) -> str:
        """The load as the table shows it."""
        return f"{self.at_once} blocking clients" if self.blocking else f"{self.at_once} at a time"


PLAIN = HelloLoad("hello 1.0", "plain", 50, Targets(ratio=0.70), floor=True)
LOADS = (
    PLAIN,
    HelloLoad("hello 1.0", "plain", 8, Targets(ratio=1.0), blocking=True),
    HelloLoad("hello 2.0, ES256", "es256", 20, Targets(ratio=0.65), floor=True),
    HelloLoad("hello 2.0, RS256", "rs256", 20, Targets(ratio=0.65)),
    HelloLoad("hello 2.0, EdDSA", "eddsa", 20, Targets(ratio=0.85)),
    HelloLoad("hello 2.0, ES256", "es256", 8, Targets(ratio=1.0), blocking=True),
)
RESUME_TARGETS = Targets(ratio=0.65)


def measure(bench: Bench, servers: Sequence[RunningServer], load: HelloLoad) -> Row:
    """Measure the CPU time of connect, upgrade, welcome, hello, bye and close on all servers."""
    hellos = [hello(bench, load.backend, f"user{number:05d}") for number in range(bench.count(USERS, 2))]
    frames = bench.write_frames(client_frame(json.dumps(it).encode()) for it in hellos)
    count = bench.count(COUNT, load.at_once)
    blocking = _blocking_load(hellos, load.at_once)
    with contextlib.ExitStack() as stack:
        floor = [stack.enter_context(_floor())] if load.floor else []

        def one_round(server: RunningServer, _: bool) -> float:
            before = server.cpu()
            if load.blocking:
                blocking(server, count)
            else:
                bench.load("hellos", server.port, load.at_once, count, 0, 1, frames)
            return (server.cpu() - before) / count * 1e6

        return bench.alternate(Row(load.work, load.text, "µs", load.targets), [*servers, *floor], one_round)


def measure_resume(bench: Bench, servers: Sequence[RunningServer]) -> Row:
    """Measure the CPU time of connect, upgrade, welcome, hello with a resume id, and close."""
    row = Row("resume", "20 at a time", "µs", RESUME_TARGETS)
    count = bench.count(COUNT, 20)
    with contextlib.ExitStack() as stack:
        frames = {}
        for server in servers:
            clients = stack.enter_context(_disconnected_sessions(bench, server))
            frames[server.name] = bench.write_frames(client.resume_frame() for client in clients)

        def one_round(server: RunningServer, _: bool) -> float:
            before = server.cpu()
            bench.load("hellos", server.port, 20, count, 0, 0, frames[server.name])
            return (server.cpu() - before) / count * 1e6

        return bench.alternate(row, servers, one_round)


def latency(bench: Bench, servers: Sequence[RunningServer]) -> list[Row]:
    """Measure the time from the planned connect to the hello's reply, at a stated rate."""
    names = ("median", "90th percentile", "99th percentile")
    rows = [Row(f"hello 1.0, {name}", f"{RATE:g} a second", "ms") for name in names]
    hellos = [hello(bench, "plain", f"user{number:05d}") for number in range(USERS)]
    frames = bench.write_frames(client_frame(json.dumps(it).encode()) for it in hellos)
    for number in range(bench.rounds + 1):
        for server in servers:
            count = max(2, int(RATE * bench.seconds))
            _, _, *latencies = bench.load("hellos", server.port, 100, count, RATE, 1, frames)
            for row, microseconds in zip(rows, latencies, strict=False):
                if number:
                    row.figures.setdefault(server.name, []).append(microseconds / 1000)
    return rows


def hello(bench: Bench, backend: str, userid: str) -> dict[str, Any]:
    """Return a hello; of version 2.0 if tokens are signed at this backend."""
    params = {"userid": userid}
    if backend in ALGORITHMS:
        params = {"token": bench.keys.token(backend, bench.site.base(backend), userid)}
    auth = {"url": bench.site.backend(backend), "params": params}
    return {"type": "hello", "hello": {"version": "2.0" if backend in ALGORITHMS else "1.0", "auth": auth}}


def _blocking_load(hellos: Sequence[dict[str, Any]], at_once: int) -> Callable[[RunningServer, int], None]:
    """Return a function that sends hellos from ``at_once`` threads, each of which waits for its replies."""

    def one(server: RunningServer, number: int) -> None:
        with BenchClient(server.port) as client:
            client.upgrade(server.port)
            client.send(hellos[number % len(hellos)])
            client.expect("hello")
            client.bye()

    def run(server: RunningServer, count: int) -> None:
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(lambda number: one(server, number), range(count)))

    return run


@contextlib.contextmanager
def _disconnected_sessions(bench: Bench, server: RunningServer) -> Iterator[list[BenchClient]]:
    """Open sessions and close their connections; resume and end the sessions with the block."""
    with sessions(bench, server, bench.count(RESUMED, 20)) as clients:
        for client in clients:
            client.socket.close()
        yield clients
        for client in clients:
            client.reconnect(server.port)
            client.socket.sendall(client.resume_frame())
            client.expect("hello")


@contextlib.contextmanager
def _floor() -> Iterator[RunningServer]:
    command = [sys.executable, str(Path(__file__).with_name("hello_floor.py"))]
    with listening(command, MEASURED_CORE) as (process, port):
        yield RunningServer(FLOOR, process.pid, port)
