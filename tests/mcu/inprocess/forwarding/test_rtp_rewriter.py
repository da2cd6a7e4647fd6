"""Sent sequence numbers under loss, late packets, dropped packets and switches between RTP streams."""

from __future__ import annotations

from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from mcu.inprocess.forwarding.rtp_rewriter import MIN_SEGMENTS, RtpRewriter
from mcu.inprocess.forwarding.rtp_stream import RtpStream

ONE_STREAM, OTHER_STREAM = cast(RtpStream, object()), cast(RtpStream, object())
OUTCOMES = st.sampled_from(("sent", "sent", "sent", "dropped", "late", "late", "lost", "switch"))


@given(st.lists(OUTCOMES, max_size=300))
def test_each_packet_gets_a_sequence_number_of_its_own_that_maps_back_to_it(outcomes: list[str]) -> None:
    rewriter = RtpRewriter()
    sent: dict[int, tuple[RtpStream, int]] = {}
    late: list[int] = []
    stream, number = ONE_STREAM, 1000
    first_sequence = rewriter.next_sequence
    segment = rewriter.begin_segment(stream, number + 1)
    for outcome in outcomes:
        number += 1
        if outcome == "switch":
            stream, late = (OTHER_STREAM if stream is ONE_STREAM else ONE_STREAM), []
            number += 5000
            segment = rewriter.begin_segment(stream, number)
            outcome = "sent"
        if outcome == "late":
            late.append(number)
        elif outcome == "dropped":
            segment = rewriter.skip(number, 1)
        elif outcome == "sent":
            rewriter.next_sequence = number + segment.sequence_offset + 1
            assert number + segment.sequence_offset not in sent
            sent[number + segment.sequence_offset] = stream, number
        if len(late) > 3:
            old = late.pop(0)
            late_segment = rewriter.find_late(old) if old < segment.first_number else segment
            if late_segment is not None:
                sequence = old + late_segment.sequence_offset
                assert sequence not in sent
                sent[sequence] = stream, old
                rewriter.next_sequence = max(rewriter.next_sequence, sequence + 1)
    assert all(sequence >= first_sequence for sequence in sent)
    for sequence, packet in sent.items():
        found = rewriter.find_sent(sequence & 0xFFFF)
        assert found is not None
        assert (found[0].stream, found[1]) == packet


def test_sequence_number_never_assigned_maps_to_no_packet() -> None:
    rewriter = RtpRewriter()
    assert rewriter.find_sent(5) is None
    assert rewriter.newest_segment is None
    first = rewriter.next_sequence
    segment = rewriter.begin_segment(ONE_STREAM, 100)
    assert rewriter.find_sent(first & 0xFFFF) is None
    rewriter.next_sequence += 1
    assert rewriter.find_sent(first & 0xFFFF) == (segment, 100)
    assert rewriter.find_sent(first - 1 & 0xFFFF) is None


def test_late_packet_of_a_replaced_stream_gets_no_sequence_number() -> None:
    rewriter = RtpRewriter()
    rewriter.begin_segment(ONE_STREAM, 100)
    rewriter.next_sequence += 10
    rewriter.begin_segment(OTHER_STREAM, 500)
    assert rewriter.find_late(105) is None
    assert rewriter.find_late(499) is None


def test_old_segments_are_dropped() -> None:
    rewriter = RtpRewriter()
    first = rewriter.next_sequence
    segment = rewriter.begin_segment(ONE_STREAM, 0)
    for number in range(0, 20_000, 2):
        rewriter.next_sequence = number + segment.sequence_offset + 1
        segment = rewriter.skip(number + 1, 0)
    assert len(rewriter._segments) <= 2 * MIN_SEGMENTS
    assert rewriter.find_sent(first & 0xFFFF) is None
    last = rewriter.next_sequence - 1
    assert rewriter.find_sent(last & 0xFFFF) == (rewriter._segments[-2], 19_998)
    assert rewriter.find_late(19_998) == rewriter._segments[-2]
    assert rewriter.find_late(0) is None


def test_numbers_reserved_for_packets_that_never_arrived_are_reused_at_a_switch() -> None:
    rewriter = RtpRewriter()
    segment = rewriter.begin_segment(ONE_STREAM, 1)
    for number in (1, 2, 3):
        rewriter.next_sequence = number + segment.sequence_offset + 1
    rewriter.skip(6, 1)  # 4 and 5 may still arrive
    assert rewriter.find_late(5) == segment
    other = rewriter.begin_segment(OTHER_STREAM, 100)
    for number in (100, 101, 102):
        rewriter.next_sequence = number + other.sequence_offset + 1
        assert rewriter.find_sent(number + other.sequence_offset & 0xFFFF) == (other, number)
    for number in (1, 2, 3):
        assert rewriter.find_sent(number + segment.sequence_offset & 0xFFFF) == (segment, number)
