"""Statistics of Janus' events: each packet is counted once, whatever happens to handles and PeerConnections."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.metrics import Counters, Gauges, Metrics
from mcu.base import HistogramSample
from mcu.janus.events import statistics as statistics_module
from mcu.janus.events.counters import MAX_ROWS
from mcu.janus.events.statistics import (
    FORGET_EVERY,
    HANDLE_AGE,
    MAX_HANDLES,
    MAX_MEDIA,
    RATE_AGE,
    EventStatistics,
    MediaStatistics,
)
from tests.mcu.janus.events.sample_events import OWN_OPAQUE_ID, janus_event, statistics_event

ATTACHED = janus_event(2, None, name="attached")
DETACHED = janus_event(2, None, name="detached")
FOREIGN_OPAQUE_ID = "other|tests|cloud|anna|video"


class EventFeed:
    """Sends events to the statistics, with a clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.statistics = EventStatistics(lambda opaque: opaque.startswith("portunus|tests|"), lambda: self.now)

    def send(self, *events: Any) -> None:
        self.statistics.receive(json.dumps(events).encode())

    def rows(self, name: str) -> Any:
        (metric,) = [metric for metric in self.statistics.metrics() if metric.name == name]
        return dict(metric.samples)

    def received(self) -> float:
        return float(self.rows("media_bytes_total").get(("video", "incoming"), 0))


@pytest.fixture
def feed() -> EventFeed:
    return EventFeed()


def test_states_are_counted(feed: EventFeed) -> None:
    side = {"type": "host", "transport": "udp", "family": 4}
    feed.send(
        janus_event(16, 1, ice="ready"),
        janus_event(16, 1, ice="ready"),
        janus_event(16, 5, dtls="trying"),
        janus_event(16, 4, candidates={"local": side, "remote": side | {"type": "relay", "family": 6}}),
        janus_event(16, 6, connection="webrtcup"),
        janus_event(16, 6, connection="hangup", reason="ICE failed"),
        janus_event(32, 2, media="video", slow_link="downlink"),
        janus_event(32, 2, media="audio", slow_link="uplink"),
    )
    assert feed.rows("ice_state_total") == {("ready",): 2}
    assert feed.rows("dtls_state_total") == {("trying",): 1}
    assert feed.rows("selected_candidate_total") == {
        ("local", "host", "udp", "ipv4"): 1,
        ("remote", "relay", "udp", "ipv6"): 1,
    }
    assert feed.rows("peerconnection_state_total") == {("webrtcup", ""): 1, ("hangup", "ICE failed"): 1}
    assert feed.rows("slow_link_total") == {("video", "incoming"): 1, ("audio", "outgoing"): 1}


def test_only_the_increase_of_a_counter_is_added(feed: EventFeed) -> None:
    feed.send(ATTACHED, statistics_event(bytes_received=1000, nacks_sent=2, retransmissions_received=1, lost=3))
    feed.send(statistics_event(bytes_received=1500, nacks_sent=5, retransmissions_received=4, lost=3, lost_by_remote=1))
    assert feed.rows("media_bytes_total") == {("video", "incoming"): 1500, ("video", "outgoing"): 0}
    assert feed.rows("media_nacks_total") == {("video", "incoming"): 0, ("video", "outgoing"): 5}
    assert feed.rows("media_retransmissions_total") == {("video",): 4}
    assert feed.rows("media_lost_total") == {("video", "local"): 3, ("video", "remote"): 1}
    assert feed.rows("media_codecs_total") == {("video", "vp8"): 1}


def test_simulcast_layers_are_added_up(feed: EventFeed) -> None:
    layers = ["video", "video-sim1", "video-sim2"]
    feed.send(
        ATTACHED,
        *(statistics_event(media=media, bytes_received=100, bytes_received_lastsec=40) for media in layers),
    )
    assert feed.received() == 300
    assert feed.rows("bandwidth") == {("incoming",): 120, ("outgoing",): 0}
    assert feed.statistics.statistics_of_handle(1, 7) == {"video": MediaStatistics(incoming=120)}


