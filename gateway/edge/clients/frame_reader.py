"""Parses the WebSocket frames of a client, one frame for each call, so that the caller can count and limit them.

Source: RFC 6455 5, 7.4; reference 2.1. Nothing is parsed ahead: a connection that has ended, or has used its share of a
iteration of the event loop, costs only the memory of its octets. Fragments, control frames and messages count alike.
"""

from __future__ import annotations

import struct
from codecs import utf_8_decode
from typing import Final, TypeAlias

from aiohttp._websocket.helpers import websocket_mask  # undocumented; a test compares it with RFC 6455

FRAGMENT: Final = 0x0  # a fragment that does not complete a message; also the opcode of continuations
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

PROTOCOL_ERROR: Final = 1002  # close codes of RFC 6455 7.4.1
INVALID_TEXT: Final = 1007
TOO_BIG: Final = 1009

_OPCODES = frozenset({FRAGMENT, TEXT, BINARY, CLOSE, PING, PONG})
_CLOSE_CODES = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})  # assigned codes that may be sent
SINGLE_FRAME_HEAD_SIZE: Final = 8  # octets before the text that ``read_single_frame`` returns; 4 of them are the mask

_CONTROL_BIT = 0x8  # bit in the opcode of a control frame
_MASK_BIT = 0x80
_FIN_BIT = 0x80
_TEXT_MESSAGE = _FIN_BIT | TEXT  # first octet of a text message in one frame
_LONGEST_CONTROL = 125  # octets of a control frame's payload; the second octet of a frame holds no greater length (5.2)
_MASK_BYTES = 4
_HEAD_WITHOUT_MASK = 0x81FE0000  # of a text message in one frame; the last 2 octets are the length, here 0
_MIN_16_BIT_LENGTH = 126  # octets; the length of a shorter payload is in the second octet of the frame (5.2)
_head_and_mask = struct.Struct("!I4s").unpack_from
_two_bytes = struct.Struct("!H").unpack_from
_eight_bytes = struct.Struct("!Q").unpack_from


