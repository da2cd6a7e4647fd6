"""Forwarding from a receive track to its down tracks: sequence numbers, NACK, keyframe requests, sender reports."""

from __future__ import annotations

import struct

from mcu.base import MediaKind
from mcu.inprocess.forwarding import rtcp, rtp
from mcu.inprocess.forwarding.down_track import DownTrack
from mcu.inprocess.forwarding.receive_track import ReceiveTrack
from mcu.inprocess.forwarding.rtcp_feedback import KEYFRAME_INTERVAL, RtcpFeedback
from mcu.inprocess.forwarding.rtp_stream import SSRC_TIMEOUT
from mcu.inprocess.negotiation.parameters import (
    AUDIO_LEVEL,
    EXTENSION_IDS,
    MID,
    ORIENTATION,
    AnsweredSection,
    NegotiatedCodec,
    OfferedStream,
    PublisherSection,
)
from sdp.codecs import Payload, PayloadType
from tests.mcu.inprocess.forwarding.tracks import (
    RTX,
    RTX_SSRC,
    SECTION,
    SSRC,
    START,
    VP8,
    RecordingSender,
    make_down_track,
    make_receive_track,
    only_stream,
    packet,
    retransmission,
    video_section,
)

OPUS = Payload(PayloadType(111), "opus", 48000, 2)


def test_packets_are_forwarded_with_own_sequence_numbers_payload_types_and_extensions() -> None:
    track, _ = make_receive_track()
    _, sent = make_down_track(track)
    for number in (65534, 65535, 65536):
        only_stream(track).receive(packet(number, number), START)
    assert sent.sequences == [0, 1, 2]
    first = sent.rtp[0]
    assert (first.payload_type, first.marker, first.timestamp, first.payload) == (120, 0x80, 65534, b"65534")
    assert first.ssrc == track.ssrc != SSRC
    assert rtp.extension_element(first, 1) == b"0"
    assert rtp.extension_element(first, 3) is not None


def test_duplicates_and_other_payload_types_are_not_forwarded() -> None:
    track, _ = make_receive_track()
    _, sent = make_down_track(track)
    only_stream(track).receive(packet(5), START)
    only_stream(track).receive(packet(5), START)
    only_stream(track).receive(packet(6)._replace(payload_type=13), START)
    assert sent.sequences == [0]


def test_mute_leaves_no_sequence_gap_and_unmute_requests_a_keyframe() -> None:
    track, feedback = make_receive_track()
    down_track, sent = make_down_track(track)
    only_stream(track).receive(packet(1), START)
    down_track.mute(True, START)
    only_stream(track).receive(packet(2), START)
    feedback.rtcp.clear()
    later = START + KEYFRAME_INTERVAL
    down_track.mute(False, later)
    only_stream(track).receive(packet(3), later)
    only_stream(track).receive(packet(2), later)  # late, from before the unmute: its sequence number is taken
    assert sent.sequences == [0, 1]
    assert feedback.keyframe_requests == [SSRC]


def test_another_ssrc_continues_sequence_numbers_and_timestamps() -> None:
    track, _ = make_receive_track(video_section(None, None))
    _, sent = make_down_track(track)
    assert track.bind_ssrc(packet(1, 90000), START)
    only_stream(track).receive(packet(1, 90000), START)
    assert not track.bind_ssrc(packet(900, 5, ssrc=2000), START + 0.5)
    later = START + SSRC_TIMEOUT + 1.0
    assert track.bind_ssrc(packet(900, 5, ssrc=2000), later)
    only_stream(track).receive(packet(900, 5, ssrc=2000), later)
    only_stream(track).receive(packet(901, 95, ssrc=2000), later)
    assert sent.sequences == [0, 1, 2]
    assert [forwarded.timestamp for forwarded in sent.rtp] == [90000, 90000 + 180000, 90000 + 180090]


def test_ssrc_of_no_negotiated_stream_is_not_bound() -> None:
    track, _ = make_receive_track(video_section(other_ssrcs=frozenset({3000})))
    assert not track.bind_ssrc(packet(1, ssrc=3000), 100.0)


def test_lost_packet_is_nacked_and_its_retransmission_forwarded_in_its_place() -> None:
    track, feedback = make_receive_track()
    _, sent = make_down_track(track)
    only_stream(track).receive(packet(1), START)
    only_stream(track).receive(packet(3), START)
    assert feedback.nacks == [(SSRC, [2])]
    only_stream(track).receive(retransmission(77, 2, b"2"), START + 0.1)
    assert [(number, forwarded.payload) for number, forwarded in zip(sent.sequences, sent.rtp, strict=True)] == [
        (0, b"1"),
        (2, b"3"),
        (1, b"2"),
    ]
    assert only_stream(track).reception.due_nacks(9.0) == []


