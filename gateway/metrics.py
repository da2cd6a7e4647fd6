"""Counters, gauges and the Prometheus collector that exports them.

Hot paths increment attributes (``counters.messages_in += 1``); nothing is formatted until a scrape. The metric names
are those of reference 14.5, so that existing dashboards keep working.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class Histogram:
    """Counts observations in buckets with exponentially growing upper bounds."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, first: float, last: float, buckets: int) -> None:
        ratio = (last / first) ** (1 / (buckets - 1))
        self.bounds = [first * ratio**n for n in range(buckets)]
        self.counts = [0] * (buckets + 1)  # the last bucket is +Inf
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one observation, in the histogram's unit."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, float]]:
        """Return cumulative buckets as (upper bound, observations up to it), as Prometheus expects them."""
        rows: list[tuple[str, float]] = []
        sum_ = 0
        for bound, count in zip([*(f"{bound:.6g}" for bound in self.bounds), "+Inf"], self.counts, strict=True):
            sum_ += count
            rows.append((bound, float(sum_)))
        return rows


class Counters:
    """The counters since the start; ``counters.messages["room"] += 1`` works without an initial value.

    Label values must come from closed sets or the configuration: a backend's id, a stream's roomType.
    """

    __slots__ = (
        "authentication_failures",
        "backend_durations",
        "backend_errors",
        "backend_requests",
        "bytes_in",
        "bytes_out",
        "call_rooms_total",
        "calls_total",
        "client_countries",
        "limit_exceeded",
        "limits_met",
        "mcu_messages",
        "messages",
        "messages_in",
        "messages_out",
        "no_publisher_total",
        "publishers_total",
        "resume_failed_total",
        "resumed_total",
        "round_trip",
        "sessions_total",
        "streams_lost",
        "subscribers_total",
        "throttle_bruteforce",
        "throttle_delayed",
    )

    def __init__(self) -> None:
        self.messages_in = 0  # messages of clients, over WebSocket and long polling
        self.messages_out = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.resume_failed_total = 0
        self.messages: dict[str, int] = defaultdict(int)  # by message type; faster than a Counter
        self.sessions_total: dict[tuple[str, str], int] = Counter()  # opened, by backend and client type
        self.resumed_total: dict[tuple[str, str], int] = Counter()  # by backend and client type
        self.limit_exceeded: dict[str, int] = Counter()  # sessions refused because of session_limit, by backend
        self.calls_total: dict[tuple[str, str], int] = Counter()  # sessions that joined a call, by backend, client type
        self.call_rooms_total: dict[str, int] = Counter()  # calls that started, by backend
        self.client_countries: dict[str, int] = Counter()  # sessions opened, by country if it is known
        self.mcu_messages: dict[str, int] = Counter()  # media messages, by message type
        self.publishers_total: dict[str, int] = Counter()  # by room type
        self.subscribers_total: dict[str, int] = Counter()  # by room type
        self.no_publisher_total: dict[str, int] = Counter()  # failed for lack of a publisher, by room type
        self.streams_lost: dict[tuple[str, str], int] = Counter()  # publications, by room type, ``CloseReason``
        self.backend_requests: dict[str, int] = Counter()  # by backend
        self.backend_errors: dict[tuple[str, str], int] = Counter()  # by backend, error
        self.backend_durations: dict[str, Histogram] = {}  # by backend, seconds
        self.throttle_delayed: dict[tuple[str, int], int] = Counter()  # failures answered late, by action, milliseconds
        self.throttle_bruteforce: dict[str, int] = Counter()  # attempts of blocked addresses, by action
        self.limits_met: dict[str, int] = Counter()  # requests beyond a limit, by key or ``descriptors``
        self.authentication_failures: dict[tuple[str, str], int] = Counter()  # by backend and cause
        self.round_trip = Histogram(1, 30_000, 50)  # milliseconds, from ping to pong

    def backend_answered(self, backend: str, seconds: float) -> None:
        """Count a request to a backend that took ``seconds``, answered or not."""
        self.backend_requests[backend] += 1
        if backend not in self.backend_durations:
            self.backend_durations[backend] = Histogram(0.01, 30, 30)
        self.backend_durations[backend].observe(seconds)


