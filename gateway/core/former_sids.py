"""The sids of a session's media connections that have ended: messages about them may still be on their way.

Source: reference 9.4.
"""

from __future__ import annotations

from collections.abc import Hashable

LIFETIME = 60.0  # seconds; a client whose connection is lost sends the messages that it kept within 30 s (2.5)
MAX_SIDS = 128  # of one session: more than the subscriptions of a call of 100, which may all be replaced at once
MAX_SID_LENGTH = 64  # characters; longer sids, which clients may choose for publications, are not stored


class FormerSids:
    """The sids of a session's latest ended media connections; each is stored for ``LIFETIME``.

    ``now`` is monotonic, in seconds.
    """

    __slots__ = ("_ended",)

    def __init__(self) -> None:
        self._ended: dict[tuple[Hashable, str], float] = {}  # stream and sid -> time of the end, oldest first

    def add(self, stream: Hashable, sid: str, now: float) -> None:
        """Store the sid of a connection of a stream that ends now."""
        if not 0 < len(sid) <= MAX_SID_LENGTH:
            return
        self._forget(now)
        self._ended.pop((stream, sid), None)
        self._ended[stream, sid] = now
        if len(self._ended) > MAX_SIDS:
            del self._ended[next(iter(self._ended))]

    def contains(self, stream: Hashable, sid: str, now: float) -> bool:
        """Return whether a connection of a stream with this sid ended within ``LIFETIME``."""
        self._forget(now)
        return (stream, sid) in self._ended

    def _forget(self, now: float) -> None:
        while self._ended and next(iter(self._ended.values())) + LIFETIME <= now:
            del self._ended[next(iter(self._ended))]
