"""Chromium sends layers, another tab gets those that are chosen for it: told by what it decodes."""

from __future__ import annotations

import asyncio

import pytest

from mcu.base import MediaSelection, PublishOptions
from tests.mcu.inprocess.tabs import WAIT, Received, Tab, Tabs

CAMERA = {"video": {"width": 1280, "height": 720}}
LAYERS = [
    {"rid": "q", "scaleResolutionDownBy": 4, "maxBitrate": 150_000},
    {"rid": "h", "scaleResolutionDownBy": 2, "maxBitrate": 500_000},
    {"rid": "f", "maxBitrate": 1_500_000},
]
WIDTHS = [320, 640, 1280]


async def sees(tab: Tab, width: int) -> Received:
    """Wait until pictures of that width are decoded, and go on to be."""
    async with asyncio.timeout(2 * WAIT):
        while (now := await tab.receives(5)).width != width:
            pass
    return now


@pytest.mark.full
@pytest.mark.parametrize("layers", [LAYERS, LAYERS[::-1]], ids=["lowest first", "highest first"])
async def test_layers_are_switched_up_and_down(tabs: Tabs, layers: list[object]) -> None:
    await tabs.publish({**CAMERA, "audio": True}, PublishOptions(), layers)
    subscriber = await tabs.subscribe()
    await sees(tabs.carol, WIDTHS[2])  # without a wish the best
    for substream in (0, 1, 2, 0, 2):
        await subscriber.select(MediaSelection(substream=substream))
        await sees(tabs.carol, WIDTHS[substream])
    await tabs.carol.receives(5, energy=0.01)


@pytest.mark.full
@pytest.mark.parametrize("codec", ["vp9", "h264"])
async def test_layers_of_other_codecs_are_switched(tabs: Tabs, codec: str) -> None:
    layers = [{**layer, "scalabilityMode": "L1T1"} for layer in LAYERS[:2]]
    await tabs.publish({"video": {"width": 640, "height": 360}}, PublishOptions(videocodecs=(codec,)), layers)
    subscriber = await tabs.subscribe(MediaSelection(substream=0))
    for substream in (0, 1, 0):
        await subscriber.select(MediaSelection(substream=substream))
        received = await sees(tabs.carol, (80, 160)[substream] * 2)
    assert received.codec.lower() == f"video/{codec}"


@pytest.mark.full
async def test_layer_that_stops_gives_way_to_the_next_and_comes_back(tabs: Tabs) -> None:
    await tabs.publish(CAMERA, PublishOptions(), LAYERS)
    await tabs.subscribe()
    await sees(tabs.carol, WIDTHS[2])
    await tabs.alice.run("sendLayer", 2, False)
    await sees(tabs.carol, WIDTHS[1])
    await tabs.alice.run("sendLayer", 2, True)
    await sees(tabs.carol, WIDTHS[2])


@pytest.mark.full
@pytest.mark.parametrize("mode", ["L1T2", "L1T3"])
async def test_temporal_layers_are_left_out_and_taken_in_again(tabs: Tabs, mode: str) -> None:
    await tabs.publish({"video": {"width": 320, "height": 180}}, PublishOptions(), [{"scalabilityMode": mode}])
    subscriber = await tabs.subscribe()
    await sees(tabs.carol, 320)
    share = {"L1T2": 0.5, "L1T3": 0.25}[mode]
    whole = await tabs.carol.rate()
    await subscriber.select(MediaSelection(temporal=0))
    await tabs.carol.receives(5)
    assert await tabs.carol.rate() == pytest.approx(whole * share, rel=0.35)
    await subscriber.select(MediaSelection(temporal=2))
    await tabs.carol.receives(5)
    assert await tabs.carol.rate() == pytest.approx(whole, rel=0.25)


@pytest.mark.full
async def test_temporal_layers_within_simulcast(tabs: Tabs) -> None:
    layers = [{**layer, "scalabilityMode": "L1T3"} for layer in LAYERS]
    await tabs.publish(CAMERA, PublishOptions(), layers)
    subscriber = await tabs.subscribe()
    await sees(tabs.carol, WIDTHS[2])
    whole = await tabs.carol.rate()
    await subscriber.select(MediaSelection(temporal=1))
    await tabs.carol.receives(5)
    assert await tabs.carol.rate() == pytest.approx(whole / 2, rel=0.35)
    await subscriber.select(MediaSelection(substream=1))
    await sees(tabs.carol, WIDTHS[1])
    assert await tabs.carol.rate() == pytest.approx(whole / 2, rel=0.35)
    await subscriber.select(MediaSelection(substream=0, temporal=2))
    await sees(tabs.carol, WIDTHS[0])
    assert await tabs.carol.rate() == pytest.approx(whole, rel=0.25)
