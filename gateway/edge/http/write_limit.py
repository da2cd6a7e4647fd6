"""A write timeout for HTTP answers that a client does not read.

Source: reference 1.1. A connection whose client does not read the answer would stay open for ever, even after
``close``; it is aborted. A connection that became a WebSocket has its own write timeout.

Over TLS the first write goes into an inner transport's buffer, whatever its size, and only further writes pause the
protocol. The time of an answer in one write is then limited by the event loop, which ends a connection 30 s after
``close``.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from gateway.standstill import PeerTimer

WRITE_TIMEOUT = 30.0  # seconds until the client has received the answer


class WriteTimeoutHandler(web.RequestHandler):
    """aiohttp's request handler of one connection, which aborts it when its write buffer does not drain in time."""

    __slots__ = ("_kept_transport", "_timer")

    def __init__(self, server: web.Server, **options: Any) -> None:
        super().__init__(server, **options)
        self._kept_transport: Any = None  # the transport, kept after aiohttp closed and dropped it
        self._timer: PeerTimer | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._kept_transport = transport
        # A TLS transport pauses at its limit, any other above it: both when the first byte stays in the buffer.
        secure = transport.get_extra_info("sslcontext") is not None
        self._kept_transport.set_write_buffer_limits(high=1 if secure else 0)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._cancel_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._timer = PeerTimer(WRITE_TIMEOUT, self._abort)

    def resume_writing(self) -> None:
        self._cancel_timer()
        super().resume_writing()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _abort(self) -> None:
        if self._kept_transport.get_protocol() is self:  # not yet handed to a WebSocket connection
            self._kept_transport.abort()
