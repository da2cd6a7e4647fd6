"""WebSocket frames: the output of aiohttp's parser as callbacks, and the server's unmasked frames.

Source: RFC 6455 5.2. Undocumented parts of aiohttp (checked with 3.14): ``WebSocketReader`` passes each message to
``feed_data`` of its queue and each error to ``set_exception``; here that queue is one that calls back. A test fails
when an upgrade of aiohttp changes that.
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
_head_16_bit = struct.Struct("!BBH").pack
_head_64_bit = struct.Struct("!BBQ").pack
_heads_of_text = [bytes((_FIN | _TEXT, length)) for length in range(126)]


def frame(payload: bytes, opcode: int = _TEXT) -> bytes:
    """Encode a payload as one unmasked frame."""
    length = len(payload)
    if length < 126:
        return (_heads_of_text[length] if opcode == _TEXT else bytes((_FIN | opcode, length))) + payload
    if length < 65536:
        return _head_16_bit(_FIN | opcode, 126, length) + payload
    return _head_64_bit(_FIN | opcode, 127, length) + payload


class _NoTransport:
    """The transport that aiohttp's queue would pause; ``CallbackQueue`` never holds anything, so it is never paused."""

    _reading_paused = False


class CallbackQueue(WebSocketDataQueue):
    """Calls ``on_message`` with each message and its size in bytes, ``on_error`` with the close code of an error."""

    def __init__(self, on_message: Callable[[WSMessage, int], None], on_error: Callable[[int], None]) -> None:
        super().__init__(_NoTransport(), 1, loop=asyncio.get_running_loop())  # type: ignore[arg-type]
        self._on_message = on_message
        self._on_error = on_error

    def feed_data(self, message: Any, size: int) -> None:
        """Pass a message on; an exception of the callback must not count as a protocol error of the peer."""
        try:
            self._on_message(message, size)
        except Exception:
            log.exception("a WebSocket message was not handled")

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        """Report the protocol error that ends the connection."""
        self._on_error(int(exc.code) if isinstance(exc, WebSocketError) else 1002)

    def feed_eof(self) -> None:
        """Do nothing: the protocol's ``connection_lost`` reports the end of the transport."""