def test_retransmission_without_an_original_packet_is_discarded() -> None:
    track, _ = make_receive_track()
    _, sent = make_down_track(track)
    only_stream(track).receive(packet(1, 0, RTX_SSRC, b"\x00")._replace(payload_type=97), START)
    padding = packet(2, 0, RTX_SSRC, bytes(10) + b"\x0b")._replace(payload_type=97, flags=rtp.PADDING_BIT)
    only_stream(track).receive(padding, START)
    assert sent.rtp == []


def test_subscribers_nack_is_answered_from_the_history() -> None:
    track, feedback = make_receive_track()
    down_track, sent = make_down_track(track)
    for number in range(1, 5):
        only_stream(track).receive(packet(number), START)
    lost = sent.rtp[1].sequence
    feedback.rtcp.clear()
    down_track.retransmit([lost], START)
    repair = sent.rtp[-1]
    assert (repair.ssrc, repair.payload_type) == (track.rtx_ssrc, 121)
    assert repair.payload == struct.pack("!H", lost) + b"2"
    assert feedback.rtcp == []
    without_rtx, sent_without_rtx = make_down_track(track, rtx=None)
    only_stream(track).receive(packet(5), START)
    without_rtx.retransmit([sent_without_rtx.rtp[0].sequence], START)
    assert sent_without_rtx.rtp[0] == sent_without_rtx.rtp[1]


def test_subscribers_nack_for_a_packet_that_never_arrived_is_forwarded() -> None:
    track, feedback = make_receive_track()
    down_track, sent = make_down_track(track)
    only_stream(track).receive(packet(1), START)
    only_stream(track).receive(packet(3), START)
    only_stream(track).reception.remove_missing(2)  # the SFU itself sends no NACK for it
    feedback.rtcp.clear()
    down_track.retransmit([sent.rtp[0].sequence + 1 & 0xFFFF], START)
    assert feedback.nacks == [(SSRC, [2])]


def test_subscribers_nack_for_a_number_never_sent_is_ignored() -> None:
    track, feedback = make_receive_track()
    down_track, sent = make_down_track(track)
    only_stream(track).receive(packet(1), START)
    feedback.rtcp.clear()
    down_track.retransmit([sent.rtp[0].sequence - 1 & 0xFFFF, sent.rtp[0].sequence + 1 & 0xFFFF], START)
    assert len(sent.rtp) == 1
    assert feedback.rtcp == []


def test_keyframe_requests_within_the_interval_are_merged() -> None:
    track, feedback = make_receive_track()
    for step in range(5):
        track.request_keyframe(START + step * KEYFRAME_INTERVAL / 10)
    assert len(feedback.rtcp) == 1
    track.feedback.tick(START + KEYFRAME_INTERVAL / 2)
    assert len(feedback.rtcp) == 1
    track.feedback.tick(START + KEYFRAME_INTERVAL)
    track.feedback.tick(START + 5 * KEYFRAME_INTERVAL)
    assert feedback.keyframe_requests == [SSRC, SSRC]
    assert only_stream(track).keyframe_requests == 2


def test_keyframe_requests_for_all_tracks_of_a_publisher_share_the_interval() -> None:
    recorder = RecordingSender()
    feedback = RtcpFeedback(5, recorder.send_rtcp)
    first = ReceiveTrack(video_section(10, 11), "0", "cname", feedback)
    second = ReceiveTrack(video_section(20, 21), "1", "cname", feedback)
    without_ssrc = ReceiveTrack(video_section(None, None), "2", "cname", feedback)
    for step in range(3):
        for track in (first, second, without_ssrc):
            track.request_keyframe(START + step * KEYFRAME_INTERVAL / 4)
    assert recorder.keyframe_requests == [10]
    feedback.tick(START + KEYFRAME_INTERVAL)
    assert recorder.keyframe_requests == [10, 20, 10]
    assert without_ssrc.bind_ssrc(packet(1, ssrc=30), START)
    feedback.tick(START + 2 * KEYFRAME_INTERVAL)
    assert recorder.keyframe_requests == [10, 20, 10, 30]
    feedback.tick(START + 9 * KEYFRAME_INTERVAL)
    assert len(recorder.rtcp) == 4


