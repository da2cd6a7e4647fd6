"""The end of the gateway's parts within time limits: a part that does not end must not keep the process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine

# Seconds for all parts. With ``LEAST_TIME`` for each part after it and ``serve.EXIT_LIMIT`` it is less than the time
# that the service manager gives (``serve.END_TIME``).
TOTAL_LIMIT = 15.0
PART_LIMIT = 6.0  # seconds for one part; most need milliseconds, an SFU that does not answer a few seconds
LEAST_TIME = 0.2  # seconds for one part after the others have used up the time

log = logging.getLogger("portunus")


class Shutdown:
    """Ends parts one after another; ``clock`` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float], total: float = TOTAL_LIMIT, part: float = PART_LIMIT) -> None:
        self._clock = clock
        self._deadline = clock() + total
        self._part_limit = part

    async def end(self, part: str, work: Coroutine[object, object, None]) -> None:
        """Run the end of a part; log and leave a part that fails or does not end in time.

        ``part`` is a plural noun with its article, for the log.
        """
        left = self._deadline - self._clock()
        seconds = max(min(left, self._part_limit), LEAST_TIME)
        task = asyncio.create_task(work, name=f"end of {part}")
        await asyncio.wait([task], timeout=seconds)
        if not task.done():
            log.error("%s did not end within %.1f s: the gateway ends without waiting for them", part, seconds)
            task.cancel()
        elif not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s did not end properly", part, exc_info=error)
