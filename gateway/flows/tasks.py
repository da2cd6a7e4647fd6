"""Who owns what runs in the background.

Invariant 10, nothing waits for ever: every task has a name and an owner, and is cancelled with it.
Invariant 5, order: what is put on a ``SerialQueue`` runs one after another.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

log = logging.getLogger("portunus.flows")

Job = Callable[[], Awaitable[None]]


class Tasks:
    """The running background tasks of one owner."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run ``work``; a failure is logged with its traceback."""
        task = asyncio.create_task(self._guard(work, name), name=name)
        self._running.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._running.discard(task)
            work.close()  # matters to what was cancelled before it began

        task.add_done_callback(ended)
        return task

    async def close(self) -> None:
        """Cancel everything that runs and wait for its end."""
        await asyncio.sleep(0)  # what was spawned just now begins, and can clean up after itself
        while running := [task for task in self._running if task is not asyncio.current_task()]:
            for task in running:
                task.cancel()
            await asyncio.wait(running)

    def __len__(self) -> int:
        return len(self._running)

    @staticmethod
    async def _guard(work: Coroutine[Any, Any, None], name: str) -> None:
        try:
            await work
        except Exception:
            log.exception("task %s failed", name)


class Backlog:
    """How many jobs wait, on any strand, on behalf of one client."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class SerialQueue:
    """Jobs that run in the order they were put, one at a time."""

    def __init__(self, tasks: Tasks, name: str) -> None:
        self._tasks = tasks
        self._name = name
        self._jobs: deque[tuple[Job, Backlog | None]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def put(self, job: Job, tally: Backlog | None = None) -> None:
        """Add a job, which counts in ``tally`` until it begins or is dropped; ignored after ``close``."""
        if self._closed:
            return
        self._jobs.append((job, tally))
        if tally is not None:
            tally.count += 1
        if self._task is None:
            self._task = self._tasks.spawn(self._run(), self._name)

    @property
    def waiting(self) -> bool:
        """Whether jobs wait, or one runs that is not the caller."""
        return bool(self._jobs) or (self._task is not None and self._task is not _current_task())

    def close(self) -> None:
        """Drop the waiting jobs and cancel the running one, unless it is the one that calls."""
        self._closed = True
        while self._jobs:
            self._next()
        if self._task is not None and self._task is not _current_task():
            self._task.cancel()

    async def _run(self) -> None:
        try:
            while self._jobs:
                try:
                    await self._next()()
                except Exception:
                    log.exception("a job of %s failed", self._name)
        finally:
            self._task = None

    def _next(self) -> Job:
        job, tally = self._jobs.popleft()
        if tally is not None:
            tally.count -= 1
        return job


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs in this thread
        return None
