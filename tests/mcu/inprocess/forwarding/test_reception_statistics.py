"""What arrived, what is missing, and what is said of it."""

from __future__ import annotations

from mcu.inprocess.forwarding.reception_statistics import MAX_GAP, MAX_MISSING, RETRY, TRIES, ReceptionStatistics

CLOCK = 90000


def arrived(*sequences: int) -> ReceptionStatistics:
    """Return the figures after these packets, a millisecond apart."""
    arrival = ReceptionStatistics(CLOCK)
    for place, sequence in enumerate(sequences):
        arrival.count(sequence & 0xFFFF, place * 90, place / 1000)
    return arrival


def test_gap_is_asked_for_until_it_is_filled() -> None:
    arrival = arrived(65533, 1)
    assert arrival.due(1.0) == [65534, 65535, 0]
    assert arrival.due(1.0) == []
    arrival.count(65535, 0, 1.0)
    arrival.repaired(0)
    assert arrival.due(1.0 + RETRY) == [65534]


def test_first_request_waits_as_long_as_packets_came_late_and_were_not_lost() -> None:
    arrival = arrived(1, 3)
    arrival.count(2, 0, 0.031)
    assert arrival.due(1.0) == []
    arrival.count(5, 0, 1.0)
    assert arrival.due(1.02) == []
    assert arrival.due(1.04) == [4]
    for _ in range(20):
        arrival.block(7, 0, 0, 0)
    arrival.count(7, 0, 2.0)
    assert arrival.due(2.001) == [4, 6]


def test_very_late_packet_does_not_keep_us_from_asking() -> None:
    arrival = arrived(1, 3)
    arrival.count(2, 0, 9.0)
    arrival.count(5, 0, 10.0)
    assert arrival.due(10.0 + RETRY) == [4]


def test_asking_ends_after_some_tries() -> None:
    arrival = arrived(1, 3)
    asked = [arrival.due(1.0 + turn * 2 * RETRY) for turn in range(TRIES + 5)]
    assert asked == [[2]] * TRIES + [[]] * 5


def test_wide_gap_is_a_new_beginning() -> None:
    arrival = arrived(1, 2 + MAX_GAP)
    assert arrival.broken
    assert arrival.due(1.0) == []


def test_source_that_leaves_out_nearly_everything_is_not_looked_through_for_ever() -> None:
    arrival = ReceptionStatistics(CLOCK)
    broken = 0
    for place in range(500):
        arrival.count(place * (MAX_GAP - 1) & 0xFFFF, 0, place / 1000)
        assert len(arrival.due(place / 1000)) <= MAX_MISSING
        assert len(arrival._missing) <= MAX_MISSING
        broken += arrival.broken
        arrival.broken = False
    assert broken > 100
    for sequence in range(0x10000):
        arrival.want(sequence, 1.0)
    assert len(arrival._missing) <= MAX_MISSING


def test_what_a_subscriber_misses_is_asked_for_once() -> None:
    arrival = arrived(*range(100))
    assert arrival.want(50, 1.0)
    assert not arrival.want(50, 1.0)
    assert not arrival.want(60000, 1.0)


def test_report_tells_loss_since_the_last_one_and_over_all() -> None:
    arrival = arrived(*range(0, 100, 2))
    block = arrival.block(7, 0, 0, 0)
    assert block is not None
    assert (block.fraction, block.lost, block.highest) == (49 * 256 // 99, 49, 98)
    arrival.count(99, 0, 1.0)
    block = arrival.block(7, 0, 0, 0)
    assert block is not None
    assert (block.fraction, block.lost) == (0, 49)
    block = arrival.block(7, 0, 0, 77)
    assert block is not None
    assert block.fraction == 77


def test_nothing_arrived_is_nothing_to_report() -> None:
    assert ReceptionStatistics(CLOCK).block(7, 0, 0, 0) is None
    assert ReceptionStatistics(CLOCK).lost == 0
    assert not ReceptionStatistics(CLOCK).want(1, 0.0)
