"""Reads the picture size from the first packet of a keyframe; simulcast layers are ordered by it.

Source: RFC 6386 9.1 (VP8), RFC 9628 4.2 (VP9 scalability structure), VP9 Bitstream Specification 6.2, RFC 6184 5.7 and
ITU-T H.264 7.3.2.1.1 (sequence parameter set), RFC 7798 4.4.2 and ITU-T H.265 7.3.2.2 and 7.3.3 (sequence parameter
set, profile), AV1 Bitstream Specification 5.5 (sequence header) and RTP Payload Format For AV1 (AOM) 4.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

_VP8_START_CODE = bytes((0x9D, 0x01, 0x2A))
_VP8_HEADERS = 6 + 3 + 3  # bytes at most: payload descriptor (RFC 7741 4.2), frame tag, start code
_VP9_SYNC_CODE = 0x498342
_VP9_RGB = 7  # color_space without chroma subsampling
_H264_PARAMETER_SET, _H264_STAP_A = 7, 24  # nal_unit_type
# Values of profile_idc with which chroma_format_idc and scaling lists precede the size.
_H264_WITH_CHROMA = frozenset((100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135))
_H265_PARAMETER_SET, _H265_AGGREGATION = 33, 48  # nal_unit_type
_H265_PROFILE_BITS = 88  # of profile space, tier, idc, compatibility and constraint flags
_AV1_SEQUENCE_HEADER = 1  # obu_type
_MAX_LEADING_ZEROS = 32  # of an Exp-Golomb code


class _SizeUnreadable(Exception):
    """The payload ends before the size, deviates from its format, or starts no keyframe."""


class _BitReader:
    """Reads big-endian bit fields."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def read(self, bits: int) -> int:
        """Read an unsigned number of so many bits."""
        self._left -= bits
        if self._left < 0:
            raise _SizeUnreadable
        return self._value >> self._left & (1 << bits) - 1

    def read_golomb(self) -> int:
        """Read an unsigned Exp-Golomb code, ``ue(v)``; AV1's ``uvlc()`` is the same."""
        zeros = 0
        while not self.read(1):
            zeros += 1
            if zeros > _MAX_LEADING_ZEROS:
                raise _SizeUnreadable
        return (1 << zeros) - 1 + self.read(zeros)

    def read_signed_golomb(self) -> int:
        """Read a signed Exp-Golomb code, ``se(v)``."""
        code = self.read_golomb()
        return (code + 1) // 2 if code % 2 else -(code // 2)


def picture_area(codec: str, payload: bytes) -> int:
    """Return the number of pixels of the keyframe that starts in an RTP payload; 0 if the size cannot be read.

    ``codec`` is a lower-case encoding name; only VP8, VP9, H264, H265 and AV1 are read. For H264 and H265 whole blocks
    count, without cropping; for AV1 the greatest picture of the sequence.
    """
    parse = _PARSERS.get(codec)
    if parse is None:
        return 0
    try:
        return parse(payload)
    except _SizeUnreadable:
        return 0


def _vp8_area(payload: bytes) -> int:
    start = payload.find(_VP8_START_CODE, 4, _VP8_HEADERS)
    at = start + len(_VP8_START_CODE)
    if start < 0 or at + 4 > len(payload):
        return 0
    width, height = (int.from_bytes(payload[start : start + 2], "little") & 0x3FFF for start in (at, at + 2))
    return width * height


def _vp9_area(payload: bytes) -> int:
    """Return the area by the scalability structure, else by the frame header behind the descriptor.

    A keyframe's descriptor has no reference indices.
    """
    fields = _BitReader(payload[:64])
    has_picture_id, _, has_layers, flexible, _, _, has_structure, _ = (fields.read(1) for _ in range(8))
    if has_picture_id:
        fields.read(15 if fields.read(1) else 7)
    if has_layers:
        fields.read(8 if flexible else 16)
    if has_structure:
        area = _read_vp9_structure(fields)
        if area:
            return area
    return _read_vp9_frame_size(fields)


