"""What Janus' event feed adds up to: each packet counts once, whatever Janus and its handles go through."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.metrics import Counters, Gauges, Metrics
from mcu.base import HistogramSample
from mcu.janus.events import statistics as figures
from mcu.janus.events.statistics import FRESH, GONE, HANDLES, MEDIA, ROWS, SWEEP, EventStatistics, MediaStatistics
from tests.mcu.janus.feed import OURS, envelope, statistics

ATTACHED = envelope(2, None, name="attached")
DETACHED = envelope(2, None, name="detached")
FOREIGN = "other|tests|cloud|anna|video"


class Fed:
    """A feed with a clock that is set, and a look at what it counts."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.feed = EventStatistics(lambda opaque: opaque.startswith("portunus|tests|"), lambda: self.now)

    def take(self, *events: Any) -> None:
        self.feed.receive(json.dumps(events).encode())

    def rows(self, name: str) -> Any:
        (metric,) = [metric for metric in self.feed.metrics() if metric.name == name]
        return dict(metric.samples)

    def received(self) -> float:
        return float(self.rows("media_bytes_total").get(("video", "incoming"), 0))


@pytest.fixture
def fed() -> Fed:
    return Fed()


def test_states_are_counted(fed: Fed) -> None:
    side = {"type": "host", "transport": "udp", "family": 4}
    fed.take(
        envelope(16, 1, ice="ready"),
        envelope(16, 1, ice="ready"),
        envelope(16, 5, dtls="trying"),
        envelope(16, 4, candidates={"local": side, "remote": side | {"type": "relay", "family": 6}}),
        envelope(16, 6, connection="webrtcup"),
        envelope(16, 6, connection="hangup", reason="ICE failed"),
        envelope(32, 2, media="video", slow_link="downlink"),
        envelope(32, 2, media="audio", slow_link="uplink"),
    )
    assert fed.rows("ice_state_total") == {("ready",): 2}
    assert fed.rows("dtls_state_total") == {("trying",): 1}
    assert fed.rows("selected_candidate_total") == {
        ("local", "host", "udp", "ipv4"): 1,
        ("remote", "relay", "udp", "ipv6"): 1,
    }
    assert fed.rows("peerconnection_state_total") == {("webrtcup", ""): 1, ("hangup", "ICE failed"): 1}
    assert fed.rows("slow_link_total") == {("video", "incoming"): 1, ("audio", "outgoing"): 1}


def test_counters_of_janus_are_added_once(fed: Fed) -> None:
    fed.take(ATTACHED, statistics(bytes_received=1000, nacks_sent=2, retransmissions_received=1, lost=3))
    fed.take(statistics(bytes_received=1500, nacks_sent=5, retransmissions_received=4, lost=3, lost_by_remote=1))
    assert fed.rows("media_bytes_total") == {("video", "incoming"): 1500, ("video", "outgoing"): 0}
    assert fed.rows("media_nacks_total") == {("video", "incoming"): 0, ("video", "outgoing"): 5}
    assert fed.rows("media_retransmissions_total") == {("video",): 4}
    assert fed.rows("media_lost_total") == {("video", "local"): 3, ("video", "remote"): 1}
    assert fed.rows("media_codecs_total") == {("video", "vp8"): 1}


def test_layers_of_simulcast_add_up_to_one_picture(fed: Fed) -> None:
    layers = ["video", "video-sim1", "video-sim2"]
    fed.take(ATTACHED, *(statistics(media=media, bytes_received=100, bytes_received_lastsec=40) for media in layers))
    assert fed.received() == 300
    assert fed.rows("bandwidth") == {("incoming",): 120, ("outgoing",): 0}
    assert fed.feed.of_handle(1, 7) == {"video": MediaStatistics(incoming=120)}


def test_a_handle_that_was_there_before_the_feed_counts_from_now_on(fed: Fed) -> None:
    fed.take(statistics(bytes_received=1_000_000))
    fed.take(statistics(bytes_received=1_000_700))
    assert fed.received() == 700


def test_the_next_peer_connection_of_a_handle_counts_from_zero(fed: Fed) -> None:
    fed.take(ATTACHED, statistics(bytes_received=500), envelope(16, 6, connection="hangup", reason="Close PC"))
    fed.take(statistics(bytes_received=600))
    assert fed.received() == 1100


def test_counters_that_begin_anew_unannounced_count_from_zero(fed: Fed) -> None:
    fed.take(ATTACHED, statistics(bytes_received=500), statistics(bytes_received=20))
    assert fed.received() == 520


def test_losses_that_late_packets_take_back_count_once(fed: Fed) -> None:
    fed.take(
        ATTACHED, *(statistics(bytes_received=count, lost=lost) for count, lost in ((1, 5), (2, 3), (3, 5), (4, 6)))
    )
    assert fed.rows("media_lost_total")["video", "local"] == 6


