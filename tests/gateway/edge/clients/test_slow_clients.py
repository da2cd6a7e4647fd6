"""Slow and lost clients over real sockets (invariants 3 and 6 of docs/architecture.md), on both event loops."""

from __future__ import annotations

import asyncio
import logging

import pytest

from gateway.edge.clients import websocket_connection
from gateway.edge.clients.frames import encode_frame
from gateway.edge.clients.websocket_connection import WebSocketConnection
from tests.gateway.edge.clients.flow_server import FlowServer, serving, until
from tests.gateway.edge.raw_client import RawClient, masked


async def test_slow_client_is_aborted_after_the_write_deadline_and_resumes_without_a_gap(
    server: FlowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket_connection, "WRITE_DEADLINE", 0.2)
    slow, fast = await server.slow_client(), await server.client("fast")
    count = 300
    for number in range(count):
        fast.send_message(slow, [number, "x" * 4000])
    await until(
        lambda: slow.sessionid not in {connection._client.session.id for connection in server.endpoint._connections}  # type: ignore[union-attr]
    )
    again = await server.resumed(slow)
    first = (await again.data())[0]
    assert 0 < first < count
    assert [(await again.data())[0] for _ in range(first + 1, count)] == list(range(first + 1, count))


async def test_messages_that_the_kernel_did_not_accept_are_replayed_in_order(
    server: FlowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = []  # bytes that the kernel has not accepted at the end of a write; it accepts some of them later
    undelivered = WebSocketConnection._count_undelivered

    def recorded(connection: WebSocketConnection, batch: list[bytes]) -> int:
        waiting.append(connection._transport.get_write_buffer_size())
        return undelivered(connection, batch)

    monkeypatch.setattr(WebSocketConnection, "_count_undelivered", recorded)
    slow, fast = await server.slow_client(), await server.client("fast")
    count = 200
    for number in range(count):
        fast.send_message(slow, [number, "x" * 3000])
    await until(lambda: server.harness.counters.messages_in >= count + 2)
    session = server.harness.hub.find_resumable(slow.resumeid)
    assert session is not None
    kept = [len(encode_frame(message)) for message in list(session.outbox._messages)[: session.outbox._taken]]
    assert sum(kept[1:]) < waiting[-1] <= sum(kept)  # exactly the messages that the kernel has not accepted in full
    slow.wire.reset()
    await until(lambda: len(server.endpoint) == 1)
    for number in range(count, count + 3):
        fast.send_message(slow, [number, ""])
    again = await server.resumed(slow)
    first = (await again.data())[0]
    assert 0 < first < count
    assert [(await again.data())[0] for _ in range(first + 1, count + 3)] == list(range(first + 1, count + 3))


async def test_resume_of_a_slow_connection_repeats_at_most_the_partly_written_message(server: FlowServer) -> None:
    slow, fast = await server.slow_client(), await server.client("fast")
    count = 200
    for number in range(count):
        fast.send_message(slow, [number, "x" * 3000])
    await until(lambda: server.harness.counters.messages_in >= count + 2)
    again = await server.resumed(slow)
    first = (await again.data())[0]
    assert [(await again.data())[0] for _ in range(first + 1, count)] == list(range(first + 1, count))
    slow.wire.resume_reading()
    received = []
    while (message := await slow.wire.receive())["type"] == "message":
        received.append(message["message"]["data"][0])
    assert received == list(range(len(received)))
    assert len(received) >= first
    assert message == {"type": "bye", "bye": {"reason": "session_resumed"}}


async def test_message_lost_with_a_reset_connection_is_replayed(server: FlowServer) -> None:
    for _ in range(5):
        alice, bob = await server.client("alice"), await server.client("bob")
        session = server.harness.hub.find_resumable(alice.resumeid)
        assert session is not None
        alice.wire.reset()
        await asyncio.sleep(0)  # the client's loop closes its socket; the server has not noticed
        for number in range(40):
            server.harness.services.delivery.send(session, b'{"type":"x","n":%d,"x":"%s"}' % (number, b"x" * 3000))
        await until(lambda: len(server.endpoint) == 1)
        again = await server.resumed(alice)
        assert [(await again.wire.receive())["n"] for _ in range(40)] == list(range(40))
        for client in (again, bob):
            client.wire.reset()
        await until(lambda: len(server.endpoint) == 0)


async def test_reset_connection_does_not_stop_writes_to_others(
    server: FlowServer, caplog: pytest.LogCaptureFixture
) -> None:
    clients = [await server.client(str(number)) for number in range(6)]
    sessions = list(server.harness.hub.sessions.values())
    for client in clients[::2]:
        client.wire.reset()
    await asyncio.sleep(0)
    for number in range(100):
        server.harness.services.delivery.send_all(sessions, b'{"type":"x","n":%d,"x":"%s"}' % (number, b"x" * 3000))
    for client in clients[1::2]:
        assert [(await client.wire.receive())["n"] for _ in range(100)] == list(range(100))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_full_outbox_ends_its_session_only() -> None:
    async with serving(outbox_bytes=100_000) as server:
        slow, fast, third = await server.slow_client(), await server.client("fast"), await server.client("third")
        for number in range(200):
            fast.send_message(slow, "x" * 3000)
            fast.send_message(third, number)
        assert [await third.data() for _ in range(200)] == list(range(200))
        assert slow.sessionid not in server.harness.hub.sessions
        slow.wire.resume_reading()
        assert await slow.wire.wait_closed() == 1000
        stranger = await RawClient.connect(server.address)
        await stranger.receive()
        stranger.send({"type": "hello", "hello": {"version": "1.0", "resumeid": slow.resumeid}})
        assert (await stranger.receive())["error"]["code"] == "no_such_session"


async def test_reading_is_paused_while_many_messages_wait_for_a_slow_join(server: FlowServer) -> None:
    alice, bob = await server.client("alice"), await server.client("bob")
    server.harness.nextcloud.gate = asyncio.Event()
    alice.wire.send({"id": "j", "type": "room", "room": {"roomid": "r"}})
    octets = b"".join(masked(alice.message(bob, [number, "x" * 1000])) for number in range(2000))
    alice.wire.writer.write(octets)
    await until(lambda: server.harness.counters.messages_in > 60)
    await asyncio.sleep(0.05)
    assert server.harness.counters.messages_in < 1500
    server.harness.nextcloud.gate.set()
    assert [(await bob.data())[0] for _ in range(2000)] == list(range(2000))
    assert (await alice.wire.receive())["id"] == "j"


async def test_connection_lost_while_reading_is_paused_is_forgotten(
    server: FlowServer, caplog: pytest.LogCaptureFixture
) -> None:
    alice, bob = await server.client("alice"), await server.client("bob")
    server.harness.nextcloud.gate = asyncio.Event()
    alice.wire.send({"id": "j", "type": "room", "room": {"roomid": "r"}})
    alice.wire.writer.write(b"".join(masked(alice.message(bob, number)) for number in range(100)))
    await until(lambda: server.harness.counters.messages_in > 64)
    alice_session = server.harness.hub.find_resumable(alice.resumeid)
    for connection in list(server.endpoint._connections):
        if connection._client is not None and connection._client.session is alice_session:
            connection._transport.abort()
    server.harness.nextcloud.gate.set()
    assert [await bob.data() for _ in range(64)] == list(range(64))  # the messages that were read
    await until(lambda: len(server.endpoint) == 1)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
