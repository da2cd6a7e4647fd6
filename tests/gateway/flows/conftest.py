"""Run the tests of the flows in virtual time, and let logged errors fail them."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Iterator, Mapping

import pytest

from tests.gateway.flows.virtual_time import VirtualLoop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"virtual": VirtualLoop}


@pytest.fixture(autouse=True)
def fail_on_logged_errors(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Check that no error was logged: an exception ends a callback, a task or a request, but not the test.

    A test that expects an error of the gateway asks for ``caplog``, and checks its records itself.
    """
    yield
    expected = "caplog" in inspect.signature(request.function).parameters
    errors = [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    assert [record.getMessage() for record in errors if record.name == "asyncio" or not expected] == []
