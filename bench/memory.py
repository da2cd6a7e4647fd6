"""The memory of the empty process and of idle sessions, and the pauses of the garbage collector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench import collector, hellos, messages
from bench.processes import MEASURED_CORE, listening
from bench.report import PORTUNUS, Row, Targets
from bench.runner import Bench, sessions
from bench.servers import RunningServer

SESSIONS = 9000
WARM_UP_SESSIONS = 20  # opened before the measurement: the first ones load modules and fill caches
QUIET = 1.0  # seconds before memory is read
EMPTY_TARGETS = Targets(value=54.0)
IDLE_TARGETS = Targets(ratio=0.17, value=9.0)
PAUSE_TARGETS = Targets(value=20.0)


def measure_empty(bench: Bench, names: Sequence[str]) -> Row:
    """Measure the resident memory of processes without sessions and without an SFU."""
    row = Row("empty process", "without an SFU", "MB", EMPTY_TARGETS)
    site = replace(bench.site, sfu=False)
    for _ in range(bench.rounds):
        for name in names:
            with site.run(name) as server:
                bench.rest(QUIET)
                row.figures.setdefault(name, []).append(server.resident() / 1e6)
    return row


def measure_idle(bench: Bench, names: Sequence[str]) -> Row:
    """Measure the growth of resident memory by each session that has sent a hello and nothing else."""
    count = bench.count(SESSIONS, 10)
    row = Row("idle session", f"{count:,} sessions", "kB", IDLE_TARGETS)
    for _ in range(bench.rounds):
        for name in names:
            with bench.site.run(name) as server, sessions(bench, server, WARM_UP_SESSIONS):
                bench.rest(QUIET)
                before = server.resident()
                with sessions(bench, server, count):
                    bench.rest(QUIET)
                    row.figures.setdefault(name, []).append((server.resident() - before) / count / 1000)
    return row


def measure_pauses(bench: Bench) -> list[Row]:
    """Measure the longest garbage collections while sessions are opened, messages relayed and hellos sent."""
    count = bench.count(SESSIONS, 10)
    rows = [Row(f"longest pause, generation {it}", f"{count:,} sessions", "ms", PAUSE_TARGETS) for it in range(3)]
    report = bench.site.scratch / "pauses"
    command = bench.site.command(*collector.command(report))
    once = replace(bench, rounds=1)
    for _ in range(bench.rounds):
        with (
            (bench.site.scratch / "portunus.log").open("ab") as log,
            listening(command, MEASURED_CORE, stderr=log) as (process, port),
        ):
            server = RunningServer(PORTUNUS, process.pid, port)
            with sessions(bench, server, count):
                messages.measure(once, [server], messages.PAIRS)
                hellos.measure(once, [server], replace(hellos.PLAIN, floor=False))
        for row, pause in zip(rows, collector.longest(report), strict=True):
            row.figures.setdefault(PORTUNUS, []).append(pause * 1000)
    return rows
