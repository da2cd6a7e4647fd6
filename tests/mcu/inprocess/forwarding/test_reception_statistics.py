"""Reception statistics: NACK schedule, loss and report blocks."""

from __future__ import annotations

from mcu.inprocess.forwarding.reception_statistics import (
    MAX_GAP,
    MAX_MISSING,
    MAX_NACKS,
    NACK_INTERVAL,
    ReceptionStatistics,
)

CLOCK_RATE = 90000


def statistics_after(*sequences: int) -> ReceptionStatistics:
    """Return the statistics after these packets, a millisecond apart."""
    statistics = ReceptionStatistics(CLOCK_RATE)
    for place, sequence in enumerate(sequences):
        statistics.count(sequence & 0xFFFF, place * 90, place / 1000)
    return statistics


def test_missing_packets_are_nacked_until_they_arrive() -> None:
    statistics = statistics_after(65533, 1)
    assert statistics.due_nacks(1.0) == [65534, 65535, 0]
    assert statistics.due_nacks(1.0) == []
    statistics.count(65535, 0, 1.0)
    statistics.remove_missing(0)
    assert statistics.due_nacks(1.0 + NACK_INTERVAL) == [65534]


def test_first_nack_waits_as_long_as_reordered_packets_were_late() -> None:
    statistics = statistics_after(1, 3)
    statistics.count(2, 0, 0.031)
    assert statistics.due_nacks(1.0) == []
    statistics.count(5, 0, 1.0)
    assert statistics.due_nacks(1.02) == []
    assert statistics.due_nacks(1.04) == [4]
    for _ in range(20):
        statistics.report_block(7, 0, 0, 0)
    statistics.count(7, 0, 2.0)
    assert statistics.due_nacks(2.001) == [4, 6]


def test_very_late_packet_delays_later_nacks_by_one_interval_at_most() -> None:
    statistics = statistics_after(1, 3)
    statistics.count(2, 0, 9.0)
    statistics.count(5, 0, 10.0)
    assert statistics.due_nacks(10.0 + NACK_INTERVAL) == [4]


def test_nacks_for_a_packet_are_limited_in_number() -> None:
    statistics = statistics_after(1, 3)
    nacked = [statistics.due_nacks(1.0 + turn * 2 * NACK_INTERVAL) for turn in range(MAX_NACKS + 5)]
    assert nacked == [[2]] * MAX_NACKS + [[]] * 5


def test_wide_gap_is_an_interruption_without_nacks() -> None:
    statistics = statistics_after(1, 2 + MAX_GAP)
    assert statistics.interrupted
    assert statistics.due_nacks(1.0) == []
    statistics.clear_interruption()
    assert not statistics.interrupted


def test_missing_packets_tracked_at_a_time_are_limited() -> None:
    statistics = ReceptionStatistics(CLOCK_RATE)
    interruptions = 0
    for place in range(500):
        statistics.count(place * (MAX_GAP - 1) & 0xFFFF, 0, place / 1000)
        assert len(statistics.due_nacks(place / 1000)) <= MAX_MISSING
        assert len(statistics._missing) <= MAX_MISSING
        interruptions += statistics.interrupted
        statistics.clear_interruption()
    assert interruptions > 100
    for sequence in range(0x10000):
        statistics.add_missing(sequence, 1.0)
    assert len(statistics._missing) <= MAX_MISSING


def test_packet_missing_at_a_subscriber_is_added_once() -> None:
    statistics = statistics_after(*range(100))
    assert statistics.add_missing(50, 1.0)
    assert not statistics.add_missing(50, 1.0)
    assert not statistics.add_missing(60000, 1.0)


def test_report_block_has_the_loss_since_the_last_one_and_in_total() -> None:
    statistics = statistics_after(*range(0, 100, 2))
    block = statistics.report_block(7, 0, 0, 0)
    assert block is not None
    assert (block.fraction_lost, block.lost, block.highest_sequence) == (49 * 256 // 99, 49, 98)
    statistics.count(99, 0, 1.0)
    block = statistics.report_block(7, 0, 0, 0)
    assert block is not None
    assert (block.fraction_lost, block.lost) == (0, 49)
    block = statistics.report_block(7, 0, 0, 77)
    assert block is not None
    assert block.fraction_lost == 77


def test_statistics_without_a_packet_have_no_report_block_and_no_loss() -> None:
    assert ReceptionStatistics(CLOCK_RATE).report_block(7, 0, 0, 0) is None
    assert ReceptionStatistics(CLOCK_RATE).lost == 0
    assert not ReceptionStatistics(CLOCK_RATE).add_missing(1, 0.0)
