"""aiohttp's server, changed so that answers and log contain no octets of malformed requests.

Source: reference 1.2; invariant 7. aiohttp answers a request whose head is malformed or too long before
a handler is called: with the offending octets in the body, its own ``Server`` header, and a traceback with the same
octets in the log at ERROR. They may be a URL with a key, a cookie or the secret of a polling connection.

aiohttp closes a connection on which no request arrives within ``keepalive_timeout``; here that timeout is determined
for each connection, and a connection that is closed without ever having sent a request is counted.

Undocumented parts of aiohttp 3.14 that only this module uses: ``RequestHandler.handle_error``, which makes those
answers; ``_handle_request``, called for each request; ``_process_keepalive``, called when the timeout ends, at
``_next_keepalive_close_time``; ``pause_reading``; ``TCPSite._server``, the listening sockets;
``AppRunner._make_server`` and ``Server.__call__``, which choose the request handler's class; and the handler's
arguments, which ``Server`` keeps in ``_loop`` and ``_kwargs``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.edge.http.descriptors import Descriptors
from gateway.edge.http.idle_connections import IdleConnections
from gateway.edge.http.receive_buffer import narrow
from gateway.edge.http.write_limit import WriteTimeoutHandler
from gateway.standstill import grace

log = logging.getLogger("portunus.http")

LINGERING = 2.0  # seconds in which the rest of a refused request is dropped, so that its sender reads the answer
READ_BUFFER = 16_384  # bytes of a body that are kept until a handler reads them, approximately
_NO_LIMIT = 86_400.0 * 365  # seconds; with a keepalive timeout of 0 aiohttp would close connections at once


@dataclass(frozen=True, slots=True)
class ConnectionRules:
    """The rules that hold for each HTTP connection.

    ``headers`` are sent with the answers to malformed requests. ``timeout`` is called for each connection and returns
    the seconds that the head of a request may take, and that the connection may be idle after an answer; 0: no limit.
    ``on_timeout`` is called when a new connection has sent no request in time. ``idle`` contains the connections on
    which no request is being served; ``descriptors`` says which of them have a descriptor of the reserve.
    """

    headers: Mapping[str, str]
    timeout: Callable[[], float]
    on_timeout: Callable[[], None]
    idle: IdleConnections
    descriptors: Descriptors


class HttpRunner(web.AppRunner):
    """Runs an application; ``options`` are those of ``aiohttp.web.AppRunner``."""

    __slots__ = ("_rules",)

    def __init__(self, app: web.Application, rules: ConnectionRules, **options: Any) -> None:
        super().__init__(app, lingering_time=LINGERING, read_bufsize=READ_BUFFER, **options)
        self._rules = rules

    async def _make_server(self) -> web.Server:
        return _Server(await super()._make_server(), self._rules)


class TcpSite(web.TCPSite):
    """Listens on TCP; connections have small receive buffers until a request is accepted (``receive_buffer``)."""

    __slots__ = ()

    async def start(self) -> None:
        """Start to listen."""
        await super().start()
        server: Any = self._server
        narrow(server.sockets)


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

    def __call__(self) -> web.RequestHandler:
        options = self._kwargs | {"keepalive_timeout": self._rules.timeout() or _NO_LIMIT}
        return _RequestHandler(self, self._rules, loop=self._loop, **options)


class _RequestHandler(WriteTimeoutHandler):
    __slots__ = ("_received_request", "_rules", "peer")

    def __init__(self, server: web.Server, rules: ConnectionRules, **options: Any) -> None:
        super().__init__(server, **options)
        self._rules = rules
        self._received_request = False
        self.peer = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        name = transport.get_extra_info("peername")
        self.peer = str(name[0]) if isinstance(name, tuple) else ""  # a unix socket has none
        self._rules.idle.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._rules.idle.remove(self)
        super().connection_lost(exc)

    @property
    def has_scarce_descriptor(self) -> bool:
        """See ``IdleConnection.has_scarce_descriptor``."""
        return self._rules.descriptors.are_scarce_for(self.transport)

    def abort(self) -> None:
        """See ``IdleConnection.abort``."""
        if self.transport is not None:
            self.transport.abort()

    async def _handle_request(
        self,
        request: web.BaseRequest,
        start_time: float | None,
        request_handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    ) -> tuple[web.StreamResponse, bool]:
        self._received_request = True
        self._rules.idle.remove(self)
        try:
            answer = await super()._handle_request(request, start_time, request_handler)
            if "Transfer-Encoding" in request.headers and not request.content.is_eof():
                await self._end_unread()
            return answer
        finally:
            if self.transport is not None:
                self._rules.idle.add(self)

    async def _end_unread(self) -> None:
        """Leave the rest of a chunked body unread, since parsing it is expensive, and close the connection later."""
        self.pause_reading()
        await asyncio.sleep(LINGERING)
        self.abort()

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
