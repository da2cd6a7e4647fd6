"""RTP packets as bytes: parsing of headers, parsing and packing of header extensions.

Source: RFC 3550 5.1 (header), RFC 8285 (header extensions).
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import NamedTuple

PADDING_BIT = 0x20
EXTENSION_BIT = 0x10
VERSION_BITS = 0x80

HEADER = Struct("!BBHII")
_EXTENSION = Struct("!HH")
MAX_EXTENSION = 1024  # bytes of a header extension that is read; browsers send up to 300
_ONE_BYTE_PROFILE = 0xBEDE
_TWO_BYTE_PROFILE = 0x1000


class RtpPacket(NamedTuple):
    """A parsed RTP packet."""

    flags: int  # the padding bit alone: version and counts are written anew
    marker: int  # 0x80 or 0
    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    profile: int  # of the header extension; 0 = none
    extension: bytes
    payload: bytes  # with its padding, if any


def parse(data: bytes) -> RtpPacket | None:
    """Parse a packet; ``None`` if it is not RTP. A header extension beyond ``MAX_EXTENSION`` counts as absent."""
    if len(data) < HEADER.size:
        return None
    first, second, sequence, timestamp, ssrc = HEADER.unpack_from(data)
    if first >> 6 != 2:
        return None
    at = HEADER.size + 4 * (first & 0x0F)
    profile = 0
    extension = b""
    if first & EXTENSION_BIT:
        if len(data) < at + 4:
            return None
        profile, words = _EXTENSION.unpack_from(data, at)
        extension = data[at + 4 : at + 4 + 4 * words]
        at += 4 + 4 * words
        if len(extension) > MAX_EXTENSION:
            profile, extension = 0, b""
    if len(data) < at:
        return None
    return RtpPacket(
        first & PADDING_BIT, second & 0x80, second & 0x7F, sequence, timestamp, ssrc, profile, extension, data[at:]
    )


def extension_element(packet: RtpPacket, extension_id: int) -> bytes | None:
    """Return the value of the header extension element ``extension_id``; ``None`` if it is absent."""
    block = packet.extension
    if packet.profile == _ONE_BYTE_PROFILE:
        shift, header = 4, 1
    elif packet.profile & 0xFFF0 == _TWO_BYTE_PROFILE:
        shift, header = 0, 2
    else:
        return None
    at = 0
    while at + header <= len(block):
        if block[at] == 0:  # padding
            at += 1
            continue
        length = (block[at] & 0x0F) + 1 if header == 1 else block[at + 1]
        if block[at] >> shift == extension_id:
            return block[at + header : at + header + length]
        at += header + length
    return None


def pack_extension(elements: Iterable[tuple[int, bytes]]) -> bytes:
    """Return a whole one-byte header extension of (id, value) pairs; ids are 1 to 14, values 1 to 16 bytes long."""
    body = b"".join(bytes([extension_id << 4 | len(value) - 1]) + value for extension_id, value in elements)
    body += bytes(-len(body) % 4)
    return _EXTENSION.pack(_ONE_BYTE_PROFILE, len(body) // 4) + body
