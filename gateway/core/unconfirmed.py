"""Messages to a client without ``ack``, queued or sent, whose receipt is not confirmed by a pong yet.

A pong confirms every message that was written to the connection before its ping: WebSocket connections are ordered, and
proxies pass control frames on. Over long polling, fetches confirm messages in place of pongs. Messages are kept
here only if a client may safely receive them twice.

Source: docs/protocol.md, "Chat messages after a lost connection".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

MAX_KEPT_BYTES = 262144  # beyond it the oldest messages are no longer kept


class UnconfirmedMessages:
    """The kept messages in the order in which they were queued, numbered from 1."""

    __slots__ = ("_last", "_marked", "_messages", "_size")

    def __init__(self) -> None:
        self._messages: deque[bytes] = deque()
        self._size = 0
        self._last = 0  # number of the latest message
        self._marked = 0  # number of the latest message that was followed by a ping

    def add(self, message: bytes) -> None:
        """Keep a message that is being queued; beyond ``MAX_KEPT_BYTES`` the oldest messages are dropped."""
        self._messages.append(message)
        self._size += len(message)
        self._last += 1
        while self._size > MAX_KEPT_BYTES:
            self._size -= len(self._messages.popleft())

    @property
    def wants_ping(self) -> bool:
        """Whether a message is kept that no ping has followed."""
        return self._marked < self._last and bool(self._messages)

    def mark(self) -> int:
        """Note that a ping is being sent; return the number up to which its pong confirms messages."""
        self._marked = self._last
        return self._last

    def unmark(self) -> None:
        """Require a ping for all kept messages: the messages are sent again, on another connection."""
        self._marked = self._last - len(self._messages)

    def confirm(self, number: int) -> None:
        """Drop all messages up to a number that ``mark`` returned."""
        self._drop(number - (self._last - len(self._messages)))

    def without(self, queued: Collection[bytes]) -> list[bytes]:
        """Return the kept messages that are not in the queue (compared by identity): they have been sent."""
        identities = set(map(id, queued))
        return [message for message in self._messages if id(message) not in identities]

    def retain(self, queued: Collection[bytes]) -> None:
        """Drop the messages that are not in the queue; all of them were sent before the queued ones."""
        self._drop(len(self.without(queued)))

    def _drop(self, count: int) -> None:
        for _ in range(min(count, len(self._messages))):
            self._size -= len(self._messages.popleft())
