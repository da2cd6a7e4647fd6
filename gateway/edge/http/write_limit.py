"""A time limit for answers that a client does not read.

Source: reference 1.1. A connection whose answer the client's kernel does not take would stay for ever, also
behind its ``close``: it is ended. What has become a WebSocket has a limit of its own.

Over TLS the first write goes to a transport that cannot be seen from here, whatever its size, and only further ones
make the loop pause. An answer of one write is bounded by the loop itself there: 30 s after ``close`` it ends a
connection.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

WRITE_TIMEOUT = 30.0  # seconds for the client to take what was written


class WriteTimeoutHandler(web.RequestHandler):
    """aiohttp's side of one connection; the loop tells it when something waits to be taken, and when nothing does."""

    __slots__ = ("_overdue", "_wire")

    def __init__(self, server: web.Server, **options: Any) -> None:
        super().__init__(server, **options)
        self._wire: Any = None  # the transport, also when aiohttp has closed and forgotten it
        self._overdue: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._wire = transport
        # A transport over TLS pauses at its limit, any other above it: both as soon as something waits.
        secure = transport.get_extra_info("sslcontext") is not None
        self._wire.set_write_buffer_limits(high=1 if secure else 0)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._in_time()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._overdue = self._loop.call_later(WRITE_TIMEOUT, self._give_up)

    def resume_writing(self) -> None:
        self._in_time()
        super().resume_writing()

    def _in_time(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def _give_up(self) -> None:
        if self._wire.get_protocol() is self:  # and not a WebSocket, which is told the rest by now
            self._wire.abort()
