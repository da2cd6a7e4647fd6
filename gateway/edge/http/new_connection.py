"""The asyncio protocol of a new connection until its first octets arrive: opens a WebSocket, or hands over to aiohttp.

Source: reference 1.1, 1.2; docs/architecture.md, "The hot path". The objects that aiohttp creates for a connection, its
request and its answer cost more than the rest of a WebSocket's handshake. So a handshake whose head arrives at once is
parsed here, by aiohttp's parser, and is handed to the WebSocket endpoint. Everything else goes to aiohttp's request
handler with the octets that have arrived: other requests, an incomplete or malformed head, a request with a body, and a
handshake that is refused. So all refusals of handshakes are in one place, and each handshake counts once against the
limits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from aiohttp import HttpVersion, HttpVersion11
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser
from msgspec import Struct
from multidict import CIMultiDictProxy

from gateway.edge.http.accepted_connection import Acceptor, TimedConnection

_END_OF_HEAD = b"\r\n\r\n"
_HEADERS_OF_A_BODY = ("Content-Length", "Transfer-Encoding", "Expect")  # a handshake has no body


class UpgradeRequest(Struct, frozen=True):
    """The head of a request for an upgrade; ``early`` are the octets after it that have arrived already."""

    path: str
    version: HttpVersion
    headers: CIMultiDictProxy[str]
    remote: str  # address of the TCP peer; empty for a unix socket
    transport: asyncio.Transport
    early: bytes


Upgrade = Callable[[UpgradeRequest], bool]  # opens a WebSocket; False: aiohttp has to handle the request


class ConnectionAcceptor(Acceptor, Protocol):
    """The server of HTTP connections; the head of the first request must arrive within the time of ``add``."""

    def upgrade(self, request: UpgradeRequest) -> bool:
        """Open a WebSocket on the request's transport; ``False``: aiohttp has to handle the request."""

    def hand_over(self, connection: NewConnection, due: float | None) -> asyncio.Protocol:
        """Return aiohttp's handler for a connection.

        ``due`` is the time of the event loop by which the head of its request must have arrived; ``None``: no limit.
        """


class NewConnection(TimedConnection, asyncio.Protocol):
    """A connection on which nothing was received yet; afterwards aiohttp's handler uses it as an ``IdleConnection``."""

    __slots__ = ()
    _owner: ConnectionAcceptor

    def __init__(self, owner: ConnectionAcceptor) -> None:
        super().__init__(owner)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the time limit for the head of the request; abort a TCP connection whose peer address is unknown."""
        self._begin(transport)

    def data_received(self, data: bytes) -> None:
        """Open a WebSocket, or hand the connection to aiohttp."""
        due = self._end_timer()
        request = None if self.uses_reserve else self._upgrade_request(data)
        try:
            upgraded = request is not None and self._owner.upgrade(request)
        except BaseException:  # if the transport has another protocol already, ``connection_lost`` is not called
            self._owner.remove(self)
            raise
        if upgraded:
            self._owner.remove(self)
            return
        handler = self._owner.hand_over(self, due)
        self.transport.set_protocol(handler)
        handler.connection_made(self.transport)
        handler.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._end_timer()
        self._owner.remove(self)

    def _upgrade_request(self, data: bytes) -> UpgradeRequest | None:
        """Return the request for an upgrade if the octets begin with its complete head, otherwise ``None``."""
        end = data.find(_END_OF_HEAD) + len(_END_OF_HEAD)
        if end < len(_END_OF_HEAD) or not data.startswith(b"GET "):
            return None
        # The parser gets the head alone: for a body it would need a protocol whose reading it can pause.
        parser = HttpRequestParser(None, asyncio.get_running_loop(), 0)
        try:
            messages, upgraded, rest = parser.feed_data(data[:end])
        except HttpProcessingError:
            return None
        if not upgraded or rest or len(messages) != 1:
            return None
        head = messages[0][0]
        if head.version != HttpVersion11 or any(name in head.headers for name in _HEADERS_OF_A_BODY):
            return None
        return UpgradeRequest(head.path, head.version, head.headers, self.peer, self.transport, data[end:])
