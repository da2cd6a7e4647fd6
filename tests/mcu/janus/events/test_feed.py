"""A real Janus that sends its events to a real gateway: each type of event becomes a metric."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.app import Gateway
from gateway.config import Config, HttpSection, McuSection, SessionsSection
from mcu.base import Mcu, MediaKind, PublishOptions, StreamReport, SubscribeOptions
from mcu.janus.backend import JanusMcu
from tests.gateway.test_metric_names import JANUS, SERVED_METRICS, SHARED_METRICS, parsed, rows
from tests.janus_process import JanusApi, JanusProcess
from tests.mcu.janus.conftest import CAMERA, SCREEN, JanusCall, settings_for
from tests.media import MediaPeer, PublishingPeer, SubscribingPeer

pytestmark = [pytest.mark.full, pytest.mark.usefixtures("janus_version")]

LIMIT = 20.0  # seconds; Janus sends statistics each second
DROP_EVERY = 5  # one packet in this number is dropped
ONE_WAY_DELAY = 0.02  # seconds from a subscriber to Janus: Janus reports less than 1 ms as 0, which also means unknown
PREFIX = "signaling_mcu_"
Metrics = dict[str, dict[tuple[str, ...], float]]


@dataclass
class GatewayWithEvents:
    """A gateway, the Janus that sends it its events, and the metrics that Prometheus would scrape."""

    gateway: Gateway
    janus: JanusProcess
    call: JanusCall
    url: str
    http: aiohttp.ClientSession
    text: str = ""  # the last response

    @property
    def mcu(self) -> Mcu:
        assert self.gateway.mcu is not None
        return self.gateway.mcu

    async def metrics(self) -> Metrics:
        """Return the metrics by name and the values of the labels, in the order of the labels' names."""
        async with self.http.get(f"{self.url}/metrics") as response:
            self.text = await response.text()
        found: Metrics = {}
        for family in text_string_to_metric_families(self.text):
            for sample in family.samples:
                if sample.name.startswith(PREFIX):
                    labels = tuple(value for _, value in sorted(sample.labels.items()))
                    found.setdefault(sample.name.removeprefix(PREFIX), {})[labels] = sample.value
        return found

    async def until(self, condition: Callable[[Metrics], bool]) -> Metrics:
        """Scrape until the metrics fulfil ``condition``."""
        seen: Metrics = {}
        try:
            async with asyncio.timeout(LIMIT):
                while not condition(seen := await self.metrics()):  # noqa: ASYNC110 - no event of it
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise AssertionError(f"metrics stayed at {seen}") from None
        return seen


def gateway_with(janus: JanusProcess, port: int = 0) -> Gateway:
    return Gateway(
        Config(
            sessions=SessionsSection(secret="6f1b0c7d9ae24835b6cf01d27e9a4488"),
            http=HttpSection(listen=(f"127.0.0.1:{port}",)),
            mcu=McuSection(type="janus", settings=(settings_for(janus),)),
        )
    )


@pytest.fixture
async def harness(loopback: None) -> AsyncIterator[GatewayWithEvents]:
    async with AsyncExitStack() as stack:
        janus = JanusProcess()
        gateway = gateway_with(janus)
        (url,) = await gateway.start()
        stack.push_async_callback(gateway.stop)
        janus.values["EVENTS_URL"] = url.replace("http", "ws", 1) + "/spreed"
        await stack.enter_async_context(janus)
        assert isinstance(gateway.mcu, JanusMcu)
        async with asyncio.timeout(LIMIT):
            await gateway.mcu.session()
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield GatewayWithEvents(gateway, janus, JanusCall(gateway.mcu, stack), url, http)


def drop_sent(peer: PublishingPeer) -> None:
    """Drop some of the packets that a peer sends."""
    transport = _transport(peer)
    send, count = transport._send_rtp, 0

    async def send_most(data: bytes) -> None:
        nonlocal count
        count += 1
        if count % DROP_EVERY or 192 <= data[1] <= 223:  # RTCP always arrives (RFC 5761, 4)
            await send(data)

    transport._send_rtp = send_most


