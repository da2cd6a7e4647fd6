"""RTCP packets as bytes: parsing of reports and feedback, and packing of the packets that the SFU sends.

Source: RFC 3550 6 (SR, RR, SDES), RFC 4585 (NACK, PLI), RFC 5104 (FIR), draft-alvestrand-rmcat-remb-03 (REMB).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from struct import Struct
from typing import NamedTuple

SR, RR, SDES, RTPFB, PSFB = 200, 201, 202, 205, 206  # packet types
NACK = 1  # format of RTPFB
PLI, FIR, REMB = 1, 4, 15  # formats of PSFB
MAX_BLOCKS = 31  # report blocks of one packet
MAX_PARTS = 64  # packets of one compound packet
MAX_READ = 2048  # bytes of one compound packet; browsers send at most 1200

_VERSION_BITS = 0x80
_SENDER_INFO = Struct("!IQIII")
_BLOCK = Struct("!IIIIII")
_NACK = Struct("!HH")


class SenderReport(NamedTuple):
    """The sender info of an SR: clock and counters of an RTP source."""

    ssrc: int
    ntp: int  # 64 bit, 32.32 fixed point seconds since 1900
    timestamp: int
    packets: int
    octets: int


class ReportBlock(NamedTuple):
    """A report block: the reception statistics of one RTP source."""

    ssrc: int
    fraction_lost: int  # since the last report, in 1/256
    lost: int
    highest_sequence: int  # extended sequence number
    jitter: int  # in units of the timestamp
    last_report: int  # middle 32 bit of the last SR's NTP time; 0 = none
    delay: int  # since that SR, in 1/65536 s


class FeedbackPacket(NamedTuple):
    """A feedback packet (RFC 4585 6.1)."""

    type: int  # RTPFB or PSFB
    format: int
    media_ssrc: int  # 0 for REMB and FIR
    control_information: bytes


def parse(data: bytes) -> Iterator[SenderReport | ReportBlock | FeedbackPacket]:
    """Yield the sender infos, report blocks and feedback of a compound packet, up to the first malformed part.

    At most ``MAX_PARTS`` packets and ``MAX_READ`` bytes are read.
    """
    data = data[:MAX_READ]
    at = parts = 0
    while at + 8 <= len(data) and (parts := parts + 1) <= MAX_PARTS:
        count, packet_type = data[at] & 0x1F, data[at + 1]
        end = at + 4 + 4 * int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at] >> 6 != 2 or end > len(data):
            return
        body = data[at + 4 : end]
        try:
            yield from _parse_one(packet_type, count, body)
        except struct.error:
            return
        at = end


def _parse_one(packet_type: int, count: int, body: bytes) -> Iterator[SenderReport | ReportBlock | FeedbackPacket]:
    if packet_type == SR:
        yield SenderReport(*_SENDER_INFO.unpack_from(body))
        yield from _parse_blocks(body, 24, count)
    elif packet_type == RR:
        yield from _parse_blocks(body, 4, count)
    elif packet_type in (RTPFB, PSFB) and len(body) >= 8:
        yield FeedbackPacket(packet_type, count, int.from_bytes(body[4:8], "big"), body[8:])


def _parse_blocks(body: bytes, at: int, count: int) -> Iterator[ReportBlock]:
    for index in range(count):
        ssrc, loss, highest, jitter, last, delay = _BLOCK.unpack_from(body, at + 24 * index)
        lost = loss & 0xFFFFFF
        yield ReportBlock(ssrc, loss >> 24, lost - (lost >> 23 << 24), highest, jitter, last, delay)


def nacked_sequences(control_information: bytes) -> Iterator[int]:
    """Yield the sequence numbers that a NACK requests."""
    for at in range(0, len(control_information) - 3, 4):
        base, mask = _NACK.unpack_from(control_information, at)
        yield base
        yield from (base + bit + 1 & 0xFFFF for bit in range(16) if mask >> bit & 1)


def fir_ssrcs(control_information: bytes) -> Iterator[int]:
    """Yield the SSRCs that a FIR requests a keyframe of."""
    for at in range(0, min(len(control_information), 8 * MAX_PARTS) - 7, 8):
        yield int.from_bytes(control_information[at : at + 4], "big")


def parse_remb(control_information: bytes) -> int | None:
    """Return the bitrate of a REMB in bit/s; ``None`` if the REMB is malformed or the bitrate exceeds 64 bits."""
    if len(control_information) < 8 or control_information[:4] != b"REMB":
        return None
    value = int.from_bytes(control_information[5:8], "big")
    bits_per_second = (value & 0x3FFFF) << (value >> 18)
    return bits_per_second if bits_per_second >> 64 == 0 else None


def pack_nack(sender_ssrc: int, media_ssrc: int, sequences: Iterable[int]) -> bytes:
    """Return a NACK for sequence numbers, given in ascending order."""
    pairs: list[list[int]] = []
    for sequence in sequences:
        distance = (sequence - pairs[-1][0] & 0xFFFF) if pairs else 0
        if 1 <= distance <= 16:
            pairs[-1][1] |= 1 << distance - 1
        else:
            pairs.append([sequence, 0])
    return _pack(RTPFB, NACK, _pack_words(sender_ssrc, media_ssrc) + b"".join(_NACK.pack(*pair) for pair in pairs))


def pack_pli(sender_ssrc: int, media_ssrc: int) -> bytes:
    """Return a PLI, which requests a keyframe."""
    return _pack(PSFB, PLI, _pack_words(sender_ssrc, media_ssrc))


def pack_remb(sender_ssrc: int, bits_per_second: int, ssrcs: list[int]) -> bytes:
    """Return a REMB, which caps the bitrate of all ``ssrcs`` together."""
    exponent = max(0, bits_per_second.bit_length() - 18)
    value = exponent << 18 | bits_per_second >> exponent
    head = b"REMB" + bytes([len(ssrcs)]) + value.to_bytes(3, "big")
    return _pack(PSFB, REMB, _pack_words(sender_ssrc, 0) + head + _pack_words(*ssrcs))


def pack_receiver_report(sender_ssrc: int, blocks: list[ReportBlock]) -> bytes:
    """Return an RR with at most ``MAX_BLOCKS`` report blocks."""
    return _pack(RR, len(blocks), _pack_words(sender_ssrc) + b"".join(map(_pack_block, blocks)))


def pack_sender_report(report: SenderReport) -> bytes:
    """Return an SR without report blocks."""
    return _pack(SR, 0, _SENDER_INFO.pack(*report))


def pack_source_description(ssrc: int, cname: str) -> bytes:
    """Return an SDES with the CNAME of one source."""
    name = cname.encode()
    item = bytes([1, len(name)]) + name
    return _pack(SDES, 1, _pack_words(ssrc) + item + bytes(4 - len(item) % 4))


def _pack_block(block: ReportBlock) -> bytes:
    loss = block.fraction_lost << 24 | max(-0x800000, min(block.lost, 0x7FFFFF)) & 0xFFFFFF
    highest = block.highest_sequence & 0xFFFFFFFF
    return _BLOCK.pack(block.ssrc, loss, highest, block.jitter, block.last_report, block.delay)


def _pack_words(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "big") for value in values)


def _pack(packet_type: int, count: int, body: bytes) -> bytes:
    return bytes([_VERSION_BITS | count, packet_type]) + (len(body) // 4).to_bytes(2, "big") + body
