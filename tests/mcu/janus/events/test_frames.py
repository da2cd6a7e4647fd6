"""Frames of Janus' event feed: read as they were recorded from Janus 1.1.2, and whatever else may come."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcu.janus.events import frames as events
from tests.mcu.janus.feed import envelope


def bodies(*sent: Any) -> list[events.EventBody | None]:
    frame = json.dumps(sent).encode()
    return [events.body(event) for event in events.read(frame) if event is not None]


def test_what_janus_sends_is_read() -> None:
    assert bodies(
        envelope(2, None, name="attached", plugin="janus.plugin.videoroom", opaque_id="x"),
        envelope(16, 1, ice="connecting", stream_id=1, component_id=1),
        envelope(16, 5, dtls="connected", stream_id=1, component_id=1, retransmissions=0),
        envelope(16, 6, connection="hangup", reason="DTLS alert"),
        envelope(32, 2, media="video", mid="1", slow_link="uplink", lost_lastsec=12),
    ) == [
        events.HandleStateEvent("attached"),
        events.IceStateEvent("connecting"),
        events.DtlsStateEvent("connected"),
        events.ConnectionStateEvent("hangup", "DTLS alert"),
        events.SlowLinkEvent("video", "uplink"),
    ]


def test_a_selected_pair_is_read_without_its_addresses() -> None:
    side = {"address": "192.0.2.7", "port": 9, "type": "host", "transport": "udp", "family": 4}
    pair = {"local": side, "remote": side | {"type": "prflx", "family": 6}}
    (body,) = bodies(envelope(16, 4, **{"selected-pair": "…", "candidates": pair, "stream_id": 1}))
    local, remote = events.SelectedCandidate("host", "udp", 4), events.SelectedCandidate("prflx", "udp", 6)
    assert body == events.SelectedPairEvent(events.CandidatePair(local, remote))
    assert "192.0.2.7" not in repr(body)


def test_counters_of_data_channels_have_no_rates() -> None:
    (body,) = bodies(envelope(32, 3, mid="2", media="data", **{"packets-received": 10, "bytes-received": 1648}))
    assert body == events.MediaStatsEvent(media="data", mid="2", packets_received=10, bytes_received=1648)


def test_one_event_and_a_list_of_them_are_frames() -> None:
    one = envelope(16, 1, ice="ready")
    assert list(events.read(json.dumps(one).encode())) == list(events.read(json.dumps([one]).encode()))
    assert list(events.read(b"[]")) == []


@pytest.mark.parametrize(
    "broken", [1, None, "x", {}, {"type": "16"}, {"type": 16, "handle_id": 1.5}, {"type": 16, "opaque_id": 7}, []]
)
def test_a_broken_event_costs_none_of_the_others(broken: Any) -> None:
    good = envelope(16, 1, ice="ready")
    found = list(events.read(json.dumps([good, broken, good]).encode()))
    assert [event is None for event in found] == [False, True, False]


@pytest.mark.parametrize("frame", [b"", b"{", b"[1", b"\xff", b'"', b"[" * 100_000, b"null", b"7", b'{"type":"x"}'])
def test_a_broken_frame_is_one_broken_event(frame: bytes) -> None:
    assert list(events.read(frame)) == [None]


def test_an_event_of_an_unknown_type_says_nothing() -> None:
    assert bodies(envelope(8, None, owner="local"), envelope(16, 9, new=1), envelope(256, 1, status="started")) == [
        None,
        None,
        None,
    ]


@pytest.mark.parametrize(
    "event",
    [envelope(16, 1), envelope(32, 3, lost="many"), envelope(32, 3, mid="m" * 65), envelope(16, 4, candidates=1)],
)
def test_what_an_event_says_may_be_broken(event: Any) -> None:
    (read,) = events.read(json.dumps(event).encode())
    assert read is not None
    with pytest.raises(events.BROKEN):
        events.body(read)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["type", "event", "handle_id", "media"]), inner),
    max_leaves=12,
)


def test_an_event_that_is_nested_without_end_is_broken() -> None:
    deep = b'{"type":16,"subtype":1,"event":{"ice":"ready","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}}"
    try:
        found = [None if event is None else events.body(event) for event in events.read(deep)]
    except events.BROKEN:
        found = [None]
    assert found == [None]


@given(_json | st.binary())
def test_nothing_that_comes_raises(sent: Any) -> None:
    frame = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    assert all(event is None or isinstance(event, events.JanusEvent) for event in events.read(frame))
