"""Counters and gauges as exported to Prometheus."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import Counters, Gauges, Histogram, Metrics


def samples(metrics: Metrics) -> dict[str, float]:
    """Render the metrics and parse them with Prometheus' parser."""
    found = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def test_counters_are_exported_under_the_names_of_the_reference() -> None:
    counters = Counters()
    counters.messages_in += 3
    counters.bytes_out += 70
    counters.resume_failed_total += 1
    counters.messages["room"] += 2
    counters.sessions_total["cloud", "client"] += 4
    counters.resumed_total["cloud", "client"] += 1
    counters.backend_errors["cloud", "timeout"] += 1
    counters.publishers_total["video"] += 1
    exported = samples(Metrics(counters, Gauges()))
    assert exported["signaling_client_messages_total{direction=incoming}"] == 3
    assert exported["signaling_client_messages_total{direction=outgoing}"] == 0
    assert exported["signaling_client_bytes_total{direction=outgoing}"] == 70
    assert exported["signaling_hub_sessions_resume_failed_total{}"] == 1
    assert exported["signaling_server_messages_total{type=room}"] == 2
    assert exported["signaling_hub_sessions_total{backend=cloud,clienttype=client}"] == 4
    assert exported["signaling_hub_sessions_resume_total{backend=cloud,clienttype=client}"] == 1
    assert exported["signaling_backend_client_requests_errors_total{backend=cloud,error=timeout}"] == 1
    assert exported["signaling_mcu_publishers_total{type=video}"] == 1


def test_gauges_are_called_for_each_scrape() -> None:
    rooms = {"cloud": 1}
    members = {("cloud", 'r"1\n', "client"): 2}
    metrics = Metrics(Counters(), Gauges(rooms=lambda: rooms, room_sessions=lambda: members, backends=lambda: 5))
    assert samples(metrics)["signaling_hub_rooms{backend=cloud}"] == 1
    rooms["cloud"] = 2
    exported = samples(metrics)
    assert exported["signaling_hub_rooms{backend=cloud}"] == 2
    assert exported['signaling_room_sessions{backend=cloud,clienttype=client,room=r"1\n}'] == 2
    assert exported["signaling_backend_current{}"] == 5


def test_gauges_are_not_called_before_the_first_scrape() -> None:
    def not_yet() -> int:
        raise AssertionError("called too early")

    Metrics(Counters(), Gauges(backends=not_yet))


def test_requests_to_a_backend_are_counted_with_their_duration() -> None:
    counters = Counters()
    counters.backend_answered("cloud", 0.5)
    counters.backend_answered("cloud", 100.0)
    exported = samples(Metrics(counters, Gauges()))
    assert exported["signaling_backend_client_requests_total{backend=cloud}"] == 2
    assert exported["signaling_backend_client_requests_duration_count{backend=cloud}"] == 2
    assert exported["signaling_backend_client_requests_duration_sum{backend=cloud}"] == 100.5
    assert exported["signaling_backend_client_requests_duration_bucket{backend=cloud,le=30}"] == 1


def test_histogram_bounds_are_inclusive() -> None:
    histogram = Histogram(1, 4, 3)
    for value in (0, 1, 1.5, 4, 4.01):
        histogram.observe(value)
    assert histogram.cumulative() == [("1", 2), ("2", 3), ("4", 4), ("+Inf", 5)]


def test_process_metrics_are_exported() -> None:
    exported = samples(Metrics(Counters(), Gauges()))
    assert exported["process_resident_memory_bytes{}"] > 0
