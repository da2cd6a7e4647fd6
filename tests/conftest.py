"""Settings of all tests, and their distribution when they run in several processes."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.turns import runs_alone, sort_tests, turn

# No deadlines: on a busy machine an example can take any time.
settings.register_profile("portunus", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("portunus")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Distribute units of tests instead of single tests."""
    from tests.scheduling import UnitScheduling  # needs pytest-xdist, and a single process does not

    return UnitScheduling(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort the tests in the order in which several processes need them."""
    if _is_worker(config):
        sort_tests(items)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before pytest-timeout begins to count
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool, bool]:
    """Have each test of several processes wait for its turn."""
    if not _is_worker(item.config):
        return (yield)
    with turn(runs_alone(item)):
        return (yield)


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")  # the environment would say so to the tests' own processes, too
