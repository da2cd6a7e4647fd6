"""Event loops of the tests: tests of transports run on asyncio's loop and on uvloop, whose transports differ."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

from tests.gateway.flows.virtual_time import VirtualLoop

_ON_BOTH_LOOPS = {
    *("test_new_connection", "test_new_connection_memory", "test_lost_peer"),
    *("test_websocket", "test_websocket_writes", "test_write_limit"),
    *("test_backend_http", "test_backend_answers", "test_host_addresses"),
}


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.path.stem in _ON_BOTH_LOOPS:
        return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}
    if item.path.stem == "test_housekeeper" or item.path.stem.endswith("_time"):
        return {"virtual": VirtualLoop}
    return {"asyncio": asyncio.SelectorEventLoop}
