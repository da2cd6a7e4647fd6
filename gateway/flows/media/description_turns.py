"""Limits the descriptions that are parsed in one iteration of the event loop.

Source: docs/operations.md, "Limits". Parsing a long description takes about 20 ms. Once ``ITERATION_BYTES`` have been
parsed in an iteration, no further description is begun. The others wait, and one of them is parsed in each later
iteration, first come, first served; the messages of all other clients are handled in between.
"""

from __future__ import annotations

import asyncio
from collections import deque

from gateway.core.ids import SessionId
from gateway.flows.postponed import Postponed

ITERATION_BYTES = 16_384  # of descriptions, which take about 5 ms


class DescriptionsBusy(Postponed):
    """The description has to wait: others are parsed in this iteration of the event loop."""

    def __init__(self, admitted: asyncio.Future[None]) -> None:
        super().__init__()
        self._admitted = admitted

    async def wait(self) -> None:
        """See ``Postponed.wait``."""
        await self._admitted


class DescriptionTurns:
    """Admits descriptions to be parsed, until those of an iteration of the event loop have ``ITERATION_BYTES``."""

    def __init__(self) -> None:
        self._left = ITERATION_BYTES
        self._waiting: deque[tuple[SessionId, asyncio.Future[None]]] = deque()
        self._chosen: SessionId | None = None  # the session that may parse next: it waited longest
        self._scheduled = False

    def take(self, session: SessionId, size: int) -> None:
        """Reserve the parsing of a description of ``size`` bytes in this iteration; a session parses one at a time.

        Raises:
            DescriptionsBusy: the description has to wait.
        """
        if session == self._chosen:
            self._chosen = None
        elif self._left <= 0 or self._waiting or self._chosen is not None:
            admitted = asyncio.get_running_loop().create_future()
            self._waiting.append((session, admitted))
            self._schedule()
            raise DescriptionsBusy(admitted)
        self._left -= size
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._scheduled = False
        self._left, self._chosen = ITERATION_BYTES, None
        while self._waiting and self._chosen is None:
            session, admitted = self._waiting.popleft()
            if not admitted.done():  # else the task that waits was cancelled
                admitted.set_result(None)
                self._chosen = session
        if self._chosen is not None:
            self._schedule()
