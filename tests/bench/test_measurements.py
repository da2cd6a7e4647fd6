"""Very small runs of the benchmarks: each sort of work counts the delivered messages. Their figures mean nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from bench import works
from bench.__main__ import open_bench
from bench.runner import Bench, WrongCount, sessions, unique_room

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with open_bench(None, rounds=1, seconds=0.05, scale=0.02) as opened:
        yield opened


@pytest.mark.parametrize("name", sorted(set(works.ALL) - set(works.QUICK)))  # QUICK holds parts of the others
def test_every_sort_of_work_is_measured_in_each_round(bench: Bench, name: str) -> None:
    rows = works.ALL[name](bench)
    assert rows
    for row in rows:
        assert not row.void
        assert not row.lost
        assert row.figures
        assert {len(figures) for figures in row.figures.values()} == {bench.rounds}
        if row.unit == "µs":  # of CPU time
            assert all(figure > 0 for figures in row.figures.values() for figure in figures), row


def test_missing_join_event_voids_the_measurement(bench: Bench) -> None:
    with bench.site.run("portunus") as server, sessions(bench, server, 3) as clients:
        assert bench.join_all(clients, unique_room("all"))[0] == 9
        clients[0].session = "somebody else"
        with pytest.raises(WrongCount):
            replace(bench, patience=0.5).join_all(clients, unique_room("missing"))
