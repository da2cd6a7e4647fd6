"""One log line for each subject and period."""

from __future__ import annotations

from gateway.core.log_limit import MAX_SUBJECTS, PERIOD, LogLimit


def test_first_line_is_admitted_and_later_ones_are_counted() -> None:
    limit = LogLimit()
    assert limit.admit("cloud", 0.0) == 0
    assert [limit.admit("cloud", PERIOD - 1) for _ in range(3)] == [None] * 3
    assert limit.admit("other", PERIOD - 1) == 0
    assert limit.admit("cloud", PERIOD) == 3
    assert limit.admit("cloud", 2 * PERIOD) == 0


def test_subjects_are_bounded() -> None:
    limit = LogLimit()
    for number in range(3 * MAX_SUBJECTS):
        limit.admit(str(number), 0.0)
    assert len(limit._last) <= MAX_SUBJECTS
