"""Counts the streams of all sessions, each of which needs a PeerConnection, for SFUs with a limited number of them.

Source: docs/operations.md, "Limits". The clients of one room, or of one address, get at most ``MAX_SHARE`` of the SFU's
PeerConnections: the rest is left for other calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

from gateway.core.session import Session
from gateway.flows.media.session_stream import SessionStream

MAX_SHARE = 7 / 8  # of the SFU's PeerConnections


class StreamTotals:
    """The number of streams, in all, by room and by client address (IPv6: /64 network)."""

    def __init__(self) -> None:
        self._streams: dict[SessionStream, tuple[Hashable, ...]] = {}
        self._counts: Counter[Hashable] = Counter()

    def add(self, stream: SessionStream) -> None:
        """Count a new stream of a session."""
        self._streams[stream] = groups = _groups(stream.session)
        self._counts.update(groups)

    def remove(self, stream: SessionStream) -> None:
        """Stop counting a stream. Idempotent."""
        for group in self._streams.pop(stream, ()):
            self._counts[group] -= 1
            if not self._counts[group]:
                del self._counts[group]

    def have_place(self, session: Session, capacity: int) -> bool:
        """Return whether an SFU with ``capacity`` PeerConnections (0: any number) has one for a stream of a session."""
        if not capacity:
            return True
        share = max(int(capacity * MAX_SHARE), 1)
        return len(self._streams) < capacity and all(self._counts[group] < share for group in _groups(session))


def _groups(session: Session) -> tuple[Hashable, ...]:
    """Return the keys under which a session's streams count: its room and its client's address, as far as known."""
    groups: tuple[Hashable, ...] = () if session.room is None else (session.room,)
    return groups if session.network is None else (*groups, ("network", session.network))
