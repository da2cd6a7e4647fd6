"""Fixtures of the tests of WebSocket connections."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.edge.clients import websocket_connection
from tests.gateway.edge.clients.flow_server import FlowServer, serving


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FlowServer]:
    monkeypatch.setattr(websocket_connection, "CLOSE_TIME", 0.1)
    async with serving() as made:
        yield made


@pytest.fixture(params=["at once", "by aiohttp"])
async def either_server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FlowServer]:
    """Serve twice: WebSockets are opened at once, or by aiohttp's request handler."""
    monkeypatch.setattr(websocket_connection, "CLOSE_TIME", 0.1)
    async with serving(at_once=request.param == "at once") as made:
        yield made
