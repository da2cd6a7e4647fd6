"""Ends sessions when the outboxes of a room, of a backend or of the process take too much memory together.

Source: docs/protocol.md, "Limits".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable

from gateway.core.outbox_totals import sessions_to_end
from gateway.core.session import Session
from gateway.core.stalled_readers import StalledReaders
from gateway.flows.end_requests import EndCause, EndRequest
from gateway.flows.services import Services


class OutboxTotals:
    """Compares the total sizes of outboxes with the limits; ``sweep`` is called once a second.

    ``is_held`` returns whether so many messages of a session wait that the gateway does not read its acknowledgements.
    """

    def __init__(self, services: Services, is_held: Callable[[Session], bool]) -> None:
        self._services = services
        self._is_held = is_held
        self._stalled = StalledReaders()

    def sweep(self, now: float) -> None:
        """Request the end of sessions where a limit is exceeded.

        Sessions end for which relayed messages wait and whose clients hardly read, since they delay the senders. One
        that the gateway does not read from ends only if relayed messages have come near the limit.
        """
        limits, backlog = self._services.settings.limits, self._services.relayed_backlog
        sessions = [session for session in self._services.hub.sessions.values() if session.outbox.size]
        backlog.recount(sessions)
        delaying = [session for session in sessions if backlog.full_limit(session, limits)]
        self._stalled.update(delaying, now)
        for session in self._stalled.among(delaying, now):
            if not self._is_held(session) or backlog.is_spent(session, limits):
                self._end(backlog.full_limit(session, limits), [session])
        by_room, by_backend = defaultdict[Hashable, list[Session]](list), defaultdict[Hashable, list[Session]](list)
        for session in sessions:
            by_backend[session.backend.id].append(session)
            if session.room is not None:
                by_room[session.room].append(session)
        self._limit("outbox_bytes_room", by_room.values(), limits.outbox_bytes_room)
        self._limit("outbox_bytes_backend", by_backend.values(), limits.outbox_bytes_backend)
        self._limit("outbox_bytes_process", [sessions], limits.outbox_bytes_process)

    def _limit(self, name: str, groups: Iterable[list[Session]], limit: int) -> None:
        for group in groups:
            self._end(name, sessions_to_end(group, limit))

    def _end(self, name: str, sessions: Iterable[Session]) -> None:
        for session in sessions:
            if session.outbox.seal():
                self._services.count_excess(name)
                self._services.end_requests.put_nowait(EndRequest(session, EndCause.OUTBOX_FULL, f"limits.{name}"))
