"""A labelled counter and a labelled histogram; the counter's number of rows is bounded."""

from __future__ import annotations

from bisect import bisect_left

from mcu.base import HistogramSample

MAX_ROWS = 64  # of one counter; further values of the labels are counted as "other"
MAX_LABEL = 32  # characters
BOUNDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)  # milliseconds


class LabelledCounter:
    """A counter with one row for each combination of label values."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, ...], float] = {}

    def add(self, *labels: str, count: int = 1) -> None:
        """Add ``count`` to the row of these label values; beyond ``MAX_ROWS`` rows new values count as "other"."""
        if labels not in self.rows:
            full = len(self.rows) >= MAX_ROWS
            labels = ("other",) * len(labels) if full else tuple(label[:MAX_LABEL] for label in labels)
        self.rows[labels] = self.rows.get(labels, 0) + count


class LabelledHistogram:
    """A histogram of milliseconds with one row for each combination of label values."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}

    def observe(self, *labels: str, value: int) -> None:
        """Add one observation to the row of these label values."""
        counts = self._counts.setdefault(labels, [0] * (len(BOUNDS) + 1))
        counts[bisect_left(BOUNDS, value)] += 1
        self._sums[labels] = self._sums.get(labels, 0.0) + value

    @property
    def rows(self) -> dict[tuple[str, ...], HistogramSample]:
        """The cumulative buckets and the sum of each row."""
        return {labels: self._sample(labels) for labels in self._counts}

    def _sample(self, labels: tuple[str, ...]) -> HistogramSample:
        buckets, total = [], 0
        for bound, count in zip([*map(str, BOUNDS), "+Inf"], self._counts[labels], strict=True):
            total += count
            buckets.append((bound, float(total)))
        return HistogramSample(tuple(buckets), self._sums[labels])
