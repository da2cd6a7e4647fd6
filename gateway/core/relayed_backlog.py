"""The bytes of relayed messages that wait in the outboxes of single sessions: in a room, of a backend, of the process.

Source: docs/protocol.md, "Limits". A client that relays messages to single sessions that do not read fills their
outboxes. So relayed messages get only a part of ``limits.outbox_bytes_room`` and the like: while they fill this part,
a sender waits, and no session ends. Messages to a room or call are in memory once, and need no such limit.

The count grows when a budget grants bytes (``core.relay_budget``); once a second it is corrected by what clients have
read. It may be too high, and is too low by two grants for each session at most.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from gateway.core.limits import Limits
from gateway.core.relay_budget import GRANT
from gateway.core.session import Session

RELAYED_DIVISOR = 2  # divides a limit of outboxes: relayed messages get this part of it


class RelayedBacklog:
    """Counts the relayed bytes that wait, by room, backend and in all."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, int] = {}

    def full_limit(self, recipient: Session, size: int, limits: Limits) -> str:
        """Return the name of the limit because of which a message of ``size`` bytes has to wait; empty: none.

        Short messages to a session that reads never wait: its outbox holds little.
        """
        if recipient.outbox.size + size <= GRANT:
            return ""
        for key, name in self._keys(recipient):
            limit: int = getattr(limits, name)
            if limit and self._waiting.get(key, 0) * RELAYED_DIVISOR > limit:
                return name
        return ""

    def add(self, recipient: Session, size: int, left: int = 0) -> None:
        """Count a message of ``size`` bytes, and ``left``.

        ``left`` is the rest of the session's grant in bytes, which later messages use without being counted.
        """
        budget, waiting = recipient.relay_budget, recipient.outbox.size
        budget.relayed = min(budget.relayed, waiting) + size + left
        if waiting + size > GRANT:
            for key, _ in self._keys(recipient):
                self._waiting[key] = self._waiting.get(key, 0) + size + left

    def recount(self, sessions: Iterable[Session]) -> None:
        """Count anew the bytes that wait; ``sessions`` are all sessions with messages in their outbox."""
        self._waiting.clear()
        for session in sessions:
            budget = session.relay_budget
            budget.relayed = min(budget.relayed, session.outbox.size)
            if budget.relayed:
                for key, _ in self._keys(session):
                    self._waiting[key] = self._waiting.get(key, 0) + budget.relayed

    @staticmethod
    def _keys(session: Session) -> tuple[tuple[Hashable, str], ...]:
        totals = (None, "outbox_bytes_process"), (session.backend.id, "outbox_bytes_backend")
        return totals if session.room is None else (*totals, (session.room, "outbox_bytes_room"))
