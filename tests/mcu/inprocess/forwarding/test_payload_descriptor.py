"""What is read of payloads, and VP8's numbers written anew."""

from __future__ import annotations

import random

import pytest

from mcu.inprocess.forwarding.payload_descriptor import Vp8Descriptor, begins_keyframe, read_vp8, renumber_vp8

KEY, DELTA = b"\x00rest", b"\x01rest"


def vp8(
    *, begins: bool = True, picture: int | None = None, wide: bool = True, level: int | None = None, tid: int = -1
) -> bytes:
    """Return a payload descriptor."""
    first = 0x10 if begins else 0
    if picture is None and level is None and tid < 0:
        return bytes([first])
    has = (0x80 if picture is not None else 0) | (0x40 if level is not None else 0) | (0x20 if tid >= 0 else 0)
    made = bytes([first | 0x80, has])
    if picture is not None:
        made += (0x8000 | picture).to_bytes(2, "big") if wide else bytes([picture])
    if level is not None:
        made += bytes([level])
    if tid >= 0:
        made += bytes([tid << 6 | 0x20])
    return made


def test_whole_descriptor_is_read() -> None:
    read = read_vp8(vp8(picture=0x1234, level=7, tid=2) + KEY)
    assert read is not None
    assert (read.keyframe, read.picture, read.level, read.temporal, read.sync) == (True, 0x1234, 7, 2, True)


@pytest.mark.parametrize(
    ("payload", "keyframe"),
    [
        (vp8() + KEY, True),
        (vp8() + DELTA, False),
        (vp8(begins=False) + KEY, False),
        (b"\x11" + KEY, False),  # another partition
        (b"\x30" + KEY, True),  # the bit for pictures that nobody refers to
        (vp8(picture=5, wide=False) + KEY, True),
        (vp8(level=5) + DELTA, False),
        (vp8(tid=0) + KEY, True),
    ],
)
def test_keyframe_begins_where_the_first_partition_of_one_does(payload: bytes, keyframe: bool) -> None:
    assert begins_keyframe("vp8", payload) == keyframe


@pytest.mark.parametrize("payload", [b"", b"\x10", b"\x80", b"\x90\x80", b"\x90\xe0\x80", b"\x90\xe0\x80\x01\x02\x40"])
def test_descriptor_without_a_picture_is_none(payload: bytes) -> None:
    assert read_vp8(payload) is None
    assert not begins_keyframe("vp8", payload)


@pytest.mark.parametrize(("wide", "last"), [(True, 0x7FFF), (False, 0x7F)])
def test_numbers_are_written_in_as_many_bits_as_before_and_wrap(wide: bool, last: int) -> None:
    payload = vp8(picture=last, wide=wide, level=255, tid=1) + DELTA
    read = read_vp8(payload)
    assert read is not None
    changed = renumber_vp8(payload, read, 3, 1)
    assert len(changed) == len(payload)
    again = read_vp8(changed)
    assert again == read._replace(picture=2, level=0)
    assert renumber_vp8(changed, again, -3, -1) == payload


def test_descriptor_without_numbers_stays_as_it_is() -> None:
    payload = vp8(tid=1) + DELTA
    read = read_vp8(payload)
    assert isinstance(read, Vp8Descriptor)
    assert renumber_vp8(payload, read, 3, 1) == payload


@pytest.mark.parametrize(
    ("codec", "payload", "keyframe"),
    [
        ("vp9", b"\x08\x00", True),
        ("vp9", b"\x48\x00", False),  # depends on another picture
        ("vp9", b"\x00\x00", False),  # a frame does not begin here
        ("vp9", b"\xa8\x85\x01\x00", True),  # with numbers and layers, the lowest one
        ("vp9", b"\xa8\x05\x00", True),
        ("vp9", b"\xa8\x05\x02", False),  # the layer above
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
def test_keyframes_of_other_codecs(codec: str, payload: bytes, keyframe: bool) -> None:
    assert begins_keyframe(codec, payload) == keyframe


def test_any_bytes_are_read_without_harm() -> None:
    chance = random.Random(7)
    for _ in range(20_000):
        payload = chance.randbytes(chance.randrange(12))
        read = read_vp8(payload)
        if read is not None:
            assert len(renumber_vp8(payload, read, chance.randrange(9), 1)) == len(payload)
        for codec in ("vp8", "vp9", "h264", "h265", "av1"):
            begins_keyframe(codec, payload)
