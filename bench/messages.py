"""Messages from one session to another and to a room, beside a floor that only forwards bytes."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.client import BenchClient, client_frame
from bench.processes import MEASURED_CORE, listening
from bench.report import FLOOR, NO_TARGETS, PORTUNUS, Row, Targets
from bench.runner import Bench, sessions, unique_room, wait_until_ready
from bench.servers import RunningServer

SLICES = 4  # alternations of the servers within a round


@dataclass(frozen=True)
class MessageLoad:
    """Groups of clients, a room for each group; its first ``senders`` clients have one message outstanding each."""

    work: str
    text: str
    groups: int
    size: int
    senders: int
    recipient: str  # the recipient type of the messages
    targets: Targets = NO_TARGETS
    floor: bool = True

    def scaled(self, bench: Bench) -> MessageLoad:
        """Return the load with the numbers of clients that the run is to have."""
        if self.size == 2:
            return replace(self, groups=bench.count(self.groups))
        return replace(self, size=bench.count(self.size, self.senders + 1))


TO_SESSION = "message to a session"
TO_ROOM = "message to a room, each delivery"
PAIRS = MessageLoad(TO_SESSION, "64 clients", 32, 2, 2, "session", Targets(ratio=0.62, floor=1.85))
ROOM = MessageLoad(TO_ROOM, "100 members, 1 outstanding", 1, 100, 1, "room", Targets(ratio=0.77))
LOADS = (
    PAIRS,
    MessageLoad(TO_SESSION, "100 clients", 50, 2, 2, "session"),
    MessageLoad(TO_SESSION, "5,000 clients", 2500, 2, 2, "session"),
    ROOM,
    MessageLoad(TO_ROOM, "100 members, 4 outstanding", 1, 100, 4, "room", Targets(ratio=0.25), floor=False),
    MessageLoad(TO_ROOM, "1,000 members, 1 outstanding", 1, 1000, 1, "room"),
)


@dataclass
class LoadedServer:
    """A server under the load: its connected clients, their frames, and the figures of the present round."""

    server: RunningServer
    clients: list[BenchClient]
    frames: Path
    seconds: float = 0.0  # of CPU
    deliveries: int = 0
    latencies: list[float] = field(default_factory=list)


def measure(bench: Bench, servers: Sequence[RunningServer], load: MessageLoad) -> Row:
    """Measure the CPU time of a delivery on all servers and on the floor, alternately."""
    load = load.scaled(bench)
    row = Row(load.work, load.text, "µs", load.targets)
    with contextlib.ExitStack() as stack:
        loaded_servers = {}
        for server in servers:
            loaded_servers[server.name], sent, delivered = stack.enter_context(open_load(bench, server, load))
            if load.floor and server.name == PORTUNUS:
                loaded_servers[FLOOR] = stack.enter_context(_floor(bench, load, sent, delivered))
        order = [loaded.server for loaded in loaded_servers.values()]

        def one_round(server: RunningServer, counts: bool) -> float:
            """Run the load on all servers, in slices, when called for the first; return the figure of ``server``."""
            if server is order[0]:
                seconds = bench.seconds if counts else min(0.3, bench.seconds)
                _alternate(bench, load, list(loaded_servers.values()), seconds)
            loaded = loaded_servers[server.name]
            return loaded.seconds / loaded.deliveries * 1e6

        return bench.alternate(row, order, one_round)


def latency(bench: Bench, servers: Sequence[RunningServer], load: MessageLoad, rate: float) -> list[Row]:
    """Measure the time from the planned sending to the last delivery, at a stated rate."""
    load = load.scaled(bench)
    names = ("median", "90th percentile", "99th percentile")
    rows = [Row(f"{load.work.split(',')[0]}, {name}", f"{load.text}, {rate:g} a second", "ms") for name in names]
    with contextlib.ExitStack() as stack:
        loaded_servers = [stack.enter_context(open_load(bench, server, load))[0] for server in servers]
        for number in range(bench.rounds + 1):
            for loaded in loaded_servers:
                run_load(bench, load, loaded, bench.seconds, rate)
                for row, microseconds in zip(rows, loaded.latencies, strict=False):
                    if number:
                        row.figures.setdefault(loaded.server.name, []).append(microseconds / 1000)
    return rows


def _alternate(bench: Bench, load: MessageLoad, loaded_servers: Sequence[LoadedServer], seconds: float) -> None:
    for loaded in loaded_servers:
        loaded.seconds, loaded.deliveries = 0.0, 0
    for _ in range(SLICES):
        for loaded in loaded_servers:
            run_load(bench, load, loaded, seconds / SLICES, 0)


def run_load(bench: Bench, load: MessageLoad, loaded: LoadedServer, seconds: float, rate: float) -> None:
    """Run the load on one server, and add its CPU time and deliveries."""
    before = loaded.server.cpu()
    arguments = (seconds, rate, load.size, load.senders, loaded.frames)
    deliveries, _, _, *loaded.latencies = bench.load("load", *arguments, clients=loaded.clients)
    loaded.seconds += loaded.server.cpu() - before
    loaded.deliveries += int(deliveries)


@contextlib.contextmanager
def open_load(bench: Bench, server: RunningServer, load: MessageLoad) -> Iterator[tuple[LoadedServer, int, bytes]]:
    """Open the sessions of a load, each group in its room; also yields a message's length and a delivered frame."""
    room = unique_room("messages")
    with sessions(bench, server, load.groups * load.size) as clients:
        if load.size > 2:
            for group in range(load.groups):
                bench.join_in_turn(clients[group * load.size : (group + 1) * load.size], f"{room}-{group}")
        else:
            for index, client in enumerate(clients):
                client.join(f"{room}-{index // load.size:04d}", f"{room}-{index:05d}")
        frames = [frame(load, clients, index) for index in range(len(clients))]
        delivered = _deliver_once(load, clients, frames)
        file = bench.write_frames(it for index, it in enumerate(frames) if index % load.size < load.senders)
        yield LoadedServer(server, clients, file), len(frames[0]), delivered


