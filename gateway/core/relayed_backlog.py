"""The bytes of relayed messages that wait in the outboxes of single sessions: in a room, of a backend, of the process.

Source: docs/protocol.md, "Limits". A client that relays messages to single sessions that do not read fills their
outboxes. So relayed messages get only a part of ``limits.outbox_bytes_room`` and the like, and those to the sessions
with the longest backlogs wait: a session may have at most ``SHARE_FACTOR`` times as many bytes as are free of this part
(dynamic thresholds, as in switches with shared memory: A. Choudhury and E. Hahne, 1998). The more sessions have a
backlog, the smaller is the share of each, and some bytes stay free for the others. Messages to a room or call are in
memory once, and need no such limit.

The bytes of a session are counted when it is granted some with more than a grant in its outbox (``core.relay_budget``),
and again, with what was read since, once a second. They are estimated too high, never too low by more than two grants.
If the bytes come near a limit all the same, since thousands of sessions have a backlog, each of them waits.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from gateway.core.ids import SessionId
from gateway.core.limits import Limits
from gateway.core.relay_budget import GRANT
from gateway.core.session import Session

RELAYED_DIVISOR = 2  # divides a limit of outboxes: relayed messages get this part of it
SHARE_FACTOR = 4  # times the free bytes of this part that one session may have waiting


class RelayedBacklog:
    """Counts the relayed bytes that wait, by room, backend and in all."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, int] = {}
        self._counted: dict[SessionId, int] = {}  # bytes of a session that ``_waiting`` has

    def full_limit(self, recipient: Session, limits: Limits) -> str:
        """Return the name of the limit of which a session has more than its share, so that messages wait; empty: none.

        A session for which nothing relayed waits has its share, and so has one with a grant at most, unless so many
        sessions have one that even slow messages have to wait.
        """
        relayed = min(recipient.relay_budget.relayed, recipient.outbox.size)
        if not relayed:
            return ""
        for key, name in self._keys(recipient):
            limit: int = getattr(limits, name)
            least = 0 if self._is_spent(key, limit) else GRANT
            free = limit // RELAYED_DIVISOR - self._waiting.get(key, 0)
            if limit and relayed > max(least, free * SHARE_FACTOR):
                return name
        return ""

    def is_spent(self, recipient: Session, limits: Limits) -> bool:
        """Return whether not even slow messages may be added for a session, so that no limit is exceeded."""
        return any(self._is_spent(key, getattr(limits, name)) for key, name in self._keys(recipient))

    def _is_spent(self, key: Hashable, limit: int) -> bool:
        """Return whether relayed bytes have reached the middle between their part and the limit."""
        return limit > 0 and self._waiting.get(key, 0) >= (limit // RELAYED_DIVISOR + limit) // 2

    def add(self, recipient: Session, size: int, left: int = 0) -> None:
        """Count a message of ``size`` bytes, and ``left``.

        ``left`` is the rest of the session's grant in bytes, which later messages use without being counted.
        """
        budget, waiting = recipient.relay_budget, recipient.outbox.size
        budget.relayed = min(budget.relayed, waiting) + size + left
        if waiting + size > GRANT:
            self._count(recipient)

    def recount(self, sessions: Iterable[Session]) -> None:
        """Count anew the bytes that wait; ``sessions`` are all sessions with messages in their outbox."""
        self._waiting.clear()
        self._counted.clear()
        for session in sessions:
            budget = session.relay_budget
            budget.relayed = min(budget.relayed, session.outbox.size)
            self._count(session)

    def _count(self, session: Session) -> None:
        """Count the relayed bytes of a session that are not counted yet."""
        relayed = session.relay_budget.relayed
        uncounted = relayed - self._counted.get(session.id, 0)
        if uncounted > 0:
            self._counted[session.id] = relayed
            for key, _ in self._keys(session):
                self._waiting[key] = self._waiting.get(key, 0) + uncounted

    @staticmethod
    def _keys(session: Session) -> tuple[tuple[Hashable, str], ...]:
        totals = (None, "outbox_bytes_process"), (session.backend.id, "outbox_bytes_backend")
        return totals if session.room is None else (*totals, (session.room, "outbox_bytes_room"))
