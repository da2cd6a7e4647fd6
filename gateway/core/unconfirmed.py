"""Messages that were sent to a client without ``ack`` and that no pong has confirmed yet.

A pong confirms every message that was written to the connection before its ping: WebSocket connections are ordered, and
proxies pass control frames on. Messages are kept here only if a client may safely receive them twice.

Source: docs/protocol.md, "Chat messages after a lost connection".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

LIMIT = 262144  # bytes; beyond it the oldest messages are no longer kept


class UnconfirmedMessages:
    """The kept messages in the order in which they were queued, numbered from 1."""

    __slots__ = ("_last", "_marked", "_messages", "_size")

    def __init__(self) -> None:
        self._messages: deque[bytes] = deque()
        self._size = 0
        self._last = 0  # number of the message that was added last
        self._marked = 0  # number of the last message that a ping was sent for

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, message: bytes) -> None:
        """Keep a message that is being queued, and drop the oldest messages beyond ``LIMIT``."""
        self._messages.append(message)
        self._size += len(message)
        self._last += 1
        while self._size > LIMIT:
            self._size -= len(self._messages.popleft())

    @property
    def wants_ping(self) -> bool:
        """Whether there are messages that no ping was sent for."""
        return self._marked < self._last and bool(self._messages)

    def mark(self) -> int:
        """Return the number of the last message; the pong of the ping that is sent now confirms up to it."""
        self._marked = self._last
        return self._last

    def unmark(self) -> None:
        """Request a new ping for all messages: another connection sends them."""
        self._marked = self._last - len(self._messages)

    def confirm(self, number: int) -> None:
        """Drop all messages up to a number that ``mark`` returned."""
        while self._messages and self._last - len(self._messages) < number:
            self._size -= len(self._messages.popleft())

    def without(self, queued: Collection[bytes]) -> list[bytes]:
        """Return the messages that are not queued, compared by identity."""
        identities = set(map(id, queued))
        return [message for message in self._messages if id(message) not in identities]

    def retain(self, queued: Collection[bytes]) -> None:
        """Drop all messages that are not queued, compared by identity."""
        self.confirm(self._last - len(self._messages) + len(self.without(queued)))
