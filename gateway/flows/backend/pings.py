"""Keep-alive pings to Nextcloud, which ends the sessions that it receives no pings for.

Source: reference 4.5. A ping for each room is due every 10 s. A backend with ``session-ping-limit`` gets the entries of
all rooms of one base URL together, in requests of at most that many entries. Sessions in rooms of other servers are
reported to their own Nextcloud, too (12.3).
"""

from __future__ import annotations

from typing import TypeAlias

from gateway.core.limits import Backend
from gateway.core.room import PING_INTERVAL, Room, RoomKey
from gateway.core.session import Session
from gateway.flows.ports import NextcloudError
from gateway.flows.services import Services
from gateway.wire.backend import PingEntry, PingRequest

# The key of a room, and whether the room is of this server: a room of another server may have an equal key.
_PingedRoom: TypeAlias = tuple[RoomKey, bool]


class KeepAlivePings:
    """Sends Nextcloud the sessions in its rooms."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._hub = services.hub
        # Entries that wait for the next batch, by backend id and URL, and by room.
        self._batches: dict[tuple[str, str], dict[_PingedRoom, tuple[Backend, list[PingEntry]]]] = {}
        self._send_batches_at = 0.0
        self._ping_seats_at = 0.0

    def sweep(self, now: float) -> None:
        """Start the pings that are due, of rooms, seats and collected entries; called once a second."""
        for room in self._hub.due_for_ping(now):
            backend = _backend(room)
            for url, entries in _entries(room).items():
                self._services.tasks.spawn(self._ping(backend, (room.key, True), url, entries), "keep-alive ping")
        if now >= self._ping_seats_at:
            self._ping_seats_at = now + PING_INTERVAL
            for (key, url), (backend, entries) in self._entries_of_seats().items():
                self._services.tasks.spawn(self._ping(backend, (key, False), url, entries), "keep-alive ping")
        if now >= self._send_batches_at:
            self._send_batches_at = now + PING_INTERVAL
            batches, self._batches = self._batches, {}
            for (_, url), rooms in batches.items():
                self._services.tasks.spawn(self._send_batch(url, rooms), "keep-alive ping")

    def _entries_of_seats(self) -> dict[tuple[RoomKey, str], tuple[Backend, list[PingEntry]]]:
        """Return backend and entries of the sessions in rooms of other servers, by local room id and backend URL."""
        found: dict[tuple[RoomKey, str], tuple[Backend, list[PingEntry]]] = {}
        for session in self._hub.seated.values():
            seat = session.seat
            if seat is not None and seat.room_session_id:
                room_and_url = RoomKey(session.backend.id, seat.room_id), session.url
                entries = found.setdefault(room_and_url, (session.backend, []))[1]
                entries.append(PingEntry(session.userid, seat.room_session_id))
        return found

    async def _ping(self, backend: Backend, room: _PingedRoom, url: str, entries: list[PingEntry]) -> None:
        """Send the entries of a room, or collect them if Nextcloud has a ``session-ping-limit``."""
        limit = await self._ping_limit(url)
        if limit > 0:
            self._batches.setdefault((backend.id, url), {})[room] = backend, entries
        else:
            await self._send(backend, url, PingRequest(room[0].id, tuple(entries)))

    async def _send_batch(self, url: str, rooms: dict[_PingedRoom, tuple[Backend, list[PingEntry]]]) -> None:
        """Send the entries of several rooms of one backend URL, except rooms of this server that have ended since."""
        limit = await self._ping_limit(url)
        present = [batch for (key, is_here), batch in rooms.items() if not is_here or key in self._hub.rooms]
        if limit <= 0 or not present:
            return
        backend = present[0][0]
        entries = [entry for _, batch in present for entry in batch]
        for start in range(0, len(entries), limit):
            await self._send(backend, url, PingRequest("", tuple(entries[start : start + limit])))

    async def _ping_limit(self, url: str) -> int:
        """Return the maximum number of entries in one request; 0: each room needs its own request."""
        try:
            return await self._services.nextcloud.session_ping_limit(url)
        except NextcloudError:
            return 0

    async def _send(self, backend: Backend, url: str, request: PingRequest) -> None:
        try:
            await self._services.nextcloud.ask(backend, url, request)
        except NextcloudError as error:
            cause = (backend.id, "ping", str(error))
            self._services.warnings.warning(cause, "keep-alive ping to backend %s failed: %s", backend.id, error)


def _backend(room: Room) -> Backend:
    """Return the backend of a room's sessions, even if it was removed from the configuration since."""
    member = next(iter(room.members.values()), None) or next(iter(room.virtuals.values())).owner
    return member.backend


def _entries(room: Room) -> dict[str, list[PingEntry]]:
    """Return the entries of a room by backend URL: sessions with a Nextcloud session id, and virtual sessions."""
    entries: dict[str, list[PingEntry]] = {}
    for session in room.members.values():
        if session.room_session_given:
            entries.setdefault(session.url, []).append(_entry(session))
    for virtual in room.virtuals.values():
        entries.setdefault(virtual.owner.url, []).append(PingEntry(virtual.userid, virtual.id))
    return entries


def _entry(session: Session) -> PingEntry:
    """Return the entry of a session in a room of this server, with the actor that it joined as (12.4)."""
    actor = session.actor
    if actor is None:
        return PingEntry(session.userid, session.room_session_id)
    return PingEntry(session.userid, session.room_session_id, actor.id, actor.type)