def _read_vp9_structure(fields: _BitReader) -> int:
    """Read the scalability structure; return the area of its highest spatial layer, 0 if it has no sizes."""
    spatial_layers, has_sizes, has_pictures = fields.read(3) + 1, fields.read(1), fields.read(1)
    fields.read(3)
    if has_sizes:
        return [fields.read(16) * fields.read(16) for _ in range(spatial_layers)][-1]
    for _ in range(fields.read(8) if has_pictures else 0):
        fields.read(4)
        references = fields.read(2)
        fields.read(2 + 8 * references)
    return 0


def _read_vp9_frame_size(fields: _BitReader) -> int:
    if fields.read(2) != 2:  # frame_marker
        raise _SizeUnreadable
    profile = fields.read(1) | fields.read(1) << 1
    fields.read(profile == 3)  # reserved_zero, if any
    if fields.read(2):  # an existing frame is shown, or this is no keyframe
        raise _SizeUnreadable
    fields.read(2)  # show_frame, error_resilient_mode
    if fields.read(24) != _VP9_SYNC_CODE:
        raise _SizeUnreadable
    fields.read(profile >= 2)  # ten_or_twelve_bit
    if fields.read(3) != _VP9_RGB:
        fields.read(1)  # color_range
        fields.read(3 if profile & 1 else 0)  # subsampling_x, subsampling_y, reserved_zero
    else:
        fields.read(profile & 1)  # reserved_zero
    return (fields.read(16) + 1) * (fields.read(16) + 1)


def _h264_area(payload: bytes) -> int:
    unit = next((unit for unit in _h264_units(payload) if unit and unit[0] & 0x1F == _H264_PARAMETER_SET), None)
    if unit is None:
        return 0
    fields = _BitReader(unit[1:256].replace(b"\0\0\x03", b"\0\0"))  # without emulation prevention
    profile = fields.read(8)
    fields.read(16)  # constraint flags, level_idc
    fields.read_golomb()  # seq_parameter_set_id
    if profile in _H264_WITH_CHROMA:
        _skip_h264_chroma(fields)
    fields.read_golomb()  # log2_max_frame_num_minus4
    _skip_h264_picture_order(fields)
    fields.read_golomb()  # max_num_ref_frames
    fields.read(1)  # gaps_in_frame_num_value_allowed_flag
    columns, rows = fields.read_golomb() + 1, fields.read_golomb() + 1
    return 16 * columns * 16 * rows * (2 - fields.read(1))  # frame_mbs_only_flag


def _h264_units(payload: bytes) -> Iterator[bytes]:
    """Yield the NAL units of a packet: those of a STAP-A, otherwise the whole payload."""
    if payload and payload[0] & 0x1F == _H264_STAP_A:
        return _aggregated_units(payload, 1)
    return iter((payload,))


def _aggregated_units(payload: bytes, at: int) -> Iterator[bytes]:
    """Yield the NAL units behind the header of an aggregation packet, which ends at ``at``."""
    while at + 2 < len(payload):
        end = at + 2 + int.from_bytes(payload[at : at + 2], "big")
        yield payload[at + 2 : end]
        at = end


def _skip_h264_chroma(fields: _BitReader) -> None:
    chroma_format = fields.read_golomb()
    fields.read(chroma_format == 3)  # separate_colour_plane_flag
    fields.read_golomb()  # bit_depth_luma_minus8
    fields.read_golomb()  # bit_depth_chroma_minus8
    fields.read(1)  # qpprime_y_zero_transform_bypass_flag
    if not fields.read(1):  # seq_scaling_matrix_present_flag
        return
    for index in range(12 if chroma_format == 3 else 8):
        if fields.read(1):
            last = scale = 8
            for _ in range(16 if index < 6 else 64):
                if scale:
                    scale = last + fields.read_signed_golomb() & 0xFF
                last = scale or last


def _skip_h264_picture_order(fields: _BitReader) -> None:
    order = fields.read_golomb()
    if order == 0:
        fields.read_golomb()
    elif order == 1:
        fields.read(1)
        fields.read_golomb()
        fields.read_golomb()
        for _ in range(min(fields.read_golomb(), 255)):
            fields.read_golomb()


