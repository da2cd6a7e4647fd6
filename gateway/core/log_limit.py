"""A limit for log lines whose cause repeats: one line for each subject and period, with the number of the others."""

from __future__ import annotations

PERIOD = 60.0  # seconds
MAX_SUBJECTS = 1000


class LogLimit:
    """The times of the last lines by subject; ``now`` is seconds of a monotonic clock."""

    def __init__(self, period: float = PERIOD) -> None:
        self._period = period
        self._last: dict[str, tuple[float, int]] = {}  # time of the last line, and lines left out since

    def admit(self, subject: str, now: float) -> int | None:
        """Return how many lines about the subject were left out since the last one; ``None``: leave this one out."""
        last, left_out = self._last.get(subject, (float("-inf"), 0))
        if now < last + self._period:
            self._last[subject] = last, left_out + 1
            return None
        if len(self._last) >= MAX_SUBJECTS:
            self._last.clear()
        self._last[subject] = now, 0
        return left_out
