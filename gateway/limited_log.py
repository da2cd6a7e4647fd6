"""Log lines about faults that peers can cause at will: one line a minute for each cause.

A cause is any hashable value, such as a tuple of some of the values in the line.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Hashable

PERIOD = 60.0  # seconds between two lines of one cause
MAX_CAUSES = 64  # causes with a line per period
LONGEST_CODE = 40  # characters of an error code that a peer sent

_code = re.compile("[a-z]+(?:[_-][a-z]+)*")


class LimitedLog:
    """Logs one line a minute for each cause; ``clock`` is monotonic, in seconds.

    The next line of a cause has the number of lines left out before. At most ``causes`` lines are written in a minute,
    since peers can invent causes. ``written`` is called with the time and the text of each line.
    """

    def __init__(
        self,
        log: logging.Logger,
        clock: Callable[[], float],
        causes: int = MAX_CAUSES,
        written: Callable[[float, str], None] = lambda at, line: None,
    ) -> None:
        self._log = log
        self._clock = clock
        self._max_lines = causes
        self._on_line = written
        self._written: dict[Hashable, float] = {}  # time of the last line of a cause, in the order of the times
        self._left_out: dict[Hashable, int] = {}

    def warning(self, cause: Hashable, message: str, *values: object) -> None:
        """Log a warning as ``log`` does."""
        self.log(logging.WARNING, cause, message, *values)

    def log(self, level: int, cause: Hashable, message: str, *values: object) -> None:
        """Log a line, unless a line of this cause, or ``causes`` lines in all, were written within the last minute."""
        now = self._clock()
        self._forget(now)
        if cause in self._written or len(self._written) >= self._max_lines:
            self._left_out[cause] = self._left_out.get(cause, 0) + 1
            if len(self._left_out) > self._max_lines:
                del self._left_out[next(iter(self._left_out))]
            return
        self._written[cause] = now
        left_out = self._left_out.pop(cause, 0)
        if left_out:
            message, values = message + " (%d more before)", (*values, left_out)
        self._log.log(level, message, *values)
        self._on_line(now, message % values)

    def clear(self) -> None:
        """Forget the lines written within the last minute: the next line of each cause is written at once."""
        self._written.clear()

    def _forget(self, now: float) -> None:
        while self._written:
            cause, written = next(iter(self._written.items()))
            if now < written + PERIOD:
                return
            del self._written[cause]


def shown_code(code: str) -> str:
    """Return an error code of a peer for the log; a text that is no code, and may contain anything, is left out."""
    return code if len(code) <= LONGEST_CODE and _code.fullmatch(code) else "an error without a valid code"
