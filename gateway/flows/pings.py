"""Keep-alive pings: Talk ends the sessions that it does not hear about.

Source: behaviour reference 4.5. Each room is due every 10 s. A backend with ``session-ping-limit`` gets the entries
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


class Pings:
    """Tells Nextcloud which sessions are still there."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._hub = services.hub
        self._gathered: dict[tuple[str, str], dict[RoomKey, list[PingEntry]]] = {}  # by backend id and URL
        self._send_gathered_at = 0.0

    def sweep(self, now: float) -> None:
        """Ping for the rooms that are due; called once a second."""
        for room in self._hub.due_for_ping(now):
            for url, entries in _entries(room).items():
                self._services.tasks.spawn(self._ping(room, url, entries), "keep-alive ping")
        if now >= self._send_gathered_at:
            self._send_gathered_at = now + PING_INTERVAL
            gathered, self._gathered = self._gathered, {}
            for (backend, url), rooms in gathered.items():
                self._services.tasks.spawn(self._send_together(backend, url, rooms), "keep-alive ping")

    async def _ping(self, room: Room, url: str, entries: list[PingEntry]) -> None:
        backend = self._services.backends.by_id(room.key.backend)
        if backend is None:
            return
        limit = await self._limit(url)
        if limit > 0:
            self._gathered.setdefault((backend.id, url), {})[room.key] = entries
        else:
            await self._send(backend, url, PingRequest(room.key.id, tuple(entries)))

    async def _send_together(self, backend_id: str, url: str, rooms: dict[RoomKey, list[PingEntry]]) -> None:
        backend = self._services.backends.by_id(backend_id)
        limit = await self._limit(url)
        entries = [entry for key, entries in rooms.items() if key in self._hub.rooms for entry in entries]
        if backend is None or limit <= 0:
            return
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


def _entries(room: Room) -> dict[str, list[PingEntry]]:
    """Return an entry for each member that Nextcloud knows by a session id, by the URL that it (or its owner) named."""
    entries: dict[str, list[PingEntry]] = {}
    for session in room.members.values():
        if session.room_session_given:
            entries.setdefault(session.url, []).append(PingEntry(session.userid, session.room_session_id))
    for virtual in room.virtuals.values():
        entries.setdefault(virtual.owner.url, []).append(PingEntry(virtual.userid, virtual.id))
    return entries
