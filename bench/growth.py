"""``python -m bench.growth``: how CPU time and memory grow with the members of a room and with the sessions.

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
from bench.servers import RunningServer

ROOM_SIZES = (2, 5, 10, 20, 50, 100, 200, 500, 1000)
SESSION_COUNTS = (10, 30, 100, 300, 1000, 3000, 9000)
PAIR_LOAD = MessageLoad("message to a session", "20 clients", 10, 2, 2, "session")  # beside the idle sessions
IDLE_SECONDS = 5.0  # in which the CPU time at rest is measured
Curves = dict[str, list[Point]]  # by the name of the measured quantity


def measure_rooms(bench: Bench, server: RunningServer, sizes: Sequence[int]) -> Curves:
    """Measure the CPU time of a message to rooms of these sizes, and of each of its deliveries."""
    curves: Curves = {"message": [], "delivery": []}
    for size in sizes:
        load = MessageLoad("message to a room", f"{size} members", 1, size, 1, "room")
        microseconds = _measure_delivery(bench, server, load)
        curves["delivery"].append((size, microseconds))
        curves["message"].append((size, microseconds * (size - 1)))
        print(f"room of {size:,}: {microseconds:.2f} µs for each delivery", flush=True)
    return curves


def measure_sessions(bench: Bench, server: RunningServer, counts: Sequence[int]) -> Curves:
    """Measure memory, CPU time at rest and the CPU time of a message beside these counts of idle sessions."""
    curves: Curves = {"memory": [], "memory_per_session": [], "idle_cpu": [], "message": []}
    clients: list[BenchClient] = []
    with contextlib.ExitStack() as stack:
        _measure_delivery(bench, server, PAIR_LOAD)  # the first sessions load modules and fill caches
        empty_memory = server.private()
        for count in counts:
            _answer_pings(clients)
            while len(clients) < count:
                client = stack.enter_context(BenchClient(server.port))
                client.upgrade(server.port)
                client.hello(bench.site.backend(), f"idle{len(clients):05d}")
                clients.append(client)
            _answer_pings(clients)
            bench.rest(1.0)
            memory, cpu_before = server.private(), server.cpu()
            idle_seconds = IDLE_SECONDS * min(1.0, bench.scale)
            time.sleep(idle_seconds)
            curves["memory"].append((count, memory / 1e6))
            curves["memory_per_session"].append((count, (memory - empty_memory) / count / 1000))
            curves["idle_cpu"].append((count, (server.cpu() - cpu_before) / idle_seconds * 1000))
            curves["message"].append((count, _measure_delivery(bench, server, PAIR_LOAD)))
            latest = ", ".join(f"{name} {points[-1][1]:.2f}" for name, points in curves.items())
            print(f"{count:,} sessions: {latest}", flush=True)
        end_sessions(clients)
    return curves


def _answer_pings(clients: Sequence[BenchClient]) -> None:
    """Send a pong of each client: the gateway closes the connection of a client that is silent for a minute."""
    for client in clients:
        client.socket.sendall(client_frame(b"", PONG))


def _measure_delivery(bench: Bench, server: RunningServer, load: MessageLoad) -> float:
    """Return the CPU time of a delivery in microseconds: the median of the rounds, the first of which is left out."""
    with messages.open_load(bench, server, load) as (loaded, _, _):
        times = []
        for round_number in range(bench.rounds + 1):
            loaded.seconds, loaded.deliveries = 0.0, 0
            messages.run_load(bench, load, loaded, bench.seconds, 0)
            if round_number:
                times.append(loaded.seconds / loaded.deliveries * 1e6)
    return statistics.median(times)


def panels(rooms: Curves, sessions: Curves) -> tuple[list[Panel], list[Panel]]:
    """Return the panels of the image of rooms, and of the image of sessions."""
    room_titles = {"message": "CPU of a message to the room, µs", "delivery": "CPU of each delivery, µs"}
    session_titles = {
        "memory": "memory, MB",
        "memory_per_session": "memory per session, kB",
        "idle_cpu": "CPU at rest, ms per second",
        "message": "CPU of a message to a session, µs",
    }
    return (
        [Panel(title, "members", rooms[name]) for name, title in room_titles.items()],
        [Panel(title, "sessions", sessions[name]) for name, title in session_titles.items()],
    )


def main() -> None:
    """Measure the curves of rooms and of sessions, and write them."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.5, help="length of each load")
    parser.add_argument("--into", type=Path, default=Path("build"), help="folder of the data and images")
    options = parser.parse_args()
    raise_descriptor_limit()
    machine = report.machine("")
    os.sched_setaffinity(0, {processes.LOAD_CORE})
    with open_bench(None, options.rounds, options.seconds) as bench:
        with bench.site.run(report.PORTUNUS) as server:
            rooms = measure_rooms(bench, server, ROOM_SIZES)
        with bench.site.run(report.PORTUNUS) as server:  # a process without the memory of those rooms
            sessions = measure_sessions(bench, server, SESSION_COUNTS)
    write(options.into, rooms, sessions, {"machine": asdict(machine), "load_average_after": os.getloadavg()[0]})


def write(folder: Path, rooms: Curves, sessions: Curves, conditions: dict[str, object]) -> None:
    """Write the points, with the conditions of the measurement, as JSON, and both images as SVG."""
    folder.mkdir(exist_ok=True)
    (folder / "growth.json").write_text(
        json.dumps({**conditions, "rooms": rooms, "sessions": sessions}, indent=1) + "\n"
    )
    for name, image in zip(("rooms", "sessions"), panels(rooms, sessions), strict=True):
        (folder / f"growth-{name}.svg").write_text(render(image))


if __name__ == "__main__":
    main()
