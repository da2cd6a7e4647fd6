"""``portunus top``: shows the state of a gateway on the terminal, again and again.

Source: docs/operations.md, "portunus top". The output is plain text; of the terminal it needs only the escape
sequences of ECMA-48 for cursor and screen, and the alternate screen.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

from gateway.edge.operator.snapshot import RoomRow, SessionRow, Snapshot, StreamRow
from gateway.tools import admin_requests, drain

ENTER_SCREEN, LEAVE_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"  # the alternate screen, without a cursor
HOME, CLEAR_LINE, CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
UNKNOWN = "–"  # a figure that the SFU does not know
MAX_REFUSALS = 5  # of which there is a line each

Table: TypeAlias = list[tuple[str, ...]]


def ask(socket: Path) -> Snapshot:
    """Request the state of the gateway behind an admin socket.

    Raises:
        GatewayUnreachable: no gateway answers there.
    """
    return admin_requests.request(socket, "GET", "/snapshot", {}, Snapshot)


def watch(ask: Callable[[], Snapshot], interval: float, write: Callable[[str], object]) -> None:
    """Show the state every ``interval`` seconds on the whole terminal, until KeyboardInterrupt.

    ``write`` writes to the terminal immediately. The former contents of the terminal are restored at the end.

    Raises:
        GatewayUnreachable: the gateway does not answer, or has ended.
    """
    snapshot = ask()
    write(ENTER_SCREEN)
    try:
        while True:
            write(screen(snapshot, *shutil.get_terminal_size()))
            time.sleep(interval)
            snapshot = ask()
    finally:
        write(LEAVE_SCREEN)


def screen(snapshot: Snapshot, columns: int, rows: int) -> str:
    """Return the text that replaces the contents of a terminal; long lines are cut, surplus lines left out."""
    shown = [line[:columns] for line in lines(snapshot)][: max(rows - 1, 1)]
    return HOME + "".join(f"{line}{CLEAR_LINE}\n" for line in shown) + CLEAR_BELOW


def lines(snapshot: Snapshot) -> Iterator[str]:
    """Yield the lines of text that describe the state."""
    yield (
        f"portunus {snapshot.version}: {snapshot.state}. Sessions: {snapshot.sessions}, rooms: {snapshot.rooms},"
        f" in calls: {snapshot.in_calls}, publications: {snapshot.publications},"
        f" subscriptions: {snapshot.subscriptions}."
    )
    yield drain.line(snapshot.drain)
    for sfu in snapshot.sfus:
        name = " ".join(filter(None, ("SFU", sfu.name, sfu.url)))
        yield f"{name}: {sfu.publications} publications, {sfu.subscriptions} subscriptions, load {sfu.load:.1f}"
    for dependency in snapshot.dependencies:
        reason = f": {dependency.reason}" if dependency.reason else ""
        yield f"{dependency.name} is {dependency.state}{reason}"
    if snapshot.refused:
        yield "Refused: " + ", ".join(f"{cause} {count}" for cause, count in sorted(snapshot.refused.items()))
    for refusal in snapshot.refusals[:MAX_REFUSALS]:
        yield f"{refusal.seconds_ago:.0f} s ago: {refusal.text}"
    for table in (
        _room_table(snapshot.room_rows),
        _stream_table(snapshot.stream_rows),
        _session_table(snapshot.session_rows),
    ):
        if len(table) > 1:
            yield ""
            yield from _aligned(table)


def _room_table(rooms: Iterable[RoomRow]) -> Table:
    table: Table = [("ROOM", "BACKEND", "SESSIONS", "IN CALL", "PUBL", "SUBS", "IN kbit/s", "OUT kbit/s")]
    for room in rooms:
        figures = room.sessions, room.in_call, room.publications, room.subscriptions
        bitrates = _kbit_per_second(room.received), _kbit_per_second(room.sent)
        table.append((room.id, room.backend, *map(str, figures), *bitrates))
    return table


def _stream_table(streams: Iterable[StreamRow]) -> Table:
    received, sent = ("kbit/s", "LOST"), ("SUBS", "OUT kbit/s", "OUT LOST")
    table: Table = [("SESSION", "ROOM", "STREAM", "MEDIA", "CODEC", *received, *sent)]
    for stream in streams:
        names = stream.session, stream.room, stream.type, stream.kind, stream.codec
        received = _kbit_per_second(stream.received), _figure(stream.lost)
        sent = str(stream.subscriptions), _kbit_per_second(stream.sent), _figure(stream.sent_lost)
        table.append((*names, *received, *sent))
    return table


def _session_table(sessions: Iterable[SessionRow]) -> Table:
    table: Table = [("SESSION", "BACKEND", "CLIENT", "ROOM", "STATE")]
    for session in sessions:
        state = "in call" if session.in_call else "not in call"
        connection = "" if session.connected else ", disconnected"
        table.append((session.id, session.backend, session.client, session.room or UNKNOWN, state + connection))
    return table


def _aligned(table: Table) -> Iterator[str]:
    """Yield the lines of a table, whose first row is its head; columns of numbers are aligned to the right."""
    columns = list(zip(*table, strict=True))
    widths = [max(map(len, column)) for column in columns]
    figures = [all(cell == UNKNOWN or cell.isdigit() for cell in column[1:]) for column in columns]
    for row in table:
        cells = zip(row, widths, figures, strict=True)
        yield "  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in cells).rstrip()


def _kbit_per_second(bitrate: int | None) -> str:
    return UNKNOWN if bitrate is None else str(round(bitrate / 1000))


def _figure(value: int | None) -> str:
    return UNKNOWN if value is None else str(value)
