"""Counters and what Prometheus sees of them."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import Counters, Gauges, Histogram, Metrics


def samples(metrics: Metrics) -> dict[str, float]:
    """Scrape, and read the text with Prometheus' own parser."""
    found = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def test_bumped_integers_are_shown_under_the_known_names() -> None:
    counters = Counters()
    counters.messages_in += 3
    counters.bytes_out += 70
    counters.resume_failed_total += 1
    counters.messages["room"] += 2
    counters.sessions_total["cloud", "client"] += 4
    counters.resumed_total["cloud", "client"] += 1
    counters.backend_errors["cloud", "timeout"] += 1
    counters.publishers_total["video"] += 1
    shown = samples(Metrics(counters, Gauges()))
    assert shown["signaling_client_messages_total{direction=incoming}"] == 3
    assert shown["signaling_client_messages_total{direction=outgoing}"] == 0
    assert shown["signaling_client_bytes_total{direction=outgoing}"] == 70
    assert shown["signaling_hub_sessions_resume_failed_total{}"] == 1
    assert shown["signaling_server_messages_total{type=room}"] == 2
    assert shown["signaling_hub_sessions_total{backend=cloud,clienttype=client}"] == 4
    assert shown["signaling_hub_sessions_resume_total{backend=cloud,clienttype=client}"] == 1
    assert shown["signaling_backend_client_requests_errors_total{backend=cloud,error=timeout}"] == 1
    assert shown["signaling_mcu_publishers_total{type=video}"] == 1


def test_gauges_are_asked_anew_for_each_scrape() -> None:
    rooms = {"cloud": 1}
    members = {("cloud", 'r"1\n', "client"): 2}
    metrics = Metrics(Counters(), Gauges(rooms=lambda: rooms, room_sessions=lambda: members, backends=lambda: 5))
    assert samples(metrics)["signaling_hub_rooms{backend=cloud}"] == 1
    rooms["cloud"] = 2
    shown = samples(metrics)
    assert shown["signaling_hub_rooms{backend=cloud}"] == 2
    assert shown['signaling_room_sessions{backend=cloud,clienttype=client,room=r"1\n}'] == 2
    assert shown["signaling_backend_current{}"] == 5


def test_gauges_are_not_asked_before_the_first_scrape() -> None:
    def not_yet() -> int:
        raise AssertionError("asked too early")

    Metrics(Counters(), Gauges(backends=not_yet))


def test_requests_to_a_backend_are_counted_with_their_duration() -> None:
    counters = Counters()
    counters.backend_answered("cloud", 0.5)
    counters.backend_answered("cloud", 100.0)
    shown = samples(Metrics(counters, Gauges()))
    assert shown["signaling_backend_client_requests_total{backend=cloud}"] == 2
    assert shown["signaling_backend_client_requests_duration_count{backend=cloud}"] == 2
    assert shown["signaling_backend_client_requests_duration_sum{backend=cloud}"] == 100.5
    assert shown["signaling_backend_client_requests_duration_bucket{backend=cloud,le=30}"] == 1


def test_histogram_counts_a_value_at_its_bound_below_it() -> None:
    histogram = Histogram(1, 4, 3)
    for value in (0, 1, 1.5, 4, 4.01):
        histogram.observe(value)
    assert histogram.cumulative() == [("1", 2), ("2", 3), ("4", 4), ("+Inf", 5)]


def test_figures_of_the_process_are_shown_too() -> None:
    shown = samples(Metrics(Counters(), Gauges()))
    assert shown["process_resident_memory_bytes{}"] > 0
