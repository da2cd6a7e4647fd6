"""Memory of new connections: each is freed once its WebSocket is open, or has failed to open."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from typing import Any

import pytest

from gateway.app import Gateway
from gateway.edge.clients import websocket_connection
from gateway.edge.http import runner
from gateway.edge.http.new_connection import ConnectionAcceptor, NewConnection
from tests.gateway.edge.http.handshakes import head
from tests.gateway.edge.raw_client import PING, WAIT_TIMEOUT, RawClient
from tests.gateway.edge.serving import address_of, running_gateway
from tests.gateway.test_app import config


async def test_exception_while_a_websocket_is_opened_ends_and_forgets_the_connection(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(websocket_connection.WebSocketConnection, "_schedule", lambda self: 1 / 0)
    owners: list[ConnectionAcceptor] = []
    original = NewConnection.connection_made

    def made(connection: NewConnection, transport: asyncio.BaseTransport) -> None:
        original(connection, transport)
        owners.append(connection._owner)

    monkeypatch.setattr(NewConnection, "connection_made", made)
    gateway = Gateway(config())
    (url,) = await gateway.start()
    try:
        async with asyncio.timeout(WAIT_TIMEOUT):
            reader, writer = await asyncio.open_connection(*address_of(url))
            writer.write(head())
            with contextlib.suppress(ConnectionError):
                await reader.read()  # the answer may have been written before the exception
        writer.transport.abort()
        server: Any = owners[0]
        assert (len(server._new), len(server._rules.idle), len(gateway._websocket)) == (0, 0, 0)
    finally:
        await gateway.stop()
    assert [type(record.exc_info[1]) for record in caplog.records if record.exc_info] == [ZeroDivisionError]


class _WeaklyReferenceable(NewConnection):
    __slots__ = ("__weakref__",)


async def test_new_connection_is_freed_once_its_websocket_is_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A cycle of references would free it hours later: ``portunus serve`` collects garbage rarely."""
    made: list[weakref.ref[NewConnection]] = []

    def create(owner: ConnectionAcceptor) -> NewConnection:
        connection = _WeaklyReferenceable(owner)
        made.append(weakref.ref(connection))
        return connection

    monkeypatch.setattr(runner, "NewConnection", create)
    gc.disable()
    try:
        async with running_gateway(config()) as url, await RawClient.connect(address_of(url)) as client:
            await client.receive()
            client.send(b"later loop iteration", opcode=PING)
            await client.frame()
            assert [connection() for connection in made] == [None]
    finally:
        gc.enable()
