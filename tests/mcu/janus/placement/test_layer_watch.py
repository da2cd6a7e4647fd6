"""Measurements of simulcast layers: from the events if there are any, else from the Admin API."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import cast

import aiohttp
import msgspec
import pytest
from msgspec.structs import replace

from mcu.janus.connection.session import JanusSession
from mcu.janus.events.statistics import EventStatistics
from mcu.janus.placement import layer_watch
from mcu.janus.placement.layer_watch import ROUNDS_BETWEEN, LayerWatch
from mcu.janus.settings import JanusServerSettings
from mcu.janus.streams.layer_order import CLOSE_WATCH_MEASUREMENTS, LayerOrder, LayerRates
from mcu.janus.streams.publisher import JanusPublisher
from tests.mcu.janus.events.sample_events import statistics_event
from tests.ports import free_ports

RATES = (7000, 13_000, 26_000)


@dataclass
class JanusObject:
    """A session or handle: its id, and a log."""

    id: int
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("layers"))


@dataclass
class MeasuredPublisher:
    """The members of a publisher that a layer watch uses; records the measurements."""

    session: JanusObject
    handle: JanusObject = field(default_factory=lambda: JanusObject(7))
    layers: LayerOrder | None = field(default_factory=lambda: LayerOrder(3))
    layers_mid: str = "1"
    connected: bool = True
    measurements: list[LayerRates] = field(default_factory=list)

    def on_layer_rates(self, measurement: LayerRates) -> None:
        self.measurements.append(measurement)


class WatchedJanus:
    """A layer watch of one session; the test sets its clock."""

    def __init__(self, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(layer_watch, "PAUSE", 0.0)
        self.now = 100.0
        self.session = JanusObject(1)
        self.statistics = EventStatistics(lambda opaque_id: True, lambda: self.now)
        self.settings = JanusServerSettings("ws://127.0.0.1:1")
        self.watch = LayerWatch(http, cast(JanusSession, self.session), self.statistics, lambda: self.now)

    async def measure(self, *publishers: MeasuredPublisher) -> None:
        self.now += 1
        await self.watch.measure([cast(JanusPublisher, publisher) for publisher in publishers], self.settings)

    def receive_rates(self) -> None:
        """Receive the events of one second."""
        named = zip(("video", "video-sim1", "video-sim2"), RATES, strict=True)
        events = [statistics_event(media=name, bytes_received_lastsec=rate) for name, rate in named]
        self.statistics.receive(msgspec.json.encode(events))


async def test_rates_of_events_are_passed_to_publishers_with_simulcast(monkeypatch: pytest.MonkeyPatch) -> None:
    async with aiohttp.ClientSession() as http:
        janus = WatchedJanus(http, monkeypatch)
        publisher = MeasuredPublisher(janus.session)
        others = (
            MeasuredPublisher(janus.session, layers=None),
            MeasuredPublisher(janus.session, connected=False),
            MeasuredPublisher(JanusObject(2)),
        )
        janus.receive_rates()
        await janus.measure(publisher, *others)
        assert publisher.measurements == [LayerRates(100.0, RATES)]
        assert not any(other.measurements for other in others)


async def test_an_admin_api_that_cannot_be_reached_is_reported_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with aiohttp.ClientSession() as http:
        janus = WatchedJanus(http, monkeypatch)
        publisher = MeasuredPublisher(janus.session)
        await janus.measure(publisher)
        assert caplog.messages == []  # without an Admin API the names have to suffice
        janus.settings = replace(janus.settings, admin_url=f"ws://127.0.0.1:{free_ports(1)[0]}")
        for _ in range(3):
            await janus.measure(publisher)
        (message,) = caplog.messages
        assert "ordered by their names" in message
        assert publisher.measurements == []


async def test_layers_that_need_no_close_watch_are_measured_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    async with aiohttp.ClientSession() as http:
        janus = WatchedJanus(http, monkeypatch)
        asked: list[int] = []

        async def ask(publishers: list[MeasuredPublisher], _: JanusServerSettings) -> None:
            asked.append(len(publishers))

        monkeypatch.setattr(janus.watch, "_ask_admin_api", ask)
        janus.settings = replace(janus.settings, admin_url="ws://127.0.0.1:1")
        new, known = MeasuredPublisher(janus.session), MeasuredPublisher(janus.session)
        assert known.layers is not None
        for at in range(CLOSE_WATCH_MEASUREMENTS):
            known.layers.observe(LayerRates(float(at), ()))
        for _ in range(ROUNDS_BETWEEN):
            await janus.measure(new, known)
        assert asked == [1] * (ROUNDS_BETWEEN - 1) + [2]
