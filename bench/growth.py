"""``python -m bench.growth``: how costs grow with the members of a room and with the sessions of the process.

Writes ``growth.json``, and the curves as ``growth-rooms.svg`` and ``growth-sessions.svg``. Figures are medians of the
rounds; CPU time and memory are those of the gateway's process.
"""

# ruff: noqa: T201 - a command that prints its results

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench import messages, processes, report
from bench.__main__ import open_bench, raise_descriptor_limit
from bench.client import PONG, BenchClient, client_frame
from bench.messages import MessageLoad
from bench.plot import Panel, Point, render
from bench.runner import Bench, end_sessions
from bench.servers import Server

ROOM_SIZES = (2, 5, 10, 20, 50, 100, 200, 500, 1000)
SESSION_COUNTS = (10, 30, 100, 300, 1000, 3000, 9000)
PAIRS = MessageLoad("message to a session", "20 clients", 10, 2, 2, "session")  # beside the idle sessions
IDLE_SECONDS = 5.0  # in which the CPU time at rest is measured
Curves = dict[str, list[Point]]


def measure_rooms(bench: Bench, server: Server, sizes: Sequence[int]) -> Curves:
    """Measure the CPU time of a message to a room by its size, and of each of its deliveries."""
    curves: Curves = {"message": [], "delivery": []}
    for size in sizes:
        load = MessageLoad("message to a room", f"{size} members", 1, size, 1, "room")
        microseconds = _cost_of_a_delivery(bench, server, load)
        curves["delivery"].append((size, microseconds))
        curves["message"].append((size, microseconds * (size - 1)))
        print(f"room of {size:,}: {microseconds:.2f} µs for each delivery", flush=True)
    return curves


def measure_sessions(bench: Bench, server: Server, counts: Sequence[int]) -> Curves:
    """Measure memory, CPU time at rest and the CPU time of a message beside so many sessions without a room."""
    curves: Curves = {"memory": [], "growth": [], "rest": [], "message": []}
    clients: list[BenchClient] = []
    with contextlib.ExitStack() as stack:
        _cost_of_a_delivery(bench, server, PAIRS)  # the first sessions load modules and fill caches
        empty = server.private()
        for count in counts:
            _answer_pings(clients)
            while len(clients) < count:
                client = stack.enter_context(BenchClient(server.port))
                client.upgrade(server.port)
                client.hello(bench.site.backend(), f"idle{len(clients):05d}")
                clients.append(client)
            _answer_pings(clients)
            bench.rest(1.0)
            used, before = server.private(), server.cpu()
            idle = IDLE_SECONDS * min(1.0, bench.scale)
            time.sleep(idle)
            curves["memory"].append((count, used / 1e6))
            curves["growth"].append((count, (used - empty) / count / 1000))
            curves["rest"].append((count, (server.cpu() - before) / idle * 1000))
            curves["message"].append((count, _cost_of_a_delivery(bench, server, PAIRS)))
            print(
                f"{count:,} sessions: {', '.join(f'{name} {it[-1][1]:.2f}' for name, it in curves.items())}", flush=True
            )
        end_sessions(clients)
    return curves


def _answer_pings(clients: Sequence[BenchClient]) -> None:
    """Send a pong of each client: the gateway closes the connection of a client that is silent for a minute."""
    for client in clients:
        client.socket.sendall(client_frame(b"", PONG))


def _cost_of_a_delivery(bench: Bench, server: Server, load: MessageLoad) -> float:
    """Return the median CPU time of a delivery in microseconds."""
    with messages.open_load(bench, server, load) as (loaded, _, _):
        figures = []
        for number in range(bench.rounds + 1):
            loaded.seconds, loaded.deliveries = 0.0, 0
            messages.run_load(bench, load, loaded, bench.seconds, 0)
            if number:
                figures.append(loaded.seconds / loaded.deliveries * 1e6)
    return statistics.median(figures)


def panels(rooms: Curves, sessions: Curves) -> tuple[list[Panel], list[Panel]]:
    """Return the panels of the two images."""
    of_rooms = {"message": "CPU of a message to the room, µs", "delivery": "CPU of each delivery, µs"}
    of_sessions = {
        "memory": "memory, MB",
        "growth": "memory per session, kB",
        "rest": "CPU at rest, ms per second",
        "message": "CPU of a message to a session, µs",
    }
    return (
        [Panel(title, "members", rooms[name]) for name, title in of_rooms.items()],
        [Panel(title, "sessions", sessions[name]) for name, title in of_sessions.items()],
    )


def main() -> None:
    """Measure both curves and write them."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.5, help="length of each load")
    parser.add_argument("--into", type=Path, default=Path("build"), help="folder of the data and images")
    options = parser.parse_args()
    raise_descriptor_limit()
    host = report.machine("")
    os.sched_setaffinity(0, {processes.LOAD_CORE})
    with open_bench(None, options.rounds, options.seconds) as bench:
        with bench.site.run(report.PORTUNUS) as server:
            rooms = measure_rooms(bench, server, ROOM_SIZES)
        with bench.site.run(report.PORTUNUS) as server:  # a process without the memory of those rooms
            sessions = measure_sessions(bench, server, SESSION_COUNTS)
    write(options.into, rooms, sessions, {"machine": asdict(host), "load_average_after": os.getloadavg()[0]})


def write(folder: Path, rooms: Curves, sessions: Curves, machine: dict[str, object]) -> None:
    """Write the data and both images."""
    folder.mkdir(exist_ok=True)
    (folder / "growth.json").write_text(json.dumps({**machine, "rooms": rooms, "sessions": sessions}, indent=1) + "\n")
    for name, image in zip(("rooms", "sessions"), panels(rooms, sessions), strict=True):
        (folder / f"growth-{name}.svg").write_text(render(image))


if __name__ == "__main__":
    main()
