"""Writes of a WebSocket connection: frames sent together are one write, and each message is counted as delivered."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.edge.clients import websocket_connection
from gateway.edge.clients.frames import encode_frame
from gateway.edge.clients.websocket_connection import WebSocketConnection
from gateway.flows.bye import HELLO_TIMEOUT, bye
from tests.gateway.edge.clients.flow_server import NOW, FlowServer, SessionClient, until
from tests.gateway.edge.raw_client import CLOSE, PING, TEXT, RawClient

CLOSE_FRAME = encode_frame((1000).to_bytes(2), CLOSE)
LONG_MESSAGE = 60_000  # characters of a message that does not fit into small socket buffers


class RecordingTransport:
    """A transport that records each write."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.writes: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self.writes.append(bytes(data))
        self._transport.write(data)


def record(connection: WebSocketConnection) -> list[bytes]:
    """Record the writes of a connection from now on."""
    transport = connection._transport = RecordingTransport(connection._transport)
    return transport.writes


async def test_answer_to_the_upgrade_ping_and_welcome_are_one_write(
    server: FlowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded: list[list[bytes]] = []
    original = WebSocketConnection.open

    def recording(connection: WebSocketConnection, answer: bytes, early: bytes) -> None:
        recorded.append(record(connection))
        original(connection, answer, early)

    monkeypatch.setattr(WebSocketConnection, "open", recording)
    async with await RawClient.connect(server.address) as client:
        assert await client.frame() == (PING, b"%d" % int(NOW * 1e9))
        opcode, welcome = await client.frame()
        assert (opcode, welcome[:17]) == (TEXT, b'{"type":"welcome"')
        head = client.head.encode()
    assert recorded == [[head + encode_frame(b"%d" % int(NOW * 1e9), PING) + encode_frame(welcome)]]
    assert server.harness.counters.messages_out == 1
    assert server.harness.counters.bytes_out == len(encode_frame(welcome))


async def test_last_messages_and_the_close_frame_are_one_write(server: FlowServer) -> None:
    client = await server.client()
    (connection,) = server.endpoint._connections
    writes = record(connection)
    client.wire.send({"id": "b", "type": "bye"})
    assert await client.wire.wait_closed() == 1000
    assert writes == [encode_frame(b'{"type":"bye","id":"b"}') + CLOSE_FRAME]


async def test_bye_to_a_connection_without_a_session_and_the_close_frame_are_one_write(server: FlowServer) -> None:
    async with await RawClient.connect(server.address) as client:
        await client.receive()
        (connection,) = server.endpoint._connections
        writes = record(connection)
        connection.send(bye(HELLO_TIMEOUT))
        connection.finish()
        assert await client.wait_closed() == 1000
    assert writes == [encode_frame(bye(HELLO_TIMEOUT)) + CLOSE_FRAME]


async def shut_down_with_unread_message(server: FlowServer) -> tuple[SessionClient, WebSocketConnection]:
    """Connect a client that does not read, and shut down while a long message to it is partly written."""
    client = await server.slow_client()
    (connection,) = server.endpoint._connections
    session = server.harness.hub.find_resumable(client.resumeid)
    assert session is not None
    server.harness.services.delivery.send(session, b'{"type":"x","x":"%s"}' % (b"x" * LONG_MESSAGE))
    server.endpoint.close()
    await until(lambda: connection._paused_at is not None)
    return client, connection


async def test_last_message_that_the_kernel_accepts_after_the_shutdown_is_not_repeated(
    server: FlowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket_connection, "CLOSE_TIME", 20.0)
    client, _ = await shut_down_with_unread_message(server)
    client.wire.resume_reading()
    assert len((await client.wire.receive())["x"]) == LONG_MESSAGE
    assert await client.wire.wait_closed() == 1000
    await until(lambda: len(server.endpoint) == 0)
    again = await server.resumed(client)
    again.wire.send({"id": "without a type"})
    assert (await again.wire.receive())["id"] == "without a type"


async def test_last_message_that_the_kernel_never_accepts_is_repeated(server: FlowServer) -> None:
    client, connection = await shut_down_with_unread_message(server)
    client.wire.reset()
    await until(lambda: connection._outbox is None)
    await until(lambda: len(server.endpoint) == 0)
    again = await server.resumed(client)
    assert len((await again.wire.receive())["x"]) == LONG_MESSAGE


async def test_close_frame_behind_a_batch_is_not_counted_as_a_message(server: FlowServer) -> None:
    """A message that the kernel has accepted is delivered, though the close frame behind it is not."""
    client = await server.client()
    (connection,) = server.endpoint._connections
    message = b'{"type":"x"}'

    class HoldingTransport(RecordingTransport):
        def get_write_buffer_size(self) -> int:
            return len(CLOSE_FRAME)

    connection._transport = HoldingTransport(connection._transport)
    assert connection._count_undelivered([message], len(CLOSE_FRAME)) == 0
    assert connection._count_undelivered([message]) == 1
    client.wire.reset()
