"""The requests of a session to Janus, over one connection after another.

A request that was not sent is sent over the next connection. Whether a request that was sent and not answered has
reached Janus is unknown: it is sent again if it is repeatable, otherwise its call fails (``RequestInterrupted``).
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class QueuedRequest:
    """A request to Janus."""

    transaction: str
    text: str
    repeatable: bool  # a second delivery does no harm
    sent: bool = False
    repeated: bool = False


class RequestQueue:
    """The requests of a session that wait to be sent, in order, and the sent requests that wait for an answer."""

    def __init__(self) -> None:
        self._queue: deque[QueuedRequest] = deque()
        self._pending: dict[str, QueuedRequest] = {}  # not answered yet, in order
        self._filled = asyncio.Event()

    def put(self, transaction: str, text: str, *, repeatable: bool) -> None:
        """Append a request; it is pending until ``forget``."""
        self._pending[transaction] = request = QueuedRequest(transaction, text, repeatable)
        self._queue.append(request)
        self._filled.set()

    async def next_text(self) -> str:
        """Remove the next request, waiting for one, and return its text."""
        while not self._queue:
            self._filled.clear()
            await self._filled.wait()
        request = self._queue.popleft()
        request.sent = True
        return request.text

    def forget(self, transaction: str) -> bool:
        """Forget a request that is answered or cancelled; return whether it was sent. If not, it never will be."""
        request = self._pending.pop(transaction, None)
        if request is None or request.sent:
            return True
        self._queue.remove(request)
        return False

    def was_repeated(self, transaction: str) -> bool:
        """Return whether a pending request was queued again because its connection broke."""
        request = self._pending.get(transaction)
        return request is not None and request.repeated

    def requeue(self) -> list[str]:
        """Queue the repeatable unanswered requests for another connection, before all others.

        Returns the transactions of the sent requests that are not repeatable.
        """
        unanswered = [request for request in self._pending.values() if request.sent]
        again = [request for request in unanswered if request.repeatable]
        for request in again:
            request.sent, request.repeated = False, True
        self._queue.extendleft(reversed(again))
        self._filled.set()
        return [request.transaction for request in unanswered if not request.repeatable]
