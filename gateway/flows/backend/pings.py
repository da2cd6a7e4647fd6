"""Keep-alive pings: Talk ends the sessions that it does not hear about.

Source: reference 4.5. Each room is due every 10 s. A backend with ``session-ping-limit`` gets the entries
of all its rooms together, in requests of at most that many.
"""

from __future__ import annotations

import logging

from gateway.core.limits import Backend
from gateway.core.room import PING_INTERVAL, Room, RoomKey
from gateway.flows.ports import NextcloudError
from gateway.flows.services import Services
from gateway.wire.backend import PingEntry, PingRequest

log = logging.getLogger("portunus.flows")


class KeepAlivePings:
    """Tells Nextcloud which sessions are still there."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._hub = services.hub
        self._gathered: dict[tuple[str, str], dict[RoomKey, list[PingEntry]]] = {}  # by backend id and URL
        self._send_gathered_at = 0.0

    def sweep(self, now: float) -> None:
        """Ping for the rooms that are due; called once a second."""
        for room in self._hub.due_for_ping(now):
            backend = _backend(room)
            for url, entries in _entries(room).items():
                self._services.tasks.spawn(self._ping(backend, room.key, url, entries), "keep-alive ping")
        if now >= self._send_gathered_at:
            self._send_gathered_at = now + PING_INTERVAL
            gathered, self._gathered = self._gathered, {}
            for (_, url), rooms in gathered.items():
                self._services.tasks.spawn(self._send_together(url, rooms), "keep-alive ping")

    async def _ping(self, backend: Backend, room: RoomKey, url: str, entries: list[PingEntry]) -> None:
        limit = await self._limit(url)
        if limit > 0:
            self._gathered.setdefault((backend.id, url), {})[room] = entries
        else:
            await self._send(backend, url, PingRequest(room.id, tuple(entries)))

    async def _send_together(self, url: str, rooms: dict[RoomKey, list[PingEntry]]) -> None:
        """Ping for the rooms, all of one backend, that are still there."""
        limit = await self._limit(url)
        there = [key for key in rooms if key in self._hub.rooms]
        if limit <= 0 or not there:
            return
        backend = _backend(self._hub.rooms[there[0]])
        entries = [entry for key in there for entry in rooms[key]]
        for start in range(0, len(entries), limit):
            await self._send(backend, url, PingRequest("", tuple(entries[start : start + limit])))

    async def _limit(self, url: str) -> int:
        try:
            return await self._services.nextcloud.session_ping_limit(url)
        except NextcloudError:
            return 0

    async def _send(self, backend: Backend, url: str, request: PingRequest) -> None:
        try:
            await self._services.nextcloud.ask(backend, url, request)
        except NextcloudError as error:
            log.warning("keep-alive ping to backend %s failed: %s", backend.id, error)


def _backend(room: Room) -> Backend:
    """Return the backend as the sessions have it: theirs go on when the configuration has it no more."""
    member = next(iter(room.members.values()), None) or next(iter(room.virtuals.values())).owner
    return member.backend


def _entries(room: Room) -> dict[str, list[PingEntry]]:
    """Return an entry for each member that Nextcloud knows by a session id, by the URL that it (or its owner) named."""
    entries: dict[str, list[PingEntry]] = {}
    for session in room.members.values():
        if session.room_session_given:
            entries.setdefault(session.url, []).append(PingEntry(session.userid, session.room_session_id))
    for virtual in room.virtuals.values():
        entries.setdefault(virtual.owner.url, []).append(PingEntry(virtual.userid, virtual.id))
    return entries
