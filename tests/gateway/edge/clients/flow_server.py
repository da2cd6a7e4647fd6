"""Server of the flows over fakes behind the real WebSocket endpoint, and its clients."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any

from aiohttp import web

from gateway.edge.clients.websocket import WebSocketEndpoint
from gateway.edge.http.address import TrustedProxies
from gateway.edge.http.new_connection import UpgradeRequest
from tests.gateway.edge.raw_client import WAIT_TIMEOUT, Json, RawClient
from tests.gateway.edge.serving import served_with_upgrades
from tests.gateway.flows.harness import CLOUD, FlowHarness

NOW = 1_700_000_000.25  # time of the server's clock
SMALL_BUFFER = 8192  # bytes of the socket buffers of a slow client


class FlowServer:
    """WebSocket endpoint of a flow harness, and its address."""

    def __init__(self, harness: FlowHarness, endpoint: WebSocketEndpoint) -> None:
        self.harness = harness
        self.endpoint = endpoint
        self.address = ("", 0)
        self._send_buffer = 0  # bytes; 0 for the default of the kernel

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self._set_send_buffer(request.transport)
        return await self.endpoint.handle(request)

    def upgrade(self, request: UpgradeRequest) -> bool:
        self._set_send_buffer(request.transport)
        return self.endpoint.upgrade(request)

    def _set_send_buffer(self, transport: asyncio.BaseTransport | None) -> None:
        assert transport is not None
        if self._send_buffer:
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._send_buffer)

    async def client(self, userid: str = "", **options: Any) -> SessionClient:
        """Connect a client and open its session."""
        wire = await RawClient.connect(self.address, **options)
        client = SessionClient(self, wire)
        await client.hello({"auth": {"url": CLOUD.urls[0], "params": self.harness.nextcloud.ticket(userid)}})
        return client

    async def slow_client(self, **options: Any) -> SessionClient:
        """Connect a client over small socket buffers; it opens its session and then stops reading."""
        self._send_buffer = SMALL_BUFFER
        client = await self.client("slow", receive_buffer=SMALL_BUFFER, **options)
        self._send_buffer = 0
        client.wire.pause_reading()
        return client

    async def resumed(self, client: SessionClient, **options: Any) -> SessionClient:
        """Connect a client that resumes the session of another client."""
        wire = await RawClient.connect(self.address, **options)
        again = SessionClient(self, wire)
        await again.hello({"resumeid": client.resumeid})
        assert again.sessionid == client.sessionid
        return again


class SessionClient:
    """WebSocket client with a session."""

    def __init__(self, server: FlowServer, wire: RawClient) -> None:
        self.server = server
        self.wire = wire
        self.sessionid = ""
        self.resumeid = ""

    async def hello(self, body: Json) -> None:
        assert (await self.wire.receive())["type"] == "welcome"
        self.wire.send({"type": "hello", "hello": {"version": "1.0", **body}})
        reply = (await self.wire.receive())["hello"]
        self.sessionid, self.resumeid = reply["sessionid"], reply["resumeid"]

    def message(self, to: SessionClient, data: object) -> bytes:
        """Return the payload of a message to another client."""
        recipient = {"type": "session", "sessionid": to.sessionid}
        return json.dumps({"type": "message", "message": {"recipient": recipient, "data": data}}).encode()

    def send_message(self, to: SessionClient, data: object) -> None:
        self.wire.send(self.message(to, data))

    async def data(self) -> Any:
        """Return the ``data`` of the next message, which must be a relayed one."""
        message = await self.wire.receive()
        assert message["type"] == "message", message
        return message["message"]["data"]


class serving:  # noqa: N801 - used as a function
    """Serve the flows on a free port; ``at_once``: open WebSockets without aiohttp's request handler."""

    def __init__(self, *, at_once: bool = True, **options: Any) -> None:
        self._at_once = at_once
        self._options = options

    async def __aenter__(self) -> FlowServer:
        self.harness = FlowHarness(mcu=False, **self._options)
        endpoint = WebSocketEndpoint(self.harness.dispatch, self.harness.counters, lambda: NOW, TrustedProxies(()), {})
        server = FlowServer(self.harness, endpoint)
        self._served = served_with_upgrades(
            [web.get("/spreed", server.handle, allow_head=False)],
            lambda request: self._at_once and server.upgrade(request),
            self.harness.services.clock,
        )
        server.address = await self._served.__aenter__()
        self.server = server
        return server

    async def __aexit__(self, *error: object) -> None:
        for connection in list(self.server.endpoint._connections):
            connection._transport.abort()
        await until(lambda: len(self.server.endpoint) == 0)
        await self._served.__aexit__(None, None, None)
        await self.harness.services.tasks.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition is true, by polling."""
    async with asyncio.timeout(WAIT_TIMEOUT):
        while not condition():  # noqa: ASYNC110 - conditions have no event
            await asyncio.sleep(0.001)
