"""The measured phases: relayed messages, room deliveries and hellos, each with sessions of its own."""

from __future__ import annotations

import contextlib
import struct
import subprocess
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench.client import BenchClient, client_frame
from bench.processes import MEASURED, REST, cpu_seconds, listening, running


@dataclass(frozen=True)
class Load:
    """Groups of clients, each in its own room; the first ``senders`` of a group have one message outstanding each."""

    name: str
    groups: int
    size: int
    senders: int
    recipient: str  # the recipient type of the messages


RELAY = Load("relayed message", groups=32, size=2, senders=2, recipient="session")
ROOM = Load("room delivery", groups=4, size=21, senders=1, recipient="room")
HELLO = "hello"
HELLO_CLIENTS = 8


SLICES = 4  # alternations of gateway and floor within a round


@dataclass
class Side:
    """Gateway or floor: its process, its connected clients, their message, and the CPU time spent."""

    pid: int
    clients: list[BenchClient]
    frames: list[bytes]
    seconds: float = 0.0  # of CPU
    deliveries: int = 0

    @property
    def microseconds(self) -> float:
        """The CPU time per delivery."""
        return self.seconds / self.deliveries * 1e6


@dataclass(frozen=True)
class Bench:
    """The running gateway and the compiled programs."""

    gateway: subprocess.Popen[str]
    port: int
    backend: str
    floor: Path
    load: Path
    scratch: Path

    def measure(self, load: Load, seconds: float) -> tuple[float, float]:
        """Put a load on the gateway and on the floor in turn; returns the CPU microseconds per delivery of both."""
        with _sessions(self, load) as clients:
            frames = [_frame(load, clients, index) for index in range(len(clients))]
            delivered = _deliver_once(load, clients, frames)
            with self._floor(load, len(frames[0]), delivered) as floor:
                gateway = Side(self.gateway.pid, clients, frames)
                for _ in range(SLICES):
                    for side in (gateway, floor):
                        self._run(load, seconds / SLICES, side, delivered)
            for client in clients:
                client.bye()
        return gateway.microseconds, floor.microseconds

    @contextlib.contextmanager
    def _floor(self, load: Load, sent: int, delivered: bytes) -> Iterator[Side]:
        """Run the floor for messages of the same length, with as many connections."""
        template = self.scratch / "delivered"
        template.write_bytes(delivered)
        count = load.groups * load.size
        command = [str(self.floor), str(count), str(load.size), str(sent), str(template)]
        with listening(command, MEASURED) as (process, port), contextlib.ExitStack() as stack:
            clients = [stack.enter_context(BenchClient(port)) for _ in range(count)]
            if process.stdout is None or process.stdout.readline() != "ready\n":
                raise RuntimeError("the floor does not take its connections")
            yield Side(process.pid, clients, [b"x" * sent] * count)

    def measure_hello(self, count: int) -> float:
        """Connect, upgrade, send hello and bye, and close, ``count`` times; returns the CPU microseconds of each."""
        before = cpu_seconds(self.gateway.pid)
        with ThreadPoolExecutor(HELLO_CLIENTS) as pool:
            list(pool.map(self._hello, range(count)))
        return (cpu_seconds(self.gateway.pid) - before) / count * 1e6

    def _hello(self, number: int) -> None:
        with BenchClient(self.port) as client:
            client.upgrade(self.port)
            client.hello(self.backend, f"user{number:05d}")
            client.bye()

    def _run(self, load: Load, seconds: float, side: Side, delivered: bytes) -> None:
        """Put the load on one side for a while, and add the CPU time that it costs."""
        file = self.scratch / "frames"
        senders = [frame for index, frame in enumerate(side.frames) if index % load.size < load.senders]
        file.write_bytes(b"".join(struct.pack("<I", len(frame)) + frame for frame in senders))
        sockets = [client.socket.fileno() for client in side.clients]
        payload = len(delivered) - (2 if len(delivered) < 128 else 4)
        arguments = [str(seconds), str(load.size), str(load.senders), str(payload), str(file), *map(str, sockets)]
        before = cpu_seconds(side.pid)
        with running([str(self.load), *arguments], REST, pass_fds=sockets) as process:
            output, _ = process.communicate(timeout=seconds + 30)
        side.seconds += cpu_seconds(side.pid) - before
        if process.returncode != 0:
            raise RuntimeError(f"the load on the {load.name} failed")
        side.deliveries += int(output.split()[0])


@contextlib.contextmanager
def _sessions(bench: Bench, load: Load) -> Iterator[list[BenchClient]]:
    """Open the sessions of a load, each group in its room."""
    run = uuid.uuid4().hex[:12]
    with contextlib.ExitStack() as stack:
        clients = []
        for index in range(load.groups * load.size):
            client = stack.enter_context(BenchClient(bench.port))
            client.upgrade(bench.port)
            client.hello(bench.backend, f"user{index:05d}")
            client.join(f"{run}-{index // load.size:03d}", f"{run}-{index:05d}")
            clients.append(client)
        yield clients


def _frame(load: Load, clients: list[BenchClient], index: int) -> bytes:
    """Return the message of a client: a ``nickChanged`` as Talk's clients send it to a peer or to the room."""
    first = index - index % load.size
    to = clients[first + 1 - index % load.size].session if load.recipient == "session" else ""
    recipient = f'{{"type":"session","sessionid":"{to}"}}' if to else f'{{"type":"{load.recipient}"}}'
    data = f'{{"to":"{to}","roomType":"video","type":"nickChanged","payload":{{"name":"Ada Lovelace"}}}}'
    return client_frame(f'{{"type":"message","message":{{"recipient":{recipient},"data":{data}}}}}'.encode())


def _deliver_once(load: Load, clients: list[BenchClient], frames: list[bytes]) -> bytes:
    """Send once from each sender, so that the events of the joins are read, and return a delivered message."""
    for index, client in enumerate(clients):
        if index % load.size < load.senders:
            client.socket.sendall(frames[index])
    lengths, payload = set(), b""
    for index, client in enumerate(clients):
        if load.senders == load.size or index % load.size >= load.senders:
            payload = client.expect_payload("message")
            lengths.add(len(payload))
    if len(lengths) != 1:
        raise RuntimeError(f"deliveries differ in length: {sorted(lengths)}")
    head = (
        struct.pack("!BB", 0x81, len(payload)) if len(payload) < 126 else struct.pack("!BBH", 0x81, 126, len(payload))
    )
    return head + payload
