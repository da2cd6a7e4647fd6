"""``python -m bench``: CPU time per relayed message, room delivery and hello, as multiples of a floor.

How it is measured stands in docs/performance.md.
"""

# ruff: noqa: T201 - a command that prints its results

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from bench import processes, report
from bench.phases import HELLO, RELAY, ROOM, SLICES, Bench, Load

HERE = Path(__file__).parent
TARGETS = {RELAY.name: 2.1, ROOM.name: 2.0}
METHOD = """\
Method: CPU time (user and system) of the gateway process alone, pinned to core {measured}; load, backend and this
program run on core {rest}. {relay}; {room}. Each client has one message outstanding.
The floor is a C program under the same load: epoll, one receive and one send per relayed message; one send per room
delivery (and a receive per {receivers}). A hello is connect, upgrade, hello 1.0 with a real HTTP request to a
backend, bye, close; it is compared with the floor of a relayed message. Medians of {rounds} rounds,
in each of which gateway and floor alternate {slices} times."""


def measure(bench: Bench, rounds: int, seconds: float, hellos: int) -> list[report.Row]:
    """Measure each phase ``rounds`` times in turn, after one short round that is not counted."""
    figures: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in (RELAY.name, ROOM.name, HELLO)}
    for number in range(rounds + 1):
        length = seconds if number else 0.3
        for load in (RELAY, ROOM):
            for kept, measured in zip(figures[load.name], bench.measure(load, length), strict=True):
                kept.append(measured)
        figures[HELLO][0].append(bench.measure_hello(hellos if number else 20))
        figures[HELLO][1].append(figures[RELAY.name][1][-1])
        print(f"\rround {number} of {rounds}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return [report.Row(name, ours[1:], theirs[1:], TARGETS.get(name, 0.0)) for name, (ours, theirs) in figures.items()]


def main() -> int:
    """Run the benchmark and print the results."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each load on each side")
    parser.add_argument("--hellos", type=int, default=400, help="hellos in each round")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    where = report.machine()
    os.sched_setaffinity(0, {processes.REST})
    with tempfile.TemporaryDirectory(prefix="portunus-bench-") as name:
        scratch = Path(name)
        floor = processes.compile_c(HERE / "floor.c", scratch / "floor")
        load = processes.compile_c(HERE / "load.c", scratch / "load")
        nextcloud = processes.listening([sys.executable, "-m", "bench.nextcloud"], processes.REST)
        with nextcloud as (_, backend), processes.gateway(scratch) as (gateway, port):
            bench = Bench(gateway, port, f"http://127.0.0.1:{backend}/", floor, load, scratch)
            rows = measure(bench, options.rounds, options.seconds, options.hellos)
    _print(where, rows, options.rounds)
    if options.json:
        options.json.write_text(json.dumps(report.as_json(where, rows), indent=2) + "\n")
    return 0


def _print(where: report.Machine, rows: list[report.Row], rounds: int) -> None:
    print(f"{where.cpu}, {where.cores} cores, Linux {where.kernel}, load average {where.load_average:.2f}")
    libraries = ", ".join(f"{name} {version}" for name, version in where.libraries.items())
    print(f"{where.python}, portunus {where.portunus}, {libraries}; {where.compiler}")
    print(
        METHOD.format(
            measured=processes.MEASURED,
            rest=processes.REST,
            relay=_shape(RELAY),
            room=_shape(ROOM),
            receivers=ROOM.size - 1,
            rounds=rounds,
            slices=SLICES,
        )
    )
    print(report.table(rows))


def _shape(load: Load) -> str:
    return f"{load.name}: {load.groups} rooms of {load.size}, {load.senders} of them sending to the {load.recipient}"


if __name__ == "__main__":
    sys.exit(main())