def drop_received(peer: SubscribingPeer) -> None:
    """Drop some of the packets that are sent to a peer."""
    transport = _transport(peer)
    receive, count = transport._handle_rtp_data, 0

    async def handle_most(data: bytes, arrival_time_ms: int) -> None:
        nonlocal count
        count += 1
        if count % DROP_EVERY:
            await receive(data, arrival_time_ms)

    transport._handle_rtp_data = handle_most


def delay_sent(peer: SubscribingPeer) -> None:
    """Delay each packet that a peer sends by ``ONE_WAY_DELAY``."""
    transport = _transport(peer)
    send = transport._send_rtp

    async def send_late(data: bytes) -> None:
        await asyncio.sleep(ONE_WAY_DELAY)
        await send(data)

    transport._send_rtp = send_late


def _transport(peer: MediaPeer) -> Any:
    return peer.pc.getTransceivers()[0].receiver.transport


def at_least(metrics: Metrics, name: str, wanted: Mapping[tuple[str, ...], float]) -> bool:
    rows = metrics.get(name, {})
    return all(rows.get(labels, 0) >= count for labels, count in wanted.items())


async def test_each_type_of_event_changes_its_metrics(harness: GatewayWithEvents) -> None:
    publisher, sender, _ = await harness.call.publish(3, video=True)
    screen, _, _ = await harness.call.publish(9, key=SCREEN, audio=False, video=True, channels=False)
    _, watcher, _ = await harness.call.subscribe()
    delay_sent(watcher)
    await watcher.wait_for_picture(3)
    up = await harness.until(
        lambda seen: (
            at_least(seen, "media_bytes_total", {("incoming", "audio"): 20_000, ("outgoing", "audio"): 20_000})
            and at_least(seen, "media_bytes_total", {("incoming", "video"): 1, ("outgoing", "video"): 1})
            and at_least(seen, "media_rtt_count", {("audio",): 1})
            and at_least(seen, "bandwidth", {("incoming",): 5000, ("outgoing",): 5000})
        )
    )
    assert up["publisher_streams"] == {("audio",): 1, ("video",): 1, ("screen",): 1}
    assert up["subscriber_streams"] == {("audio",): 1, ("video",): 1}
    selected = up["selected_candidate_total"]  # by family, origin, transport, type
    assert {labels[:3] for labels in selected} == {("ipv4", "local", "udp"), ("ipv4", "remote", "udp")}
    assert sum(selected.values()) == 6
    assert up["peerconnection_state_total"] == {("", "webrtcup"): 3}
    for state in ("gathering", "connecting", "connected", "ready"):
        assert up["ice_state_total"][state,] == 3
    assert up["dtls_state_total"] == {("trying",): 3, ("connected",): 3}
    assert up["media_codecs_total"] == {("opus", "audio"): 2, ("vp8", "video"): 3}
    assert {("audio", "local"), ("video", "local")} <= up["media_jitter_count"].keys()
    assert up["media_rtt_sum"]["audio",] / 1000 > up["media_rtt_count"]["audio",] * ONE_WAY_DELAY / 2

    drop_received(watcher)
    behind = await harness.until(
        lambda seen: (
            at_least(seen, "slow_link_total", {("outgoing", "audio"): 1})
            and at_least(seen, "media_lost_total", {("audio", "remote"): 5})
            and at_least(seen, "media_nacks_total", {("incoming", "video"): 1})
        )
    )
    assert ("incoming", "audio") not in behind["slow_link_total"]
    assert behind["media_lost_total"]["audio", "local"] == 0
    assert behind["media_nacks_total"]["outgoing", "video"] == 0
    assert behind["media_retransmissions_total"]["video",] == 0

    drop_sent(sender)
    lost = await harness.until(
        lambda seen: (
            at_least(seen, "slow_link_total", {("incoming", "audio"): 1})
            and at_least(seen, "media_lost_total", {("audio", "local"): 5})
            and at_least(seen, "media_nacks_total", {("outgoing", "video"): 1})
            and at_least(seen, "media_retransmissions_total", {("video",): 1})
        )
    )
    assert lost["events_total"].keys() >= {("handle",), ("media",), ("webrtc",)}
    assert ("broken",) not in lost["events_total"]
    measured = {row for row in parsed(harness.text) if row[0].startswith("signaling_mcu_")}
    assert measured - SERVED_METRICS - SHARED_METRICS == JANUS | rows("counter", "type", of="mcu_events_total")

    await watcher.close()
    await harness.until(lambda seen: at_least(seen, "peerconnection_state_total", {("DTLS alert", "hangup"): 1}))
    await publisher.close()
    await screen.close()
    gone = await harness.until(lambda seen: seen["bandwidth"] == {("incoming",): 0, ("outgoing",): 0})
    assert "publisher_streams" not in gone
    assert "subscriber_streams" not in gone
    assert isinstance(harness.gateway.mcu, JanusMcu)
    assert len(harness.gateway.mcu._statistics) == 0