class FrameError(Exception):
    """The client has broken the WebSocket protocol; ``code`` is the close code for it."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


# Opcode, value and size. The value is the text of a text message, the payload of a control frame, otherwise ``b""``.
# The size is that of this frame's payload in bytes, also of the fragment that completes a message, so that the sizes of
# all frames add up to the payloads that the client has sent.
Frame: TypeAlias = tuple[int, "str | bytes | bytearray", int]


class FrameReader:
    """Parses the frames in the octets from a client; ``limit`` is the greatest size of a message in bytes."""

    __slots__ = ("_at", "_data", "_limit", "_max_16_bit_length", "_opcode", "_partial", "_valid_octets")

    def __init__(self, limit: int) -> None:
        self._data: bytes | bytearray = b""  # empty as soon as all octets are parsed
        self._at = 0  # octets of ``_data`` that are parsed
        self._limit = limit
        self._max_16_bit_length = min(limit, 65535)
        self._opcode = FRAGMENT  # of a message of which fragments have arrived; FRAGMENT: there is none
        self._partial = bytearray()  # these fragments
        self._valid_octets = 0  # octets of the fragments of a text message that are known to be UTF-8

    def feed(self, data: bytes) -> None:
        """Append received octets."""
        if not self._data:
            self._data = data
            return
        kept = self._data if isinstance(self._data, bytearray) else bytearray(self._data)
        del kept[: self._at]
        kept += data
        self._data, self._at = kept, 0

    @property
    def unread(self) -> bool:
        """Whether there are octets that are not parsed, possibly of an incomplete frame."""
        return bool(self._data)

    def discard(self) -> bytes | bytearray:
        """Drop the octets that are not parsed, and return them."""
        dropped = self._data[self._at :]
        self._data, self._at = b"", 0
        self._partial.clear()
        self._valid_octets = 0
        return dropped

    def read_single_frame(self, data: bytes) -> str | None:
        """Return the text of received ``data`` that are exactly one text message in one frame, of 126 bytes or more.

        Return ``None`` for other data, and while octets are ``unread``: the data have to be fed and read. Nearly all
        data of clients are such a message. It needs no buffer, and one comparison replaces the checks of ``read``.

        Raises:
            FrameError: the message is not UTF-8; the connection must be closed.
        """
        length = len(data) - SINGLE_FRAME_HEAD_SIZE
        if length < _MIN_16_BIT_LENGTH or self._data or self._opcode:
            return None
        head, mask = _head_and_mask(data)
        if head != _HEAD_WITHOUT_MASK + length or length > self._max_16_bit_length:
            return None
        payload = bytearray(data[SINGLE_FRAME_HEAD_SIZE:])
        websocket_mask(mask, payload)
        return _decoded(payload)

    def read(self) -> Frame | None:
        """Return the next frame; ``None`` until it has arrived completely.

        Raises:
            FrameError: the connection must be closed.
        """
        data, at = self._data, self._at
        available = len(data) - at
        if available < 2:
            return None
        first, second = data[at], data[at + 1]
        length = second & 0x7F
        if first != _TEXT_MESSAGE or second < _MASK_BIT or self._opcode:
            self._check_head(first, second, length)
        at += 2
        if length > _LONGEST_CONTROL:
            wide = length == 127
            if available < (10 if wide else 4):
                return None
            (length,) = _eight_bytes(data, at) if wide else _two_bytes(data, at)
            if length < (1 << 16 if wide else 126) or length >= 1 << 63:  # RFC 6455 5.2
                raise FrameError(PROTOCOL_ERROR)
            at += 8 if wide else 2
        if length > self._limit or (
            self._opcode and first & _CONTROL_BIT == 0 and length + len(self._partial) > self._limit
        ):
            raise FrameError(TOO_BIG)
        end = at + _MASK_BYTES + length
        if end > len(data):
            return None
        payload = bytearray(data[at + _MASK_BYTES : end])
        websocket_mask(bytes(data[at : at + _MASK_BYTES]), payload)
        if end == len(data):
            self._data, self._at = b"", 0
        else:
            self._at = end
        if first == _TEXT_MESSAGE:
            return TEXT, _decoded(payload), length
        opcode = first & 0x0F
        if opcode & _CONTROL_BIT:
            return opcode, _checked_close(payload) if opcode == CLOSE else payload, length
        return self._assemble(opcode, payload, bool(first & _FIN_BIT))

    def _check_head(self, first: int, second: int, length: int) -> None:
        """Check reserved bits, mask, opcode and fragmentation; ``length`` is the payload length in the second octet."""
        opcode = first & 0x0F
        valid = first & 0x70 == 0 and second >= _MASK_BIT and opcode in _OPCODES
        if opcode & _CONTROL_BIT:
            valid = valid and first >= _FIN_BIT and length <= _LONGEST_CONTROL
        else:
            valid = valid and (opcode == FRAGMENT) == (self._opcode != FRAGMENT)
        if not valid:
            raise FrameError(PROTOCOL_ERROR)

    def _assemble(self, opcode: int, payload: bytearray, final: bool) -> Frame:
        """Append a fragment to its message; return the message when it is complete."""
        self._opcode = opcode or self._opcode
        self._partial += payload
        if not final:
            if self._opcode == TEXT:
                self._check_text()
            return FRAGMENT, b"", len(payload)
        opcode, message = self._opcode, self._partial
        self._opcode, self._partial, self._valid_octets = FRAGMENT, bytearray(), 0
        return opcode, _decoded(message) if opcode == TEXT else b"", len(payload)

    def _check_text(self) -> None:
        """Check the fragments of a text that have arrived, so that invalid text is refused before its last fragment.

        They may end within a character.
        """
        try:
            _, valid = utf_8_decode(self._partial[self._valid_octets :], "strict", False)
        except UnicodeDecodeError as error:
            raise FrameError(INVALID_TEXT) from error
        self._valid_octets += valid


def may_be_sent(code: int) -> bool:
    """Return whether a close frame may contain a code; reserved and unassigned codes must not be sent (7.4)."""
    return code in _CLOSE_CODES or 3000 <= code <= 4999


def _decoded(payload: bytearray) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise FrameError(INVALID_TEXT) from error


def _checked_close(payload: bytearray) -> bytearray:
    """Return the payload of a close frame: empty, or a valid code and a reason in UTF-8 (RFC 6455 5.5.1)."""
    if not payload:
        return payload
    if len(payload) < 2 or not may_be_sent(int.from_bytes(payload[:2])):
        raise FrameError(PROTOCOL_ERROR)
    _decoded(payload[2:])
    return payload
