"""Numbers that subscribers see, whatever is lost, late, left out or taken from elsewhere."""

from __future__ import annotations

from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from mcu.inprocess.encoding import Encoding
from mcu.inprocess.numbering import RUNS, Numbering, Run

ONE, OTHER = cast(Encoding, object()), cast(Encoding, object())
FATES = st.sampled_from(("sent", "sent", "sent", "left out", "late", "late", "lost", "switch"))


@given(st.lists(FATES, max_size=300))
def test_each_packet_has_a_number_of_its_own_and_is_found_by_it(fates: list[str]) -> None:
    numbering = Numbering()
    given: dict[int, tuple[Encoding, int]] = {}
    late: list[int] = []
    source, number = ONE, 1000
    first = numbering.next
    run: Run = numbering.begin(source, number + 1)
    for fate in fates:
        number += 1
        if fate == "switch":
            source, late = (OTHER if source is ONE else ONE), []
            number += 5000
            run = numbering.begin(source, number)
            fate = "sent"
        if fate == "late":
            late.append(number)
        elif fate == "left out":
            run = numbering.skip(number, 1)
        elif fate == "sent":
            numbering.next = number + run.shift + 1
            assert number + run.shift not in given
            given[number + run.shift] = source, number
        if len(late) > 3:
            old = late.pop(0)
            place = numbering.late(old) if old < run.first else run
            if place is not None:
                assert old + place.shift not in given
                given[old + place.shift] = source, old
                numbering.next = max(numbering.next, old + place.shift + 1)
    assert all(ours >= first for ours in given)
    for ours, (whose, theirs) in given.items():
        found = numbering.find(ours & 0xFFFF)
        assert found is not None
        assert (found[0].source, found[1]) == (whose, theirs)


def test_numbers_that_were_never_handed_out_stand_for_nothing() -> None:
    numbering = Numbering()
    assert numbering.find(5) is None
    assert numbering.last is None
    before = numbering.next
    run = numbering.begin(ONE, 100)
    assert numbering.find(before & 0xFFFF) is None
    numbering.next += 1
    assert numbering.find(before & 0xFFFF) == (run, 100)
    assert numbering.find(before - 1 & 0xFFFF) is None


def test_packet_of_another_source_has_no_place() -> None:
    numbering = Numbering()
    numbering.begin(ONE, 100)
    numbering.next += 10
    numbering.begin(OTHER, 500)
    assert numbering.late(105) is None
    assert numbering.late(499) is None


def test_old_runs_are_forgotten() -> None:
    numbering = Numbering()
    first = numbering.next
    run = numbering.begin(ONE, 0)
    for number in range(0, 20_000, 2):
        numbering.next = number + run.shift + 1
        run = numbering.skip(number + 1, 0)
    assert len(numbering._runs) <= 2 * RUNS
    assert numbering.find(first & 0xFFFF) is None
    last = numbering.next - 1
    assert numbering.find(last & 0xFFFF) == (numbering._runs[-2], 19_998)
    assert numbering.late(19_998) == numbering._runs[-2]
    assert numbering.late(0) is None


def test_places_kept_for_what_never_came_are_given_away_at_a_switch() -> None:
    numbering = Numbering()
    run = numbering.begin(ONE, 1)
    for number in (1, 2, 3):
        numbering.next = number + run.shift + 1
    numbering.skip(6, 1)  # 4 and 5 may still come
    assert numbering.late(5) == run
    other = numbering.begin(OTHER, 100)
    for number in (100, 101, 102):
        numbering.next = number + other.shift + 1
        assert numbering.find(number + other.shift & 0xFFFF) == (other, number)
    for number in (1, 2, 3):
        assert numbering.find(number + run.shift & 0xFFFF) == (run, number)
