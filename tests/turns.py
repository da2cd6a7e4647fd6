"""Decides which tests two processes of pytest-xdist run at the same time, and which tests run alone.

A file's tests run in one process: its fixtures are set up once. The tests of browsers need most of the CPU; all of
them run in one process, beside those that mostly wait for timers and SFUs. The tests below ``ALONE``, and those marked
``alone``, measure delays or depend on them: no other test runs at the same time. Such files come last.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ALONE = (
    "tests/abuse/",
    "tests/bench/",
    "tests/browser/test_layer_order.py",  # the encoder of a busy browser sends fewer layers
    "tests/browser/test_simulcast.py",
    "tests/browser/test_simulcast_remote.py",
    "tests/interop/test_quality.py",
    "tests/mcu/inprocess/test_lossy_network.py",
    "tests/mcu/inprocess/test_simulcast_chromium.py",
    "tests/mcu/inprocess/test_simulcast_firefox.py",
    "tests/mcu/inprocess/transport/test_impairment.py",
)
BROWSERS = ("tests/browser/", "tests/mcu/inprocess/test_chromium.py")
# The locked files: any two that each checkout has.
TURN_LOCK = Path(__file__)  # locked while a test waits for its turn
MACHINE_LOCK = Path(__file__).with_name("conftest.py")  # locked while a test runs: shared, or by one that runs alone


def runs_alone(item: pytest.Item) -> bool:
    """Return whether no other test may run beside this one."""
    return item.nodeid.startswith(ALONE) or item.get_closest_marker("alone") is not None


def unit_of(nodeid: str) -> str:
    """Return the name of the unit that a test belongs to, whose tests run in one process."""
    file = nodeid.partition("::")[0]
    return "browsers" if file.startswith(BROWSERS) and not file.startswith(ALONE) else file


def sort_tests(items: list[pytest.Item]) -> None:
    """Put the browsers first, the longest unit, and the tests that run alone last."""
    items.sort(key=lambda item: 2 if runs_alone(item) else 0 if item.nodeid.startswith(BROWSERS) else 1)


@contextmanager
def turn(alone: bool) -> Iterator[None]:
    """Wait until a test may run; while it runs, hold up each test that disturbs it or is disturbed by it.

    ``alone``: no other test may run at the same time. A test that waits for its turn holds up all later ones, so that
    it does not wait for ever.
    """
    with TURN_LOCK.open() as next_turn, MACHINE_LOCK.open() as machine:
        fcntl.flock(next_turn, fcntl.LOCK_EX)
        fcntl.flock(machine, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(next_turn, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(machine, fcntl.LOCK_UN)  # closing is not enough if the test has forked
