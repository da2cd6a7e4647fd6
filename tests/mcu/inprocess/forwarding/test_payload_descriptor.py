"""Keyframe detection, and parsing and rewriting of VP8 payload descriptors."""

from __future__ import annotations

import random

import pytest

from mcu.inprocess.forwarding.payload_descriptor import (
    Vp8Descriptor,
    parse_vp8,
    shift_vp8_ids,
    starts_keyframe,
)
from tests.mcu.inprocess.forwarding.vp8 import DELTA_FRAME, KEYFRAME, vp8_descriptor


def test_full_descriptor_is_parsed() -> None:
    parsed = parse_vp8(vp8_descriptor(picture_id=0x1234, tl0picidx=7, temporal_layer=2) + KEYFRAME)
    assert parsed is not None
    assert (parsed.keyframe, parsed.picture_id, parsed.tl0picidx) == (True, 0x1234, 7)
    assert (parsed.temporal_layer, parsed.layer_sync) == (2, True)


@pytest.mark.parametrize(
    ("payload", "keyframe"),
    [
        (vp8_descriptor() + KEYFRAME, True),
        (vp8_descriptor() + DELTA_FRAME, False),
        (vp8_descriptor(starts_partition=False) + KEYFRAME, False),
        (b"\x11" + KEYFRAME, False),  # another partition
        (b"\x30" + KEYFRAME, True),  # non-reference frame
        (vp8_descriptor(picture_id=5, long_picture_id=False) + KEYFRAME, True),
        (vp8_descriptor(tl0picidx=5) + DELTA_FRAME, False),
        (vp8_descriptor(temporal_layer=0) + KEYFRAME, True),
    ],
)
def test_vp8_keyframe_starts_with_its_first_partition(payload: bytes, keyframe: bool) -> None:
    assert starts_keyframe("vp8", payload) == keyframe


@pytest.mark.parametrize("payload", [b"", b"\x10", b"\x80", b"\x90\x80", b"\x90\xe0\x80", b"\x90\xe0\x80\x01\x02\x40"])
def test_payload_without_picture_data_has_no_descriptor(payload: bytes) -> None:
    assert parse_vp8(payload) is None
    assert not starts_keyframe("vp8", payload)


@pytest.mark.parametrize(("wide", "maximum"), [(True, 0x7FFF), (False, 0x7F)])
def test_rewritten_ids_keep_their_width_and_wrap(wide: bool, maximum: int) -> None:
    payload = vp8_descriptor(picture_id=maximum, long_picture_id=wide, tl0picidx=255, temporal_layer=1) + DELTA_FRAME
    parsed = parse_vp8(payload)
    assert parsed is not None
    changed = shift_vp8_ids(payload, parsed, 3, 1)
    assert len(changed) == len(payload)
    reparsed = parse_vp8(changed)
    assert reparsed == parsed._replace(picture_id=2, tl0picidx=0)
    assert shift_vp8_ids(changed, reparsed, -3, -1) == payload


def test_descriptor_without_ids_is_not_changed() -> None:
    payload = vp8_descriptor(temporal_layer=1) + DELTA_FRAME
    parsed = parse_vp8(payload)
    assert isinstance(parsed, Vp8Descriptor)
    assert shift_vp8_ids(payload, parsed, 3, 1) == payload


@pytest.mark.parametrize(
    ("codec", "payload", "keyframe"),
    [
        ("vp9", b"\x08\x00", True),
        ("vp9", b"\x48\x00", False),  # inter-predicted
        ("vp9", b"\x00\x00", False),  # not the start of a frame
        ("vp9", b"\xa8\x85\x01\x00", True),  # picture id and layer indices, spatial layer 0
        ("vp9", b"\xa8\x05\x00", True),
        ("vp9", b"\xa8\x05\x02", False),  # spatial layer 1
        ("vp9", b"\xa8\x85", False),
        ("h264", b"\x65\x88", True),
        ("h264", b"\x67\x42", True),
        ("h264", b"\x61\x9a", False),
        ("h264", b"\x78\x00\x09\x67\x42", True),
        ("h264", b"\x78\x00\x09\x06\x42", False),
        ("h264", b"\x7c\x85", True),
        ("h264", b"\x7c\x05", False),
        ("h264", b"\x7c\x81", False),
        ("h265", b"\x26\x01", True),
        ("h265", b"\x40\x01", True),
        ("h265", b"\x02\x01", False),
        ("h265", b"\x60\x01\x00\x09\x40", True),
        ("h265", b"\x62\x01\x93", True),
        ("h265", b"\x62\x01\x13", False),
        ("av1", b"\x18\x0a", True),
        ("av1", b"\x10\x0a", False),
        ("av1", b"\x18", False),
        ("opus", b"\xff\xff", False),
    ],
)
def test_keyframes_of_each_codec_are_detected(codec: str, payload: bytes, keyframe: bool) -> None:
    assert starts_keyframe(codec, payload) == keyframe


def test_random_bytes_raise_nothing() -> None:
    rng = random.Random(7)
    for _ in range(20_000):
        payload = rng.randbytes(rng.randrange(12))
        parsed = parse_vp8(payload)
        if parsed is not None:
            assert len(shift_vp8_ids(payload, parsed, rng.randrange(9), 1)) == len(payload)
        for codec in ("vp8", "vp9", "h264", "h265", "av1"):
            starts_keyframe(codec, payload)
