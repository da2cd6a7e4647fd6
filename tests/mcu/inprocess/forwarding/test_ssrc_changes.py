"""A publisher's change of SSRC or of simulcast layers: sender reports, NACKs, counters."""

from __future__ import annotations

from dataclasses import replace

from mcu.base import MediaSelection
from mcu.inprocess.forwarding import rtcp
from mcu.inprocess.forwarding.rtp_stream import SSRC_TIMEOUT
from mcu.inprocess.negotiation.parameters import OfferedStream
from tests.mcu.inprocess.forwarding.simulcast import THREE_TEMPORAL_LAYERS, SimulcastCall, simulcast_section
from tests.mcu.inprocess.forwarding.tracks import (
    START,
    make_down_track,
    make_receive_track,
    only_stream,
    packet,
    retransmission,
    video_section,
)

OTHER_SSRC = 2000


def test_sender_report_of_another_ssrc_is_forwarded_after_its_first_packet() -> None:
    track, _ = make_receive_track()
    _, sent = make_down_track(track)
    only_stream(track).receive(packet(1, 90_000), START)
    track.update(video_section(OTHER_SSRC, OTHER_SSRC + 1), START)
    only_stream(track).forward_sender_report(rtcp.SenderReport(OTHER_SSRC, 9 << 32, 4_000_000, 1, 1), START)
    _, sent_late = make_down_track(track)
    assert (sent.rtcp, sent_late.rtcp) == ([], [])
    only_stream(track).receive(packet(7, 4_000_900, OTHER_SSRC), START + 0.1)
    only_stream(track).forward_sender_report(rtcp.SenderReport(OTHER_SSRC, 10 << 32, 4_000_900, 1, 1), START + 0.1)
    (report,) = sent.sender_reports
    assert report.timestamp == sent.rtp[-1].timestamp


def test_sender_report_waits_for_a_packet_after_simulcast_ended() -> None:
    call = SimulcastCall()
    call.send_frames(2, 0, 1, 2, keyframe=True)
    call.track.update(simulcast_section(OfferedStream("", 4000)), call.now)
    call.to_subscriber.rtcp.clear()
    rtp_stream = only_stream(call.track)
    rtp_stream.forward_sender_report(rtcp.SenderReport(4000, 9 << 32, 5, 1, 1), call.now)
    assert call.to_subscriber.rtcp == []
    rtp_stream.receive(packet(5, 5, 4000), call.now + 0.2)
    rtp_stream.forward_sender_report(rtcp.SenderReport(4000, 9 << 32, 5, 1, 1), call.now + 0.2)
    (report,) = call.to_subscriber.sender_reports
    assert report.timestamp == call.forwarded[-1].timestamp


def test_packet_missing_from_the_old_ssrc_is_not_nacked_at_the_new_one() -> None:
    track, feedback = make_receive_track(video_section(None, None))
    down_track, sent = make_down_track(track)
    assert track.bind_ssrc(packet(1), START)
    for number in (1, 3):
        only_stream(track).receive(packet(number), START)
    only_stream(track).reception.remove_missing(2)  # the SFU itself sends no NACK for it
    later = START + 1.0 + SSRC_TIMEOUT
    assert track.bind_ssrc(packet(5000, ssrc=OTHER_SSRC), later)
    missing = sent.rtp[0].sequence + 1 & 0xFFFF
    feedback.rtcp.clear()
    down_track.retransmit([missing], later)
    only_stream(track).receive(packet(5000, ssrc=OTHER_SSRC), later)
    assert feedback.nacks == []
    down_track.retransmit([missing], later)
    assert feedback.nacks == []


def test_recovered_counts_packets_that_arrived_first_as_a_retransmission() -> None:
    track, _ = make_receive_track()
    rtp_stream = only_stream(track)
    for number in (1, 2, 4):
        rtp_stream.receive(packet(number), START)
    for original in (2, 3, 3):  # 2 arrived before, 3 arrives twice
        rtp_stream.receive(retransmission(10 + original, original), START)
    assert (rtp_stream.packets, rtp_stream.lost, rtp_stream.recovered) == (4, 1, 1)


def test_no_sequence_number_is_sent_with_two_payloads() -> None:
    call = SimulcastCall((OfferedStream(),), MediaSelection(temporal=2))
    assert call.down_track._answered is not None
    call.down_track.apply_answer(replace(call.down_track._answered, rtx_payload_type=None), call.now)
    call.send_frames(1, 0, keyframe=True)
    call.send_frames(8, 0, temporal_layers=THREE_TEMPORAL_LAYERS, packets=2)
    first_sent = {forwarded.sequence: forwarded for forwarded in call.forwarded}
    call.select(MediaSelection(temporal=0))
    call.send_frames(4, 0, temporal_layers=THREE_TEMPORAL_LAYERS, packets=2)
    call.forwarded.clear()
    call.retransmit(list(first_sent))
    assert call.forwarded
    assert all(forwarded == first_sent[forwarded.sequence] for forwarded in call.forwarded)
