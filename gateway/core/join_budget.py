"""The bytes of join events that each user, or the guests of each network, may send the members of a room.

Source: docs/protocol.md, "Limits". The client chooses much of its join event, and each join sends the event to all
members. A room has no budget for all joins together: those of some clients must not delay those of others.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from gateway.core.limits import Limits
from gateway.core.token_bucket import QuantityBucket

if TYPE_CHECKING:
    from gateway.core.session import Session

# Bytes of a leave event, and of a join event without features, user data and Nextcloud session id.
EVENTS_OVERHEAD = 320
_SHORTEST_WAIT, _LONGEST_WAIT = 0.05, 1.0  # seconds


def joining_party(session: Session) -> Hashable:
    """Return the user of a session, or the network of a guest's address."""
    return session.userid or session.actor or session.network


def events_size(session: Session, room_session: str) -> int:
    """Return the approximate bytes of a session's join event and leave event."""
    features = sum(map(len, session.features)) + 3 * len(session.features)
    return EVENTS_OVERHEAD + features + len(session.user) + len(room_session)


class JoinBudgets:
    """The token buckets of one room."""

    __slots__ = ("_buckets",)

    def __init__(self) -> None:
        self._buckets: dict[Hashable, tuple[float, QuantityBucket]] = {}  # with the time of use, oldest first

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, party: Hashable, size: int, limits: Limits, now: float) -> float:
        """Take the bytes of one join; if there are too few, take none and return the seconds until the next attempt."""
        rate, burst = limits.join_bytes_per_second, limits.join_bytes_burst
        if not rate:
            return 0.0
        self._forget_full(now - burst / rate)
        _, bucket = self._buckets.pop(party, (now, QuantityBucket()))
        self._buckets[party] = now, bucket
        size = min(size, burst)
        if bucket.take(size, rate, burst, now):
            return 0.0
        return min(max(size / rate, _SHORTEST_WAIT), _LONGEST_WAIT)

    def _forget_full(self, used_before: float) -> None:
        """Drop the buckets that have become full since their last use."""
        while self._buckets:
            party, (used_at, _) = next(iter(self._buckets.items()))
            if used_at > used_before:
                return
            del self._buckets[party]
