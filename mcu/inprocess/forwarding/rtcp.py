"""RTCP packets as bytes: parsing of what a forwarder acts on, and packing of reports and feedback.

Source: RFC 3550 6 (SR, RR, SDES), RFC 4585 (NACK, PLI), RFC 5104 (FIR), draft-alvestrand-rmcat-remb-03 (REMB).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from struct import Struct
from typing import NamedTuple

SR, RR, SDES, RTPFB, PSFB = 200, 201, 202, 205, 206
NACK = 1  # format of RTPFB
PLI, FIR, REMB = 1, 4, 15  # formats of PSFB

_VERSION_BITS = 0x80
_SENDER = Struct("!IQIII")
_BLOCK = Struct("!IIIIII")
_NACK = Struct("!HH")


class SenderReport(NamedTuple):
    """What a sender says about its clock and counters."""

    ssrc: int
    ntp: int  # 64 bit, 32.32 fixed point seconds since 1900
    timestamp: int
    packets: int
    octets: int


class ReportBlock(NamedTuple):
    """What a receiver says about one source."""

    ssrc: int
    fraction: int  # lost since the last report, in 1/256
    lost: int
    highest: int  # extended sequence number
    jitter: int  # in units of the timestamp
    last_report: int  # middle 32 bit of the last SR's ntp
    delay: int  # since then, in 1/65536 s


class FeedbackPacket(NamedTuple):
    """One feedback packet (RFC 4585)."""

    type: int  # RTPFB or PSFB
    format: int
    media: int  # SSRC; 0 for REMB
    detail: bytes


def parse(data: bytes) -> Iterator[SenderReport | ReportBlock | FeedbackPacket]:
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


def _read(kind: int, count: int, body: bytes) -> Iterator[SenderReport | ReportBlock | FeedbackPacket]:
    if kind == SR:
        yield SenderReport(*_SENDER.unpack_from(body))
        yield from _blocks(body, 24, count)
    elif kind == RR:
        yield from _blocks(body, 4, count)
    elif kind in (RTPFB, PSFB) and len(body) >= 8:
        yield FeedbackPacket(kind, count, int.from_bytes(body[4:8], "big"), body[8:])


def _blocks(body: bytes, at: int, count: int) -> Iterator[ReportBlock]:
    for index in range(count):
        ssrc, loss, highest, jitter, last, delay = _BLOCK.unpack_from(body, at + 24 * index)
        lost = loss & 0xFFFFFF
        yield ReportBlock(ssrc, loss >> 24, lost - (lost >> 23 << 24), highest, jitter, last, delay)


def lost_sequences(detail: bytes) -> Iterator[int]:
    """Yield the sequence numbers that a NACK asks for."""
    for at in range(0, len(detail) - 3, 4):
        base, mask = _NACK.unpack_from(detail, at)
        yield base
        yield from (base + bit + 1 & 0xFFFF for bit in range(16) if mask >> bit & 1)


def fir_targets(detail: bytes) -> Iterator[int]:
    """Yield the SSRCs that a FIR asks a keyframe of."""
    for at in range(0, len(detail) - 7, 8):
        yield int.from_bytes(detail[at : at + 4], "big")


def pack_nack(sender: int, media: int, sequences: Iterable[int]) -> bytes:
    """Return a NACK for sequence numbers, given in their order."""
    pairs: list[list[int]] = []
    for sequence in sequences:
        distance = (sequence - pairs[-1][0] & 0xFFFF) if pairs else 0
        if 1 <= distance <= 16:
            pairs[-1][1] |= 1 << distance - 1
        else:
            pairs.append([sequence, 0])
    return _pack(RTPFB, NACK, _words(sender, media) + b"".join(_NACK.pack(*pair) for pair in pairs))


def pack_pli(sender: int, media: int) -> bytes:
    """Return a request for a keyframe."""
    return _pack(PSFB, PLI, _words(sender, media))


def pack_remb(sender: int, bits_per_second: int, sources: list[int]) -> bytes:
    """Return the cap on what all ``sources`` together may send."""
    exponent = max(0, bits_per_second.bit_length() - 18)
    value = exponent << 18 | bits_per_second >> exponent
    head = b"REMB" + bytes([len(sources)]) + value.to_bytes(3, "big")
    return _pack(PSFB, REMB, _words(sender, 0) + head + _words(*sources))


def parse_remb(detail: bytes) -> int | None:
    """Return the bit/s of a REMB; ``None`` if it is none, or no number of 64 bits."""
    if len(detail) < 8 or detail[:4] != b"REMB":
        return None
    value = int.from_bytes(detail[5:8], "big")
    bits_per_second = (value & 0x3FFFF) << (value >> 18)
    return bits_per_second if bits_per_second >> 64 == 0 else None


def pack_receiver_report(sender: int, blocks: list[ReportBlock]) -> bytes:
    """Return an RR; at most 31 blocks."""
    return _pack(RR, len(blocks), _words(sender) + b"".join(map(_pack_block, blocks)))


def pack_sender_report(report: SenderReport) -> bytes:
    """Return an SR without report blocks."""
    return _pack(SR, 0, _SENDER.pack(*report))


def pack_source_description(ssrc: int, cname: str) -> bytes:
    """Return an SDES with the CNAME of one source."""
    name = cname.encode()
    item = bytes([1, len(name)]) + name
    return _pack(SDES, 1, _words(ssrc) + item + bytes(4 - len(item) % 4))


def _pack_block(block: ReportBlock) -> bytes:
    loss = block.fraction << 24 | max(-0x800000, min(block.lost, 0x7FFFFF)) & 0xFFFFFF
    return _BLOCK.pack(block.ssrc, loss, block.highest & 0xFFFFFFFF, block.jitter, block.last_report, block.delay)


def _words(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "big") for value in values)


def _pack(kind: int, count: int, body: bytes) -> bytes:
    return bytes([_VERSION_BITS | count, kind]) + (len(body) // 4).to_bytes(2, "big") + body
