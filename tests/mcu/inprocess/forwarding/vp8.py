"""VP8 payloads for the tests: descriptors of every form, keyframes and delta frames."""

from __future__ import annotations

KEYFRAME, DELTA_FRAME = b"\x00rest", b"\x01rest"


def vp8_descriptor(
    *,
    starts_partition: bool = True,
    picture_id: int | None = None,
    long_picture_id: bool = True,
    tl0picidx: int | None = None,
    temporal_layer: int | None = None,
) -> bytes:
    """Return a payload descriptor with the given fields; a temporal layer comes with layer sync."""
    first = 0x10 if starts_partition else 0
    if picture_id is None and tl0picidx is None and temporal_layer is None:
        return bytes([first])
    present = (
        (0x80 if picture_id is not None else 0)
        | (0x40 if tl0picidx is not None else 0)
        | (0x20 if temporal_layer is not None else 0)
    )
    descriptor = bytes([first | 0x80, present])
    if picture_id is not None:
        descriptor += (0x8000 | picture_id).to_bytes(2, "big") if long_picture_id else bytes([picture_id])
    if tl0picidx is not None:
        descriptor += bytes([tl0picidx])
    if temporal_layer is not None:
        descriptor += bytes([temporal_layer << 6 | 0x20])
    return descriptor
