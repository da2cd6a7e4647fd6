"""The present state of a gateway for ``portunus top``: ``GET /snapshot`` on the admin socket.

Source: docs/operations.md, "portunus top". Rooms and sessions have their short ids, as in the log. At most ``ROWS``
rooms, sessions and streams are listed, those in calls and with the highest bitrate first; the totals count all.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

import msgspec
from aiohttp import web

from gateway.core.ids import SessionId
from gateway.core.session import ClientType, Session
from gateway.edge.http.json_answer import answer
from gateway.edge.operator.drain_api import DrainReport, drain_report
from gateway.edge.operator.overview import Overview
from gateway.flows.services import Services
from mcu.base import Mcu, MediaKind, StreamKey, StreamReport

ROWS = 500  # of rooms, of sessions and of streams, at most


class RoomRow(msgspec.Struct, frozen=True):
    """A room; virtual sessions count as sessions."""

    id: str  # short id
    backend: str
    sessions: int
    in_call: int
    publications: int  # media kinds do not count: camera with microphone is one
    subscriptions: int
    received: int  # bit/s from clients to the SFU; 0 also if it is not known
    sent: int  # bit/s from the SFU to clients


class SessionRow(msgspec.Struct, frozen=True):
    """A session."""

    id: str  # short id
    backend: str
    client: str  # "user", "guest", "internal", "federation"
    room: str  # short id; empty: in none, or in one of another server
    connected: bool  # whether its client has a connection
    in_call: bool


class StreamRow(msgspec.Struct, frozen=True):
    """One media kind of a publication, and its subscriptions together; ``None``: the SFU does not know the figure."""

    session: str  # short id
    room: str
    type: str  # "video", "screen"
    kind: str  # "audio", "video", "data"
    codec: str
    received: int | None  # bit/s from the client
    lost: int | None  # lost packets from the client
    subscriptions: int
    sent: int | None  # bit/s to all subscribers
    sent_lost: int | None  # lost packets to all subscribers


class SfuRow(msgspec.Struct, frozen=True):
    """One SFU."""

    name: str
    url: str
    state: str
    reason: str
    publications: int
    subscriptions: int
    load: float


class DependencyRow(msgspec.Struct, frozen=True):
    """An SFU or a backend as ``/readyz`` has it."""

    name: str
    state: str
    reason: str


class RefusalRow(msgspec.Struct, frozen=True):
    """A warning about refused clients or requests."""

    seconds_ago: float
    text: str


class Snapshot(msgspec.Struct, frozen=True):
    """The state of a gateway at one time."""

    version: str
    state: str  # of the gateway: "ok", "degraded", "away"
    sessions: int
    rooms: int
    in_calls: int
    publications: int
    subscriptions: int
    drain: DrainReport
    dependencies: list[DependencyRow]
    sfus: list[SfuRow]
    refused: dict[str, int]  # since the start, by cause
    refusals: list[RefusalRow]  # the latest ones, newest first
    room_rows: list[RoomRow]
    session_rows: list[SessionRow]
    stream_rows: list[StreamRow]


class SnapshotApi:
    """Serves snapshots."""

    def __init__(self, services: Services, overview: Overview, mcu: Mcu | None, version: str) -> None:
        self._services = services
        self._overview = overview
        self._mcu = mcu
        self._version = version

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [web.get("/snapshot", self._answer, allow_head=False)]

    async def _answer(self, request: web.Request) -> web.Response:
        return answer(200, self.snapshot())

    def snapshot(self) -> Snapshot:
        """Return the present state."""
        services, hub = self._services, self._services.hub
        streams = self._streams()
        rooms = self._rooms(streams)
        sessions = [self._session(session) for session in hub.sessions.values()]
        publications, subscriptions = self._overview.open_streams
        ready, status = self._overview.readiness(), self._overview.sfu_status()
        now = services.clock()
        return Snapshot(
            version=self._version,
            state=ready.state.value,
            sessions=len(hub.sessions),
            rooms=len(hub.rooms),
            in_calls=sum(room.in_call for room in rooms),
            publications=publications,
            subscriptions=subscriptions,
            drain=drain_report(services),
            dependencies=[DependencyRow(entry.name, entry.state.value, entry.reason) for entry in ready.dependencies],
            sfus=[
                SfuRow(sfu.log_name, sfu.url, sfu.state.value, sfu.reason, sfu.publishers, sfu.subscribers, sfu.load)
                for sfu in (() if status is None else status.sfus)
            ],
            refused=self._overview.refused(),
            refusals=[RefusalRow(now - at, text) for at, text in reversed(services.refusals.recent)],
            room_rows=sorted(rooms, key=lambda room: (-room.in_call, -room.sessions, room.id))[:ROWS],
            session_rows=sorted(sessions, key=lambda session: (not session.in_call, session.room, session.id))[:ROWS],
            stream_rows=sorted(streams, key=lambda row: (-(row.received or 0), row.session, row.kind))[:ROWS],
        )

    def _rooms(self, streams: Iterable[StreamRow]) -> list[RoomRow]:
        """Return a row for each room, with the sums over its streams."""
        received: Counter[str] = Counter()
        sent: Counter[str] = Counter()
        publications: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
        subscriptions: defaultdict[str, dict[tuple[str, str], int]] = defaultdict(dict)
        for row in streams:
            stream = row.session, row.type
            received[row.room] += row.received or 0
            sent[row.room] += row.sent or 0
            publications[row.room].add(stream)
            by_stream = subscriptions[row.room]
            by_stream[stream] = max(row.subscriptions, by_stream.get(stream, 0))
        found = []
        for key, room in self._services.hub.rooms.items():
            id, virtuals = self._services.calls.room_id(key), room.virtuals.values()
            found.append(
                RoomRow(
                    id,
                    key.backend,
                    len(room.members) + len(virtuals),
                    len(room.in_call) + sum(virtual.in_call for virtual in virtuals),
                    len(publications[id]),
                    sum(subscriptions[id].values()),
                    received[id],
                    sent[id],
                )
            )
        return found

    def _session(self, session: Session) -> SessionRow:
        room = self._services.hub.room_of(session)
        client = "user" if session.userid else "guest"
        return SessionRow(
            self._services.calls.short(session.id),
            session.backend.id,
            client if session.client_type is ClientType.CLIENT else session.client_type.value,
            self._services.calls.room_id(session.room),
            session.connection is not None,
            room is not None and session.id in room.in_call,
        )

    def _streams(self) -> list[StreamRow]:
        """Return a row for each media kind of each publication, from the reports of the SFU."""
        published: dict[tuple[StreamKey, MediaKind], StreamReport] = {}
        subscribed: defaultdict[tuple[StreamKey, MediaKind], list[StreamReport]] = defaultdict(list)
        for report in () if self._mcu is None else self._mcu.streams():
            if report.subscriber:
                subscribed[report.key, report.kind].append(report)
            else:
                published[report.key, report.kind] = report
        rows = []
        for (key, kind), report in published.items():
            session, subscribers = self._services.hub.sessions.get(SessionId(key.publisher)), subscribed[key, kind]
            rows.append(
                StreamRow(
                    self._services.calls.short(key.publisher),
                    "" if session is None else self._services.calls.room_id(session.room),
                    key.stream_type.value,
                    kind.value,
                    report.codec,
                    report.bits_per_second,
                    report.lost,
                    len(subscribers),
                    _total(subscriber.bits_per_second for subscriber in subscribers),
                    _total(subscriber.lost for subscriber in subscribers),
                )
            )
        return rows


def _total(figures: Iterable[int | None]) -> int | None:
    """Return the sum of the known figures; ``None`` if none is known."""
    known = [figure for figure in figures if figure is not None]
    return sum(known) if known else None