def test_a_counter_of_janus_that_ran_below_zero_is_left_out(fed: Fed) -> None:
    fed.take(
        ATTACHED, *(statistics(bytes_received=count, lost=lost) for count, lost in ((1, 1), (2, 4294911420), (3, 2)))
    )
    assert fed.rows("media_lost_total")["video", "local"] == 2
    assert fed.feed.of_handle(1, 7)["video"].lost == 2


def test_equal_handles_of_two_janus_are_two(fed: Fed) -> None:
    fed.take(ATTACHED, envelope(2, None, 2, name="attached"))
    fed.take(statistics(bytes_received=100), statistics(2, 7, bytes_received=30), statistics(bytes_received=101))
    assert fed.received() == 131


def test_others_on_the_same_janus_do_not_count(fed: Fed) -> None:
    fed.take(
        envelope(2, None, 1, 8, FOREIGN, name="attached"),
        statistics(1, 8, FOREIGN, bytes_received=900, rtt=5),
        statistics(1, 8, "", bytes_received=900),
        statistics(1, 9, "portunus|another|cloud|anna|video", bytes_received=900),
        envelope(16, 1, 1, 8, FOREIGN, ice="ready"),
        envelope(16, 1, 1, 8, FOREIGN),
    )
    assert fed.received() == 0
    assert fed.rows("ice_state_total") == {}
    assert fed.rows("events_total") == {("foreign",): 6}
    assert len(fed.feed) == 0


def test_what_is_broken_or_unknown_is_counted_and_costs_nothing_else(fed: Fed) -> None:
    fed.feed.receive(b"{")
    fed.take(ATTACHED, statistics(bytes_received=10), 7, envelope(16, 1), envelope(64, None), envelope(256, 1))
    fed.take(statistics(bytes_received=20))
    assert fed.received() == 20
    assert fed.rows("events_total") == {("broken",): 3, ("handle",): 1, ("media",): 2, ("other",): 2}


@pytest.mark.parametrize("name", ["rtt", "lost", "jitter_local", "bytes_received", "bytes_received_lastsec"])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_number_that_no_counter_holds_is_broken_and_harms_no_measure(fed: Fed, name: str, sign: int) -> None:
    counters: list[dict[str, Any]] = [{"bytes_received": 1, name: sign * number} for number in (10**400, 2**62, 2**62)]
    fed.take(ATTACHED, *(statistics(**given) for given in counters))
    assert fed.rows("events_total")["broken",] == 1
    for metric in fed.feed.metrics():
        for value in metric.samples.values():
            assert float(value.sum if isinstance(value, HistogramSample) else value) < float("inf")


_numbers = st.integers() | st.sampled_from([0, -1, 2**31, 2**32 - 1, 2**63, 10**400]) | st.just("x") | st.none()
_counters = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("rtt", "lost", "jitter_local", "bytes_sent", "bytes_sent_lastsec", "nacks_sent"), _numbers),
)
_text = st.text(st.characters(codec=None, categories=None), max_size=40)  # halves of surrogate pairs included
_said = st.one_of(
    st.builds(lambda counters: statistics(**counters), _counters),
    st.builds(lambda media: statistics(media=media, codec=media), _text),
    st.builds(lambda name: envelope(2, None, name=name), st.sampled_from(["attached", "detached", "x"])),
    st.builds(lambda reason: envelope(16, 6, connection="hangup", reason=reason), _text | st.none()),
    st.builds(lambda side: envelope(16, 4, candidates={"local": {"family": side}}), _numbers),
    st.builds(lambda link: envelope(32, 2, media="audio", slow_link=link), _text | _numbers),
)


@given(st.lists(_said, max_size=12))
def test_whatever_comes_measures_can_be_shown(said: list[Any]) -> None:
    fed = Fed()
    metrics = Metrics(Counters(), Gauges(sfu_metrics=fed.feed.metrics))
    for event in said:
        fed.take(event)
        assert metrics.render()


def test_round_trip_and_jitter_are_spread_over_buckets(fed: Fed) -> None:
    fed.take(ATTACHED, statistics(bytes_sent=1, rtt=20, jitter_remote=3), statistics(bytes_sent=2, rtt=21))
    fed.take(statistics(bytes_sent=2, rtt=0, jitter_local=9))  # nothing known, nothing received
    rtt = fed.rows("media_rtt")["video",]
    assert isinstance(rtt, HistogramSample)
    assert rtt.sum == 41
    assert dict(rtt.buckets) | {"10": 0, "20": 1, "50": 2, "+Inf": 2} == dict(rtt.buckets)
    assert rtt.buckets[-1] == ("+Inf", 2)
    jitter = fed.rows("media_jitter")
    assert list(jitter) == [("video", "remote")]
    assert jitter["video", "remote"].sum == 3


def test_a_changed_codec_is_counted(fed: Fed) -> None:
    fed.take(ATTACHED, *(statistics(codec=codec) for codec in ("vp8", "vp8", "h264", "")))
    assert fed.rows("media_codecs_total") == {("video", "vp8"): 1, ("video", "h264"): 1}


