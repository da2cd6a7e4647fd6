"""TLS connections until their handshake is done: they count as idle, end in time, and do not hold the event loop."""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

import pytest
from aiohttp import web

from gateway.core.throttle import network
from gateway.edge.http.descriptors import DescriptorReserve
from gateway.edge.http.idle_connections import IdleConnections
from gateway.edge.http.runner import ConnectionRules, HttpRunner, TcpSite
from gateway.edge.http.tls_handshake import STEPS_PER_ITERATION, HandshakeTurns
from gateway.limited_log import LimitedLog
from tests.gateway.certificates import make_certificate
from tests.gateway.edge.raw_client import WAIT_TIMEOUT


@dataclass
class TlsServer:
    """Server over TLS; ``turns`` has the iteration of the event loop in which each ClientHello was read."""

    address: tuple[str, int]
    certificate: Path
    turns: list[int] = field(default_factory=list)
    met: list[str] = field(default_factory=list)  # limits
    expired: int = 0


@asynccontextmanager
async def tls_server(folder: Path, *, limit: float = 0.0, idle: int = 0) -> AsyncIterator[TlsServer]:
    certificate, key = make_certificate(folder)
    server = TlsServer(("", 0), certificate)
    turn = 0

    async def count_turns() -> None:
        nonlocal turn
        while True:
            await asyncio.sleep(0)
            turn += 1

    counting = asyncio.create_task(count_turns())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.sni_callback = lambda *arguments: server.turns.append(turn)

    def count_expired() -> None:
        server.expired += 1

    rules = ConnectionRules(
        headers={},
        timeout=lambda: limit,
        on_timeout=count_expired,
        idle=IdleConnections(lambda: idle, server.met.append),
        reserve=DescriptorReserve(LimitedLog(logging.getLogger("portunus.http"), lambda: 0.0)),
        tls=context,
    )
    app = web.Application()

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="here")

    app.router.add_get("/", answer)
    runner = HttpRunner(app, rules, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await TcpSite(runner, "127.0.0.1", 0).start()
    server.address = runner.addresses[0][:2]
    try:
        yield server
    finally:
        counting.cancel()
        await runner.cleanup()


def client_hello() -> bytes:
    """Return the octets of a ClientHello."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(incoming, outgoing, server_hostname="gateway.example")
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


def handshakes() -> list[asyncio.Task[None]]:
    """Return the tasks of the server's handshakes that are not done."""
    return [task for task in asyncio.all_tasks() if task.get_name() == "tls-handshake"]


async def has_ended(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(WAIT_TIMEOUT):
        try:
            return await reader.read(1) == b""
        except ConnectionError:
            return True


async def test_few_handshakes_are_carried_out_in_one_turn_of_the_event_loop(tmp_path: Path) -> None:
    async with tls_server(tmp_path) as server:
        clients = [socket.create_connection(server.address) for _ in range(30)]
        hello = client_hello()
        async with asyncio.timeout(WAIT_TIMEOUT):
            while len(handshakes()) < len(clients):  # noqa: ASYNC110 - the server accepts them
                await asyncio.sleep(0)
            for client in clients:
                client.sendall(hello)
            while len(server.turns) < len(clients):  # noqa: ASYNC110 - the TLS library has no event
                await asyncio.sleep(0.001)
        assert max(Counter(server.turns).values()) <= STEPS_PER_ITERATION
        for client in clients:
            client.close()


async def test_request_that_arrives_with_the_end_of_the_handshake_is_answered(tmp_path: Path) -> None:
    async with tls_server(tmp_path) as server:
        context = ssl.create_default_context(cafile=server.certificate)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        reader, writer = await asyncio.open_connection(*server.address)
        async with asyncio.timeout(WAIT_TIMEOUT):
            while True:
                try:
                    client.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    writer.write(outgoing.read())
                    incoming.write(await reader.read(65536))
            client.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            writer.write(outgoing.read())
            answer = b""
            while not answer.endswith(b"here"):
                try:
                    answer += client.read(65536)
                except ssl.SSLWantReadError:
                    incoming.write(await reader.read(65536))
        assert b"200 OK" in answer
        writer.close()


@pytest.mark.parametrize("octets", [b"", client_hello()[:1], client_hello()[:100], client_hello()])
async def test_handshake_that_never_ends_is_closed_in_time(tmp_path: Path, octets: bytes) -> None:
    async with tls_server(tmp_path, limit=0.2) as server:
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(octets)
        async with asyncio.timeout(WAIT_TIMEOUT):
            while not await has_ended(reader):
                pass
        assert server.expired == 1
        writer.close()


async def test_octets_that_are_no_handshake_close_the_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with tls_server(tmp_path) as server:
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(WAIT_TIMEOUT):
            while not await has_ended(reader):
                pass
        writer.close()
    assert not caplog.records


async def test_handshakes_that_are_not_done_count_as_idle_connections(tmp_path: Path) -> None:
    async with tls_server(tmp_path, idle=3) as server:
        clients = []
        for _ in range(5):
            clients.append(await asyncio.open_connection(*server.address))
            clients[-1][1].write(client_hello()[:20])
        assert [await has_ended(reader) for reader, _ in clients[:2]] == [True, True]
        assert server.met == ["idle_connections_per_address"] * 2
        for _, writer in clients:
            writer.close()


async def test_handshakes_of_connections_that_are_reset_end_at_once(tmp_path: Path) -> None:
    sizes = (0, 1, 100, len(client_hello()))
    async with tls_server(tmp_path, limit=2 * WAIT_TIMEOUT) as server, asyncio.timeout(WAIT_TIMEOUT):
        clients = [socket.create_connection(server.address) for _ in sizes]
        while len(running := handshakes()) < len(clients):  # noqa: ASYNC110 - the server accepts them
            await asyncio.sleep(0)
        for client, size in zip(clients, sizes, strict=True):
            client.sendall(client_hello()[:size])
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
        await asyncio.wait(running)
        assert (handshakes(), server.expired) == ([], 0)


async def test_handshake_is_continued_when_it_is_the_turn_of_its_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: list[Hashable] = []
    put = HandshakeTurns.put

    def record(turns: HandshakeTurns, network: Hashable, step: Callable[[], None]) -> None:
        waiting.append(network)
        put(turns, network, step)

    monkeypatch.setattr(HandshakeTurns, "put", record)
    async with tls_server(tmp_path) as server:
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(client_hello())
        async with asyncio.timeout(WAIT_TIMEOUT):
            assert await reader.read(1)
        writer.close()
    assert set(waiting) == {network(ip_address("127.0.0.1"))}


async def test_networks_take_turns() -> None:
    turns = HandshakeTurns()
    done: list[str] = []
    for name in "aaaabc":
        turns.put(name, functools.partial(done.append, name))
    for _ in range(6):
        before = len(done)
        await asyncio.sleep(0)
        assert len(done) <= before + STEPS_PER_ITERATION
    assert "".join(done) == "abcaaa"
