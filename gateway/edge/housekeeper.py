"""The periodic task that applies time limits of connections and sessions and sends keep-alive pings.

Source: reference 2.5 (one task checks all), 4.5.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

log = logging.getLogger("portunus.edge")

PERIOD = 1.0  # seconds


class Housekeeper:
    """Calls each sweep with the time of ``clock`` once in every ``PERIOD``."""

    def __init__(self, clock: Callable[[], float], *sweeps: Callable[[float], None]) -> None:
        self._clock = clock
        self._sweeps = sweeps
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the task; call ``stop`` when done."""
        self._task = asyncio.create_task(self._run(), name="housekeeper")

    async def stop(self) -> None:
        """Stop the task. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(PERIOD)
            for sweep in self._sweeps:
                try:
                    sweep(self._clock())
                except Exception:
                    log.exception("a periodic sweep failed")
