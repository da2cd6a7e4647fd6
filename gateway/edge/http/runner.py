"""aiohttp's server, changed so that answers and log contain no octets of malformed requests.

Source: reference 1.2; invariant 7. aiohttp answers a request whose head is malformed or too long before
a handler is called: with the offending octets in the body, its own ``Server`` header, and a traceback with the same
octets in the log at ERROR. They may be a URL with a key, a cookie or the secret of a polling connection.

A connection gets aiohttp's request handler when its first octets arrive, unless they are a WebSocket's handshake
(``new_connection``). aiohttp closes a connection on which no request arrives within ``keepalive_timeout``; here that
timeout is determined for each connection, and runs from its beginning; a connection that is closed without ever having
sent a request is counted.

Undocumented parts of aiohttp 3.14 that only this module uses: ``RequestHandler.handle_error``, which answers malformed
requests; ``_handle_request``, called for each request; ``_process_keepalive``, called when ``_keepalive_timeout`` ends,
at ``_next_keepalive_close_time``, by ``_keepalive_handle``; ``_force_close``, which it sets; ``pause_reading``;
``TCPSite._server`` and ``SockSite._server``, the listening sockets; ``AppRunner._make_server`` and
``Server.__call__``, which choose the request handler's class; and the handler's arguments, which ``Server`` keeps in
``_loop`` and ``_kwargs``.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.edge.http.accepted_connection import AcceptedConnection
from gateway.edge.http.accepting import BACKLOG, FurtherAcceptors
from gateway.edge.http.address import TrustedProxies
from gateway.edge.http.descriptors import DescriptorReserve
from gateway.edge.http.idle_connections import IdleConnections
from gateway.edge.http.new_connection import NewConnection, Upgrade, UpgradeRequest
from gateway.edge.http.receive_buffer import narrow
from gateway.edge.http.tls_handshake import HandshakeTurns, TlsHandshake
from gateway.edge.http.write_limit import WriteTimeoutHandler
from gateway.standstill import grace

log = logging.getLogger("portunus.http")

LINGER_TIME = 2.0  # seconds in which the rest of a refused request is dropped, so that its sender reads the answer
READ_BUFFER = 16_384  # bytes of a body that are kept until a handler reads them, approximately
_NO_LIMIT = 86_400.0 * 365  # seconds; with a keepalive timeout of 0 aiohttp would close connections at once


@dataclass(frozen=True, slots=True)
class ConnectionRules:
    """The rules that hold for each HTTP connection.

    ``headers`` are sent with the answers to malformed requests. ``timeout`` is called for each connection and returns
    the seconds that the head of a request may take, and that the connection may be idle after an answer; 0: no limit.
    ``on_timeout`` is called when a new connection has sent no request in time. ``idle`` contains the connections on
    which no request is being served; ``reserve`` detects connections whose file descriptor is in the reserve.
    ``upgrade`` opens the WebSocket of a client, or returns ``False`` if aiohttp has to handle the request. ``tls`` is
    the TLS context of all connections, if any; sites get none. ``proxies`` determines the network as part of which a
    connection is counted.
    """

    headers: Mapping[str, str]
    timeout: Callable[[], float]
    on_timeout: Callable[[], None]
    idle: IdleConnections
    reserve: DescriptorReserve
    upgrade: Upgrade = lambda request: False
    tls: ssl.SSLContext | None = None
    proxies: TrustedProxies = field(default_factory=lambda: TrustedProxies(()))


class HttpRunner(web.AppRunner):
    """Runs an application; ``options`` are those of ``aiohttp.web.AppRunner``."""

    __slots__ = ("_rules",)

    def __init__(self, app: web.Application, rules: ConnectionRules, **options: Any) -> None:
        super().__init__(app, lingering_time=LINGER_TIME, read_bufsize=READ_BUFFER, **options)
        self._rules = rules

    async def _make_server(self) -> web.Server:
        return _Server(await super()._make_server(), self._rules)


class TcpSite(web.TCPSite):
    """Listens on TCP; connections have small receive buffers until a request is accepted (``receive_buffer``)."""

    __slots__ = ("_acceptors",)

    def __init__(self, runner: web.AppRunner, host: str | None, port: int) -> None:
        super().__init__(runner, host, port, backlog=BACKLOG)
        self._acceptors = FurtherAcceptors()

    async def start(self) -> None:
        """Start to listen."""
        await super().start()
        server: Any = self._server
        narrow(server.sockets)
        for (
            listening
        ) in server.sockets:  # its connections inherit it: without a time limit only this detects a lost peer
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        await self._acceptors.start(_protocols(self._runner), server.sockets)

    async def stop(self) -> None:
        """Listen no longer."""
        self._acceptors.close()
        await super().stop()


class PassedSite(web.SockSite):
    """Listens on a socket that is bound already, TCP or unix, and treats it as ``TcpSite`` does."""

    __slots__ = ("_acceptors",)

    def __init__(self, runner: web.AppRunner, sock: socket.socket) -> None:
        super().__init__(runner, sock, backlog=BACKLOG)
        self._acceptors = FurtherAcceptors()

    async def start(self) -> None:
        """Start to listen. The site's end closes the socket."""
        await super().start()
        server: Any = self._server
        tcp = [sock for sock in server.sockets if sock.family != socket.AF_UNIX]
        narrow(tcp)
        await self._acceptors.start(_protocols(self._runner), tcp)

    async def stop(self) -> None:
        """Listen no longer."""
        self._acceptors.close()
        await super().stop()


