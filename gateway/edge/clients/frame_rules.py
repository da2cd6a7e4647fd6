"""Rules for the frames of a client that aiohttp's parser does not check.

Source: RFC 6455 5.1 (masks), 5.2 (shortest form of the length), 5.4 (messages are not interleaved), 7.4 (close codes).
"""

from __future__ import annotations

from collections.abc import Callable

_MASKED = 0x80
_FIN = 0x80
_LENGTH_16, _LENGTH_64 = 126, 127  # values of the 7 bit length
_MASK_SIZE = 4
_WHOLE_TEXT = 0x81  # first octet of an unfragmented text message
_CONTROL = 0x8  # opcodes from here on
_PROTOCOL_ERROR = 1002
_SENT_CODES = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})


def may_be_sent(code: int) -> bool:
    """Whether a close frame may carry a code: 1004 to 1006 and 1015 are reserved, others not assigned (7.4)."""
    return code in _SENT_CODES or 3000 <= code <= 4999


class FrameRules:
    """Checks the head of each frame, and passes the octets before the first forbidden frame on.

    ``feed`` is the parser; ``on_error`` is called once with a close code, and nothing is passed on afterwards.
    """

    __slots__ = ("_feed", "_head", "_in_message", "_on_error", "_payload", "_violated")

    def __init__(self, feed: Callable[[bytes], object], on_error: Callable[[int], None]) -> None:
        self._feed = feed
        self._on_error = on_error
        self._head = b""  # the part of a frame's head that has arrived
        self._payload = 0  # bytes of mask and payload that are still to come
        self._in_message = False  # a fragment has arrived, and not yet the last one
        self._violated = False

    def receive(self, data: bytes) -> None:
        """Check octets from the client and pass them to the parser."""
        between_frames = not (self._payload or self._head or self._in_message)
        if between_frames and _is_whole_text(data):
            self._feed(data)
        else:
            self._scan(data)

    def _scan(self, data: bytes) -> None:
        if self._violated:
            return
        position, size = 0, len(data)
        while position < size:
            if self._payload:
                skipped = min(self._payload, size - position)
                self._payload -= skipped
                position += skipped
                continue
            start = position
            position = self._take_head(data, position)
            if len(self._head) >= 2 and self._forbidden():
                self._violated = True
                self._feed(data[:start])
                self._on_error(_PROTOCOL_ERROR)
                return
            self._end_head()
        self._feed(data)

    def _take_head(self, data: bytes, position: int) -> int:
        """Add octets to the head of the present frame; return the position behind them."""
        for wanted in (2, _head_size(self._head + data[position : position + 2])):
            taken = data[position : position + max(0, wanted - len(self._head))]
            self._head += taken
            position += len(taken)
        return position

    def _forbidden(self) -> bool:
        """Whether the head breaks a rule; its length may still be incomplete."""
        first, second = self._head[0], self._head[1]
        opcode = first & 0x0F
        if not second & _MASKED or (0 < opcode < _CONTROL and self._in_message):
            return True
        if len(self._head) < _head_size(self._head):
            return False
        length = int.from_bytes(self._head[2:])
        if second & 0x7F == _LENGTH_16:
            return length < _LENGTH_16
        return second & 0x7F == _LENGTH_64 and not 1 << 16 <= length < 1 << 63

    def _end_head(self) -> None:
        """Begin the payload if the head is complete."""
        head = self._head
        if len(head) < 2 or len(head) < _head_size(head):
            return
        length = head[1] & 0x7F
        self._payload = _MASK_SIZE + (length if length < _LENGTH_16 else int.from_bytes(head[2:]))
        if head[0] & 0x0F < _CONTROL:
            self._in_message = not head[0] & _FIN
        self._head = b""


def _is_whole_text(data: bytes) -> bool:
    """Whether the octets are exactly one masked, unfragmented text frame of less than 64 KiB: the usual case."""
    size = len(data)
    if size < 8 or data[0] != _WHOLE_TEXT:
        return False
    length = data[1]
    if length == _MASKED | _LENGTH_16:
        return size == (data[2] << 8 | data[3]) + 4 + _MASK_SIZE and size > 4 + _MASK_SIZE + 125
    return _MASKED <= length < _MASKED | _LENGTH_16 and size == (length & 0x7F) + 2 + _MASK_SIZE


def _head_size(head: bytes) -> int:
    """Return the size of a frame's head without the mask, as far as its first two octets tell it."""
    if len(head) < 2:
        return 2
    return {_LENGTH_16: 4, _LENGTH_64: 10}.get(head[1] & 0x7F, 2)
