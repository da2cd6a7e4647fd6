"""Warnings that are limited for each cause."""

from __future__ import annotations

import logging

from gateway.limited_log import MAX_CAUSES, PERIOD, LimitedLog
from tests.captured_log import captured_lines
from tests.gateway.manual_clock import ManualClock


def events(lines: list[str]) -> list[str]:
    return [line.split('event="')[1].rstrip('"') for line in lines]


def test_each_cause_is_logged_once_a_minute_and_the_rest_is_counted() -> None:
    clock = ManualClock()
    limited = LimitedLog(logging.getLogger("portunus.test"), clock)
    with captured_lines() as lines:
        for _ in range(5):
            limited.warning("a", "%s failed", "the a")
            limited.warning("b", "%s failed", "the b")
            clock.now += 1
        clock.now = PERIOD
        limited.warning("a", "%s failed", "the a")
        limited.warning("a", "%s failed", "the a")
        clock.now = 2 * PERIOD
        limited.warning("a", "%s failed", "the a")
        clock.now = 3 * PERIOD
        limited.warning("a", "%s failed", "the a")
    assert events(lines) == [
        "the a failed",
        "the b failed",
        "the a failed (4 more before)",
        "the a failed (1 more before)",
        "the a failed",
    ]


def test_invented_causes_are_limited_in_lines_and_memory() -> None:
    clock = ManualClock()
    limited = LimitedLog(logging.getLogger("portunus.test"), clock)
    with captured_lines() as lines:
        for number in range(20 * MAX_CAUSES):
            limited.warning(number, "cause %d of many", number)
        assert len(lines) == MAX_CAUSES
        assert len(limited._left_out) <= MAX_CAUSES
        clock.now = PERIOD
        limited.warning("new", "cause %s of many", "new")
    assert len(lines) == MAX_CAUSES + 1
