"""The bytes that clients may relay to one room or one session: what comes in faster has to wait at its sender.

Source: docs/protocol.md, "Limits". Nobody can fill the outboxes of others faster than they may be emptied: beyond the
budget of the recipients a message waits, and its sender is not read from, unless it fits into a small share of the
sender's own, so that a flood of some does not delay the short messages of others.
"""

from __future__ import annotations

from gateway.core.limits import Limits

SLOWDOWN = 16  # the rate is divided by this while a recipient is far behind
FAR_BEHIND = 4  # a recipient is, when its outbox is full to this part
SHARE_BURST = 4096  # bytes that each sender may relay beyond the budget
SHARE_RATE = 512  # bytes per second
_SHORTEST_WAIT, _LONGEST_WAIT = 0.05, 1.0  # seconds


class RelayBudget:
    """The bytes left for one room or session; each message is subtracted, and ``refill`` called when it is negative."""

    __slots__ = ("_filled_at", "left")

    def __init__(self) -> None:
        self.left = 0.0
        self._filled_at: float | None = None  # None: full

    def refill(self, size: int, limits: Limits, far_behind: bool, now: float) -> float:
        """Add what was earned; return 0 if the message of ``size`` bytes may be relayed, or give its bytes back.

        In that case the seconds are returned after which it is worth another try.
        """
        rate, burst = float(limits.relayed_bytes_per_second), float(limits.relayed_bytes_burst)
        if not rate:
            self.left = float(1 << 60)
            return 0.0
        if far_behind:
            rate /= SLOWDOWN
        before = burst
        if self._filled_at is not None:
            before = min(self.left + size + rate * (now - self._filled_at), burst)
        self._filled_at = now
        if before > 0:  # a long message may exceed what is left, so that it is not overtaken for ever
            self.left = before - size
            return 0.0
        self.left = before
        return min(max(-before / rate, _SHORTEST_WAIT), _LONGEST_WAIT)
