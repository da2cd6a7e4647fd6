"""The choice of a Janus for a stream, by load and location."""

from __future__ import annotations

import pytest

from mcu.janus.placement.ranking import (
    ClientLocation,
    ServerLoad,
    better_for_subscriber,
    load,
    loads,
    rank_for_publisher,
)

GERMAN = ClientLocation("DE", "EU")
FRENCH = ClientLocation("FR", "EU")
UNKNOWN_LOCATION = ClientLocation()


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (ServerLoad(), 0.0),
        (ServerLoad(publishers=1), 2.0),
        (ServerLoad(subscribers=1), 1.0),
        (ServerLoad(publishers=3, subscribers=12), 18.0),
        (ServerLoad(publishers=3, subscribers=12, bits_per_second=7_500_000), 25.5),
        (ServerLoad(publishers=3, subscribers=12, weight=2.0), 9.0),
        (ServerLoad(publishers=3, subscribers=12, bits_per_second=6_000_000, weight=0.5), 48.0),
    ],
)
def test_load_is_as_documented(server: ServerLoad, expected: float) -> None:
    assert load(server) == expected


def test_the_bit_rate_counts_only_where_each_janus_reports_one() -> None:
    measured, unmeasured = ServerLoad(subscribers=5, bits_per_second=40_000_000), ServerLoad(subscribers=6)
    assert loads([measured, unmeasured]) == [5.0, 6.0]
    assert loads([measured, ServerLoad(subscribers=6, bits_per_second=0)]) == [45.0, 6.0]
    assert loads([]) == []


def test_the_least_loaded_janus_is_ranked_first() -> None:
    servers = [
        ServerLoad(publishers=4),
        ServerLoad(publishers=1, subscribers=3),
        ServerLoad(subscribers=7),
    ]
    assert rank_for_publisher(servers, UNKNOWN_LOCATION) == [1, 2, 0]


def test_a_janus_of_twice_the_weight_gets_twice_as_many_publishers() -> None:
    counts = [0, 0]
    for _ in range(30):
        servers = [ServerLoad(publishers=counts[0], weight=2.0), ServerLoad(publishers=counts[1], weight=1.0)]
        counts[rank_for_publisher(servers, UNKNOWN_LOCATION)[0]] += 1
    assert counts == [20, 10]


def test_equally_loaded_janus_keep_the_order_of_the_configuration() -> None:
    assert rank_for_publisher(
        [ServerLoad(publishers=2), ServerLoad(subscribers=4), ServerLoad(publishers=2)], UNKNOWN_LOCATION
    ) == [0, 1, 2]


def test_the_country_counts_before_the_continent_and_the_continent_before_the_load() -> None:
    far = ServerLoad(country="US", continents=frozenset({"NA"}))
    near = ServerLoad(publishers=50, country="FR", continents=frozenset({"EU"}))
    here = ServerLoad(publishers=90, country="DE", continents=frozenset({"EU"}))
    assert rank_for_publisher([far, near, here], GERMAN) == [2, 1, 0]
    assert rank_for_publisher([far, near, here], ClientLocation("IT", "EU")) == [1, 2, 0]
    assert rank_for_publisher([far, near, here], ClientLocation("JP", "AS")) == [0, 1, 2]
    assert rank_for_publisher([far, near, here], UNKNOWN_LOCATION) == [0, 1, 2]


def test_a_janus_without_a_location_is_far_from_every_client() -> None:
    nowhere, there = ServerLoad(), ServerLoad(publishers=9, country="DE")
    assert rank_for_publisher([nowhere, there], GERMAN) == [1, 0]
    assert rank_for_publisher([nowhere, there], UNKNOWN_LOCATION) == [0, 1]


def test_a_continent_may_be_served_from_another_continent() -> None:
    assert rank_for_publisher(
        [ServerLoad(), ServerLoad(country="ES", continents=frozenset({"EU", "AF"}))], ClientLocation("MA", "AF")
    ) == [1, 0]


def test_a_subscriber_is_served_by_the_source_if_no_other_janus_is_better() -> None:
    source = ServerLoad(publishers=10, subscribers=30)
    assert better_for_subscriber(source, [], GERMAN) is None
    assert better_for_subscriber(source, [ServerLoad()], GERMAN) is None  # 50 is not more than 2 * 0 + 50
    assert (
        better_for_subscriber(
            ServerLoad(country="DE"), [ServerLoad(country="FR", continents=frozenset({"EU"}))], GERMAN
        )
        is None
    )


def test_an_overloaded_source_is_relieved() -> None:
    source = ServerLoad(publishers=10, subscribers=31)
    assert better_for_subscriber(source, [ServerLoad()], UNKNOWN_LOCATION) == 0
    assert better_for_subscriber(source, [ServerLoad(subscribers=1)], UNKNOWN_LOCATION) is None  # 51 <= 2 * 1 + 50
    big = ServerLoad(subscribers=400)
    assert (
        better_for_subscriber(
            big,
            [ServerLoad(subscribers=100), ServerLoad(subscribers=20), ServerLoad(subscribers=20)],
            UNKNOWN_LOCATION,
        )
        == 1
    )


def test_an_overloaded_source_is_not_relieved_by_a_janus_farther_away() -> None:
    source = ServerLoad(subscribers=400, country="DE")
    assert better_for_subscriber(source, [ServerLoad(country="US")], GERMAN) is None
    assert better_for_subscriber(source, [ServerLoad(country="US"), ServerLoad(country="DE")], GERMAN) == 1


def test_a_subscriber_is_served_by_the_nearest_janus() -> None:
    source = ServerLoad(country="US", continents=frozenset({"NA"}))
    paris = ServerLoad(subscribers=80, country="FR", continents=frozenset({"EU"}))
    berlin = ServerLoad(subscribers=90, country="DE", continents=frozenset({"EU"}))
    assert better_for_subscriber(source, [paris, berlin], GERMAN) == 1
    assert better_for_subscriber(source, [paris, berlin], FRENCH) == 0
    assert better_for_subscriber(source, [paris, berlin], ClientLocation("IT", "EU")) == 0
    assert better_for_subscriber(source, [paris, berlin], ClientLocation("CA", "NA")) is None
    assert better_for_subscriber(source, [paris, berlin], UNKNOWN_LOCATION) is None


def test_a_janus_that_has_the_stream_is_preferred_among_equally_near_ones() -> None:
    source = ServerLoad(country="US")
    idle = ServerLoad(country="DE")
    busy = ServerLoad(subscribers=99, country="DE", has_stream=True)
    assert better_for_subscriber(source, [idle, busy], GERMAN) == 1
    assert (
        better_for_subscriber(
            source, [ServerLoad(country="FR", continents=frozenset({"EU"}), has_stream=True), idle], GERMAN
        )
        == 1
    )
