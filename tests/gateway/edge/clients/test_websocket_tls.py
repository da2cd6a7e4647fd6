"""WebSocket connections over TLS, on both event loops."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from gateway.edge.clients import websocket_connection
from tests.gateway.certificates import make_certificate
from tests.gateway.edge.clients.flow_server import FlowServer, serving, until


@pytest.fixture
async def tls_server(tmp_path: Path) -> AsyncIterator[tuple[FlowServer, ssl.SSLContext]]:
    certificate, key = make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    async with serving() as server:
        app = web.Application()
        app.router.add_get("/spreed", server.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        server.address = runner.addresses[0][:2]
        yield server, ssl.create_default_context(cafile=str(certificate))
        for connection in list(server.endpoint._connections):
            connection._transport.abort()
        await runner.cleanup()


async def test_idle_client_over_tls_receives_messages(tls_server: tuple[FlowServer, ssl.SSLContext]) -> None:
    server, trust = tls_server
    alice, bob = await server.client("alice", tls=trust), await server.client("bob", tls=trust)
    for number in range(20):
        alice.send_message(bob, [number, "x" * (number * 3000)])
        assert (await bob.data())[0] == number
    for number in range(200):
        alice.send_message(bob, [number, "x" * 3000])
    assert [(await bob.data())[0] for _ in range(200)] == list(range(200))


async def test_slow_client_over_tls_is_aborted_after_the_write_deadline(
    tls_server: tuple[FlowServer, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket_connection, "WRITE_DEADLINE", 0.2)
    server, trust = tls_server
    slow, fast = await server.slow_client(tls=trust), await server.client("fast", tls=trust)
    for number in range(400):
        fast.send_message(slow, [number, "x" * 4000])
    await until(lambda: len(server.endpoint) == 1)
    assert slow.sessionid in server.harness.hub.sessions
