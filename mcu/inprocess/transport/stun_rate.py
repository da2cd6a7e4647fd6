"""A limit for the STUN messages that one ICE transport reads: each costs about 70 µs, and many peers may send at once.

Browsers pace their checks by 20 to 50 ms (Ta, RFC 8445 14.2), and get as many answers to those of the SFU.
"""

from __future__ import annotations

RATE = 100.0  # messages a second
BURST = 48.0  # messages


class StunRate:
    """A token bucket for the STUN messages of one group of sources."""

    def __init__(self) -> None:
        self._tokens = BURST
        self._filled_at = 0.0

    def take(self, now: float) -> bool:
        """Return whether a message that arrives at ``now`` may be read, and count it if so; in seconds, monotonic."""
        self._tokens = min(BURST, self._tokens + (now - self._filled_at) * RATE)
        self._filled_at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
