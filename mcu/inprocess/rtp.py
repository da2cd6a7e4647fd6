"""RTP and RTCP as bytes: only what a forwarder reads and writes, and the payload never.

Source: RFC 3550 (RTP, SR, RR, SDES), RFC 4585 (NACK, PLI), RFC 5104 (FIR), RFC 4588 (retransmission), RFC 8285 (header
extensions), draft-alvestrand-rmcat-remb-03 (REMB).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from struct import Struct
from typing import NamedTuple

SR, RR, SDES, RTPFB, PSFB = 200, 201, 202, 205, 206
NACK = 1  # format of RTPFB
PLI, FIR, REMB = 1, 4, 15  # formats of PSFB

PADDING_BIT = 0x20
EXTENSION_BIT = 0x10
VERSION_BITS = 0x80

HEADER = Struct("!BBHII")
_EXTENSION = Struct("!HH")
_ONE_BYTE_PROFILE = 0xBEDE
_TWO_BYTE_PROFILE = 0x1000
_SENDER = Struct("!IQIII")
_BLOCK = Struct("!IIIIII")


class Packet(NamedTuple):
    """One RTP packet taken apart."""

    flags: int  # the padding bit alone: version and counts are written anew
    marker: int  # 0x80 or 0
    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    profile: int  # of the header extension; 0 = none
    extension: bytes
    payload: bytes  # its padding, if any, included


def parse(data: bytes) -> Packet | None:
    """Take a packet apart; ``None`` if it is none."""
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
    if len(data) < at:
        return None
    return Packet(
        first & PADDING_BIT, second & 0x80, second & 0x7F, sequence, timestamp, ssrc, profile, extension, data[at:]
    )


def element(packet: Packet, ident: int) -> bytes | None:
    """Return the value of the header extension element ``ident``; ``None`` if it is not there."""
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
        if block[at] >> shift == ident:
            return block[at + header : at + header + length]
        at += header + length
    return None


def extension_block(elements: Iterable[tuple[int, bytes]]) -> bytes:
    """Return a whole one-byte header extension; each value has 1 to 16 bytes, each identifier is 1 to 14."""
    body = b"".join(bytes([ident << 4 | len(value) - 1]) + value for ident, value in elements)
    body += bytes(-len(body) % 4)
    return _EXTENSION.pack(_ONE_BYTE_PROFILE, len(body) // 4) + body


def newer(sequence: int, than: int) -> bool:
    """Whether a 16 bit sequence number comes after another."""
    return 0 < (sequence - than & 0xFFFF) < 0x8000


class SenderReport(NamedTuple):
    """What a sender says about its clock and counters."""

    ssrc: int
    ntp: int  # 64 bit, 32.32 fixed point seconds since 1900
    timestamp: int
    packets: int
    octets: int


class Block(NamedTuple):
    """What a receiver says about one source."""

    ssrc: int
    fraction: int  # lost since the last report, in 1/256
    lost: int
    highest: int  # extended sequence number
    jitter: int  # in units of the timestamp
    last_report: int  # middle 32 bit of the last SR's ntp
    delay: int  # since then, in 1/65536 s


class Feedback(NamedTuple):
    """One feedback packet (RFC 4585)."""

    type: int  # RTPFB or PSFB
    format: int
    media: int  # SSRC; 0 for REMB
    detail: bytes


def control(data: bytes) -> Iterator[SenderReport | Block | Feedback]:
    """Yield what a compound RTCP packet holds that a forwarder acts on; the rest of a broken one is dropped."""
    at = 0
    while at + 8 <= len(data):
        count, kind = data[at] & 0x1F, data[at + 1]
        end = at + 4 + 4 * int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at] >> 6 != 2 or end > len(data):
            return
        body = data[at + 4 : end]
        try:
            yield from _read(kind, count, body)
        except struct.error:
            return
        at = end


def _read(kind: int, count: int, body: bytes) -> Iterator[SenderReport | Block | Feedback]:
    if kind == SR:
        yield SenderReport(*_SENDER.unpack_from(body))
        yield from _blocks(body, 24, count)
    elif kind == RR:
        yield from _blocks(body, 4, count)
    elif kind in (RTPFB, PSFB) and len(body) >= 8:
        yield Feedback(kind, count, int.from_bytes(body[4:8], "big"), body[8:])


def _blocks(body: bytes, at: int, count: int) -> Iterator[Block]:
    for index in range(count):
        ssrc, loss, highest, jitter, last, delay = _BLOCK.unpack_from(body, at + 24 * index)
        lost = loss & 0xFFFFFF
        yield Block(ssrc, loss >> 24, lost - (lost >> 23 << 24), highest, jitter, last, delay)


def lost_sequences(detail: bytes) -> Iterator[int]:
    """Yield the sequence numbers that a NACK asks for."""
    for at in range(0, len(detail) - 3, 4):
        base, mask = _EXTENSION.unpack_from(detail, at)
        yield base
        yield from (base + bit + 1 & 0xFFFF for bit in range(16) if mask >> bit & 1)


def fir_targets(detail: bytes) -> Iterator[int]:
    """Yield the SSRCs that a FIR asks a keyframe of."""
    for at in range(0, len(detail) - 7, 8):
        yield int.from_bytes(detail[at : at + 4], "big")


def nack(sender: int, media: int, sequences: Iterable[int]) -> bytes:
    """Return a NACK for sequence numbers, given in their order."""
    pairs: list[list[int]] = []
    for sequence in sequences:
        distance = (sequence - pairs[-1][0] & 0xFFFF) if pairs else 0
        if 1 <= distance <= 16:
            pairs[-1][1] |= 1 << distance - 1
        else:
            pairs.append([sequence, 0])
    return _control(RTPFB, NACK, _words(sender, media) + b"".join(_EXTENSION.pack(*pair) for pair in pairs))


def pli(sender: int, media: int) -> bytes:
    """Return a request for a keyframe."""
    return _control(PSFB, PLI, _words(sender, media))


def remb(sender: int, bits_per_second: int, sources: list[int]) -> bytes:
    """Return the cap on what all ``sources`` together may send."""
    exponent = max(0, bits_per_second.bit_length() - 18)
    value = exponent << 18 | bits_per_second >> exponent
    head = b"REMB" + bytes([len(sources)]) + value.to_bytes(3, "big")
    return _control(PSFB, REMB, _words(sender, 0) + head + _words(*sources))


def read_remb(detail: bytes) -> int | None:
    """Return the bit/s of a REMB; ``None`` if it is none, or no number of 64 bits."""
    if len(detail) < 8 or detail[:4] != b"REMB":
        return None
    value = int.from_bytes(detail[5:8], "big")
    bits_per_second = (value & 0x3FFFF) << (value >> 18)
    return bits_per_second if bits_per_second >> 64 == 0 else None


def receiver_report(sender: int, blocks: list[Block]) -> bytes:
    """Return an RR; at most 31 blocks."""
    return _control(RR, len(blocks), _words(sender) + b"".join(map(_pack_block, blocks)))


def sender_report(report: SenderReport) -> bytes:
    """Return an SR without report blocks."""
    return _control(SR, 0, _SENDER.pack(*report))


def source_description(ssrc: int, cname: str) -> bytes:
    """Return an SDES with the CNAME of one source."""
    name = cname.encode()
    item = bytes([1, len(name)]) + name
    return _control(SDES, 1, _words(ssrc) + item + bytes(4 - len(item) % 4))


def _pack_block(block: Block) -> bytes:
    loss = block.fraction << 24 | max(-0x800000, min(block.lost, 0x7FFFFF)) & 0xFFFFFF
    return _BLOCK.pack(block.ssrc, loss, block.highest & 0xFFFFFFFF, block.jitter, block.last_report, block.delay)


def _words(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "big") for value in values)


def _control(kind: int, count: int, body: bytes) -> bytes:
    return bytes([VERSION_BITS | count, kind]) + (len(body) // 4).to_bytes(2, "big") + body
