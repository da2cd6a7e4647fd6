"""RTP and RTCP as bytes, read and written by us on one side and by aiortc on the other."""

from __future__ import annotations

import pytest
from aiortc import rtp as other
from aiortc.rtcrtpparameters import RTCRtpHeaderExtensionParameters, RTCRtpParameters
from hypothesis import given
from hypothesis import strategies as st

from mcu.inprocess.forwarding import rtcp, rtp
from mcu.inprocess.negotiation.parameters import ABS_SEND_TIME, AUDIO_LEVEL, MID

EXTENSIONS = other.HeaderExtensionsMap()
EXTENSIONS.configure(
    RTCRtpParameters(
        headerExtensions=[
            RTCRtpHeaderExtensionParameters(id=1, uri=MID),
            RTCRtpHeaderExtensionParameters(id=2, uri=AUDIO_LEVEL),
            RTCRtpHeaderExtensionParameters(id=3, uri=ABS_SEND_TIME),
        ]
    )
)


def packet_of_aiortc(mid: str = "video") -> other.RtpPacket:
    """Return a packet with everything a header can hold."""
    packet = other.RtpPacket(payload_type=97, marker=1, sequence_number=65535, timestamp=1 << 31, ssrc=0xFFFFFFFF)
    packet.csrc = [1, 2]
    packet.payload = b"payload"
    packet.extensions.mid = mid
    packet.extensions.audio_level = (True, 17)
    packet.extensions.abs_send_time = 0xABCDEF
    return packet


@pytest.mark.parametrize("mid", ["0", "a-name-that-needs-two-byte-headers"])
def test_packet_is_taken_apart(mid: str) -> None:
    packet = rtp.parse(packet_of_aiortc(mid).serialize(EXTENSIONS))
    assert packet is not None
    assert (packet.flags, packet.marker, packet.payload_type, packet.sequence) == (0, 0x80, 97, 65535)
    assert (packet.timestamp, packet.ssrc, packet.payload) == (1 << 31, 0xFFFFFFFF, b"payload")
    assert rtp.extension_element(packet, 1) == mid.encode()
    assert rtp.extension_element(packet, 2) == bytes([0x80 | 17])
    assert rtp.extension_element(packet, 3) == b"\xab\xcd\xef"
    assert rtp.extension_element(packet, 4) is None


def test_header_extension_is_read_by_others() -> None:
    block = rtp.pack_extension([(1, b"0"), (3, b"\x01\x02\x03")])
    header = rtp.HEADER.pack(rtp.VERSION_BITS | rtp.EXTENSION_BIT, 97, 1, 2, 3)
    packet = other.RtpPacket.parse(header + block + b"x", EXTENSIONS)
    assert (packet.extensions.mid, packet.extensions.abs_send_time, packet.payload) == ("0", 0x010203, b"x")


@given(st.binary(max_size=80))
def test_no_bytes_make_the_readers_raise(data: bytes) -> None:
    for text in (data, b"\x90\x60" + data, b"\x81\xcd\x00\x03" + data, b"\x82\xc9\x00\x0d" + data):
        packet = rtp.parse(text)
        if packet is not None:
            for ident in range(16):
                rtp.extension_element(packet, ident)
        for item in rtcp.parse(text):
            if isinstance(item, rtcp.FeedbackPacket):
                list(rtcp.lost_sequences(item.detail))
                list(rtcp.fir_targets(item.detail))


@given(st.lists(st.integers(0, 400), min_size=1, max_size=60, unique=True), st.integers(0, 65535))
def test_nack_names_what_is_lost(gaps: list[int], first: int) -> None:
    lost = [first + gap & 0xFFFF for gap in sorted(gaps)]
    (packet,) = other.RtcpPacket.parse(rtcp.pack_nack(1, 2, lost))
    assert isinstance(packet, other.RtcpRtpfbPacket)
    assert [sequence & 0xFFFF for sequence in packet.lost] == lost
    (feedback,) = rtcp.parse(rtcp.pack_nack(1, 2, lost))
    assert isinstance(feedback, rtcp.FeedbackPacket)
    assert (feedback.type, feedback.format, feedback.media) == (rtcp.RTPFB, rtcp.NACK, 2)
    assert list(rtcp.lost_sequences(feedback.detail)) == lost


@given(st.integers(1, 1 << 40))
def test_remb_is_what_was_asked_for_but_for_rounding(bits_per_second: int) -> None:
    (packet,) = other.RtcpPacket.parse(rtcp.pack_remb(1, bits_per_second, [7, 8]))
    assert isinstance(packet, other.RtcpPsfbPacket)
    read, sources = other.unpack_remb_fci(packet.fci)
    assert sources == [7, 8]
    assert bits_per_second * (1 - 2**-17) <= read <= bits_per_second


def test_reports_are_read_by_others_and_by_us() -> None:
    block = rtcp.ReportBlock(9, 64, -5, 70000, 12, 0x12345678, 65536)
    (packet,) = other.RtcpPacket.parse(rtcp.pack_receiver_report(1, [block]))
    assert isinstance(packet, other.RtcpRrPacket)
    assert (packet.reports[0].fraction_lost, packet.reports[0].packets_lost) == (64, -5)
    assert list(rtcp.parse(rtcp.pack_receiver_report(1, [block]))) == [block]
    report = rtcp.SenderReport(1, 1 << 63, 2, 3, 4)
    compound = rtcp.pack_sender_report(report) + rtcp.pack_source_description(1, "name")
    sender, description = other.RtcpPacket.parse(compound)
    assert isinstance(sender, other.RtcpSrPacket)
    assert isinstance(description, other.RtcpSdesPacket)
    assert (sender.sender_info.ntp_timestamp, sender.sender_info.octet_count) == (1 << 63, 4)
    assert description.chunks[0].items == [(1, b"name")]
    assert list(rtcp.parse(compound)) == [report]


def test_keyframe_requests_are_read() -> None:
    (packet,) = other.RtcpPacket.parse(rtcp.pack_pli(1, 2))
    assert isinstance(packet, other.RtcpPsfbPacket)
    assert (packet.fmt, packet.media_ssrc) == (other.RTCP_PSFB_PLI, 2)
    fir = other.RtcpPsfbPacket(fmt=other.RTCP_PSFB_FIR, ssrc=1, media_ssrc=0, fci=bytes([0, 0, 0, 7, 1, 0, 0, 0]))
    (feedback,) = rtcp.parse(bytes(fir))
    assert isinstance(feedback, rtcp.FeedbackPacket)
    assert list(rtcp.fir_targets(feedback.detail)) == [7]


def test_remb_beyond_all_bounds_is_none() -> None:
    beyond = b"REMB\x01" + (63 << 18 | 0x3FFFF).to_bytes(3, "big") + bytes(4)
    assert rtcp.parse_remb(beyond) is None
    most = b"REMB\x01" + (46 << 18 | 0x3FFFF).to_bytes(3, "big") + bytes(4)
    assert rtcp.parse_remb(most) == 0x3FFFF << 46