def test_the_rates_of_simulcast_layers_are_those_of_the_last_events(feed: EventFeed) -> None:
    assert feed.statistics.layer_rates(1, 7, "0") is None
    feed.send(ATTACHED, statistics_event(mid="0", media="video-sim1", bytes_received=9, bytes_received_lastsec=30))
    assert feed.statistics.layer_rates(1, 7, "0") == (feed.now, (0, 30, 0))
    feed.now += 1
    feed.send(*(statistics_event(mid="0", media=f"video{layer}", bytes_received_lastsec=7) for layer in ("", "-sim2")))
    assert feed.statistics.layer_rates(1, 7, "0") == (feed.now, (7, 30, 7))
    assert feed.statistics.layer_rates(1, 7, "1") is None
    feed.now += RATE_AGE + 1
    assert feed.statistics.layer_rates(1, 7, "0") is None


def test_a_handle_attached_before_the_first_event_counts_from_its_first_event_on(feed: EventFeed) -> None:
    feed.send(statistics_event(bytes_received=1_000_000))
    feed.send(statistics_event(bytes_received=1_000_700))
    assert feed.received() == 700


def test_the_next_peer_connection_of_a_handle_counts_from_zero(feed: EventFeed) -> None:
    feed.send(
        ATTACHED, statistics_event(bytes_received=500), janus_event(16, 6, connection="hangup", reason="Close PC")
    )
    feed.send(statistics_event(bytes_received=600))
    assert feed.received() == 1100


def test_counters_that_restart_without_a_hangup_count_from_zero(feed: EventFeed) -> None:
    feed.send(ATTACHED, statistics_event(bytes_received=500), statistics_event(bytes_received=20))
    assert feed.received() == 520


def test_losses_corrected_by_late_packets_are_counted_once(feed: EventFeed) -> None:
    feed.send(
        ATTACHED,
        *(statistics_event(bytes_received=count, lost=lost) for count, lost in ((1, 5), (2, 3), (3, 5), (4, 6))),
    )
    assert feed.rows("media_lost_total")["video", "local"] == 6


def test_a_counter_that_ran_below_zero_is_ignored(feed: EventFeed) -> None:
    feed.send(
        ATTACHED,
        *(statistics_event(bytes_received=count, lost=lost) for count, lost in ((1, 1), (2, 4294911420), (3, 2))),
    )
    assert feed.rows("media_lost_total")["video", "local"] == 2
    assert feed.statistics.statistics_of_handle(1, 7)["video"].lost == 2


def test_handles_with_the_same_id_on_two_janus_are_counted_separately(feed: EventFeed) -> None:
    feed.send(ATTACHED, janus_event(2, None, 2, name="attached"))
    feed.send(
        statistics_event(bytes_received=100),
        statistics_event(2, 7, bytes_received=30),
        statistics_event(bytes_received=101),
    )
    assert feed.received() == 131


def test_handles_of_other_applications_are_not_counted(feed: EventFeed) -> None:
    feed.send(
        janus_event(2, None, 1, 8, FOREIGN_OPAQUE_ID, name="attached"),
        statistics_event(1, 8, FOREIGN_OPAQUE_ID, bytes_received=900, rtt=5),
        statistics_event(1, 8, "", bytes_received=900),
        statistics_event(1, 9, "portunus|another|cloud|anna|video", bytes_received=900),
        janus_event(16, 1, 1, 8, FOREIGN_OPAQUE_ID, ice="ready"),
        janus_event(16, 1, 1, 8, FOREIGN_OPAQUE_ID),
    )
    assert feed.received() == 0
    assert feed.rows("ice_state_total") == {}
    assert feed.rows("events_total") == {("foreign",): 6}
    assert len(feed.statistics) == 0


def test_broken_and_unknown_events_are_counted_and_do_not_affect_others(feed: EventFeed) -> None:
    feed.statistics.receive(b"{")
    feed.send(
        ATTACHED,
        statistics_event(bytes_received=10),
        7,
        janus_event(16, 1),
        janus_event(64, None),
        janus_event(256, 1),
    )
    feed.send(statistics_event(bytes_received=20))
    assert feed.received() == 20
    assert feed.rows("events_total") == {("broken",): 3, ("handle",): 1, ("media",): 2, ("other",): 2}


