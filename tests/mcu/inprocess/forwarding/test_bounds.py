"""Limits on the packets and bytes that the SFU stores, sends and looks up for one client."""

from __future__ import annotations

from mcu.inprocess.forwarding import rtcp
from mcu.inprocess.forwarding.down_track import MAX_NACKED, MAX_RETRANSMISSIONS
from mcu.inprocess.forwarding.rtp_stream import MAX_HISTORY_OCTETS, REPORT_INTERVAL
from tests.mcu.inprocess.forwarding.tracks import SSRC, START, make_down_track, make_receive_track, only_stream, packet


def test_retransmissions_per_second_are_limited() -> None:
    track, _ = make_receive_track()
    down_track, sent = make_down_track(track)
    only_stream(track).receive(packet(1), START)
    down_track.retransmit([sent.rtp[0].sequence] * 10 * MAX_RETRANSMISSIONS, START)
    assert len(sent.rtp) == 1 + MAX_RETRANSMISSIONS


def test_nacked_numbers_looked_up_per_second_are_limited() -> None:
    track, _ = make_receive_track()
    down_track, sent = make_down_track(track)
    only_stream(track).receive(packet(1), START)
    sequence = sent.rtp[0].sequence
    down_track.retransmit([sequence - 1 & 0xFFFF] * MAX_NACKED + [sequence], START)
    assert len(sent.rtp) == 1


def test_history_of_huge_packets_is_limited_in_bytes() -> None:
    track, _ = make_receive_track()
    down_track, sent = make_down_track(track)
    huge = 60_000
    for number in range(1, 200):
        only_stream(track).receive(packet(number, payload=bytes(huge)), START)
        stored = {
            id(stored_packet): len(stored_packet.payload)
            for stored_packet in only_stream(track)._history
            if stored_packet is not None
        }
        assert sum(stored.values()) == only_stream(track)._history_octets <= MAX_HISTORY_OCTETS
    only_stream(track).receive(packet(150), START)
    assert sent.sequences == list(range(199))
    down_track.retransmit([sent.rtp[-1].sequence], START)
    assert len(sent.rtp[-1].payload) == huge + 2


def test_forwarded_sender_reports_are_limited_in_rate() -> None:
    track, _ = make_receive_track()
    _, sent = make_down_track(track)
    only_stream(track).receive(packet(1, 500), 5.0)
    for second in range(1000):
        only_stream(track).forward_sender_report(rtcp.SenderReport(SSRC, second << 32, 500, 1, 1), 5.0)
    later = 5.0 + 2 * REPORT_INTERVAL
    only_stream(track).forward_sender_report(rtcp.SenderReport(SSRC, 7 << 32, 500, 1, 1), later)
    assert [report.ntp >> 32 for report in sent.sender_reports] == [0, 7]
