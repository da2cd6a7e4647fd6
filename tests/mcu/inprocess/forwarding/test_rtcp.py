"""RTCP packets: parsing of reports and feedback, and aiortc's parsing of packed ones."""

from __future__ import annotations

from aiortc import rtp as aiortc_rtp
from hypothesis import given
from hypothesis import strategies as st

from mcu.inprocess.forwarding import rtcp


@given(st.binary(max_size=80))
def test_parsing_random_bytes_raises_nothing(data: bytes) -> None:
    for candidate in (data, b"\x81\xcd\x00\x03" + data, b"\x82\xc9\x00\x0d" + data):
        for item in rtcp.parse(candidate):
            if isinstance(item, rtcp.FeedbackPacket):
                list(rtcp.nacked_sequences(item.control_information))
                list(rtcp.fir_ssrcs(item.control_information))


@given(st.lists(st.integers(0, 400), min_size=1, max_size=60, unique=True), st.integers(0, 65535))
def test_nack_has_the_given_sequence_numbers(offsets: list[int], first: int) -> None:
    sequences = [first + offset & 0xFFFF for offset in sorted(offsets)]
    (packet,) = aiortc_rtp.RtcpPacket.parse(rtcp.pack_nack(1, 2, sequences))
    assert isinstance(packet, aiortc_rtp.RtcpRtpfbPacket)
    assert [sequence & 0xFFFF for sequence in packet.lost] == sequences
    (feedback,) = rtcp.parse(rtcp.pack_nack(1, 2, sequences))
    assert isinstance(feedback, rtcp.FeedbackPacket)
    assert (feedback.type, feedback.format, feedback.media_ssrc) == (rtcp.RTPFB, rtcp.NACK, 2)
    assert list(rtcp.nacked_sequences(feedback.control_information)) == sequences


@given(st.integers(1, 1 << 40))
def test_remb_has_the_given_bitrate_rounded_down(bits_per_second: int) -> None:
    (packet,) = aiortc_rtp.RtcpPacket.parse(rtcp.pack_remb(1, bits_per_second, [7, 8]))
    assert isinstance(packet, aiortc_rtp.RtcpPsfbPacket)
    bitrate, ssrcs = aiortc_rtp.unpack_remb_fci(packet.fci)
    assert ssrcs == [7, 8]
    assert bits_per_second * (1 - 2**-17) <= bitrate <= bits_per_second


def test_packed_reports_are_parsed_by_aiortc_and_by_this_package() -> None:
    block = rtcp.ReportBlock(9, 64, -5, 70000, 12, 0x12345678, 65536)
    (packet,) = aiortc_rtp.RtcpPacket.parse(rtcp.pack_receiver_report(1, [block]))
    assert isinstance(packet, aiortc_rtp.RtcpRrPacket)
    assert (packet.reports[0].fraction_lost, packet.reports[0].packets_lost) == (64, -5)
    assert list(rtcp.parse(rtcp.pack_receiver_report(1, [block]))) == [block]
    report = rtcp.SenderReport(1, 1 << 63, 2, 3, 4)
    compound = rtcp.pack_sender_report(report) + rtcp.pack_source_description(1, "name")
    sender, description = aiortc_rtp.RtcpPacket.parse(compound)
    assert isinstance(sender, aiortc_rtp.RtcpSrPacket)
    assert isinstance(description, aiortc_rtp.RtcpSdesPacket)
    assert (sender.sender_info.ntp_timestamp, sender.sender_info.octet_count) == (1 << 63, 4)
    assert description.chunks[0].items == [(1, b"name")]
    assert list(rtcp.parse(compound)) == [report]


def test_packed_pli_is_parsed_by_aiortc_and_aiortcs_fir_is_parsed() -> None:
    (packet,) = aiortc_rtp.RtcpPacket.parse(rtcp.pack_pli(1, 2))
    assert isinstance(packet, aiortc_rtp.RtcpPsfbPacket)
    assert (packet.fmt, packet.media_ssrc) == (aiortc_rtp.RTCP_PSFB_PLI, 2)
    entry = bytes([0, 0, 0, 7, 1, 0, 0, 0])
    fir = aiortc_rtp.RtcpPsfbPacket(fmt=aiortc_rtp.RTCP_PSFB_FIR, ssrc=1, media_ssrc=0, fci=entry)
    (feedback,) = rtcp.parse(bytes(fir))
    assert isinstance(feedback, rtcp.FeedbackPacket)
    assert list(rtcp.fir_ssrcs(feedback.control_information)) == [7]


def test_remb_of_more_than_64_bits_is_rejected() -> None:
    too_large = b"REMB\x01" + (63 << 18 | 0x3FFFF).to_bytes(3, "big") + bytes(4)
    assert rtcp.parse_remb(too_large) is None
    largest = b"REMB\x01" + (46 << 18 | 0x3FFFF).to_bytes(3, "big") + bytes(4)
    assert rtcp.parse_remb(largest) == 0x3FFFF << 46


def test_only_the_first_packets_of_a_compound_packet_are_read() -> None:
    assert len(list(rtcp.parse(rtcp.pack_pli(1, 2) * 5000))) == rtcp.MAX_PARTS
    assert len(list(rtcp.fir_ssrcs(bytes(8 * 5000)))) == rtcp.MAX_PARTS
    report = rtcp.pack_receiver_report(1, [rtcp.ReportBlock(2, 0, 0, 0, 0, 0, 0)] * rtcp.MAX_BLOCKS)
    assert len(list(rtcp.parse(report * 64))) == rtcp.MAX_READ // len(report) * rtcp.MAX_BLOCKS
