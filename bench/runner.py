"""The parts that all measurements share: the load programs, the rounds in which the servers alternate, the sessions."""

# ruff: noqa: T201 - prints the progress

from __future__ import annotations

import contextlib
import json
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.client import BenchClient, client_frame
from bench.processes import LOAD_CORE, compile_c, running
from bench.report import INCUMBENT, Row
from bench.servers import BenchSetup, RunningServer
from bench.tokens import TokenKeys

PROGRAMS = ("floor", "load", "hellos", "receive")
LOAD_TIMEOUT = 300.0  # seconds that a load program may take
JOINED = {"type": "nickChanged", "payload": {"joined": True}}
SETTLE = 0.3  # seconds after sessions have opened or closed, for the work that the servers do then


class WrongCount(Exception):
    """A load program failed, or received too much or too little: the measurement is void."""


@dataclass(frozen=True)
class Bench:
    """The options of a run, its site and its compiled load programs."""

    site: BenchSetup
    programs: dict[str, Path]
    keys: TokenKeys
    rounds: int
    seconds: float  # of each load on each server in a round
    patience: float = 30.0  # seconds without a frame to any client, after which an incomplete load fails
    scale: float = 1.0  # of the numbers of clients and operations; below 1 only the counts mean anything

    def count(self, full: int, least: int = 1) -> int:
        """Scale a number of clients or operations; return at least ``least``."""
        return max(least, round(full * self.scale))

    def rest(self, seconds: float) -> None:
        """Wait for the work that servers do after the last answer; hardly at all if the figures mean nothing."""
        time.sleep(seconds if self.scale >= 1 else 0.02)

    def write_frames(self, frames: Iterable[bytes]) -> Path:
        """Write frames for a load program, each after its length, and return the file."""
        file = self.site.scratch / f"frames-{uuid.uuid4().hex[:12]}"
        file.write_bytes(b"".join(struct.pack("<I", len(frame)) + frame for frame in frames))
        return file

    def load(self, program: str, *arguments: object, clients: Sequence[BenchClient] = ()) -> list[float]:
        """Run a load program on the connections of ``clients``, and return the numbers that it prints.

        Raises:
            WrongCount: it failed.
        """
        with self.start(program, *arguments, clients=clients) as process:
            return finish(process)

    @contextlib.contextmanager
    def start(
        self, program: str, *arguments: object, clients: Sequence[BenchClient] = ()
    ) -> Iterator[subprocess.Popen[str]]:
        """Run a load program; ``finish`` returns its numbers."""
        for client in clients:
            client.finish_frames()
        sockets = [client.socket.fileno() for client in clients]
        command = [str(self.programs[program]), *map(str, arguments), *map(str, sockets)]
        with running(command, LOAD_CORE, pass_fds=sockets) as process:
            yield process

    def join_all(self, clients: Sequence[BenchClient], room: str) -> tuple[int, float]:
        """Let clients join a room at once; return the sum of members that each learned of, and the seconds.

        Raises:
            WrongCount: a client did not learn of all members.
        """
        members = self.site.scratch / "members"
        members.write_text("".join(f"{client.session}\n" for client in clients))
        frames = self.write_frames(_join(room, nextcloud_session(room, number)) for number in range(len(clients)))
        learned, _, seconds = self.load(
            "receive", self.patience, "members", len(clients), members, frames, clients=clients
        )
        return int(learned), seconds

    def join_in_turn(self, clients: Sequence[BenchClient], room: str) -> None:
        """Let clients join a room one after another, and receive all events.

        For the loads of a room: the incumbent loses join events when many join at once.
        """
        for number, client in enumerate(clients):
            client.join(room, nextcloud_session(room, number))
        for sender in clients[:2]:
            receivers = [client for client in clients if client is not sender]
            arguments = (self.patience, "events", 1, '"joined":true', "-")
            with self.start("receive", *arguments, clients=receivers) as process:
                wait_until_ready(process)
                sender.send({"type": "message", "message": {"recipient": {"type": "room"}, "data": JOINED}})
                finish(process)

    def alternate(
        self, row: Row, servers: Sequence[RunningServer], measure: Callable[[RunningServer, bool], float]
    ) -> Row:
        """Measure each server once in each round and keep the figures; the first round is not counted.

        ``measure`` is called with the server and whether the round counts. If the incumbent loses messages, the row
        says so, and has no figures of it.

        Raises:
            WrongCount: Portunus has lost messages, or delivered some twice.
        """
        print(f"{row.work}, {row.load}", file=sys.stderr, flush=True)
        for number in range(self.rounds + 1):
            for server in servers:
                if server.name in row.lost:
                    continue
                try:
                    figure = measure(server, number > 0)
                except WrongCount as error:
                    if server.name != INCUMBENT:
                        raise
                    row.lost[server.name] = str(error)
                    row.figures.pop(server.name, None)
                    continue
                if number:
                    row.figures.setdefault(server.name, []).append(figure)
        return row


def finish(process: subprocess.Popen[str]) -> list[float]:
    """Wait until a load program ends, and return the numbers in its last line.

    Raises:
        WrongCount: it failed.
    """
    output, _ = process.communicate(timeout=LOAD_TIMEOUT)
    if process.returncode != 0:
        raise WrongCount(f"a load program failed: {process.args!r:.200}")
    return [float(number) for number in output.split("\n")[-2].split()]


def wait_until_ready(process: subprocess.Popen[str]) -> None:
    """Wait until a load program that prints "ready" receives."""
    if process.stdout is None or process.stdout.readline() != "ready\n":
        raise WrongCount(f"a load program did not start: {process.args!r:.200}")


def compile_programs(scratch: Path) -> dict[str, Path]:
    """Compile the load programs and the floor."""
    sources = Path(__file__).parent / "c"
    return {name: compile_c(sources / f"{name}.c", scratch / name) for name in PROGRAMS}


@contextlib.contextmanager
def sessions(bench: Bench, server: RunningServer, count: int) -> Iterator[list[BenchClient]]:
    """Open sessions; they end with the block, each by a ``bye`` that the server has answered."""
    clients: list[BenchClient] = []
    try:
        for number in range(count):
            client = BenchClient(server.port)
            clients.append(client)
            client.upgrade(server.port)
            client.hello(bench.site.backend(), f"user{number:05d}")
        yield clients
        end_sessions(clients)
    finally:
        for client in clients:
            client.socket.close()
        bench.rest(SETTLE)


def end_sessions(clients: Sequence[BenchClient]) -> None:
    """Send a ``bye`` for each client, and read until it is answered or the connection closed."""
    for client in clients:
        client.send({"type": "bye", "bye": {}})
    for client in clients:
        tail = b""
        while b'"bye"' not in tail and (received := client.socket.recv(1 << 20)):
            tail = tail[-256:] + received


def nextcloud_session(room: str, number: int) -> str:
    """Return the Nextcloud session id of a member of a room."""
    return f"{room}-{number:05d}"


def _join(room: str, nextcloud_session: str) -> bytes:
    message = {"id": "j", "type": "room", "room": {"roomid": room, "sessionid": nextcloud_session}}
    return client_frame(json.dumps(message).encode())


def unique_room(name: str) -> str:
    """Return a room id that no other measurement has used."""
    return f"{name}-{uuid.uuid4().hex[:12]}"
