"""The bytes that clients may relay to one room or one session per second.

Source: docs/protocol.md, "Limits". No client can fill outboxes faster than their clients empty them: a message beyond
the budget of its recipients waits, and the sender's connection is not read meanwhile. Each sender may exceed the budget
by a few bytes, so that the floods of some senders do not delay the short messages of others. An offer that a session
receives without having requested it, after a ``sendoffer`` or a new PeerConnection of the publisher, is subtracted from
the same budget, and waits in the queue of its stream. The budget of a session is granted in small parts, so that the
bytes that wait for many sessions together can be limited, too (``core.relayed_backlog``). The events of a room that
internal clients cause have a budget of their own, so that no flood of messages delays a bridge that serves many rooms.
"""

from __future__ import annotations

from gateway.core.limits import Limits

SLOW_RATE_DIVISOR = 16  # divides the rate while the outbox of a recipient fills up
FULL_OUTBOX_DIVISOR = 4  # divides the outbox limit: a fuller outbox counts as filling up
SENDER_BURST = 4096  # bytes that each sender may relay beyond the budget
SENDER_RATE = 512  # bytes per second
ENVELOPE = 192  # bytes of a relayed message besides its ``data``, approximately
OFFER_COST = 32_768  # bytes that an offer costs before its length is known; one of 31 sections has about 30,000
SLOWEST_RATE = 512  # bytes per second to a session with more than its share of the backlog (``relayed_backlog``)
GRANT = 32_768  # bytes of the budget of one session that are granted at a time
RECIPIENTS_PER_CHARGE = 128  # recipients; a message counts once more for each full 128 of them
_SHORTEST_WAIT, LONGEST_WAIT = 0.05, 1.0  # seconds
_NO_LIMIT = 1 << 60  # more than anybody relays


def cost(size: int, recipients: int) -> int:
    """Return the bytes that a message of ``size`` bytes costs; it counts several times in a large room."""
    return size * (1 + recipients // RECIPIENTS_PER_CHARGE)


class RelayBudget:
    """The bytes left for one room or session: subtract each message from ``left``; below 0, call ``refill``.

    ``grant`` is the greatest number of bytes that ``left`` has after a refill; ``relayed``, of the budget of a session,
    the greatest number of relayed bytes that can be in its outbox.
    """

    __slots__ = ("_filled_at", "_grant", "_saved", "_slow_at", "left", "relayed")

    def __init__(self, grant: int = _NO_LIMIT) -> None:
        self.left = 0.0
        self.relayed = 0
        self._grant = grant
        self._saved = 0.0  # bytes of the budget that are not granted
        self._filled_at: float | None = None  # None: full
        self._slow_at: float | None = None  # when ``refill_slowly`` grants a message; None: not called since a refill

    def refill(self, size: int, limits: Limits, outbox_fills: bool, now: float) -> float:
        """Add the bytes for the time since the last call; return 0 if a message of ``size`` bytes may be relayed.

        Otherwise add the bytes of the message again, and return the seconds until the next attempt. ``outbox_fills``:
        the outbox of a recipient fills up, so that the budget grows at a lower rate.
        """
        self._slow_at = None
        rate, burst = float(limits.relayed_bytes_per_second), float(limits.relayed_bytes_burst)
        if not rate:
            self.left = float(self._grant)
            return 0.0
        if outbox_fills:
            rate /= SLOW_RATE_DIVISOR
        available = burst
        if self._filled_at is not None:
            available = min(self.left + size + self._saved + rate * (now - self._filled_at), burst)
        self._filled_at = now
        if available > 0:  # a long message may exceed the bytes left: else shorter messages could delay it for ever
            self.left = min(available - size, self._grant)
            self._saved = available - size - self.left
            return 0.0
        self.left, self._saved = available, 0.0
        return min(max(-available / rate, _SHORTEST_WAIT), LONGEST_WAIT)

    def refill_slowly(self, size: int, now: float) -> float:
        """Add the bytes of a message again; return 0 if it may be relayed at ``SLOWEST_RATE`` nevertheless.

        Otherwise return the seconds until the next attempt. So no sender waits for ever, even if its recipient cannot
        acknowledge because it waits for this sender, too.
        """
        self.left += size
        if self._slow_at is None:
            self._slow_at = now + size / SLOWEST_RATE
        if now < self._slow_at:
            return min(max(self._slow_at - now, _SHORTEST_WAIT), LONGEST_WAIT)
        self._slow_at = now + size / SLOWEST_RATE
        return 0.0