@contextlib.contextmanager
def _floor(bench: Bench, load: MessageLoad, sent: int, delivered: bytes) -> Iterator[LoadedServer]:
    """Run the floor for messages of the same length, with as many connections."""
    template = bench.site.scratch / "delivered"
    template.write_bytes(delivered)
    count = load.groups * load.size
    command = [str(bench.programs["floor"]), str(count), str(load.size), str(sent), str(template)]
    with listening(command, MEASURED_CORE) as (process, port), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(BenchClient(port)) for _ in range(count)]
        wait_until_ready(process)
        frames = bench.write_frames([b"x" * sent] * (load.groups * load.senders))
        yield LoadedServer(RunningServer(FLOOR, process.pid, port), clients, frames)


def frame(load: MessageLoad, clients: list[BenchClient], index: int) -> bytes:
    """Return the frame that a client sends: a ``nickChanged`` as Talk's clients send it to a peer or to the room."""
    member, first = index % load.size, index - index % load.size
    to = clients[first + 1 - member].session if load.recipient == "session" else ""
    recipient = f'{{"type":"session","sessionid":"{to}"}}' if to else f'{{"type":"{load.recipient}"}}'
    data = f'{{"to":"{to}","roomType":"video","type":"nickChanged","payload":{{"name":"Ada Lovelace {member % 10}"}}}}'
    return client_frame(f'{{"type":"message","message":{{"recipient":{recipient},"data":{data}}}}}'.encode())


def _deliver_once(load: MessageLoad, clients: list[BenchClient], frames: list[bytes]) -> bytes:
    """Send a message from each sender and read it at its receivers, past the join events; return a delivered frame."""
    payload = b""
    for index, client in enumerate(clients):
        if index % load.size < load.senders:
            client.socket.sendall(frames[index])
    for index, client in enumerate(clients):
        for _ in range(load.senders - (index % load.size < load.senders)):
            payload = client.expect_payload("message")
    length = len(payload)
    return (
        struct.pack("!BB" if length < 126 else "!BBH", 0x81, *((length,) if length < 126 else (126, length))) + payload
    )
