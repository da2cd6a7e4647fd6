"""Picture sizes read from keyframes: those of real encoders, and made ones with fields that these do not write."""

from __future__ import annotations

import random
from fractions import Fraction

import av
import pytest

from mcu.inprocess.forwarding.payload_descriptor import starts_keyframe
from mcu.inprocess.forwarding.picture_size import picture_area

SIZES = [(640, 360), (176, 144), (1280, 720)]
CODECS = ("vp8", "vp9", "h264", "h265", "av1")


def encoded(encoder: str, width: int, height: int, pixels: str = "yuv420p", **options: str) -> bytes:
    """Return the first encoded picture of a real encoder, which is a keyframe."""
    context = av.CodecContext.create(encoder, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = width, height, pixels
    context.time_base = Fraction(1, 30)
    context.options = options
    frame = av.VideoFrame(width, height, pixels)  # its memory is not initialised
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    packets = [*context.encode(frame), *context.encode(None)]
    return bytes(packets[0])


def bits(*fields: tuple[int, int]) -> bytes:
    """Return the bytes of bit fields, each a value and its width, padded with zeros."""
    text = "".join(format(value, f"0{width}b") for value, width in fields if width)
    return int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")


def golomb(value: int) -> tuple[int, int]:
    """Return the field of an Exp-Golomb code."""
    return value + 1, 2 * (value + 1).bit_length() - 1


# -- VP8


@pytest.mark.parametrize("descriptor", [b"\x10", b"\x90\x80\x81\x23", b"\x90\xe0\x81\x23\x07\x20"])
def test_size_of_a_vp8_keyframe_is_read_with_each_descriptor(descriptor: bytes) -> None:
    payload = descriptor + encoded("libvpx", 640, 360)
    assert picture_area("vp8", payload) == 640 * 360
    assert picture_area("vp8", payload[: len(descriptor) + 9]) == 0


def test_vp8_scaling_bits_are_not_part_of_the_size() -> None:
    size = (640).to_bytes(2, "little") + (360 | 1 << 14).to_bytes(2, "little")  # the upper two bits scale
    assert picture_area("vp8", b"\x10\x10\x02\x00\x9d\x01\x2a" + size) == 640 * 360
    assert picture_area("vp8", bytes(100)) == 0


# -- VP9

VP9_DESCRIPTORS = {
    "without picture id": b"\x08",
    "short picture id": b"\x88\x05",
    "long picture id": b"\x88\x85\x01",
    "layers": b"\xa8\x85\x01\x00\x00",
    "layers, flexible": b"\xb8\x85\x01\x00",
    "structure without sizes": b"\x8a\x85\x01" + bits((0, 3), (0, 1), (1, 1), (0, 3), (2, 8)) + b"\x04\x01\x08\x02\x02",
}


@pytest.mark.parametrize("descriptor", VP9_DESCRIPTORS.values(), ids=VP9_DESCRIPTORS.keys())
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_size_of_a_vp9_keyframe_is_read_with_each_descriptor(descriptor: bytes, width: int, height: int) -> None:
    payload = descriptor + encoded("libvpx-vp9", width, height)
    assert starts_keyframe("vp9", payload)
    assert picture_area("vp9", payload) == width * height


@pytest.mark.parametrize("pixels", ["yuv444p", "gbrp"])
def test_size_of_a_vp9_keyframe_of_profile_1_is_read(pixels: str) -> None:
    frame = encoded("libvpx-vp9", 320, 180, pixels)
    assert frame[0] >> 4 == 0b1010
    assert picture_area("vp9", b"\x08" + frame) == 320 * 180


@pytest.mark.parametrize(
    "color",
    [((0b01, 2), (0, 4), (0, 1), (2, 3), (0, 1)), ((0b11, 2), (0, 5), (1, 1), (2, 3), (0, 1), (0, 3))],
    ids=["profile 2", "profile 3"],
)
def test_size_of_a_vp9_keyframe_of_more_than_8_bits_is_read(color: tuple[tuple[int, int], ...]) -> None:
    profile, flags, *rest = color
    frame = bits((2, 2), profile, flags, (0x498342, 24), *rest, (319, 16), (179, 16))
    assert picture_area("vp9", b"\x08" + frame) == 320 * 180


def test_size_of_the_highest_spatial_layer_is_read_from_a_vp9_scalability_structure() -> None:
    structure = bits((1, 3), (1, 1), (0, 4), (320, 16), (180, 16), (640, 16), (360, 16))
    assert picture_area("vp9", b"\x8a\x05" + structure) == 640 * 360
    assert picture_area("vp9", b"\x8a\x05" + structure[:-1]) == 0


@pytest.mark.parametrize("octet", [0x00, 0x88, 0x84], ids=["no marker", "existing frame", "no keyframe"])
def test_vp9_frame_that_is_no_keyframe_has_no_size(octet: int) -> None:
    frame = encoded("libvpx-vp9", 320, 180)
    assert picture_area("vp9", b"\x08" + bytes([octet]) + frame[1:]) == 0
    assert picture_area("vp9", b"\x08" + frame[:1] + b"\xff" + frame[2:]) == 0  # another sync code


# -- H264


def units(stream: bytes) -> list[bytes]:
    """Return the NAL units of a byte stream."""
    return [unit for unit in stream.replace(b"\0\0\0\x01", b"\0\0\x01").split(b"\0\0\x01") if unit]


@pytest.mark.parametrize(("width", "height", "area"), [(640, 360, 640 * 368), (176, 144, 176 * 144), (50, 34, 64 * 48)])
@pytest.mark.parametrize(
    ("profile", "pixels"), [("baseline", "yuv420p"), ("high", "yuv420p"), ("high444", "yuv444p")], ids=lambda one: one
)
def test_h264_size_is_counted_in_whole_macroblocks(
    width: int, height: int, area: int, profile: str, pixels: str
) -> None:
    found = units(encoded("libx264", width, height, pixels, profile=profile))
    parameters = next(unit for unit in found if unit[0] & 0x1F == 7)
    picture = next(unit for unit in found if unit[0] & 0x1F == 5)
    aggregated = b"\x78" + b"".join(len(unit).to_bytes(2, "big") + unit for unit in (b"\x09\x10", parameters, picture))
    for payload in (parameters, aggregated):
        assert picture_area("h264", payload) == area
    assert picture_area("h264", picture) == picture_area("h264", b"\x78\0\2\x09\x10") == 0


def test_size_of_interlaced_h264_is_that_of_a_frame() -> None:
    found = units(encoded("libx264", 640, 352, **{"x264-params": "interlaced=1"}))
    assert picture_area("h264", next(unit for unit in found if unit[0] & 0x1F == 7)) == 640 * 352


def h264_parameters(profile: int, *fields: tuple[int, int]) -> bytes:
    """Return a sequence parameter set of 640 x 352 with these fields between its id and the number of references."""
    size = golomb(4), (0, 1), golomb(39), golomb(21), (1, 1)
    return b"\x67" + bits((profile, 8), (0, 8), (31, 8), golomb(0), *fields, *size)


@pytest.mark.parametrize(
    "fields",
    [
        ((66, golomb(0), golomb(2))),  # pictures in order
        ((66, golomb(0), golomb(1), (0, 1), golomb(2), golomb(3), golomb(2), golomb(1), golomb(1))),
        # scaling lists: one whole, one that ends early, others absent
        (
            (
                100,
                golomb(1),
                golomb(0),
                golomb(0),
                (0, 1),
                (1, 1),
                (1, 1),
                *([golomb(1)] * 16),
                (1, 1),
                golomb(16),
                (0, 6),
                golomb(0),
                golomb(0),
                golomb(2),
            )
        ),
        ((244, golomb(3), (0, 1), golomb(0), golomb(0), (0, 1), (1, 1), (0, 12), golomb(0), golomb(2))),
    ],
    ids=["order 2", "order 1", "scaling lists", "twelve scaling lists"],
)
def test_h264_size_is_read_after_rarely_used_fields(fields: tuple[int, *tuple[tuple[int, int], ...]]) -> None:
    profile, *others = fields
    payload = h264_parameters(profile, *others)
    assert picture_area("h264", payload) == 640 * 352
    assert picture_area("h264", payload[:5]) == 0


def test_h264_parameters_without_the_end_of_a_golomb_code_have_no_size() -> None:
    assert picture_area("h264", b"\x67\x42\x00\x1f" + bytes(100)) == 0


# -- H265

H265_PARAMETERS = {  # of x265, by what they have; all in whole blocks of 8 x 8
    (640 * 360, "one layer"): "42010101600000030090000003000003003fa00502016965959a4932b9a020000003002000000303",
    (176 * 144, "three temporal layers"): (
        "42010401600000030090000003000003003c0000a01620245965652b295964932b9a020000030002"
    ),
    (1280 * 720, "fields"): "42010101600000030040000003000003005da00280802d165959a4932b9a1a000003000200000300",
    (648 * 368, "cropping"): "42010101600000030090000003000003003fa005120171c9265959a4932b9a020000030002000003",
}


@pytest.mark.parametrize(("area", "name"), H265_PARAMETERS)
def test_h265_size_is_read_from_a_packet_and_an_aggregation_packet(area: int, name: str) -> None:
    unit = bytes.fromhex(H265_PARAMETERS[area, name])
    video_parameters = bytes.fromhex("40010c01ffff01600000030090000003000003003f959809")
    aggregated = b"\x60\x01" + b"".join(len(one).to_bytes(2, "big") + one for one in (video_parameters, unit))
    for payload in (unit, aggregated):
        assert starts_keyframe("h265", payload)
        assert picture_area("h265", payload) == area
    for payload in (video_parameters, unit[:20], b"\x60\x01\0\2\x42", b"\x42", b""):
        assert picture_area("h265", payload) == 0


def test_h265_size_is_read_after_layers_with_profile_and_level() -> None:
    head = (0, 4), (2, 3), (1, 1), (0, 88), (93, 8), (0b1101, 4), (0, 12), (0, 88), (90, 8), (93, 8)
    size = golomb(0), golomb(3), (0, 1), golomb(640), golomb(360)  # without subsampling of chroma
    assert picture_area("h265", b"\x42\x01" + bits(*head, *size)) == 640 * 360


# -- AV1


def obu(stream: bytes) -> bytes:
    """Return the sequence header of an AV1 stream without its size field, as RTP carries it."""
    at = 0
    while stream[at] >> 3 & 0x0F != 1:
        at += 2 + stream[at + 1]
    return bytes([stream[at] & 0xFD]) + stream[at + 2 : at + 2 + stream[at + 1]]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_size_of_an_av1_sequence_header_is_read_in_each_packetization(width: int, height: int) -> None:
    header = obu(encoded("libsvtav1", width, height))
    frame = b"\x30" + bytes(40)
    for payload in (
        b"\x18" + header,
        b"\x28" + bytes([len(header)]) + header + frame,
        b"\x08" + bytes([len(header)]) + header + bytes([len(frame)]) + frame,
        b"\x08\x00" + bytes([len(header)]) + header,
        b"\x18" + bytes([header[0] | 0x04]) + b"\x08" + header[1:],  # with an extension header
        b"\x18" + bytes([header[0] | 0x02, len(header) - 1]) + header[1:],  # with a size field
    ):
        assert starts_keyframe("av1", payload)
        assert picture_area("av1", payload) == width * height
    assert picture_area("av1", b"\x18" + frame) == picture_area("av1", b"\x18" + header[:4]) == 0
    assert picture_area("av1", b"\x08" + b"\xff" * 9) == picture_area("av1", b"\x08") == 0


SIZE = ((9, 4), (8, 4), (639, 10), (359, 9))
POINTS = ((0, 1), (0, 5), (0, 12))  # no display delay, one operating point for all layers


@pytest.mark.parametrize(
    "fields",
    [
        ((1, 1), (1, 1), (4, 5)),
        ((0, 2), (0, 1), *POINTS, (9, 5), (1, 1)),
        ((0, 2), (1, 1), (7, 32), (7, 32), (1, 1), golomb(3), (0, 1), *POINTS, (4, 5)),
        (
            (0, 2),
            (1, 1),
            (7, 32),
            (7, 32),
            (0, 1),
            (1, 1),
            (4, 5),
            (7, 32),
            (0, 10),
            (1, 1),
            (1, 5),
            (0, 12),
            (4, 5),
            (1, 1),
            (0, 11),
            (1, 1),
            (3, 4),
            (0, 12),
            (4, 5),
            (0, 1),
            (0, 1),
        ),
    ],
    ids=["still picture", "tier", "timing", "decoder model"],
)
def test_av1_size_is_read_after_rarely_used_fields(fields: tuple[tuple[int, int], ...]) -> None:
    assert picture_area("av1", b"\x18\x08" + bits((0, 3), *fields, *SIZE)) == 640 * 360


# -- all


def test_codec_without_a_parser_has_no_size() -> None:
    assert picture_area("h263", bytes(50)) == 0


@pytest.mark.parametrize("codec", CODECS)
def test_random_bytes_raise_nothing(codec: str) -> None:
    rng = random.Random(11)
    starts = {"vp8": b"\x10", "vp9": b"\x0a", "h264": b"\x67", "h265": b"\x42\x01", "av1": b"\x18\x08"}
    for _ in range(5_000):
        payload = rng.randbytes(rng.randrange(60))
        picture_area(codec, payload)
        picture_area(codec, starts[codec] + payload)
