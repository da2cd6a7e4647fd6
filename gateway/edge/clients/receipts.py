"""Receipts of a WebSocket connection: a pong confirms the messages that were written before its ping.

Source: docs/protocol.md, "Chat messages after a lost connection".
"""

from __future__ import annotations

from gateway.core.outbox import Outbox

PERIOD = 1.0  # seconds between two pings that request a receipt


class Receipts:
    """The receipt that a connection waits for, if any; times in seconds of the event loop."""

    __slots__ = ("_expected", "_pinged_at")

    def __init__(self) -> None:
        self._pinged_at = float("-inf")
        self._expected: tuple[int, int] | None = None  # content of the ping, number of the message that it confirms

    def clear(self) -> None:
        """Expect nothing any longer: the connection sends another outbox."""
        self._expected = None

    def due(self, outbox: Outbox) -> float | None:
        """Return when to ping for the messages of an outbox; ``None``: no need, or a receipt is expected already."""
        kept = outbox.unconfirmed
        if kept is None or self._expected is not None or not kept.wants_ping:
            return None
        return self._pinged_at + PERIOD

    def pinged(self, now: float, content: int, outbox: Outbox | None) -> None:
        """Note a ping that follows all messages that were taken from the outbox; ``content`` never decreases."""
        self._pinged_at = now
        if outbox is not None and self.due(outbox) is not None and not outbox.waiting and outbox.unconfirmed:
            self._expected = content, outbox.unconfirmed.mark()

    def ponged(self, content: int, outbox: Outbox) -> None:
        """Confirm the messages before a ping; clients may leave out all pongs but the one for the latest ping."""
        if self._expected is not None and content >= self._expected[0]:
            number, self._expected = self._expected[1], None
            if outbox.unconfirmed is not None:
                outbox.unconfirmed.confirm(number)
