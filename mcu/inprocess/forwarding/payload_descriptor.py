"""What a forwarder must see of a picture's payload: where a keyframe begins; VP8's temporal layers and its numbers.

Source: RFC 7741 (VP8), RFC 9628 (VP9), RFC 6184 (H264), RFC 7798 (H265), RTP Payload Format For AV1 (AOM), 4.4.
"""

from __future__ import annotations

from typing import NamedTuple

TOP = 3  # the highest temporal layer that VP8 has a number for

_H264_KEY = frozenset((5, 7))  # slice of an IDR picture, sequence parameter set
_H265_KEY = frozenset((*range(16, 22), 32, 33, 34))  # IRAP pictures and parameter sets


class Vp8Descriptor(NamedTuple):
    """The payload descriptor of one packet."""

    keyframe: bool  # whether a keyframe begins here
    picture: int | None  # its number, of 7 or 15 bits
    level: int | None  # TL0PICIDX, which counts the pictures of the lowest layer
    temporal: int
    sync: bool  # whether the picture depends on the lowest layer only
    picture_at: int  # where the numbers stand; 0: nowhere
    wide: bool  # whether the picture's number has 15 bits
    level_at: int


def read_vp8(payload: bytes) -> Vp8Descriptor | None:
    """Return what the descriptor says; ``None`` of a packet without a picture."""
    size = len(payload)
    if not size:
        return None
    first, at = payload[0], 1
    picture = level = None
    picture_at = level_at = temporal = 0
    wide = sync = False
    if first & 0x80:
        if size < 2:
            return None
        has, at = payload[1], 2
        if has & 0x80 and at < size:
            picture_at, wide = at, bool(payload[at] & 0x80)
            at += 1 + wide
            picture = int.from_bytes(payload[picture_at:at], "big") & (0x7FFF if wide else 0x7F)
        if has & 0x40 and at < size:
            level_at, level = at, payload[at]
            at += 1
        if has & 0x30 and at < size:
            if has & 0x20:
                temporal, sync = payload[at] >> 6, bool(payload[at] & 0x20)
            at += 1
    if at >= size:
        return None
    keyframe = first & 0x17 == 0x10 and not payload[at] & 1
    return Vp8Descriptor(keyframe, picture, level, temporal, sync, picture_at, wide, level_at)


def renumber_vp8(payload: bytes, vp8: Vp8Descriptor, pictures: int, levels: int) -> bytes:
    """Return a payload with other numbers in its descriptor, each in as many bits as before."""
    changed = bytearray(payload)
    if vp8.picture is not None:
        at = vp8.picture_at
        if vp8.wide:
            changed[at : at + 2] = (0x8000 | vp8.picture + pictures & 0x7FFF).to_bytes(2, "big")
        else:
            changed[at] = vp8.picture + pictures & 0x7F
    if vp8.level is not None:
        changed[vp8.level_at] = vp8.level + levels & 0xFF
    return bytes(changed)


def begins_keyframe(codec: str, payload: bytes) -> bool:
    """Whether the first packet of a keyframe is this one, as far as the payload tells."""
    if len(payload) < 2:
        return False
    if codec == "vp8":
        vp8 = read_vp8(payload)
        return vp8 is not None and vp8.keyframe
    if codec == "vp9":
        return _begins_vp9(payload)
    if codec == "h264":
        return _begins_h264(payload)
    if codec == "h265":
        return _begins_h265(payload)
    return codec == "av1" and bool(payload[0] & 0x08)  # a new coded video sequence


def _begins_vp9(payload: bytes) -> bool:
    first = payload[0]
    if first & 0x40 or not first & 0x08:  # it depends on another picture, or a frame does not begin here
        return False
    if not first & 0x20:  # no layers
        return True
    at = 1
    if first & 0x80:
        at += 2 if payload[1] & 0x80 else 1
    return at < len(payload) and payload[at] >> 1 & 0x07 == 0  # of the lowest spatial layer


def _begins_h264(payload: bytes) -> bool:
    kind = payload[0] & 0x1F
    if kind == 24:  # STAP-A
        return len(payload) > 3 and payload[3] & 0x1F in _H264_KEY
    if kind == 28:  # FU-A
        return bool(payload[1] & 0x80) and payload[1] & 0x1F in _H264_KEY
    return kind in _H264_KEY


def _begins_h265(payload: bytes) -> bool:
    kind = payload[0] >> 1 & 0x3F
    if kind == 48:  # aggregation
        return len(payload) > 4 and payload[4] >> 1 & 0x3F in _H265_KEY
    if kind == 49:  # fragment
        return len(payload) > 2 and bool(payload[2] & 0x80) and payload[2] & 0x3F in _H265_KEY
    return kind in _H265_KEY
