"""Memory of WebSocket connections: each is freed as soon as it is lost."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from gateway.edge.clients import websocket
from gateway.edge.clients.websocket_connection import WebSocketConnection
from tests.gateway.edge.clients.flow_server import FlowServer, until


class _WeaklyReferenceable(WebSocketConnection):
    __slots__ = ("__weakref__",)


@pytest.mark.parametrize("says_bye", [True, False])
async def test_lost_connection_is_freed_without_the_garbage_collector(
    server: FlowServer, monkeypatch: pytest.MonkeyPatch, says_bye: bool
) -> None:
    """A cycle of references would leave thousands of objects to the collector when many clients connect again."""
    made: list[weakref.ref[WebSocketConnection]] = []

    def create(*arguments: Any) -> WebSocketConnection:
        connection = _WeaklyReferenceable(*arguments)
        made.append(weakref.ref(connection))
        return connection

    monkeypatch.setattr(websocket, "WebSocketConnection", create)
    gc.collect()
    gc.disable()
    try:
        client = await server.client()
        if says_bye:
            client.wire.send({"type": "bye"})
            assert await client.wire.wait_closed() == 1000
        else:
            client.wire.writer.transport.abort()
        await until(lambda: not made[0]())
        assert len(made) == 1
    finally:
        gc.enable()
