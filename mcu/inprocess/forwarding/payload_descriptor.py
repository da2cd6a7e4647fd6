"""Keyframe detection in video payloads, and VP8's payload descriptor: temporal layers, picture id, TL0PICIDX.

Source: RFC 7741 (VP8), RFC 9628 (VP9), RFC 6184 (H264), RFC 7798 (H265), RTP Payload Format For AV1 (AOM), 4.4.
"""

from __future__ import annotations

from typing import NamedTuple

MAX_TEMPORAL_LAYER = 3  # VP8's TID has two bits

_H264_KEYFRAME_UNITS = frozenset((5, 7))  # slice of an IDR picture, sequence parameter set
_H265_KEYFRAME_UNITS = frozenset((*range(16, 22), 32, 33, 34))  # IRAP pictures and parameter sets


class Vp8Descriptor(NamedTuple):
    """The VP8 payload descriptor of one packet."""

    keyframe: bool  # whether a keyframe starts in this packet
    picture_id: int | None  # 7 or 15 bits
    tl0picidx: int | None  # running index of the pictures of temporal layer 0, 8 bits
    temporal_layer: int
    layer_sync: bool  # whether the picture depends on temporal layer 0 only
    picture_id_at: int  # offset in the payload; 0 = absent
    long_picture_id: bool  # whether the picture id has 15 bits
    tl0picidx_at: int  # offset in the payload; 0 = absent


def parse_vp8(payload: bytes) -> Vp8Descriptor | None:
    """Return the VP8 payload descriptor of a packet; ``None`` if it is truncated or without picture data."""
    size = len(payload)
    if not size:
        return None
    first, at = payload[0], 1
    picture_id = tl0picidx = None
    picture_id_at = tl0picidx_at = temporal_layer = 0
    long_picture_id = layer_sync = False
    if first & 0x80:
        if size < 2:
            return None
        present, at = payload[1], 2
        if present & 0x80 and at < size:
            picture_id_at, long_picture_id = at, bool(payload[at] & 0x80)
            at += 1 + long_picture_id
            picture_id = int.from_bytes(payload[picture_id_at:at], "big") & (0x7FFF if long_picture_id else 0x7F)
        if present & 0x40 and at < size:
            tl0picidx_at, tl0picidx = at, payload[at]
            at += 1
        if present & 0x30 and at < size:
            if present & 0x20:
                temporal_layer, layer_sync = payload[at] >> 6, bool(payload[at] & 0x20)
            at += 1
    if at >= size:
        return None
    keyframe = first & 0x17 == 0x10 and not payload[at] & 1
    return Vp8Descriptor(
        keyframe, picture_id, tl0picidx, temporal_layer, layer_sync, picture_id_at, long_picture_id, tl0picidx_at
    )


def shift_vp8_ids(payload: bytes, vp8: Vp8Descriptor, picture_id_offset: int, tl0picidx_offset: int) -> bytes:
    """Return a payload with the offsets added to picture id and TL0PICIDX, each in as many bits as before."""
    changed = bytearray(payload)
    if vp8.picture_id is not None:
        at = vp8.picture_id_at
        if vp8.long_picture_id:
            changed[at : at + 2] = (0x8000 | vp8.picture_id + picture_id_offset & 0x7FFF).to_bytes(2, "big")
        else:
            changed[at] = vp8.picture_id + picture_id_offset & 0x7F
    if vp8.tl0picidx is not None:
        changed[vp8.tl0picidx_at] = vp8.tl0picidx + tl0picidx_offset & 0xFF
    return bytes(changed)


def starts_keyframe(codec: str, payload: bytes) -> bool:
    """Return whether a keyframe starts in this packet, as far as the payload shows it."""
    if len(payload) < 2:
        return False
    if codec == "vp8":
        vp8 = parse_vp8(payload)
        return vp8 is not None and vp8.keyframe
    if codec == "vp9":
        return _starts_vp9_keyframe(payload)
    if codec == "h264":
        return _starts_h264_keyframe(payload)
    if codec == "h265":
        return _starts_h265_keyframe(payload)
    return codec == "av1" and bool(payload[0] & 0x08)  # N bit: first packet of a coded video sequence


def _starts_vp9_keyframe(payload: bytes) -> bool:
    first = payload[0]
    if first & 0x40 or not first & 0x08:  # inter-predicted, or not the start of a frame
        return False
    if not first & 0x20:  # no layer indices
        return True
    at = 1
    if first & 0x80:
        at += 2 if payload[1] & 0x80 else 1
    return at < len(payload) and payload[at] >> 1 & 0x07 == 0  # spatial layer 0


def _starts_h264_keyframe(payload: bytes) -> bool:
    unit = payload[0] & 0x1F
    if unit == 24:  # STAP-A
        return len(payload) > 3 and payload[3] & 0x1F in _H264_KEYFRAME_UNITS
    if unit == 28:  # FU-A
        return bool(payload[1] & 0x80) and payload[1] & 0x1F in _H264_KEYFRAME_UNITS
    return unit in _H264_KEYFRAME_UNITS


def _starts_h265_keyframe(payload: bytes) -> bool:
    unit = payload[0] >> 1 & 0x3F
    if unit == 48:  # aggregation packet
        return len(payload) > 4 and payload[4] >> 1 & 0x3F in _H265_KEYFRAME_UNITS
    if unit == 49:  # fragmentation unit
        return len(payload) > 2 and bool(payload[2] & 0x80) and payload[2] & 0x3F in _H265_KEYFRAME_UNITS
    return unit in _H265_KEYFRAME_UNITS