def test_publishers_clock_is_forwarded_also_to_a_late_subscriber() -> None:
    track, _ = make_receive_track()
    _, sent = make_down_track(track)
    only_stream(track).receive(packet(1, 500), START)
    only_stream(track).forward_sender_report(rtcp.SenderReport(SSRC, 1 << 32, 500, 1, 1), START)
    report = sent.sender_reports[-1]
    assert (report.ssrc, report.ntp, report.timestamp, report.packets) == (track.ssrc, 1 << 32, 500, 1)
    _, sent_late = make_down_track(track)
    assert sent_late.sender_reports[-1].ntp >= 1 << 32


def test_publishers_clock_may_wrap_before_a_late_subscriber_receives_it() -> None:
    track, _ = make_receive_track()
    only_stream(track).receive(packet(1, 500), START - 1.0)
    only_stream(track).forward_sender_report(rtcp.SenderReport(SSRC, (1 << 64) - 1, 0xFFFFFFFF, 1, 1), START - 1.0)
    _, sent_late = make_down_track(track)
    report = sent_late.sender_reports[-1]
    assert report.ntp >> 32 == 0
    assert report.timestamp == 90_000 - 1


def test_round_trip_and_loss_are_read_from_the_subscribers_report() -> None:
    track, _ = make_receive_track()
    down_track, _ = make_down_track(track)
    only_stream(track).receive(packet(1, 500), START)
    only_stream(track).forward_sender_report(rtcp.SenderReport(SSRC, 7 << 32, 500, 1, 1), START)
    report = rtcp.ReportBlock(track.ssrc, 128, 3, 1, 0, 7 << 16, delay=32768)
    down_track.handle_report_block(report, START + 0.75)
    assert down_track.lost == 3
    assert down_track.round_trip == 0.25
    block = only_stream(track).report_block(START)
    assert block is not None
    assert block.fraction_lost == 128


def test_one_lossy_subscriber_does_not_raise_the_loss_reported_for_video() -> None:
    track, _ = make_receive_track()
    down_tracks = [make_down_track(track)[0] for _ in range(3)]
    only_stream(track).receive(packet(1), START)
    down_tracks[0].handle_report_block(rtcp.ReportBlock(track.ssrc, 200, 3, 1, 0, 0, 0), START)
    block = only_stream(track).report_block(START)
    assert block is not None
    assert block.fraction_lost == 0


def test_audio_level_is_forwarded_under_the_offered_extension_id() -> None:
    section = PublisherSection(
        MediaKind.AUDIO, "a", SECTION, True, NegotiatedCodec(OPUS), {AUDIO_LEVEL: 6}, (OfferedStream("", SSRC),)
    )
    track, _ = make_receive_track(section)
    sent = RecordingSender()
    down_track = DownTrack(track, sent)
    down_track.apply_answer(AnsweredSection(True, 111), START)
    down_track.start(START)
    extension = rtp.pack_extension([(6, b"\x91")])
    audio = packet(1)._replace(payload_type=111, profile=0xBEDE, extension=extension[4:])
    only_stream(track).receive(audio, START)
    assert rtp.extension_element(sent.rtp[0], 2) == b"\x91"


def test_orientation_is_forwarded_under_the_offered_extension_id_where_a_packet_has_it() -> None:
    section = PublisherSection(
        MediaKind.VIDEO,
        "v",
        SECTION,
        True,
        NegotiatedCodec(VP8, RTX),
        {MID: 4, ORIENTATION: 13},
        (OfferedStream("", SSRC),),
    )
    track, _ = make_receive_track(section)
    _, sent = make_down_track(track)
    extension = rtp.pack_extension([(4, b"0"), (13, b"\x01")])
    only_stream(track).receive(packet(1)._replace(profile=0xBEDE, extension=extension[4:]), START)
    only_stream(track).receive(packet(2), START)
    assert [rtp.extension_element(forwarded, EXTENSION_IDS["video"][ORIENTATION]) for forwarded in sent.rtp] == [
        b"\x01",
        None,
    ]


def test_changed_codec_is_forwarded_once_the_subscriber_has_accepted_it() -> None:
    track, _ = make_receive_track()
    down_track, sent = make_down_track(track)
    only_stream(track).receive(packet(1), START)
    codec = NegotiatedCodec(Payload(PayloadType(98), "h264", 90000, 1, fmtp="packetization-mode=1"))
    streams = video_section().streams
    track.update(PublisherSection(MediaKind.VIDEO, "v", SECTION, True, codec, {}, streams), START)
    only_stream(track).receive(packet(2)._replace(payload_type=98), START)
    assert len(sent.rtp) == 1
    down_track.apply_answer(AnsweredSection(True, 126), START)
    only_stream(track).receive(packet(3)._replace(payload_type=98), START)
    assert sent.rtp[-1].payload_type == 126
