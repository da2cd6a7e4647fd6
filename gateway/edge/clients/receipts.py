"""Receipts of a WebSocket connection: a pong confirms the messages that were written before its ping.

Source: docs/protocol.md, "Chat messages after a lost connection".
"""

from __future__ import annotations

from gateway.core.outbox import Outbox

PERIOD = 1.0  # seconds from one ping to the next one that requests a receipt


class Receipts:
    """The receipt for which a connection waits, if any; times are seconds of the event loop's clock."""

    __slots__ = ("_expected", "_pinged_at")

    def __init__(self) -> None:
        self._pinged_at = float("-inf")
        self._expected: tuple[int, int] | None = None  # content of the ping, number of the message that it confirms

    def clear(self) -> None:
        """Expect no receipt any longer, since the connection begins to send another outbox."""
        self._expected = None

    def ping_time(self, outbox: Outbox) -> float | None:
        """Return the time from which a ping may request a receipt; ``None``: none is needed, or a pong is awaited."""
        kept = outbox.unconfirmed
        if kept is None or self._expected is not None or not kept.wants_ping:
            return None
        return self._pinged_at + PERIOD

    def ping_sent(self, now: float, content: int, outbox: Outbox | None) -> None:
        """Record a ping, and expect its receipt if it follows all messages of the outbox; ``content`` increases."""
        self._pinged_at = now
        if outbox is not None and self.ping_time(outbox) is not None and not outbox.waiting and outbox.unconfirmed:
            self._expected = content, outbox.unconfirmed.mark()

    def pong_received(self, content: int, outbox: Outbox) -> None:
        """Confirm the messages before a ping; a client may answer only its latest ping (RFC 6455 5.5.3)."""
        if self._expected is not None and content >= self._expected[0]:
            number, self._expected = self._expected[1], None
            if outbox.unconfirmed is not None:
                outbox.unconfirmed.confirm(number)
