"""Run the tests of the flows in virtual time, and let exceptions in callbacks and tasks fail them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping

import pytest

from tests.gateway.flows.virtual_time import VirtualLoop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"virtual": VirtualLoop}


@pytest.fixture(autouse=True)
def fail_on_unhandled_exceptions(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Check that the event loop has logged no exception: it ends a callback or task, but not the test."""
    yield
    records = [record for record in caplog.get_records("call") if record.name == "asyncio"]
    assert [record.getMessage() for record in records if record.levelno >= logging.ERROR] == []
