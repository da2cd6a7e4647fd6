"""Draining: the process ends after the last call; the progress is logged.

Source: docs/operations.md, "Draining"; reference 2.5.
"""

from __future__ import annotations

import asyncio
import logging

from gateway.core.drain import AwaitedSessions
from gateway.flows.services import Services
from gateway.flows.tasks import Tasks

PERIOD = 1.0  # seconds between two checks for awaited sessions
PROGRESS_PERIOD = 10.0  # seconds between two log lines about the progress

log = logging.getLogger("portunus")


class NotDraining(Exception):
    """There is no drain that could be cancelled; the text is one sentence."""


class Draining:
    """Begins, watches and cancels the drain; ``over`` is set when the process has to end."""

    def __init__(self, services: Services) -> None:
        self.over = asyncio.Event()
        self._services = services
        self._drain = services.drain
        self._tasks = Tasks()
        self._watch_task: asyncio.Task[None] | None = None
        self._irrevocable = False

    def begin(self, seconds: float) -> None:
        """Drain until the last call has ended, at most ``seconds``; this replaces the deadline of a running drain."""
        self._begin(AwaitedSessions.IN_CALLS, self._services.clock() + seconds)

    def begin_until_last_session(self) -> None:
        """Drain until the last session has ended; the caller has stopped listening.

        The deadline of a running drain remains.
        """
        self._irrevocable = True
        self._begin(AwaitedSessions.ALL, self._drain.deadline)

    def end(self, seconds: float) -> None:
        """Drain as ``begin`` does, but keep an earlier deadline; on the second call end the process at once."""
        drain = self._drain
        if drain.ends_at_signal:
            drain.deadline = self._services.clock()
            log.info("the process ends at once")
            self.over.set()
            return
        left = drain.seconds_left(self._services.clock())
        drain.ends_at_signal = True
        self.begin(seconds if left is None else min(seconds, left))

    def cancel(self) -> None:
        """Accept new sessions again, and keep the process running.

        Raises:
            NotDraining: nothing has changed.
        """
        if not self._drain.active:
            raise NotDraining("the gateway is not being drained")
        if self._irrevocable or self.over.is_set():
            raise NotDraining("the drain cannot be cancelled any more: the gateway has closed its addresses")
        self._drain.cancel()
        if self._watch_task is not None:
            self._watch_task.cancel()
            self._watch_task = None
        log.info("the drain was cancelled: new sessions are accepted")

    def progress(self) -> str:
        """Return the progress of the drain in words; empty without a drain."""
        return f"draining: {self._progress_text()}" if self._drain.active else ""

    async def close(self) -> None:
        """Cancel the task that watches the drain, and wait for its end."""
        await self._tasks.close()

    def _begin(self, awaited: AwaitedSessions, deadline: float | None) -> None:
        self._drain.begin(awaited, deadline)
        if self._end_if_over():
            return
        log.info("draining: no new sessions are accepted; %s", self._progress_text())
        if self._watch_task is None:
            self._watch_task = self._tasks.spawn(self._watch(), "drain")

    async def _watch(self) -> None:
        clock = self._services.clock
        reported_at = clock()
        while not self._end_if_over():
            left = self._drain.seconds_left(clock())
            await asyncio.sleep(PERIOD if left is None else min(left, PERIOD))
            if clock() - reported_at >= PROGRESS_PERIOD and not self._drain.is_over(self._services.hub, clock()):
                reported_at = clock()
                log.info("draining: %s; new sessions refused: %d", self._progress_text(), self._drain.refused)

    def _end_if_over(self) -> bool:
        drain, hub = self._drain, self._services.hub
        if not self.over.is_set() and drain.is_over(hub, self._services.clock()):
            count = drain.count(hub)
            text = self._count_text(count)
            log.info("drained: %s", f"the time is over, {text}" if count else text)
            self.over.set()
        return self.over.is_set()

    def _count_text(self, count: int) -> str:
        return f"sessions {'in calls' if self._drain.awaited is AwaitedSessions.IN_CALLS else 'open'}: {count}"

    def _progress_text(self) -> str:
        left = self._drain.seconds_left(self._services.clock())
        limit = "" if left is None else f", in {left:.0f} s at the latest"
        return f"{self._count_text(self._drain.count(self._services.hub))}; the process ends with the last one{limit}"
