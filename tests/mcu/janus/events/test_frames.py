"""Frames of Janus' event handler: recorded from Janus 1.1.2, broken, and random ones."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.janus_events import MESSAGE_LIMIT
from mcu.janus.events import frames
from tests.mcu.janus.events.sample_events import janus_event, statistics_event


def bodies(*sent: Any) -> list[frames.EventBody | None]:
    frame = json.dumps(sent).encode()
    return [frames.body(event) for event in frames.read(frame) if event is not None]


def test_recorded_events_are_decoded() -> None:
    assert bodies(
        janus_event(2, None, name="attached", plugin="janus.plugin.videoroom", opaque_id="x"),
        janus_event(16, 1, ice="connecting", stream_id=1, component_id=1),
        janus_event(16, 5, dtls="connected", stream_id=1, component_id=1, retransmissions=0),
        janus_event(16, 6, connection="hangup", reason="DTLS alert"),
        janus_event(32, 2, media="video", mid="1", slow_link="uplink", lost_lastsec=12),
    ) == [
        frames.HandleStateEvent("attached"),
        frames.IceStateEvent("connecting"),
        frames.DtlsStateEvent("connected"),
        frames.ConnectionStateEvent("hangup", "DTLS alert"),
        frames.SlowLinkEvent("video", "uplink"),
    ]


def test_a_selected_pair_is_decoded_without_its_addresses() -> None:
    side = {"address": "192.0.2.7", "port": 9, "type": "host", "transport": "udp", "family": 4}
    pair = {"local": side, "remote": side | {"type": "prflx", "family": 6}}
    (body,) = bodies(janus_event(16, 4, **{"selected-pair": "…", "candidates": pair, "stream_id": 1}))
    local, remote = frames.SelectedCandidate("host", "udp", 4), frames.SelectedCandidate("prflx", "udp", 6)
    assert body == frames.SelectedPairEvent(frames.CandidatePair(local, remote))
    assert "192.0.2.7" not in repr(body)


def test_counters_of_data_channels_have_no_rates() -> None:
    (body,) = bodies(janus_event(32, 3, mid="2", media="data", **{"nacks-sent": 10, "bytes-received": 1648}))
    assert body == frames.MediaStatsEvent(media="data", mid="2", nacks_sent=10, bytes_received=1648)


def test_a_frame_is_one_event_or_a_list_of_events() -> None:
    event = janus_event(16, 1, ice="ready")
    assert list(frames.read(json.dumps(event).encode())) == list(frames.read(json.dumps([event]).encode()))
    assert list(frames.read(b"[]")) == []


@pytest.mark.parametrize(
    "broken", [1, None, "x", {}, {"type": "16"}, {"type": 16, "handle_id": 1.5}, {"type": 16, "opaque_id": 7}, []]
)
def test_a_broken_event_does_not_affect_the_others(broken: Any) -> None:
    good = janus_event(16, 1, ice="ready")
    found = list(frames.read(json.dumps([good, broken, good]).encode()))
    assert [event is None for event in found] == [False, True, False]


@pytest.mark.parametrize("frame", [b"", b"{", b"[1", b"\xff", b'"', b"[" * 100_000, b"null", b"7", b'{"type":"x"}'])
def test_a_broken_frame_is_one_broken_event(frame: bytes) -> None:
    assert list(frames.read(frame)) == [None]


class CountingDecoder:
    """Decoder that adds each of its calls to a list."""

    def __init__(self, decoder: msgspec.json.Decoder[Any], calls: list[int]) -> None:
        self._decoder = decoder
        self._calls = calls

    def decode(self, text: bytes | msgspec.Raw) -> Any:
        self._calls.append(len(memoryview(text)))
        return self._decoder.decode(text)


@pytest.mark.parametrize("event", [b"0", b'{"type":"x"}', b'{"type":1}', b'{"type":2,"event":{}}'])
def test_a_frame_of_too_many_events_is_decoded_twice_at_most(event: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    for name in ("_frame_decoder", "_raw_frame_decoder", "_event_decoder"):
        monkeypatch.setattr(frames, name, CountingDecoder(getattr(frames, name), calls))
    most = b"[" + b",".join([event] * frames.MAX_EVENTS) + b"]"
    assert len(list(frames.read(most))) == frames.MAX_EVENTS
    calls.clear()
    assert list(frames.read(most[:-1] + b"," + event + b"]")) == [None]
    assert len(calls) == 2


def test_a_frame_of_the_greatest_length_that_janus_sends_is_decoded() -> None:
    sent = [statistics_event()] * 100
    frame = json.dumps(sent, indent=3).encode()  # Janus' json = "indented"
    assert len(frame) < MESSAGE_LIMIT / 4
    assert None not in list(frames.read(frame))


def test_an_event_of_an_unknown_type_has_no_body() -> None:
    assert bodies(
        janus_event(8, None, owner="local"), janus_event(16, 9, new=1), janus_event(256, 1, status="started")
    ) == [
        None,
        None,
        None,
    ]


@pytest.mark.parametrize(
    "sent",
    [
        janus_event(16, 1),
        janus_event(32, 3, lost="many"),
        janus_event(32, 3, mid="m" * 65),
        janus_event(16, 4, candidates=1),
    ],
)
def test_a_broken_body_raises(sent: Any) -> None:
    (event,) = frames.read(json.dumps(sent).encode())
    assert event is not None
    with pytest.raises(frames.DECODE_ERRORS):
        frames.body(event)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["type", "event", "handle_id", "media"]), inner),
    max_leaves=12,
)


def test_an_event_that_is_nested_too_deeply_is_broken() -> None:
    deep = b'{"type":16,"subtype":1,"event":{"ice":"ready","x":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}}"
    try:
        found = [None if event is None else frames.body(event) for event in frames.read(deep)]
    except frames.DECODE_ERRORS:
        found = [None]
    assert found == [None]


@given(_json | st.binary())
def test_no_frame_makes_the_decoder_raise(sent: Any) -> None:
    frame = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    assert all(event is None or isinstance(event, frames.JanusEvent) for event in frames.read(frame))