@pytest.mark.parametrize("name", ["rtt", "lost", "jitter_local", "bytes_received", "bytes_received_lastsec"])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_number_beyond_64_bits_is_broken_and_affects_no_metric(feed: EventFeed, name: str, sign: int) -> None:
    counters: list[dict[str, Any]] = [{"bytes_received": 1, name: sign * number} for number in (10**400, 2**62, 2**62)]
    feed.send(ATTACHED, *(statistics_event(**given) for given in counters))
    assert feed.rows("events_total")["broken",] == 1
    for metric in feed.statistics.metrics():
        for value in metric.samples.values():
            assert float(value.sum if isinstance(value, HistogramSample) else value) < float("inf")


_numbers = st.integers() | st.sampled_from([0, -1, 2**31, 2**32 - 1, 2**63, 10**400]) | st.just("x") | st.none()
_counters = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("rtt", "lost", "jitter_local", "bytes_sent", "bytes_sent_lastsec", "nacks_sent"), _numbers),
)
_text = st.text(st.characters(codec=None, categories=None), max_size=40)  # halves of surrogate pairs included
_any_event = st.one_of(
    st.builds(lambda counters: statistics_event(**counters), _counters),
    st.builds(lambda media: statistics_event(media=media, codec=media), _text),
    st.builds(lambda name: janus_event(2, None, name=name), st.sampled_from(["attached", "detached", "x"])),
    st.builds(lambda reason: janus_event(16, 6, connection="hangup", reason=reason), _text | st.none()),
    st.builds(lambda side: janus_event(16, 4, candidates={"local": {"family": side}}), _numbers),
    st.builds(lambda link: janus_event(32, 2, media="audio", slow_link=link), _text | _numbers),
)


@given(st.lists(_any_event, max_size=12))
def test_metrics_can_be_rendered_after_any_event(sent: list[Any]) -> None:
    feed = EventFeed()
    metrics = Metrics(Counters(), Gauges(sfu_metrics=feed.statistics.metrics))
    for event in sent:
        feed.send(event)
        assert metrics.render()


def test_round_trip_and_jitter_are_counted_in_buckets(feed: EventFeed) -> None:
    feed.send(ATTACHED, statistics_event(bytes_sent=1, rtt=20, jitter_remote=3), statistics_event(bytes_sent=2, rtt=21))
    feed.send(statistics_event(bytes_sent=2, rtt=0, jitter_local=9))  # round trip unknown, nothing received
    rtt = feed.rows("media_rtt")["video",]
    assert isinstance(rtt, HistogramSample)
    assert rtt.sum == 41
    assert dict(rtt.buckets) | {"10": 0, "20": 1, "50": 2, "+Inf": 2} == dict(rtt.buckets)
    assert rtt.buckets[-1] == ("+Inf", 2)
    jitter = feed.rows("media_jitter")
    assert list(jitter) == [("video", "remote")]
    assert jitter["video", "remote"].sum == 3


def test_a_changed_codec_is_counted(feed: EventFeed) -> None:
    feed.send(ATTACHED, *(statistics_event(codec=codec) for codec in ("vp8", "vp8", "h264", "")))
    assert feed.rows("media_codecs_total") == {("video", "vp8"): 1, ("video", "h264"): 1}


def test_rates_of_data_channels_are_those_of_the_last_period(feed: EventFeed) -> None:
    none: dict[str, Any] = {"bytes_received_lastsec": None, "bytes_sent_lastsec": None, "jitter_local": None}
    events = [statistics_event(media="data", bytes_received=count, **none) for count in (100, 250)]
    for event in events:
        event["event"] = {name: value for name, value in event["event"].items() if value is not None}
    feed.send(ATTACHED, *events)
    assert feed.statistics.statistics_of_handle(1, 7)["data"].incoming == 150
    assert feed.rows("media_jitter") == {}


def test_statistics_of_a_silent_handle_end(feed: EventFeed) -> None:
    feed.send(ATTACHED, statistics_event(bytes_received=10, bytes_received_lastsec=10, rtt=4, lost=1, lost_by_remote=2))
    assert feed.statistics.statistics_of_handle(1, 7) == {"video": MediaStatistics(10, 0, 1, 2, 4)}
    assert feed.statistics.statistics_of_handle(1, 8) == {}
    feed.now += RATE_AGE + 1
    assert feed.statistics.statistics_of_handle(1, 7) == {}
    assert feed.rows("bandwidth") == {("incoming",): 0, ("outgoing",): 0}
    assert feed.received() == 10


