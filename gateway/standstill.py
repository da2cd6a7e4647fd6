"""Time limits for a peer's silence, without the time in which this process did not run.

After a suspend, a snapshot or a stop of the process its timers are late, and fire before the data that arrived
meanwhile are read. A late timer is therefore extended, so that these data are read first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any

MIN_STANDSTILL = 1.0  # seconds; a timer is later than that only if the process did not run
GRACE = 2.0  # seconds by which a late timer is extended at least


def grace(due: float, now: float, limit: float) -> float:
    """Return the seconds, from ``now`` on, by which a time limit that ended at ``due`` is extended; 0: not at all.

    The extension is as long as the delay, at most the whole time ``limit``, but at least ``GRACE``.
    """
    late = now - due
    return 0.0 if late < MIN_STANDSTILL else max(GRACE, min(late, limit))


class PeerTimer:
    """Calls ``expired`` once when ``seconds``, and the grace of a late timer, have passed; unless cancelled before."""

    __slots__ = ("_due", "_expired", "_handle", "_loop", "_seconds")

    def __init__(self, seconds: float, expired: Callable[[], object]) -> None:
        self._loop = asyncio.get_running_loop()
        self._seconds = seconds
        self._expired = expired
        self._due = self._loop.time() + seconds
        self._handle = self._loop.call_at(self._due, self._fire)

    @property
    def due(self) -> float:
        """The time at which the timer expires, on the event loop's clock."""
        return self._due

    def cancel(self) -> None:
        """Stop the timer. Idempotent."""
        self._handle.cancel()

    def _fire(self) -> None:
        now = self._loop.time()
        more = grace(self._due, now, self._seconds)
        if more:
            self._due = now + more
            self._handle = self._loop.call_at(self._due, self._fire)
        else:
            self._expired()


class PeerTimeout:
    """Limits the time of a block that waits for a peer, as ``asyncio.timeout`` does; ``None`` or 0 seconds: no limit.

    Own code instead of ``asyncio.timeout`` around a ``PeerTimer``, because each request to a backend has a limit.

    Raises:
        TimeoutError: the peer was silent for too long.
    """

    __slots__ = ("_cancelling", "_seconds", "_task", "_timer")

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._timer: PeerTimer | None = None  # None: no limit, or it has expired
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = 0  # requests to cancel the task that were made before the block

    async def __aenter__(self) -> None:
        if self._seconds:
            self._task = asyncio.current_task()
            if self._task is None:
                raise RuntimeError("a time limit needs a task, which it can cancel")
            self._cancelling = self._task.cancelling()
            self._timer = PeerTimer(self._seconds, self._expired)

    async def __aexit__(
        self, type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        timer, task = self._timer, self._task
        self._timer = self._task = None  # without these reference cycles the object is freed at once
        if timer is not None:
            timer.cancel()
        elif task is not None and task.uncancel() <= self._cancelling and type is asyncio.CancelledError:
            raise TimeoutError from error

    def _expired(self) -> None:
        self._timer = None
        if self._task is not None:
            self._task.cancel()
