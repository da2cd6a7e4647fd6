"""Calls of Chromium on the in-process SFU: codecs, renegotiation, bitrate limits, packet loss."""

from __future__ import annotations

import asyncio

import pytest

from mcu.base import PublishOptions
from tests.mcu.descriptions import described
from tests.mcu.inprocess.tabs import KEY, WAIT, Tabs


async def test_camera_is_added_stopped_and_resumed(tabs: Tabs) -> None:
    publisher = await tabs.publish({"audio": True}, PublishOptions())
    await tabs.subscribe()
    await tabs.carol.wait_for_media(0, energy=0.01)
    await tabs.alice.run("accept", str(await publisher.update(described(await tabs.alice.run("addCamera")))))
    await tabs.carol.wait_for_media(5)
    for direction in ("inactive", "sendonly"):
        offer = await tabs.alice.run("setCameraDirection", direction)
        await tabs.alice.run("accept", str(await publisher.update(described(offer))))
    received = await tabs.carol.wait_for_media(5, energy=0.01)
    await tabs.alice.run("channel.send", "hello")
    async with asyncio.timeout(WAIT):
        while not (await tabs.carol.wait_for_media(1)).messages:
            pass
    assert {stream for _, stream, _ in received.streams} == {received.streams[0][1]}
    assert all(played > 0 for kind, _, played in received.streams if kind == "audio")


@pytest.mark.full
@pytest.mark.parametrize("codec", ["vp8", "vp9", "h264", "av1"])
async def test_codec_is_forwarded(tabs: Tabs, codec: str) -> None:
    await tabs.publish({"audio": True, "video": True}, PublishOptions(videocodecs=(codec,)))
    await tabs.subscribe()
    received = await tabs.carol.wait_for_media(5, energy=0.01)
    assert received.codec.lower() == f"video/{codec}"


@pytest.mark.full
async def test_bitrate_limit_is_applied_and_lifted(tabs: Tabs) -> None:
    publisher = await tabs.publish({"audio": True, "video": True}, PublishOptions())
    await tabs.subscribe()
    await tabs.carol.wait_for_media(5)
    async with asyncio.timeout(WAIT):
        while tabs.bitrate() < 400_000:
            await tabs.carol.wait_for_media(10)
    await publisher.limit(200_000)
    async with asyncio.timeout(WAIT):
        while not 0 < tabs.bitrate() <= 250_000:
            await tabs.carol.wait_for_media(10)
    await publisher.limit(0)
    async with asyncio.timeout(WAIT):
        while tabs.bitrate() < 400_000:
            await tabs.carol.wait_for_media(10)


@pytest.mark.full
@pytest.mark.parametrize("leg", ["publisher", "subscribers"])
async def test_loss_on_either_leg_is_repaired(tabs: Tabs, leg: str) -> None:
    await tabs.publish({"video": True}, PublishOptions())
    await tabs.subscribe()
    await tabs.carol.wait_for_media(20)
    before = await tabs.carol.frame_rate()
    tabs.mcu.impair(KEY, loss=0.05, seed=1, leg=leg)
    assert await tabs.carol.frame_rate(5.0) > 0.8 * before
    (stream,) = tabs.mcu.counters()
    (from_publisher,), (to_subscriber,) = stream.media[0].layers, stream.subscribers[0].media
    assert (from_publisher.repaired if leg == "publisher" else to_subscriber.repaired) > 0


@pytest.mark.full
async def test_bitrate_limit_applies_to_all_layers_together(tabs: Tabs) -> None:
    layers = [{"rid": "h"}, {"rid": "l", "scaleResolutionDownBy": 2}]
    publisher = await tabs.publish({"video": {"width": 960, "height": 540}}, PublishOptions(), layers)
    await tabs.subscribe()
    async with asyncio.timeout(2 * WAIT):
        while tabs.bitrate() < 600_000:
            await tabs.carol.wait_for_media(10)
    await publisher.limit(300_000)
    async with asyncio.timeout(WAIT):
        while not 0 < tabs.bitrate() <= 330_000:
            await tabs.carol.wait_for_media(5)
