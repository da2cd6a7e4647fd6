"""The periodic task that applies the time limits of connections and sessions, and sends keep-alive pings.

Source: reference 2.5 (one task checks every timer), 4.5.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from gateway.standstill import MIN_STANDSTILL

log = logging.getLogger("portunus.edge")

PERIOD = 1.0  # seconds
RECOVERY = 60.0  # seconds for which a standstill is subtracted from clients' silence; longer than a sweep's limits
MAX_EXCLUDED = 30.0  # seconds of standstills that are subtracted, at most


class Housekeeper:
    """Calls each sweep with the time of ``clock`` once in every ``PERIOD``.

    ``silence_sweeps`` are those of the ``sweeps`` that end connections and sessions because of a client's silence. For
    ``RECOVERY`` after a standstill of the process, in which it read no messages, they are called with an earlier time:
    that of ``clock`` less the standstill.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *sweeps: Callable[[float], None],
        silence_sweeps: Sequence[Callable[[float], None]] = (),
    ) -> None:
        self._clock = clock
        self._sweeps = sweeps
        self._silence_sweeps = silence_sweeps
        self._stood_still = 0.0  # seconds of the standstills within the last ``RECOVERY``
        self._recovered_at = 0.0
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
            due = self._clock() + PERIOD
            await asyncio.sleep(PERIOD)
            now = self._clock()
            self._note_standstill(now - due, now)
            for sweep in self._sweeps:
                try:
                    sweep(now - self._stood_still if sweep in self._silence_sweeps else now)
                except Exception:
                    log.exception("a periodic sweep failed")

    def _note_standstill(self, late: float, now: float) -> None:
        """Record a standstill if the task woke up ``late`` seconds after its time; forget an old one."""
        if now >= self._recovered_at:
            self._stood_still = 0.0
        if late >= MIN_STANDSTILL:
            log.warning("the process stood still for %.0f s", late)
            self._stood_still = min(self._stood_still + late, MAX_EXCLUDED)
            self._recovered_at = now + RECOVERY
