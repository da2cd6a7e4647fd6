"""Simulcast and temporal layers of Chromium: the selected layers are recognised by the decoded pictures."""

from __future__ import annotations

import asyncio

import pytest

from mcu.base import MediaSelection, PublishOptions
from tests.mcu.inprocess.tabs import WAIT, PageStatistics, Tab, Tabs

CAMERA = {"video": {"width": 1280, "height": 720}}
LAYERS: list[dict[str, object]] = [
    {"rid": "q", "scaleResolutionDownBy": 4, "maxBitrate": 150_000},
    {"rid": "h", "scaleResolutionDownBy": 2, "maxBitrate": 500_000},
    {"rid": "f", "maxBitrate": 1_500_000},
]
WIDTHS = [320, 640, 1280]


async def wait_for_width(tab: Tab, width: int) -> PageStatistics:
    """Wait until pictures of that width are being decoded."""
    async with asyncio.timeout(2 * WAIT):
        while (statistics := await tab.wait_for_media(5)).width != width:
            pass
    return statistics


def renamed(layers: list[dict[str, object]]) -> list[dict[str, object]]:
    """Return the layers with names that do not show their sizes."""
    return [{**layer, "rid": f"r{place}"} for place, layer in enumerate(layers)]


@pytest.mark.full
@pytest.mark.parametrize(
    "layers",
    [LAYERS, LAYERS[::-1], renamed(LAYERS), renamed(LAYERS[::-1])],
    ids=["lowest first", "highest first", "unnamed, lowest first", "unnamed, highest first"],
)
async def test_layers_are_switched_up_and_down(tabs: Tabs, layers: list[dict[str, object]]) -> None:
    await tabs.publish({**CAMERA, "audio": True}, PublishOptions(), layers)
    subscriber = await tabs.subscribe()
    await wait_for_width(tabs.carol, WIDTHS[2])  # the best layer, without a selection
    for substream in (0, 1, 2, 0, 2):
        await subscriber.select(MediaSelection(substream=substream))
        await wait_for_width(tabs.carol, WIDTHS[substream])
    await tabs.carol.wait_for_media(5, energy=0.01)


@pytest.mark.full
@pytest.mark.parametrize("codec", ["vp9", "h264", "av1"])
async def test_layers_of_other_codecs_are_ordered_by_size_whatever_their_names_say(tabs: Tabs, codec: str) -> None:
    layers = [{**layer, "rid": rid, "scalabilityMode": "L1T1"} for rid, layer in zip("hl", LAYERS[:2], strict=True)]
    await tabs.publish({"video": {"width": 640, "height": 360}}, PublishOptions(videocodecs=(codec,)), layers)
    subscriber = await tabs.subscribe(MediaSelection(substream=0))
    for substream in (0, 1, 0):
        await subscriber.select(MediaSelection(substream=substream))
        received = await wait_for_width(tabs.carol, (160, 320)[substream])
    assert received.codec.lower() == f"video/{codec}"


@pytest.mark.full
async def test_layer_that_stops_is_replaced_by_the_next_lower_one_until_it_resumes(tabs: Tabs) -> None:
    await tabs.publish(CAMERA, PublishOptions(), LAYERS)
    await tabs.subscribe()
    await wait_for_width(tabs.carol, WIDTHS[2])
    await tabs.alice.run("setLayerActive", 2, False)
    await wait_for_width(tabs.carol, WIDTHS[1])
    await tabs.alice.run("setLayerActive", 2, True)
    await wait_for_width(tabs.carol, WIDTHS[2])


@pytest.mark.full
@pytest.mark.parametrize("mode", ["L1T2", "L1T3"])
async def test_temporal_layers_are_dropped_and_resumed(tabs: Tabs, mode: str) -> None:
    await tabs.publish({"video": {"width": 320, "height": 180}}, PublishOptions(), [{"scalabilityMode": mode}])
    subscriber = await tabs.subscribe()
    await wait_for_width(tabs.carol, 320)
    share = {"L1T2": 0.5, "L1T3": 0.25}[mode]
    full = await tabs.carol.frame_rate()
    await subscriber.select(MediaSelection(temporal=0))
    await tabs.carol.wait_for_media(5)
    assert await tabs.carol.frame_rate() == pytest.approx(full * share, rel=0.35)
    await subscriber.select(MediaSelection(temporal=2))
    await tabs.carol.wait_for_media(5)
    assert await tabs.carol.frame_rate() == pytest.approx(full, rel=0.25)


@pytest.mark.full
async def test_temporal_layers_are_selected_within_simulcast(tabs: Tabs) -> None:
    layers = [{**layer, "scalabilityMode": "L1T3"} for layer in LAYERS]
    await tabs.publish(CAMERA, PublishOptions(), layers)
    subscriber = await tabs.subscribe()
    await wait_for_width(tabs.carol, WIDTHS[2])
    full = await tabs.carol.frame_rate()
    await subscriber.select(MediaSelection(temporal=1))
    await tabs.carol.wait_for_media(5)
    assert await tabs.carol.frame_rate() == pytest.approx(full / 2, rel=0.35)
    await subscriber.select(MediaSelection(substream=1))
    await wait_for_width(tabs.carol, WIDTHS[1])
    assert await tabs.carol.frame_rate() == pytest.approx(full / 2, rel=0.35)
    await subscriber.select(MediaSelection(substream=0, temporal=2))
    await wait_for_width(tabs.carol, WIDTHS[0])
    assert await tabs.carol.frame_rate() == pytest.approx(full, rel=0.25)
