"""The WebSocket endpoint: upgrades requests, owns the connections, and has each write once per loop iteration.

Source: reference 2.1, docs/architecture.md, "The hot path".
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from email.utils import formatdate

from aiohttp import web

from gateway.core.ids import ConnectionId
from gateway.core.throttle import Address
from gateway.edge.clients.frame_input import InputTurns
from gateway.edge.clients.frames import FrameCache
from gateway.edge.clients.handshake import accept_key, encode_headers, switching_protocols
from gateway.edge.clients.traffic import TrafficCounters
from gateway.edge.clients.websocket_connection import CLOSE_TIME, WebSocketConnection
from gateway.edge.http.address import TrustedProxies
from gateway.edge.http.new_connection import UpgradeRequest
from gateway.edge.http.receive_buffer import WEBSOCKET_SIZE, widen
from gateway.edge.http.request_head import RequestHead
from gateway.flows.dispatch import Dispatcher

log = logging.getLogger("portunus.edge")


class WebSocketEndpoint:
    """The endpoint, and the state that its connections share.

    ``wall_clock`` returns unix time in seconds; ``headers`` are added to the answer to an upgrade.
    """

    def __init__(
        self,
        dispatch: Dispatcher,
        counters: TrafficCounters,
        wall_clock: Callable[[], float],
        proxies: TrustedProxies,
        headers: Mapping[str, str],
    ) -> None:
        self.dispatch = dispatch
        self.counters = counters
        self.wall_clock = wall_clock
        self._proxies = proxies
        self._headers = headers
        self._encoded_headers, self._encoded_second = b"", -1  # with the date of a second, and that second
        self._connections: set[WebSocketConnection] = set()
        self._none_left = asyncio.Event()
        self.dirty: list[WebSocketConnection] = []  # connections that write messages at the end of this loop iteration
        self.frames = FrameCache()  # so that a message to a room is encoded once
        self.turns = InputTurns()  # of connections whose frames wait
        self._last_id = 0

    def upgrade(self, request: UpgradeRequest) -> bool:
        """Upgrade a request; ``False`` if it has to be refused, which is left to ``handle``."""
        try:
            accept = accept_key(request)
        except web.HTTPBadRequest:
            return False
        address = self._proxies.real_ip(request)
        if not self.dispatch.would_admit(address):
            return False
        self._open(request, accept, address, request.transport, request.early)
        return True

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Upgrade a request and return when the connection has ended.

        Raises:
            web.HTTPException: the request is no WebSocket handshake, or its address has too many connections.
        """
        accept = accept_key(request)
        address = self._proxies.real_ip(request)
        if not self.dispatch.admits(address):
            raise web.HTTPTooManyRequests(text="Too many connections\n")
        transport, http = request.transport, request.protocol
        ended = web.Response()  # the answer is sent by the connection; aiohttp sends none on a lost one
        if transport is None:
            return ended
        lost = asyncio.get_running_loop().create_future()

        def on_lost(error: Exception | None) -> None:
            http.connection_lost(error)
            if not lost.done():  # aiohttp may have cancelled this task
                lost.set_result(None)

        # aiohttp keeps the octets that arrived together with the request for its own WebSocket parser.
        early, http._message_tail = http._message_tail, b""
        self._open(request, accept, address, transport, early, on_lost)
        await lost
        return ended

    def _open(
        self,
        request: RequestHead,
        accept: str,
        address: Address,
        transport: asyncio.Transport | asyncio.BaseTransport,
        early: bytes,
        on_lost: Callable[[Exception | None], object] | None = None,
    ) -> None:
        widen(transport, WEBSOCKET_SIZE)
        self._last_id += 1
        connection = WebSocketConnection(ConnectionId(self._last_id), address, self, transport, on_lost)
        connection.user_agent = request.headers.get("User-Agent", "")
        self._connections.add(connection)
        connection.open(switching_protocols(accept, self._dated_headers()), early)

    def _dated_headers(self) -> bytes:
        second = int(self.wall_clock())
        if second != self._encoded_second:
            self._encoded_second = second
            self._encoded_headers = encode_headers({"Date": formatdate(second, usegmt=True), **self._headers})
        return self._encoded_headers

    def remove(self, connection: WebSocketConnection) -> None:
        """Remove a lost connection."""
        self._connections.discard(connection)
        if not self._connections:
            self._none_left.set()

    def close(self) -> None:
        """Close all connections, and abort the remaining connections after ``CLOSE_TIME``; the sessions stay."""
        for connection in list(self._connections):
            connection.finish()
        asyncio.get_running_loop().call_later(CLOSE_TIME, self._abort_all)

    async def wait_closed(self) -> None:
        """Return when no connection is left after ``close``, at the latest a second after all were aborted."""
        if self._connections:
            self._none_left.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIME + 1.0):
                    await self._none_left.wait()

    def _abort_all(self) -> None:
        for connection in list(self._connections):
            connection.abort()

    def __len__(self) -> int:
        return len(self._connections)

    def flush(self) -> None:
        """Have each connection write the messages that were queued for it in this loop iteration."""
        dirty = self.dirty.copy()
        self.dirty.clear()
        for connection in dirty:
            try:
                connection.flush()
            except Exception:  # a fault in one connection must not stop the writes to the others
                log.exception("a connection is aborted: writing to it failed")
                connection.abort()
        self.frames.clear()
