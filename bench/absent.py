"""A busy room of 1,000 whose members are partly away; they resume and must get every message."""

from __future__ import annotations

from collections.abc import Sequence

from bench import messages
from bench.client import BenchClient
from bench.report import Row
from bench.runner import Bench, finish, sessions, unique_room, wait_until_ready
from bench.servers import RunningServer

MEMBERS, AWAY = 1000, 300
RATE = 100.0  # messages a second
SECONDS = 15.0  # of absence; sessions of clients that are away end after 30
MARKER = "Ada Lovelace"  # in each message of ``messages.frame``


def measure(bench: Bench, names: Sequence[str]) -> list[Row]:
    """Measure the CPU time of a message while members are away, and the memory that each absent session takes."""
    members, away = bench.count(MEMBERS, 5), bench.count(AWAY, 2)
    seconds = max(0.1, SECONDS * min(1.0, bench.scale))
    text = f"room of {members:,}, {away} away, {RATE * seconds:.0f} messages"
    cost = Row("message to a room with absent members", text, "µs")
    memory = Row("memory of an absent session", text, "kB")
    for _ in range(bench.rounds):
        for name in names:
            with bench.site.run(name) as server:
                cpu, growth = _one_round(bench, server, members, away, seconds)
            cost.figures.setdefault(name, []).append(cpu * 1e6)
            memory.figures.setdefault(name, []).append(growth / 1000)
    return [cost, memory]


def _one_round(bench: Bench, server: RunningServer, members: int, away: int, seconds: float) -> tuple[float, float]:
    """Return the CPU seconds of a message, and the bytes by which each absent session lets the process grow."""
    with sessions(bench, server, members) as clients:
        bench.join_in_turn(clients, unique_room("absent"))
        present, absent = clients[: members - away], clients[members - away :]
        for client in absent:
            client.socket.close()
        bench.rest(0.5)
        load = messages.MessageLoad("", "", 1, len(present), 1, "room")
        frames = bench.write_frames([messages.frame(load, present, 0)])
        before, cpu = server.resident(), server.cpu()
        arguments = (seconds, RATE, load.size, load.senders, frames)
        _, sent, *_ = bench.load("load", *arguments, clients=present)
        cpu, growth = server.cpu() - cpu, server.resident() - before
        _resume(bench, server, absent, int(sent))
        return cpu / sent, growth / away


def _resume(bench: Bench, server: RunningServer, absent: Sequence[BenchClient], sent: int) -> None:
    """Resume the absent sessions; each must get every message once."""
    for client in absent:
        client.reconnect(server.port)
        client.socket.sendall(client.resume_frame())  # at once: a server waits 10 s for a hello
    with bench.start("receive", bench.patience, "events", sent, MARKER, "-", clients=absent) as process:
        wait_until_ready(process)
        finish(process)
