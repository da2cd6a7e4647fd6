"""The receive tracks of a publisher: binding of SSRCs by mid or payload type, and renegotiation."""

from __future__ import annotations

from dataclasses import replace

from mcu.inprocess.forwarding import rtp
from mcu.inprocess.forwarding.demultiplexer import RtpDemultiplexer
from mcu.inprocess.forwarding.rtcp_feedback import KEYFRAME_INTERVAL, RtcpFeedback
from mcu.inprocess.negotiation.parameters import PublisherSection
from tests.mcu.inprocess.forwarding.tracks import SSRC, START, RecordingSender, packet, video_section

MID_EXTENSION = 4  # of ``video_section``


def section(mid: str, ssrc: int | None = None) -> PublisherSection:
    """Return a video section with this mid, without a retransmission SSRC."""
    return replace(video_section(ssrc, None), mid=mid)


def packet_with_mid(mid: bytes, ssrc: int) -> rtp.RtpPacket:
    """Return a packet whose header extension has a mid."""
    extension = rtp.pack_extension([(MID_EXTENSION, mid)])[4:]
    return packet(1, ssrc=ssrc)._replace(profile=0xBEDE, extension=extension)


def make_demultiplexer(*sections: PublisherSection) -> tuple[RtpDemultiplexer, RecordingSender]:
    """Return a demultiplexer with these sections, and the recorder of its feedback."""
    sender = RecordingSender()
    demultiplexer = RtpDemultiplexer("cname", RtcpFeedback(5, sender.send_rtcp))
    demultiplexer.update(sections, START)
    return demultiplexer, sender


def test_offered_ssrcs_are_bound_from_the_start() -> None:
    demultiplexer, _ = make_demultiplexer(section("a", SSRC), section("b"))
    assert set(demultiplexer.streams_by_ssrc) == {SSRC}
    assert demultiplexer.streams_by_ssrc[SSRC].track is demultiplexer.tracks["a"]


def test_unknown_ssrc_is_bound_by_the_mid_of_its_packet() -> None:
    demultiplexer, _ = make_demultiplexer(section("a"), section("b"))
    rtp_stream = demultiplexer.bind_ssrc(packet_with_mid(b"b", 7), START)
    assert rtp_stream is not None
    assert rtp_stream.track is demultiplexer.tracks["b"]
    assert demultiplexer.streams_by_ssrc == {7: rtp_stream}


def test_unknown_ssrc_with_an_unknown_mid_is_not_bound() -> None:
    demultiplexer, _ = make_demultiplexer(section("a"))
    assert demultiplexer.bind_ssrc(packet_with_mid(b"x", 7), START) is None
    assert demultiplexer.streams_by_ssrc == {}


def test_unknown_ssrc_without_a_mid_is_bound_by_a_payload_type_of_one_track_only() -> None:
    single, _ = make_demultiplexer(section("a"))
    assert single.bind_ssrc(packet(1, ssrc=7), START) is not None
    assert single.bind_ssrc(packet(1, ssrc=8)._replace(payload_type=13), START) is None
    double, _ = make_demultiplexer(section("a"), section("b"))
    assert double.bind_ssrc(packet(1, ssrc=7), START) is None


def test_removed_section_ends_its_track_and_its_pending_keyframe_request() -> None:
    demultiplexer, sender = make_demultiplexer(section("a", 10), section("b", 20))
    kept, removed = demultiplexer.tracks["a"], demultiplexer.tracks["b"]
    kept.request_keyframe(START)
    removed.request_keyframe(START)
    demultiplexer.update([section("a", 10), section("c", 30)], START)
    kept.feedback.tick(START + 2 * KEYFRAME_INTERVAL)
    assert sender.keyframe_requests == [10]
    assert demultiplexer.tracks["a"] is kept
    assert set(demultiplexer.streams_by_ssrc) == {10, 30}
    assert [track.mid for track in demultiplexer.tracks.values()] == ["0", "2"]
