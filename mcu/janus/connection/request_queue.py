"""Requests on their way out, over one connection after another: which of them may have been lost with a connection.

A request that never left is sent over the next connection. Of one that left and was not answered nobody knows whether
Janus took it: it is sent again where that does no harm, and the others are named to whoever asked for them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class QueuedRequest:
    """One request."""

    transaction: str
    text: str
    again: bool  # whether it may be sent a second time
    sent: bool = False
    repeated: bool = False


class RequestQueue:
    """The requests of a session, in order."""

    def __init__(self) -> None:
        self._queue: deque[QueuedRequest] = deque()
        self._open: dict[str, QueuedRequest] = {}  # not answered yet, in order
        self._filled = asyncio.Event()

    def put(self, transaction: str, text: str, *, again: bool) -> None:
        """Send a request in its turn; it is open until ``close``."""
        self._open[transaction] = request = QueuedRequest(transaction, text, again)
        self._queue.append(request)
        self._filled.set()

    def tell(self, text: str) -> None:
        """Send a request that nobody follows."""
        self._queue.append(QueuedRequest("", text, again=False))
        self._filled.set()

    async def take(self) -> str:
        """Return the next to send, waiting for one."""
        while not self._queue:
            self._filled.clear()
            await self._filled.wait()
        request = self._queue.popleft()
        request.sent = True
        return request.text

    def close(self, transaction: str) -> bool:
        """Follow a request no longer; returns whether it ever left. One that did not is not sent."""
        request = self._open.pop(transaction, None)
        if request is None or request.sent:
            return True
        self._queue.remove(request)
        return False

    def repeated(self, transaction: str) -> bool:
        """Tell whether a request had to be sent twice."""
        request = self._open.get(transaction)
        return request is not None and request.repeated

    def resume(self) -> list[str]:
        """Begin with another connection; returns the requests that may be lost and are not sent again."""
        doubtful = [request for request in self._open.values() if request.sent]
        again = [request for request in doubtful if request.again]
        for request in again:
            request.sent, request.repeated = False, True
        self._queue.extendleft(reversed(again))
        self._filled.set()
        return [request.transaction for request in doubtful if not request.again]
