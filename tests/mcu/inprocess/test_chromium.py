"""Calls of Chromium on the in-process SFU: codecs, renegotiation, bitrate limits, packet loss."""

from __future__ import annotations

import asyncio

import pytest

from mcu.base import PublishOptions
from tests.mcu.descriptions import parse_frozen
from tests.mcu.inprocess.tabs import KEY, WAIT, Tabs

pytestmark = pytest.mark.timeout(300)

UNLIMITED = 100_000_000  # bit/s
LOST_PACKETS, REPAIRED_SHARE = 20, 0.8


async def test_camera_is_added_stopped_and_resumed(tabs: Tabs) -> None:
    publisher = await tabs.publish({"audio": True}, PublishOptions())
    await tabs.subscribe()
    await tabs.carol.wait_for_media(0, energy=0.01)
    await tabs.alice.run("accept", str(await publisher.update(parse_frozen(await tabs.alice.run("addCamera")))))
    await tabs.carol.wait_for_media(5)
    for direction in ("inactive", "sendonly"):
        offer = await tabs.alice.run("setCameraDirection", direction)
        await tabs.alice.run("accept", str(await publisher.update(parse_frozen(offer))))
    received = await tabs.carol.wait_for_media(5, energy=0.01)
    await tabs.alice.run("channel.send", "hello")
    async with asyncio.timeout(WAIT):
        while not (await tabs.carol.wait_for_media(1)).messages:
            pass
    assert {stream for _, stream, _ in received.streams} == {received.streams[0][1]}
    assert [played > 0 for kind, _, played in received.streams if kind == "audio"] == [True]


@pytest.mark.full
@pytest.mark.parametrize("codec", ["vp8", "vp9", "h264", "av1"])
async def test_codec_is_forwarded(tabs: Tabs, codec: str) -> None:
    await tabs.publish({"audio": True, "video": True}, PublishOptions(videocodecs=(codec,)))
    await tabs.subscribe()
    received = await tabs.carol.wait_for_media(5, energy=0.01)
    assert received.codec.lower() == f"video/{codec}"


async def wait_for_target(tabs: Tabs, least: int, most: int) -> None:
    """Wait until the target bitrate of the publisher's encoder is between these, in bit/s.

    The bitrate that it sends depends on the machine.
    """
    async with asyncio.timeout(WAIT):
        while not least <= await tabs.alice.run("targetBitrate") <= most:
            await tabs.carol.wait_for_media(5)


@pytest.mark.full
async def test_bitrate_limit_is_applied_and_lifted(tabs: Tabs) -> None:
    publisher = await tabs.publish({"audio": True, "video": True}, PublishOptions())
    await tabs.subscribe()
    await wait_for_target(tabs, 400_000, UNLIMITED)
    await publisher.limit(200_000)
    await wait_for_target(tabs, 1, 200_000)
    await publisher.limit(0)
    await wait_for_target(tabs, 400_000, UNLIMITED)


def losses(tabs: Tabs, leg: str) -> tuple[int, int]:
    """Return how many packets of the video were lost on a leg, and how many were repaired."""
    (stream,) = tabs.mcu.counters()
    if leg == "publisher":
        return stream.media[0].layers[0].lost, stream.media[0].layers[0].repaired
    (sent,) = stream.subscribers[0].media
    return sent.lost or 0, sent.repaired


@pytest.mark.full
@pytest.mark.parametrize("leg", ["publisher", "subscribers"])
async def test_loss_on_either_leg_is_repaired(tabs: Tabs, leg: str) -> None:
    await tabs.publish({"video": True}, PublishOptions())
    await tabs.subscribe()
    await tabs.carol.wait_for_media(20)
    assert losses(tabs, leg)[1] == 0
    tabs.mcu.impair(KEY, loss=0.05, seed=1, leg=leg)
    lost = repaired = 0
    async with asyncio.timeout(WAIT):
        while lost < LOST_PACKETS or repaired < REPAIRED_SHARE * lost:
            await tabs.carol.wait_for_media(5)
            lost, repaired = losses(tabs, leg)


@pytest.mark.full
async def test_bitrate_limit_applies_to_all_layers_together(tabs: Tabs) -> None:
    layers = [{"rid": "h"}, {"rid": "l", "scaleResolutionDownBy": 2}]
    publisher = await tabs.publish({"video": {"width": 960, "height": 540}}, PublishOptions(), layers)
    await tabs.subscribe()
    await wait_for_target(tabs, 600_000, UNLIMITED)
    await publisher.limit(300_000)
    await wait_for_target(tabs, 1, 300_000)
