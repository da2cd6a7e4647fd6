"""The outbox of a session: encoded messages that wait to be sent to its client.

Invariant 3, one outbox: messages for a session are appended here and nowhere else, and only its connection takes them
out, in order. After a resume another connection drains the same outbox. A message that the kernel has accepted counts
as delivered; a message that was taken but not accepted is put back by ``rewind`` and sent again.

The kernel's acceptance does not prove that the client has the message. A message that a client may safely receive twice
is kept until a pong proves it, and ``repeat`` queues it again for the next connection (``core.unconfirmed``).

Invariant 6, a slow client harms only itself: appending never blocks, and when the limit is exceeded the session ends.

Source: reference 5.6.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from enum import Enum

from gateway.core.unconfirmed import UnconfirmedMessages


class Offline(Enum):
    """How a message is queued while its session has no connection."""

    KEEP = 0
    REFRESH_ONCE = 1  # a request to reload the chat; one in the queue is enough


class Outbox:
    """A bounded queue of encoded messages; sizes in bytes."""

    __slots__ = ("_base_limit", "_limit", "_messages", "_refresh", "_taken", "size", "unconfirmed")

    def __init__(self, limit: int) -> None:
        self._messages: deque[bytes] = deque()
        self._taken = 0  # messages at the head that are taken but not confirmed
        self._refresh = False  # whether a chat refresh is queued for the disconnected session
        self._limit = self._base_limit = limit
        self.size = 0
        self.unconfirmed: UnconfirmedMessages | None = None  # until the first message is kept

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._messages)

    def head(self, size: int) -> list[bytes]:
        """Return the oldest messages, up to the one with which they have ``size`` bytes; do not take them."""
        head = []
        for message in self._messages:
            head.append(message)
            size -= len(message)
            if size <= 0:
                break
        return head

    def memory(self, overhead: int) -> int:
        """Return the size of the messages with an overhead for each."""
        return self.size + overhead * len(self._messages)

    def append(self, message: bytes) -> bool:
        """Append a message; return ``False`` without appending when it exceeds the limit: the session must end."""
        size = self.size + len(message)
        if size > self._limit:
            return False
        self._messages.append(message)
        self.size = size
        return True

    def append_list(self, messages: Iterable[bytes]) -> None:
        """Append the parts of a list regardless of the limit, since other sessions determine its length.

        Until the outbox is empty again, the limit is its present size plus the configured limit.
        """
        if self._limit < 0:
            return
        for message in messages:
            self._messages.append(message)
            self.size += len(message)
        self._limit = max(self._limit, self.size + self._base_limit)

    def seal(self) -> bool:
        """Refuse all further messages, so that the client does not go on with a gap; ``False`` when sealed already."""
        if self._limit < 0:
            return False
        self._limit = -1
        return True

    def append_offline(self, message: bytes, offline: Offline) -> bool:
        """Append a message while the session has no connection; skip a second chat refresh."""
        if offline is Offline.REFRESH_ONCE:
            if self._refresh:
                return True
            self._refresh = True
        return self.append(message)

    def keep(self, message: bytes) -> None:
        """Keep a message until the client has confirmed it, so that ``repeat`` can queue it again.

        Call this right after the message was appended. A message that was not appended (a second chat refresh, or
        beyond the limit) is not kept.
        """
        if self._messages and self._messages[-1] is message:
            if self.unconfirmed is None:
                self.unconfirmed = UnconfirmedMessages()
            self.unconfirmed.add(message)

    def repeat(self) -> None:
        """Queue again, before all other messages, the unconfirmed messages that are no longer queued.

        No message may be taken at that time without being confirmed or rewound.
        """
        if self.unconfirmed is None or self._limit < 0:
            return
        missed = self.unconfirmed.without(self._messages)
        self._messages.extendleft(reversed(missed))
        size = sum(map(len, missed))
        self.size += size
        self._limit += size  # until the outbox is empty again
        self.unconfirmed.unmark()

    def forget_unconfirmed(self) -> None:
        """Drop all kept messages: the client has left the room that they belong to."""
        self.unconfirmed = None

    def confirm_delivered(self) -> None:
        """Drop the kept messages that are no longer queued: the client has confirmed their receipt."""
        if self.unconfirmed is not None:
            self.unconfirmed.retain(self._messages)

    def connection_attached(self) -> None:
        """Stop skipping chat refreshes: the session has a connection again."""
        self._refresh = False

    def holds(self, prefix: bytes) -> bool:
        """Return whether a queued message, taken or not, has this prefix."""
        return any(message.startswith(prefix) for message in self._messages)

    def truncate_after(self, last: bytes) -> None:
        """Drop the messages behind ``last`` (compared by identity), which was appended while disconnected."""
        messages = self._messages
        while messages and messages[-1] is not last:
            self.size -= len(messages.pop())

    @property
    def waiting(self) -> bool:
        """Whether a message waits to be taken."""
        return len(self._messages) > self._taken

    def take(self, at_most: int) -> list[bytes]:
        """Take messages in order until their size reaches ``at_most`` bytes; the caller then confirms or rewinds."""
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
        """Remove the taken messages as delivered, except for the last ``left``."""
        messages = self._messages
        if not left and self._taken == len(messages):
            messages.clear()
            self.size = self._taken = 0
            if self._limit > self._base_limit:
                self._limit = self._base_limit
            return
        count = self._taken - left
        self._taken = left
        for _ in range(count):
            self.size -= len(messages.popleft())

    def rewind(self) -> None:
        """Put the taken but unconfirmed messages back into the queue."""
        self._taken = 0
