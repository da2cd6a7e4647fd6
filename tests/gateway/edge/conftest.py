"""Event loops of the tests: tests of transports run on asyncio's loop and on uvloop, tests of time in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

from tests.gateway.flows.virtual_time import VirtualLoop

_ON_BOTH_LOOPS = {
    *("test_new_connection", "test_new_connection_memory", "test_lost_peer", "test_tls_handshake"),
    *("test_websocket", "test_websocket_tls", "test_slow_clients", "test_websocket_writes", "test_write_limit"),
    *("test_backend_http", "test_backend_answers", "test_host_addresses"),
}
_IN_VIRTUAL_TIME = {"test_housekeeper", "test_receipts"}


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.path.stem in _ON_BOTH_LOOPS:
        return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}
    if item.path.stem in _IN_VIRTUAL_TIME or item.path.stem.endswith("_time"):
        return {"virtual": VirtualLoop}
    return {"asyncio": asyncio.SelectorEventLoop}