def _h265_area(payload: bytes) -> int:
    aggregated = len(payload) > 2 and _h265_type(payload) == _H265_AGGREGATION
    units = _aggregated_units(payload, 2) if aggregated else iter((payload,))
    unit = next((unit for unit in units if unit and _h265_type(unit) == _H265_PARAMETER_SET), None)
    if unit is None:
        return 0
    fields = _BitReader(unit[2:256].replace(b"\0\0\x03", b"\0\0"))  # without emulation prevention
    fields.read(4)  # sps_video_parameter_set_id
    sub_layers = fields.read(3)  # beyond the first one
    fields.read(1 + _H265_PROFILE_BITS + 8)  # sps_temporal_id_nesting_flag, profile, general_level_idc
    present = [(fields.read(1), fields.read(1)) for _ in range(sub_layers)]
    fields.read(2 * (8 - sub_layers) if sub_layers else 0)  # reserved_zero_2bits
    for has_profile, has_level in present:
        fields.read(_H265_PROFILE_BITS * has_profile + 8 * has_level)
    fields.read_golomb()  # sps_seq_parameter_set_id
    fields.read(fields.read_golomb() == 3)  # separate_colour_plane_flag behind chroma_format_idc
    return fields.read_golomb() * fields.read_golomb()


def _h265_type(unit: bytes) -> int:
    return unit[0] >> 1 & 0x3F


def _av1_area(payload: bytes) -> int:
    unit = next((unit for unit in _av1_units(payload) if unit[0] >> 3 & 0x0F == _AV1_SEQUENCE_HEADER), None)
    if unit is None:
        return 0
    at = 2 if unit[0] & 0x04 else 1  # obu_extension_flag
    if unit[0] & 0x02:  # obu_has_size_field, which a sender should not set
        _, at = _read_leb128(unit, at)
    fields = _BitReader(unit[at : at + 256])
    fields.read(4)  # seq_profile, still_picture
    if fields.read(1):  # reduced_still_picture_header
        fields.read(5)  # seq_level_idx
    else:
        _skip_av1_operating_points(fields)
    width_bits, height_bits = fields.read(4) + 1, fields.read(4) + 1
    return (fields.read(width_bits) + 1) * (fields.read(height_bits) + 1)


def _av1_units(payload: bytes) -> Iterator[bytes]:
    """Yield the OBU elements of a packet; the last one may be a fragment."""
    if len(payload) < 2:
        return
    count, at, number = payload[0] >> 4 & 3, 1, 0
    while at < len(payload):
        number += 1
        size = len(payload) - at
        if number != count:  # the last element has no length if the number of elements is given
            size, at = _read_leb128(payload, at)
        if payload[at : at + size]:
            yield payload[at : at + size]
        at += size


def _read_leb128(data: bytes, at: int) -> tuple[int, int]:
    """Return the number of at most 8 bytes at a position, and the position behind it."""
    value = 0
    for shift, octet in enumerate(data[at : at + 8]):
        value |= (octet & 0x7F) << 7 * shift
        if not octet & 0x80:
            return value, at + shift + 1
    raise _SizeUnreadable


def _skip_av1_operating_points(fields: _BitReader) -> None:
    has_decoder_model = delay_bits = 0
    if fields.read(1):  # timing_info_present_flag
        fields.read(64)
        if fields.read(1):
            fields.read_golomb()
        has_decoder_model = fields.read(1)
        if has_decoder_model:
            delay_bits = fields.read(5) + 1
            fields.read(32 + 10)
    has_display_delay = fields.read(1)
    for _ in range(fields.read(5) + 1):
        fields.read(12)
        if fields.read(5) > 7:  # seq_level_idx
            fields.read(1)
        if has_decoder_model and fields.read(1):
            fields.read(2 * delay_bits + 1)
        if has_display_delay and fields.read(1):
            fields.read(4)


_PARSERS: dict[str, Callable[[bytes], int]] = {
    "vp8": _vp8_area,
    "vp9": _vp9_area,
    "h264": _h264_area,
    "h265": _h265_area,
    "av1": _av1_area,
}
