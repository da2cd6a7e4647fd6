"""The sessions whose clients have read very little for a long time although much waits for them.

Source: docs/protocol.md, "Limits". A session without a connection ends sooner (``core.session.EXPIRY``), and so does a
connection whose client does not read; what remains are clients that hardly acknowledge, or that resume again and again.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.core.ids import SessionId
from gateway.core.relay_budget import GRANT
from gateway.core.session import Session

# Seconds in which a client has to take the messages that begin in the first ``GRANT`` bytes of its outbox: the time
# until a session expires, and as much again for a slow network.
PATIENCE = 60.0


class StalledReaders:
    """Remembers a message in the outbox of each session with a backlog, and since when it has been there."""

    def __init__(self) -> None:
        self._marked: dict[SessionId, tuple[bytes, float]] = {}

    def update(self, sessions: Iterable[Session], now: float) -> None:
        """Look at the outboxes of sessions that delay others, each of which has messages; call this once a second.

        Sessions that are left out have no stall.
        """
        before, self._marked = self._marked, {}
        for session in sessions:
            seen, head = before.get(session.id), session.outbox.head(GRANT)
            still = seen is not None and any(message is seen[0] for message in head)
            self._marked[session.id] = seen if seen is not None and still else (head[-1], now)

    def among(self, sessions: Iterable[Session], now: float) -> list[Session]:
        """Return the sessions that have taken less than ``GRANT`` bytes, or one longer message, in ``PATIENCE``."""
        marked = self._marked
        return [s for s in sessions if s.id in marked and now - marked[s.id][1] >= PATIENCE]
