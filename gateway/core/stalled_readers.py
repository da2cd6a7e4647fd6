"""The sessions whose clients have read nothing for a long time although much waits for them.

Source: docs/protocol.md, "Limits". A session without a connection ends sooner (``core.session.EXPIRY``), and so does a
connection whose client does not read; what remains are clients that never acknowledge, or that resume again and again.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.core.ids import SessionId
from gateway.core.relay_budget import GRANT
from gateway.core.session import Session

PATIENCE = 60.0  # seconds; the time until a session expires, and as much again for a slow network


class StalledReaders:
    """Remembers the oldest message of each session with a backlog, and since when it has been the oldest."""

    def __init__(self) -> None:
        self._oldest: dict[SessionId, tuple[bytes | None, float]] = {}

    def update(self, sessions: Iterable[Session], now: float) -> None:
        """Look at the outboxes of all sessions; call this once a second."""
        before, self._oldest = self._oldest, {}
        for session in sessions:
            if session.outbox.size > GRANT:
                first = session.outbox.first
                seen = before.get(session.id)
                self._oldest[session.id] = seen if seen is not None and seen[0] is first else (first, now)

    def among(self, sessions: Iterable[Session], now: float) -> list[Session]:
        """Return the sessions that have read nothing for ``PATIENCE``."""
        oldest = self._oldest
        return [s for s in sessions if s.id in oldest and now - oldest[s.id][1] >= PATIENCE]