def test_statistics_of_a_silent_m_line_end_before_those_of_its_handle(feed: EventFeed) -> None:
    feed.send(ATTACHED, *(statistics_event(mid=mid, bytes_received=9, bytes_received_lastsec=9) for mid in ("0", "1")))
    feed.now += RATE_AGE + 1
    feed.send(statistics_event(mid="0", bytes_received=10, bytes_received_lastsec=1))
    assert feed.statistics.statistics_of_handle(1, 7) == {"video": MediaStatistics(incoming=1)}
    assert feed.rows("bandwidth")["incoming",] == 1


def test_a_detached_handle_is_forgotten(feed: EventFeed) -> None:
    feed.send(
        ATTACHED,
        statistics_event(bytes_received=10),
        DETACHED,
        janus_event(16, 6, connection="hangup", reason="x"),
        DETACHED,
    )
    assert len(feed.statistics) == 0
    assert feed.received() == 10


def test_handles_of_a_janus_that_died_are_forgotten(feed: EventFeed) -> None:
    for handle in range(50):
        feed.send(janus_event(2, None, 1, handle, name="attached"), statistics_event(1, handle, bytes_received=1))
    feed.now += FORGET_EVERY
    feed.send(janus_event(2, None, 2, 1, name="attached"), statistics_event(2, 1, bytes_received=5))
    assert len(feed.statistics) == 51
    feed.now += HANDLE_AGE - FORGET_EVERY + 1
    feed.send(statistics_event(2, 1, bytes_received=7))
    assert len(feed.statistics) == 1
    assert feed.received() == 57


def test_the_number_of_handles_media_and_labels_is_bounded(feed: EventFeed, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_HANDLES >= 10_000
    monkeypatch.setattr(statistics_module, "MAX_HANDLES", 10)
    for number in range(25):
        feed.send(statistics_event(1, number, bytes_received=1))
    assert len(feed.statistics) == 10
    for number in range(MAX_MEDIA + 10):
        feed.send(statistics_event(mid=str(number), bytes_received=1, bytes_received_lastsec=1))
    assert feed.statistics.statistics_of_handle(1, 7)["video"].incoming == MAX_MEDIA
    for number in range(2 * MAX_ROWS):
        feed.send(janus_event(16, 6, connection="hangup", reason=f"{number}" + "x" * 1000))
    rows = feed.rows("peerconnection_state_total")
    assert len(rows) == MAX_ROWS + 1
    assert rows["other", "other"] == MAX_ROWS
    assert max(len(reason) for _, reason in rows) == 32


def test_every_metric_exists_before_the_first_event(feed: EventFeed) -> None:
    before = {(metric.name, metric.type, metric.labels) for metric in feed.statistics.metrics()}
    assert {("media_bytes_total", "counter", ("media", "direction")), ("bandwidth", "gauge", ("direction",))} <= before
    feed.send(ATTACHED, statistics_event(bytes_received=1, rtt=20, jitter_local=1))
    assert {(metric.name, metric.type, metric.labels) for metric in feed.statistics.metrics()} == before


_counter = st.integers(-(2**31), 2**33)
_events = st.one_of(
    st.builds(
        lambda media, handle, received, lost, rtt, opaque: statistics_event(
            1, handle, opaque, media=media, bytes_received=received, lost=lost, rtt=rtt, jitter_local=lost
        ),
        st.sampled_from(["audio", "video", "video-sim1", "data", "new"]),
        st.integers(1, 3),
        _counter,
        _counter,
        _counter,
        st.sampled_from([OWN_OPAQUE_ID, FOREIGN_OPAQUE_ID]),
    ),
    st.sampled_from([ATTACHED, DETACHED, janus_event(16, 6, connection="hangup", reason="x"), janus_event(32, 3), 7]),
)


@given(st.lists(st.lists(_events), max_size=8))
def test_totals_never_decrease(frames: list[list[Any]]) -> None:
    feed = EventFeed()
    before: dict[tuple[str, tuple[str, ...]], float] = {}
    for frame in frames:
        feed.now += 50
        feed.send(*frame)
        now = {
            (metric.name, labels): value
            for metric in feed.statistics.metrics()
            if metric.type == "counter"
            for labels, value in metric.samples.items()
            if not isinstance(value, HistogramSample)
        }
        assert all(now[key] >= count for key, count in before.items())
        before = now
    assert len(feed.statistics) <= 4