class SfuMetric(Protocol):
    """A metric of an SFU (``mcu.base.Metric``), exported with the prefix ``signaling_mcu_``."""

    @property
    def name(self) -> str: ...

    @property
    def help(self) -> str: ...

    @property
    def type(self) -> str: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def samples(self) -> Mapping[tuple[str, ...], Any]:
        """Numbers, or for a histogram objects with ``buckets`` and ``sum``."""


@dataclass(frozen=True, slots=True)
class Gauges:
    """The gauges: functions that are called for each scrape."""

    rooms: Callable[[], Mapping[str, int]] = dict  # by backend
    sessions: Callable[[], Mapping[tuple[str, str], int]] = dict  # by backend, client type
    room_sessions: Callable[[], Mapping[tuple[str, str, str], int]] = dict  # by backend, room, client type
    call_sessions: Callable[[], Mapping[tuple[str, str, str], int]] = dict  # by backend, room, client type
    backends: Callable[[], int] = int
    session_limits: Callable[[], Mapping[str, int]] = dict  # by backend, limited ones only
    publishers: Callable[[], Mapping[str, int]] = dict  # by room type
    subscribers: Callable[[], Mapping[str, int]] = dict  # by room type
    connections: Callable[[], Mapping[str, int]] = dict  # to backends, by host
    sfu_metrics: Callable[[], Iterable[SfuMetric]] = tuple  # metrics of the SFU
    throttled: Callable[[], Mapping[str, int]] = dict  # addresses that are blocked, by action
    draining: Callable[[], bool] = bool
    drain_sessions: Callable[[], int] = int  # sessions whose end a drain waits for
    sfus: Callable[[], Mapping[str, int]] = dict  # 1 = accepts streams, 0 = does not; by URL, or by type if it has none


class Metrics:
    """The registry of the metrics of the gateway and its process."""

    def __init__(self, counters: Counters, gauges: Gauges) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_GatewayCollector(counters, gauges))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def render(self) -> bytes:
        """Return the metrics in Prometheus' text format (``CONTENT_TYPE``)."""
        return generate_latest(self._registry)