def test_rates_of_data_channels_are_those_of_the_last_period(fed: Fed) -> None:
    none: dict[str, Any] = {"bytes_received_lastsec": None, "bytes_sent_lastsec": None, "jitter_local": None}
    told = [statistics(media="data", bytes_received=count, **none) for count in (100, 250)]
    for event in told:
        event["event"] = {name: value for name, value in event["event"].items() if value is not None}
    fed.take(ATTACHED, *told)
    assert fed.feed.of_handle(1, 7)["data"].incoming == 150
    assert fed.rows("media_jitter") == {}


def test_figures_of_a_silent_connection_end(fed: Fed) -> None:
    fed.take(ATTACHED, statistics(bytes_received=10, bytes_received_lastsec=10, rtt=4, lost=1, lost_by_remote=2))
    assert fed.feed.of_handle(1, 7) == {"video": MediaStatistics(10, 0, 1, 2, 4)}
    assert fed.feed.of_handle(1, 8) == {}
    fed.now += FRESH + 1
    assert fed.feed.of_handle(1, 7) == {}
    assert fed.rows("bandwidth") == {("incoming",): 0, ("outgoing",): 0}
    assert fed.received() == 10


def test_figures_of_a_medium_end_before_its_connection_does(fed: Fed) -> None:
    fed.take(ATTACHED, *(statistics(mid=mid, bytes_received=9, bytes_received_lastsec=9) for mid in ("0", "1")))
    fed.now += FRESH + 1
    fed.take(statistics(mid="0", bytes_received=10, bytes_received_lastsec=1))
    assert fed.feed.of_handle(1, 7) == {"video": MediaStatistics(incoming=1)}
    assert fed.rows("bandwidth")["incoming",] == 1


def test_a_detached_handle_is_forgotten(fed: Fed) -> None:
    fed.take(
        ATTACHED, statistics(bytes_received=10), DETACHED, envelope(16, 6, connection="hangup", reason="x"), DETACHED
    )
    assert len(fed.feed) == 0
    assert fed.received() == 10


def test_handles_of_a_janus_that_died_are_forgotten(fed: Fed) -> None:
    for handle in range(50):
        fed.take(envelope(2, None, 1, handle, name="attached"), statistics(1, handle, bytes_received=1))
    fed.now += SWEEP
    fed.take(envelope(2, None, 2, 1, name="attached"), statistics(2, 1, bytes_received=5))
    assert len(fed.feed) == 51
    fed.now += GONE - SWEEP + 1
    fed.take(statistics(2, 1, bytes_received=7))
    assert len(fed.feed) == 1
    assert fed.received() == 57


def test_no_number_of_handles_media_or_labels_fills_the_memory(fed: Fed, monkeypatch: pytest.MonkeyPatch) -> None:
    assert HANDLES >= 10_000
    monkeypatch.setattr(figures, "HANDLES", 10)
    for number in range(25):
        fed.take(statistics(1, number, bytes_received=1))
    assert len(fed.feed) == 10
    for number in range(MEDIA + 10):
        fed.take(statistics(mid=str(number), bytes_received=1, bytes_received_lastsec=1))
    assert fed.feed.of_handle(1, 7)["video"].incoming == MEDIA
    for number in range(2 * ROWS):
        fed.take(envelope(16, 6, connection="hangup", reason=f"{number}" + "x" * 1000))
    rows = fed.rows("peerconnection_state_total")
    assert len(rows) == ROWS + 1
    assert rows["other", "other"] == ROWS
    assert max(len(reason) for _, reason in rows) == 32


def test_every_measure_is_there_before_anything_comes(fed: Fed) -> None:
    for metric in fed.feed.metrics():
        assert metric.type != "counter" or metric.name.endswith("_total")
        assert all(len(labels) == len(metric.labels) for labels in metric.samples)
    assert OURS.startswith("portunus|tests|")


_counter = st.integers(-(2**31), 2**33)
_events = st.one_of(
    st.builds(
        lambda media, handle, received, lost, rtt, opaque: statistics(
            1, handle, opaque, media=media, bytes_received=received, lost=lost, rtt=rtt, jitter_local=lost
        ),
        st.sampled_from(["audio", "video", "video-sim1", "data", "new"]),
        st.integers(1, 3),
        _counter,
        _counter,
        _counter,
        st.sampled_from([OURS, FOREIGN]),
    ),
    st.sampled_from([ATTACHED, DETACHED, envelope(16, 6, connection="hangup", reason="x"), envelope(32, 3), 7]),
)


@given(st.lists(st.lists(_events), max_size=8))
def test_totals_never_shrink_whatever_comes(frames: list[list[Any]]) -> None:
    fed = Fed()
    before: dict[tuple[str, tuple[str, ...]], float] = {}
    for frame in frames:
        fed.now += 50
        fed.take(*frame)
        now = {
            (metric.name, labels): value
            for metric in fed.feed.metrics()
            if metric.type == "counter"
            for labels, value in metric.samples.items()
            if not isinstance(value, HistogramSample)
        }
        assert all(now[key] >= count for key, count in before.items())
        before = now
    assert len(fed.feed) <= 4
