"""Which Janus takes a stream: stated loads, stated places."""

from __future__ import annotations

import pytest

from mcu.janus.placement.ranking import Client, Standing, elsewhere, load, loads, order

GERMAN = Client("DE", "EU")
FRENCH = Client("FR", "EU")
UNKNOWN = Client()


@pytest.mark.parametrize(
    ("standing", "expected"),
    [
        (Standing(), 0.0),
        (Standing(publishers=1), 2.0),
        (Standing(subscribers=1), 1.0),
        (Standing(publishers=3, subscribers=12), 18.0),
        (Standing(publishers=3, subscribers=12, bits_per_second=7_500_000), 25.5),
        (Standing(publishers=3, subscribers=12, weight=2.0), 9.0),
        (Standing(publishers=3, subscribers=12, bits_per_second=6_000_000, weight=0.5), 48.0),
    ],
)
def test_load_is_as_documented(standing: Standing, expected: float) -> None:
    assert load(standing) == expected


def test_bandwidth_counts_only_where_each_tells_it() -> None:
    told, silent = Standing(subscribers=5, bits_per_second=40_000_000), Standing(subscribers=6)
    assert loads([told, silent]) == [5.0, 6.0]
    assert loads([told, Standing(subscribers=6, bits_per_second=0)]) == [45.0, 6.0]
    assert loads([]) == []


def test_the_least_loaded_comes_first() -> None:
    standings = [Standing(publishers=4), Standing(publishers=1, subscribers=3), Standing(subscribers=7)]
    assert order(standings, UNKNOWN) == [1, 2, 0]


def test_one_that_weighs_twice_takes_twice_as_many() -> None:
    counts = [0, 0]
    for _ in range(30):
        standings = [Standing(publishers=counts[0], weight=2.0), Standing(publishers=counts[1], weight=1.0)]
        counts[order(standings, UNKNOWN)[0]] += 1
    assert counts == [20, 10]


def test_equals_stay_in_the_order_of_the_configuration() -> None:
    assert order([Standing(publishers=2), Standing(subscribers=4), Standing(publishers=2)], UNKNOWN) == [0, 1, 2]


def test_the_country_comes_before_the_continent_and_that_before_the_load() -> None:
    far = Standing(country="US", continents=frozenset({"NA"}))
    near = Standing(publishers=50, country="FR", continents=frozenset({"EU"}))
    here = Standing(publishers=90, country="DE", continents=frozenset({"EU"}))
    assert order([far, near, here], GERMAN) == [2, 1, 0]
    assert order([far, near, here], Client("IT", "EU")) == [1, 2, 0]
    assert order([far, near, here], Client("JP", "AS")) == [0, 1, 2]
    assert order([far, near, here], UNKNOWN) == [0, 1, 2]


def test_one_that_stands_nowhere_is_far_from_everybody() -> None:
    nowhere, there = Standing(), Standing(publishers=9, country="DE")
    assert order([nowhere, there], GERMAN) == [1, 0]
    assert order([nowhere, there], UNKNOWN) == [0, 1]


def test_a_continent_may_be_served_from_another_one() -> None:
    assert order([Standing(), Standing(country="ES", continents=frozenset({"EU", "AF"}))], Client("MA", "AF")) == [1, 0]


def test_a_subscriber_stays_with_its_publisher_where_nobody_serves_it_better() -> None:
    source = Standing(publishers=10, subscribers=30)
    assert elsewhere(source, [], GERMAN) is None
    assert elsewhere(source, [Standing()], GERMAN) is None  # 50 is not more than 2 * 0 + 50
    assert elsewhere(Standing(country="DE"), [Standing(country="FR", continents=frozenset({"EU"}))], GERMAN) is None


def test_a_source_that_is_too_loaded_is_relieved() -> None:
    source = Standing(publishers=10, subscribers=31)
    assert elsewhere(source, [Standing()], UNKNOWN) == 0
    assert elsewhere(source, [Standing(subscribers=1)], UNKNOWN) is None  # 51 is not more than 2 * 1 + 50
    big = Standing(subscribers=400)
    assert elsewhere(big, [Standing(subscribers=100), Standing(subscribers=20), Standing(subscribers=20)], UNKNOWN) == 1


def test_a_source_that_is_too_loaded_is_not_relieved_by_one_farther_away() -> None:
    source = Standing(subscribers=400, country="DE")
    assert elsewhere(source, [Standing(country="US")], GERMAN) is None
    assert elsewhere(source, [Standing(country="US"), Standing(country="DE")], GERMAN) == 1


def test_a_subscriber_is_served_nearby() -> None:
    source = Standing(country="US", continents=frozenset({"NA"}))
    paris = Standing(subscribers=80, country="FR", continents=frozenset({"EU"}))
    berlin = Standing(subscribers=90, country="DE", continents=frozenset({"EU"}))
    assert elsewhere(source, [paris, berlin], GERMAN) == 1
    assert elsewhere(source, [paris, berlin], FRENCH) == 0
    assert elsewhere(source, [paris, berlin], Client("IT", "EU")) == 0
    assert elsewhere(source, [paris, berlin], Client("CA", "NA")) is None
    assert elsewhere(source, [paris, berlin], UNKNOWN) is None


def test_where_the_stream_runs_already_is_preferred_among_equally_near_ones() -> None:
    source = Standing(country="US")
    idle = Standing(country="DE")
    busy = Standing(subscribers=99, country="DE", carries=True)
    assert elsewhere(source, [idle, busy], GERMAN) == 1
    assert elsewhere(source, [Standing(country="FR", continents=frozenset({"EU"}), carries=True), idle], GERMAN) == 1
