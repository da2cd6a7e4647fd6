"""Simulcast and temporal layers of Chromium: the selected layers are recognised by the decoded pictures."""

from __future__ import annotations

import asyncio

import pytest

from mcu.base import MediaSelection, PublishOptions
from tests.mcu.inprocess.tabs import WAIT, PageStatistics, Tab, Tabs
from tests.mcu.inprocess.temporal_tap import TemporalTap

pytestmark = pytest.mark.timeout(300)

CAMERA = {"video": {"width": 1280, "height": 720}}
LAYERS: list[dict[str, object]] = [
    {"rid": "q", "scaleResolutionDownBy": 4, "maxBitrate": 150_000},
    {"rid": "h", "scaleResolutionDownBy": 2, "maxBitrate": 500_000},
    {"rid": "f", "maxBitrate": 1_500_000},
]
WIDTHS = [320, 640, 1280]
IN_FLIGHT = 10  # frames that may have been forwarded and not yet decoded


async def wait_for_width(tab: Tab, width: int) -> PageStatistics:
    """Wait until pictures of that width are being decoded."""
    async with asyncio.timeout(WAIT):
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


async def wait_for_upper_layers(tab: Tab, tap: TemporalTap) -> None:
    """Wait until more frames are decoded than the base layer has."""
    before, base = await tab.wait_for_media(0), tap.base_pictures
    async with asyncio.timeout(WAIT):
        while (await tab.wait_for_media(1)).frames - before.frames <= tap.base_pictures - base + IN_FLIGHT:
            pass


@pytest.mark.full
@pytest.mark.parametrize("layers", [2, 3])
async def test_temporal_layers_are_dropped_and_resumed(
    tabs: Tabs, layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    encodings = [{"scalabilityMode": f"L1T{layers}"}]
    await tabs.publish({"video": {"width": 320, "height": 180}}, PublishOptions(), encodings)
    subscriber = await tabs.subscribe()
    await wait_for_width(tabs.carol, 320)
    tap = TemporalTap(tabs.mcu, monkeypatch)
    assert await tap.forwarded_layers(layers) == set(range(layers))
    await subscriber.select(MediaSelection(temporal=0))
    assert await tap.forwarded_layers(layers) == {0}
    await tabs.carol.wait_for_media(5)
    await subscriber.select(MediaSelection(temporal=2))
    await tap.until_forwarded(layers - 1)
    assert await tap.forwarded_layers(layers) == set(range(layers))
    await wait_for_upper_layers(tabs.carol, tap)


@pytest.mark.full
async def test_temporal_layers_are_selected_within_simulcast(tabs: Tabs, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [{**layer, "scalabilityMode": "L1T3"} for layer in LAYERS]
    await tabs.publish(CAMERA, PublishOptions(), layers)
    subscriber = await tabs.subscribe()
    await wait_for_width(tabs.carol, WIDTHS[2])
    tap = TemporalTap(tabs.mcu, monkeypatch)
    await subscriber.select(MediaSelection(temporal=1))
    assert await tap.forwarded_layers(3) == {0, 1}
    await tabs.carol.wait_for_media(5)
    await subscriber.select(MediaSelection(substream=1))
    await wait_for_width(tabs.carol, WIDTHS[1])
    assert await tap.forwarded_layers(3) == {0, 1}
    await tabs.carol.wait_for_media(5)
    await subscriber.select(MediaSelection(substream=0, temporal=2))
    await wait_for_width(tabs.carol, WIDTHS[0])
    assert await tap.forwarded_layers(3) == {0, 1, 2}
    await wait_for_upper_layers(tabs.carol, tap)