async def test_streams_are_reported_with_their_statistics(harness: GatewayWithEvents) -> None:
    await harness.call.publish(3, video=True)
    _, watcher, _ = await harness.call.subscribe()
    delay_sent(watcher)
    await watcher.wait_for_picture(3)

    def complete(reports: list[StreamReport]) -> bool:
        media = [report for report in reports if report.kind is not MediaKind.DATA]
        measured = all(report.bits_per_second and report.lost == 0 for report in media)
        return len(media) == 4 and measured and any(report.round_trip for report in media if report.subscriber)

    reports: list[StreamReport] = []
    async with asyncio.timeout(LIMIT):
        while not complete(reports := list(harness.mcu.streams())):  # noqa: ASYNC110 - no event of it
            await asyncio.sleep(0.2)
    assert all(report.round_trip is None or report.round_trip > ONE_WAY_DELAY / 2 for report in reports)
    audio = [report for report in reports if report.kind is MediaKind.AUDIO]
    assert [report.subscriber for report in audio] == [False, True]
    assert all(20_000 < (report.bits_per_second or 0) < 400_000 for report in audio)
    assert all(report.codec == "opus" and report.key == CAMERA for report in audio)


async def test_handles_of_other_applications_are_counted_as_foreign(harness: GatewayWithEvents) -> None:
    secret = {"apisecret": harness.janus.values["API_SECRET"]}
    async with JanusApi(harness.janus.url, "janus-protocol", secret) as other:
        session = (await other.request(janus="create"))["data"]["id"]
        for opaque in ({}, {"opaque_id": "somebody"}, {"opaque_id": "portunus|another|cloud|anna|video"}):
            await other.request(janus="attach", session_id=session, plugin="janus.plugin.videoroom", **opaque)
        await harness.until(lambda seen: at_least(seen, "events_total", {("foreign",): 3}))
        assert isinstance(harness.gateway.mcu, JanusMcu)
        assert len(harness.gateway.mcu._statistics) == 0


async def test_events_continue_after_janus_was_killed(harness: GatewayWithEvents) -> None:
    await harness.call.publish(3)
    await harness.until(lambda seen: at_least(seen, "media_bytes_total", {("incoming", "audio"): 1}))
    await harness.janus.kill()
    await harness.janus.start()
    _, peer, _ = await harness.call.publish(4, options=PublishOptions(timeout=LIMIT))
    await harness.until(lambda seen: at_least(seen, "peerconnection_state_total", {("", "webrtcup"): 2}))
    _, watcher, _ = await harness.call.subscribe(options=SubscribeOptions(timeout=LIMIT))
    await watcher.wait_for_tone(peer.frequency)


async def test_janus_sends_its_events_to_a_gateway_that_is_started_again(harness: GatewayWithEvents) -> None:
    await harness.gateway.stop()
    after = gateway_with(harness.janus, int(harness.url.rpartition(":")[2]))
    await after.start()
    try:
        harness.gateway = after
        assert isinstance(after.mcu, JanusMcu)
        async with AsyncExitStack() as stack:
            await JanusCall(after.mcu, stack).publish(5, options=PublishOptions(timeout=LIMIT))
            await harness.until(lambda seen: at_least(seen, "media_bytes_total", {("incoming", "audio"): 1}))
    finally:
        await after.stop()