def _protocols(runner: web.BaseRunner) -> Callable[[], asyncio.BaseProtocol]:
    """Return the factory of the protocols of a runner's connections."""
    assert runner.server is not None
    return runner.server


class _Server(web.Server):
    def __init__(self, original: web.Server, rules: ConnectionRules) -> None:
        super().__init__(
            original.request_handler,
            request_factory=original.request_factory,
            handler_cancellation=original.handler_cancellation,
            loop=original._loop,
            **original._kwargs,
        )
        self._rules = rules
        self._new: set[AcceptedConnection] = set()  # connections that have sent nothing
        self._handshake_turns = HandshakeTurns()
        self._handshakes: set[asyncio.Task[None]] = set()

    def __call__(self) -> NewConnection | TlsHandshake:  # type: ignore[override]  # aiohttp's handler comes later
        context = self._rules.tls
        return self.secured() if context is None else TlsHandshake(self, self._handshake_turns, context)

    def pre_shutdown(self) -> None:
        self._close_new()
        super().pre_shutdown()

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - aiohttp's signature
        self._close_new()
        await super().shutdown(timeout)

    def _close_new(self) -> None:
        for connection in list(self._new):
            connection.close()

    # -- tls_handshake.TlsAcceptor

    def secured(self) -> NewConnection:
        """See ``TlsAcceptor.secured``."""
        return NewConnection(self)

    def own(self, task: asyncio.Task[None]) -> None:
        """See ``TlsAcceptor.own``."""
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    # -- new_connection.ConnectionAcceptor

    def add(self, connection: AcceptedConnection) -> float:
        """See ``ConnectionAcceptor.add``."""
        connection.network = self._rules.proxies.counted(connection.peer)
        connection.uses_reserve = self._rules.reserve.is_used_by(connection.transport)
        self._new.add(connection)
        self._rules.idle.add(connection)
        return self._rules.timeout()

    def remove(self, connection: AcceptedConnection) -> None:
        """See ``ConnectionAcceptor.remove``."""
        self._new.discard(connection)
        self._rules.idle.remove(connection)

    def count_expired(self) -> None:
        """See ``ConnectionAcceptor.count_expired``."""
        self._rules.on_timeout()

    def upgrade(self, request: UpgradeRequest) -> bool:
        """See ``ConnectionAcceptor.upgrade``."""
        return self._rules.upgrade(request)

    def hand_over(self, connection: NewConnection, due: float | None) -> web.RequestHandler:
        """See ``ConnectionAcceptor.hand_over``."""
        self._new.discard(connection)
        options = self._kwargs | {"keepalive_timeout": self._rules.timeout() or _NO_LIMIT}
        return _RequestHandler(self, self._rules, connection, due, loop=self._loop, **options)


class _RequestHandler(WriteTimeoutHandler):
    """aiohttp's handler of a connection that is not upgraded by ``NewConnection``."""

    __slots__ = ("_due", "_idle", "_received_request", "_rules")

    def __init__(
        self, server: web.Server, rules: ConnectionRules, idle: NewConnection, due: float | None, **options: Any
    ) -> None:
        super().__init__(server, **options)
        self._rules = rules
        self._idle = idle  # stands for this connection in ``rules.idle``
        self._due = due  # when the head of the first request must have arrived; None: no limit
        self._received_request = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._due is not None and self._keepalive_handle is not None:  # the time runs since the connection was made
            self._keepalive_handle.cancel()
            self._next_keepalive_close_time = self._due
            self._keepalive_handle = self._loop.call_at(self._due, self._process_keepalive)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._rules.idle.remove(self._idle)
        super().connection_lost(exc)

    async def _handle_request(
        self,
        request: web.BaseRequest,
        start_time: float | None,
        request_handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    ) -> tuple[web.StreamResponse, bool]:
        self._received_request = True
        self._rules.idle.remove(self._idle)
        try:
            answer = await super()._handle_request(request, start_time, request_handler)
            if "Transfer-Encoding" in request.headers and not request.content.is_eof():
                await self._end_unread()
            return answer
        finally:
            if self.transport is not None:
                self._rules.idle.add(self._idle)

    async def _end_unread(self) -> None:
        """Leave the rest of a chunked body unread, since parsing it is expensive, and close the connection later."""
        self.pause_reading()
        await asyncio.sleep(LINGER_TIME)
        self._idle.abort()

    def _process_keepalive(self) -> None:
        now = self._loop.time()
        more = grace(self._next_keepalive_close_time, now, self._keepalive_timeout)
        if more:  # a request may have arrived while the process stood still; aiohttp waits until then
            self._next_keepalive_close_time = now + more
        super()._process_keepalive()
        if self._force_close and not self._received_request:
            self._rules.on_timeout()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if isinstance(exc, HttpProcessingError) and request.writer.output_size == 0:
            log.debug("a request cannot be parsed: %s", type(exc).__name__)  # its text contains octets of the request
            response = web.Response(status=400, text="Bad request\n", headers=self._rules.headers)
            response.force_close()
            return response
        return super().handle_error(request, status, exc, message)
