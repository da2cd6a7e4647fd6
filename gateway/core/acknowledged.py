"""The outbox of a client that acknowledges messages: a message is kept until it is acknowledged.

Source: docs/protocol.md, Acknowledged delivery. Both sides count the messages of the session, from 1; the
number is not part of a message, since one encoded message goes to many sessions. A message that was written to a
connection is kept, and counts against the limit, until it is acknowledged; the next connection receives it again.
"""

from __future__ import annotations

from gateway.core.outbox import Outbox

FEATURE = "ack"  # feature id that client and server announce


class AcknowledgedOutbox(Outbox):
    """An outbox that removes messages when the client acknowledges them, not when they are written."""

    __slots__ = ("_acknowledged", "_sent")

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._acknowledged = 0  # number of acknowledged messages; the head of the queue has the next number
        self._sent = 0  # number of the last message that any connection has taken

    def take(self, at_most: int) -> list[bytes]:
        """See ``Outbox.take``."""
        batch = super().take(at_most)
        self._sent = max(self._sent, self._acknowledged + self._taken)
        return batch

    def confirm(self, left: int = 0) -> None:
        """Do nothing: a message that the kernel has accepted may still not reach the client."""

    def keep(self, message: bytes) -> None:
        """Do nothing: every message is kept until it is acknowledged."""

    def acknowledge(self, received: int) -> bool:
        """Drop the first ``received`` messages of the session; ``False``: more than were sent, or fewer than before."""
        count = received - self._acknowledged
        if received > self._sent or count < 0:
            return False
        for _ in range(count):
            self.size -= len(self._messages.popleft())
        if not self._messages:
            self._limit = min(self._limit, self._base_limit)
        self._acknowledged = received
        self._taken = max(self._taken - count, 0)
        return True

    def acknowledge_all(self) -> None:
        """Treat every message that a connection has taken as received, for a client that resumes without a count."""
        self.acknowledge(self._sent)
