"""Numbers that subscribers see, whatever is lost, late, left out or taken from elsewhere."""

from __future__ import annotations

from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from mcu.inprocess.forwarding.rtp_rewriter import RUNS, OffsetSegment, RtpRewriter
from mcu.inprocess.forwarding.rtp_stream import RtpStream

ONE, OTHER = cast(RtpStream, object()), cast(RtpStream, object())
FATES = st.sampled_from(("sent", "sent", "sent", "left out", "late", "late", "lost", "switch"))


@given(st.lists(FATES, max_size=300))
def test_each_packet_has_a_number_of_its_own_and_is_found_by_it(fates: list[str]) -> None:
    rewriter = RtpRewriter()
    given: dict[int, tuple[RtpStream, int]] = {}
    late: list[int] = []
    source, number = ONE, 1000
    first = rewriter.next
    run: OffsetSegment = rewriter.begin(source, number + 1)
    for fate in fates:
        number += 1
        if fate == "switch":
            source, late = (OTHER if source is ONE else ONE), []
            number += 5000
            run = rewriter.begin(source, number)
            fate = "sent"
        if fate == "late":
            late.append(number)
        elif fate == "left out":
            run = rewriter.skip(number, 1)
        elif fate == "sent":
            rewriter.next = number + run.shift + 1
            assert number + run.shift not in given
            given[number + run.shift] = source, number
        if len(late) > 3:
            old = late.pop(0)
            place = rewriter.late(old) if old < run.first else run
            if place is not None:
                assert old + place.shift not in given
                given[old + place.shift] = source, old
                rewriter.next = max(rewriter.next, old + place.shift + 1)
    assert all(ours >= first for ours in given)
    for ours, (whose, theirs) in given.items():
        found = rewriter.find(ours & 0xFFFF)
        assert found is not None
        assert (found[0].source, found[1]) == (whose, theirs)


def test_numbers_that_were_never_handed_out_stand_for_nothing() -> None:
    rewriter = RtpRewriter()
    assert rewriter.find(5) is None
    assert rewriter.last is None
    before = rewriter.next
    run = rewriter.begin(ONE, 100)
    assert rewriter.find(before & 0xFFFF) is None
    rewriter.next += 1
    assert rewriter.find(before & 0xFFFF) == (run, 100)
    assert rewriter.find(before - 1 & 0xFFFF) is None


def test_packet_of_another_source_has_no_place() -> None:
    rewriter = RtpRewriter()
    rewriter.begin(ONE, 100)
    rewriter.next += 10
    rewriter.begin(OTHER, 500)
    assert rewriter.late(105) is None
    assert rewriter.late(499) is None


def test_old_runs_are_forgotten() -> None:
    rewriter = RtpRewriter()
    first = rewriter.next
    run = rewriter.begin(ONE, 0)
    for number in range(0, 20_000, 2):
        rewriter.next = number + run.shift + 1
        run = rewriter.skip(number + 1, 0)
    assert len(rewriter._runs) <= 2 * RUNS
    assert rewriter.find(first & 0xFFFF) is None
    last = rewriter.next - 1
    assert rewriter.find(last & 0xFFFF) == (rewriter._runs[-2], 19_998)
    assert rewriter.late(19_998) == rewriter._runs[-2]
    assert rewriter.late(0) is None


def test_places_kept_for_what_never_came_are_given_away_at_a_switch() -> None:
    rewriter = RtpRewriter()
    run = rewriter.begin(ONE, 1)
    for number in (1, 2, 3):
        rewriter.next = number + run.shift + 1
    rewriter.skip(6, 1)  # 4 and 5 may still come
    assert rewriter.late(5) == run
    other = rewriter.begin(OTHER, 100)
    for number in (100, 101, 102):
        rewriter.next = number + other.shift + 1
        assert rewriter.find(number + other.shift & 0xFFFF) == (other, number)
    for number in (1, 2, 3):
        assert rewriter.find(number + run.shift & 0xFFFF) == (run, number)