class _GatewayCollector(Collector):
    def __init__(self, counters: Counters, gauges: Gauges) -> None:
        self._counters = counters
        self._gauges = gauges

    def describe(self) -> list[Family]:
        return []  # so that registering does not call the gauges

    def collect(self) -> Iterator[Family]:
        yield from self._hub()
        yield from self._clients()
        yield from self._throttle()
        yield from self._backends()
        yield from self._mcu()

    def _hub(self) -> Iterator[Family]:
        counters, gauges = self._counters, self._gauges
        client, member = ("backend", "clienttype"), ("backend", "room", "clienttype")
        yield _gauge("signaling_hub_rooms", "Rooms", ("backend",), gauges.rooms())
        yield _gauge("signaling_hub_sessions", "Sessions", client, gauges.sessions())
        yield _counter("signaling_hub_sessions_total", "Sessions opened", client, counters.sessions_total)
        yield _counter("signaling_hub_sessions_resume_total", "Sessions resumed", client, counters.resumed_total)
        yield _counter("signaling_hub_sessions_resume_failed_total", "Failures", (), {(): counters.resume_failed_total})
        yield _gauge("signaling_room_sessions", "Sessions in a room", member, gauges.room_sessions())
        yield _gauge("signaling_call_sessions", "Sessions in a call", member, gauges.call_sessions())
        yield _counter("signaling_call_sessions_total", "Sessions that joined a call", client, counters.calls_total)
        yield _counter("signaling_call_rooms_total", "Calls that began", ("backend",), counters.call_rooms_total)
        yield _gauge("portunus_draining", "Whether new sessions are refused", (), {(): int(gauges.draining())})
        yield _gauge("portunus_drain_sessions", "Sessions that the drain waits for", (), {(): gauges.drain_sessions()})

    def _clients(self) -> Iterator[Family]:
        counters = self._counters
        size = {"incoming": counters.bytes_in, "outgoing": counters.bytes_out}
        number = {"incoming": counters.messages_in, "outgoing": counters.messages_out}
        yield _counter("signaling_server_messages_total", "Messages of clients", ("type",), counters.messages)
        yield _counter("signaling_client_bytes_total", "Bytes of messages", ("direction",), size)
        yield _counter("signaling_client_messages_total", "Messages", ("direction",), number)
        name = "signaling_client_countries_total"
        yield _counter(name, "Sessions opened, by country", ("country",), counters.client_countries)
        yield _histogram("signaling_client_rtt", "Ping to pong, milliseconds", (), {(): counters.round_trip})

    def _throttle(self) -> Iterator[Family]:
        counters, label = self._counters, ("action", "delay")
        delayed = {(action, str(delay)): value for (action, delay), value in counters.throttle_delayed.items()}
        yield _counter("signaling_throttle_delayed_total", "Failures answered late", label, delayed)
        name = "signaling_throttle_bruteforce_total"
        yield _counter(name, "Attempts refused", ("action",), counters.throttle_bruteforce)
        name = "portunus_throttled_addresses"
        yield _gauge(name, "Addresses blocked after failures", ("action",), self._gauges.throttled())
        name, label = "portunus_authentication_failures_total", ("backend", "cause")
        yield _counter(name, "Failed authentications", label, counters.authentication_failures)
        yield _counter("signaling_limits_met_total", "Requests beyond a limit", ("limit",), counters.limits_met)

    def _backends(self) -> Iterator[Family]:
        counters, gauges, label = self._counters, self._gauges, ("backend",)
        name = "signaling_backend_"
        yield _gauge(name + "current", "Configured backends", (), {(): gauges.backends()})
        yield _gauge(name + "session_limit", "Sessions allowed", label, gauges.session_limits())
        yield _counter(name + "session_limit_exceeded_total", "Sessions refused", label, counters.limit_exceeded)
        name = "signaling_backend_client_requests_"
        yield _counter(name + "total", "Requests to a backend", label, counters.backend_requests)
        yield _histogram(name + "duration", "Duration in seconds", label, counters.backend_durations)
        yield _counter(name + "errors_total", "Failed requests", ("backend", "error"), counters.backend_errors)
        yield _gauge("signaling_http_client_pool_connections", "Connections", ("host",), gauges.connections())

    def _mcu(self) -> Iterator[Family]:
        counters, gauges, label = self._counters, self._gauges, ("type",)
        yield _gauge("signaling_mcu_publishers", "Publishers", label, gauges.publishers())
        yield _gauge("signaling_mcu_subscribers", "Subscribers", label, gauges.subscribers())
        yield _counter("signaling_mcu_publishers_total", "Publishers created", label, counters.publishers_total)
        yield _counter("signaling_mcu_subscribers_total", "Subscribers created", label, counters.subscribers_total)
        yield _counter(
            "signaling_mcu_nopublisher_total", "Subscriptions without a publisher", label, counters.no_publisher_total
        )
        yield _counter("signaling_mcu_messages_total", "Messages about streams", label, counters.mcu_messages)
        yield _gauge("portunus_sfu_up", "Whether an SFU takes streams", ("sfu",), gauges.sfus())
        name = "portunus_streams_lost_total"
        yield _counter(name, "Published streams that ended by themselves", ("type", "reason"), counters.streams_lost)
        yield from map(_family, gauges.sfu_metrics())


def _family(metric: SfuMetric) -> Family:
    name = f"signaling_mcu_{metric.name}"
    if metric.type == "histogram":
        family = HistogramMetricFamily(name, metric.help, labels=metric.labels)
        for label, value in metric.samples.items():
            family.add_metric(label, buckets=value.buckets, sum_value=value.sum)
        return family
    return (_counter if metric.type == "counter" else _gauge)(name, metric.help, metric.labels, metric.samples)


# A key of ``rows`` is one label value or a tuple of label values; Mapping is invariant in its key, hence Any.
def _label_values(label: Any) -> tuple[str, ...]:
    return (label,) if isinstance(label, str) else label


def _gauge(name: str, help: str, labels: tuple[str, ...], rows: Mapping[Any, int]) -> Family:
    family = GaugeMetricFamily(name, help, labels=labels)
    for label, value in rows.items():
        family.add_metric(_label_values(label), value)
    return family


def _counter(name: str, help: str, labels: tuple[str, ...], rows: Mapping[Any, int]) -> Family:
    family = CounterMetricFamily(name, help, labels=labels)
    for label, value in rows.items():
        family.add_metric(_label_values(label), value)
    return family


def _histogram(name: str, help: str, labels: tuple[str, ...], rows: Mapping[Any, Histogram]) -> Family:
    family = HistogramMetricFamily(name, help, labels=labels)
    for label, histogram in rows.items():
        family.add_metric(_label_values(label), buckets=histogram.cumulative(), sum_value=histogram.total)
    return family
