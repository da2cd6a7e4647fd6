"""Encodes messages as WebSocket frames of the server, which are not masked.

Source: RFC 6455 5.2.
"""

from __future__ import annotations

import struct

_TEXT = 0x1
_FIN = 0x80
_head_16_bit = struct.Struct("!BBH").pack
_head_64_bit = struct.Struct("!BBQ").pack
_SHORT_TEXT = 1024  # bytes; the heads of shorter text messages are encoded in advance
_heads_of_text = [
    bytes((_FIN | _TEXT, length)) if length < 126 else _head_16_bit(_FIN | _TEXT, 126, length)
    for length in range(_SHORT_TEXT)
]


def encode_frame(payload: bytes, opcode: int = _TEXT) -> bytes:
    """Encode one frame with a payload."""
    length = len(payload)
    if opcode == _TEXT and length < _SHORT_TEXT:
        return _heads_of_text[length] + payload
    if length < 126:
        return bytes((_FIN | opcode, length)) + payload
    if length < 65536:
        return _head_16_bit(_FIN | opcode, 126, length) + payload
    return _head_64_bit(_FIN | opcode, 127, length) + payload


class FrameCache:
    """The frame of the last text message, so that a message to a room is encoded once for all its recipients."""

    __slots__ = ("_frame", "_message")

    def __init__(self) -> None:
        self._message: bytes | None = None
        self._frame = b""

    def encode(self, message: bytes) -> bytes:
        """Encode the frame of a text message, or return it if this object was the last one that was encoded."""
        if message is not self._message:
            self._frame = encode_frame(message)
            self._message = message
        return self._frame

    def clear(self) -> None:
        """Release the memory of message and frame."""
        self._message, self._frame = None, b""
