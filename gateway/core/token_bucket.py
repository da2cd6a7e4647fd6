"""Token buckets that limit the rates of messages and bytes from a client.

Source: docs/protocol.md, "Limits". A ``TokenBucket`` is refilled only when it is empty, for the time since the last
refill; so a client may send at most twice the burst at once, and the rate in the long run.
"""

from __future__ import annotations

from typing import Self

from gateway.core.limits import Limits

UNLIMITED = float(1 << 60)  # more than any client sends


class TokenBucket:
    """The frames (``messages``) and bytes (``octets``) that a client may still send.

    The caller subtracts those of each frame, and calls ``refill`` when a number is negative.
    """

    __slots__ = ("_filled_at", "messages", "octets")

    def __init__(self, limits: Limits, now: float) -> None:
        self.messages = float(limits.messages_burst) if limits.messages_per_second else UNLIMITED
        self.octets = float(limits.bytes_burst) if limits.bytes_per_second else UNLIMITED
        self._filled_at = now

    @classmethod
    def before_hello(cls, limits: Limits, now: float) -> Self:
        """Return the allowance of a connection until its hello; the caller never refills it."""
        bucket = cls(limits, now)
        bucket.messages = min(bucket.messages, limits.messages_before_hello or UNLIMITED)
        bucket.octets = min(bucket.octets, limits.bytes_before_hello or UNLIMITED)
        return bucket

    def refill(self, limits: Limits, now: float) -> bool:
        """Add the tokens earned since the last refill; ``False``: the latest frame still exceeds a limit."""
        elapsed = now - self._filled_at
        self._filled_at = now
        self.messages = _refilled(self.messages, limits.messages_per_second, limits.messages_burst, elapsed)
        self.octets = _refilled(self.octets, limits.bytes_per_second, limits.bytes_burst, elapsed)
        return self.messages >= 0 and self.octets >= 0


class QuantityBucket:
    """A token bucket of one quantity, initially full."""

    __slots__ = ("_filled_at", "_left")

    def __init__(self) -> None:
        self._left: float | None = None  # None: full
        self._filled_at = 0.0

    def take(self, size: int, rate: int, burst: int, now: float) -> bool:
        """Take ``size`` tokens; ``False``: there are too few, and none is taken. ``rate`` 0 = no limit."""
        left = float(burst) if self._left is None else _refilled(self._left, rate, burst, now - self._filled_at)
        self._filled_at = now
        fits = not rate or size <= left
        self._left = left - size if fits else left
        return fits


def _refilled(left: float, rate: int, burst: int, elapsed: float) -> float:
    """Return the tokens after ``elapsed`` seconds."""
    return min(left + rate * elapsed, float(burst)) if rate else UNLIMITED
