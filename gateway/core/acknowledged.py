"""The outbox of a client that says what it has received: nothing is given up before that.

Source: docs/protocol.md, Acknowledged delivery. Both sides count the messages of the session, from 1; the number is
never sent with a message, since one encoded message goes to many sessions. What was handed to a connection is kept, and
counts against the limit, until it is acknowledged; another connection gets it again.
"""

from __future__ import annotations

from gateway.core.outbox import Outbox

FEATURE = "ack"  # id of the feature, on both sides


class AcknowledgedOutbox(Outbox):
    """A queue whose head leaves it when the client has it."""

    __slots__ = ("_first", "_handed")

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._first = 0  # how many messages were acknowledged, all before the head
        self._handed = 0  # the number of the last message that any connection took

    @property
    def acknowledged(self) -> int:
        """How many messages the client has for certain."""
        return self._first

    def take(self, at_most: int) -> list[bytes]:
        """See ``Outbox.take``."""
        batch = super().take(at_most)
        self._handed = max(self._handed, self._first + self._taken)
        return batch

    def confirm(self, left: int = 0) -> None:
        """Nothing: that the kernel has a message says nothing of the client."""

    def acknowledge(self, received: int) -> bool:
        """Drop what the client has, ``received`` messages in all; ``False`` when that cannot be true."""
        count = received - self._first
        if received > self._handed or count < 0:
            return False
        for _ in range(count):
            self.size -= len(self._messages.popleft())
        self._first = received
        self._taken = max(self._taken - count, 0)
        return True

    def acknowledge_all(self) -> None:
        """Count as received what was handed to a connection: the client does not say."""
        self.acknowledge(self._handed)
