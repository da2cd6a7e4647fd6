"""Background tasks with an owner, and serial queues of jobs.

Invariant 10, nothing waits for ever: every task has a name and an owner, and is cancelled with it.
Invariant 5, order: the jobs of a ``SerialQueue`` run one after another.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias

CLOSE_LIMIT = 5.0  # seconds that cancelled tasks have to end
CANCEL_INTERVAL = 2.0  # seconds until a task that has not ended is cancelled again

log = logging.getLogger("portunus.flows")

Work: TypeAlias = Coroutine[Any, Any, None]
Job: TypeAlias = Callable[[], Awaitable[None]]


class Tasks:
    """The running background tasks of one owner."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def spawn(self, work: Work, name: str) -> asyncio.Task[None]:
        """Run a coroutine in a task of this owner; a failure is logged with its traceback."""
        task = asyncio.create_task(self._guard(work, name), name=name)
        self._running.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._running.discard(task)
            work.close()  # a coroutine that was cancelled before its first step

        task.add_done_callback(ended)
        return task

    async def close(self) -> None:
        """Cancel all running tasks and wait for their end, ``CLOSE_LIMIT`` seconds at most.

        A task that goes on is cancelled again: ``asyncio.wait_for`` of Python 3.11 may swallow a cancellation.
        """
        await asyncio.sleep(0)  # tasks that were just spawned begin, and can release resources
        try:
            async with asyncio.timeout(CLOSE_LIMIT):
                while running := self._others():
                    for task in running:
                        task.cancel()
                    await asyncio.wait(running, timeout=CANCEL_INTERVAL)
        except TimeoutError:
            self._log_running()

    def _log_running(self) -> None:
        for task in self._others():
            log.error("task %s did not end within %g s after it was cancelled", task.get_name(), CLOSE_LIMIT)

    def _others(self) -> list[asyncio.Task[None]]:
        return [task for task in self._running if task is not asyncio.current_task()]

    def __len__(self) -> int:
        return len(self._running)

    @staticmethod
    async def _guard(work: Work, name: str) -> None:
        try:
            await work
        except Exception:
            log.exception("task %s failed", name)


class Backlog:
    """The number of jobs of one session that wait, in any queue."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class SerialQueue:
    """Jobs that run one at a time, in the order in which they were added."""

    def __init__(self, tasks: Tasks, name: str) -> None:
        self._tasks = tasks
        self._name = name
        self._jobs: deque[tuple[Job, Backlog | None, Callable[[], None] | None]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def put(self, job: Job, backlog: Backlog | None = None, on_dropped: Callable[[], None] | None = None) -> None:
        """Add a job, which counts in ``backlog`` until it begins or is dropped; after ``close`` it is dropped.

        ``on_dropped`` is called instead of the job, and must not raise.
        """
        if self._closed:
            if on_dropped is not None:
                on_dropped()
            return
        self._jobs.append((job, backlog, on_dropped))
        if backlog is not None:
            backlog.count += 1
        if self._task is None:
            self._task = self._tasks.spawn(self._run(), self._name)

    @property
    def waiting(self) -> bool:
        """Whether a job waits or runs, the calling job excepted."""
        return bool(self._jobs) or (self._task is not None and self._task is not _current_task())

    def close(self) -> None:
        """Drop the waiting jobs, and cancel the running job unless it is the caller."""
        self._closed = True
        while self._jobs:
            _, on_dropped = self._next()
            if on_dropped is not None:
                on_dropped()
        if self._task is not None and self._task is not _current_task():
            self._task.cancel()

    async def _run(self) -> None:
        try:
            while self._jobs:
                job, _ = self._next()
                try:
                    await job()
                except Exception:
                    log.exception("a job of %s failed", self._name)
                if self._jobs:
                    await asyncio.sleep(0)  # jobs that never wait must not block the event loop
        finally:
            self._task = None

    def _next(self) -> tuple[Job, Callable[[], None] | None]:
        job, backlog, on_dropped = self._jobs.popleft()
        if backlog is not None:
            backlog.count -= 1
        return job, on_dropped


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs in this thread
        return None
