"""What waits to be sent to one session.

Invariant 3, one way out: messages for a session are only appended here, and only its connection takes them out, in
order; resume is another connection that drains the same outbox. What was handed to the kernel counts as delivered;
what was taken but not handed over is given back by ``rewind`` and sent again.

Invariant 6, slow clients lose alone: appending never blocks, and an outbox over its limit says so, for the session to
end.

Source: reference 5.6; the limit is a deviation (docs/protocol.md).
"""

from __future__ import annotations

from collections import deque
from enum import Enum


class Offline(Enum):
    """What the queue of a disconnected session must know of a message."""

    KEEP = 0
    REFRESH_ONCE = 1  # kept once


class Outbox:
    """A bounded queue of encoded messages; sizes in bytes."""

    __slots__ = ("_limit", "_messages", "_refresh", "_taken", "size")

    def __init__(self, limit: int) -> None:
        self._messages: deque[bytes] = deque()
        self._taken = 0  # how many messages at the head were taken and not yet confirmed
        self._refresh = False  # whether a chat refresh came while nobody was connected
        self._limit = limit
        self.size = 0

    def append(self, message: bytes) -> bool:
        """Add a message; ``False`` when it passes the limit: the session must end (the message is not added)."""
        size = self.size + len(message)
        if size > self._limit:
            return False
        self._messages.append(message)
        self.size = size
        return True

    def seal(self) -> bool:
        """Take nothing more, for a client must not go on with a gap; ``False`` when sealed already."""
        if self._limit < 0:
            return False
        self._limit = -1
        return True

    def append_offline(self, message: bytes, offline: Offline) -> bool:
        """Add a message while nobody is connected; a second chat refresh is left out."""
        if offline is Offline.REFRESH_ONCE:
            if self._refresh:
                return True
            self._refresh = True
        return self.append(message)

    def attached(self) -> None:
        """Somebody is connected: what comes now is no longer left out."""
        self._refresh = False

    def holds(self, beginning: bytes) -> bool:
        """Whether a message that begins so is kept, whenever it came."""
        return any(message.startswith(beginning) for message in self._messages)

    def truncate_after(self, last: bytes) -> None:
        """Drop what came after a message, this very object, that nobody was connected to take."""
        messages = self._messages
        while messages and messages[-1] is not last:
            self.size -= len(messages.pop())

    @property
    def waiting(self) -> bool:
        """Whether there is something to take."""
        return len(self._messages) > self._taken

    def take(self, at_most: int) -> list[bytes]:
        """Take messages in order until they are ``at_most`` bytes or more; then ``confirm`` or ``rewind`` them."""
        messages = self._messages
        taken = self._taken
        if not taken and self.size <= at_most:
            batch = list(messages)
            self._taken = len(batch)
            return batch
        batch = []
        while taken < len(messages) and at_most > 0:
            batch.append(messages[taken])
            at_most -= len(messages[taken])
            taken += 1
        self._taken = taken
        return batch

    def confirm(self, left: int = 0) -> None:
        """Count the taken messages as delivered, but for the last ``left`` of them."""
        messages = self._messages
        count = self._taken - left
        self._taken = left
        if count == len(messages):
            messages.clear()
            self.size = 0
            return
        for _ in range(count):
            self.size -= len(messages.popleft())

    def rewind(self) -> None:
        """Give back what was taken and not confirmed."""
        self._taken = 0
