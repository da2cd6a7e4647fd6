"""WebSocket frames: aiohttp's parser, fed directly; and the server's own frames, which are not masked.

Source: RFC 6455 5.2. What is used of aiohttp beyond its documentation (checked with 3.14): ``WebSocketReader`` hands
each message to ``feed_data`` of its queue and each error to ``set_exception``; the queue is replaced by one that
calls. A test notices when an upgrade changes that.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable
from typing import Any

from aiohttp import WebSocketError, WSMessage
from aiohttp._websocket.reader import WebSocketDataQueue

log = logging.getLogger("portunus.edge")

_TEXT = 0x1
_FIN = 0x80
_medium = struct.Struct("!BBH").pack
_long = struct.Struct("!BBQ").pack
_short = [bytes((_FIN | _TEXT, length)) for length in range(126)]


def frame(payload: bytes, opcode: int = _TEXT) -> bytes:
    """Put a payload into one frame of the server."""
    length = len(payload)
    if length < 126:
        return (_short[length] if opcode == _TEXT else bytes((_FIN | opcode, length))) + payload
    if length < 65536:
        return _medium(_FIN | opcode, 126, length) + payload
    return _long(_FIN | opcode, 127, length) + payload


class _NoTransport:
    """What the replaced queue would pause; it never gathers anything."""

    _reading_paused = False


class CallbackQueue(WebSocketDataQueue):
    """Calls ``on_message`` for each message and its size in bytes, and ``on_error`` when the peer breaks the protocol.

    What that is given is a close code.
    """

    def __init__(self, on_message: Callable[[WSMessage, int], None], on_error: Callable[[int], None]) -> None:
        super().__init__(_NoTransport(), 1, loop=asyncio.get_running_loop())  # type: ignore[arg-type]
        self._on_message = on_message
        self._on_error = on_error

    def feed_data(self, message: Any, size: int) -> None:
        """Take one message; a fault of ours must not be mistaken for one of the peer."""
        try:
            self._on_message(message, size)
        except Exception:
            log.exception("a message was not handled")

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        """Take the error that ends the connection."""
        self._on_error(int(exc.code) if isinstance(exc, WebSocketError) else 1002)

    def feed_eof(self) -> None:
        """Nothing: the end of the transport is told elsewhere."""
