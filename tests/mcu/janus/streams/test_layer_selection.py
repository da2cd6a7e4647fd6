"""Selections of simulcast layers as Janus receives them, while measurements change the order of the layers."""

from __future__ import annotations

import asyncio
import re

from mcu.base import MediaSelection, PublishOptions, SubscribeOptions
from mcu.janus.streams.layer_order import CONFIRMATIONS, LayerRates
from mcu.janus.streams.publisher import JanusPublisher
from tests.janus_process import JanusProcess
from tests.mcu.descriptions import parse_frozen
from tests.mcu.janus.conftest import CAMERA, WAIT, JanusCall, WaitableListener
from tests.media import PublishingPeer

SMALLEST_LAYER = SubscribeOptions(selection=MediaSelection(substream=0))


async def publish_layers(call: JanusCall, peer: PublishingPeer) -> JanusPublisher:
    """Publish a camera whose offer announces three layers, of which the first is sent."""
    offer = await peer.offer()
    ssrc = re.findall(r"a=ssrc:(\d+)", offer.partition("m=video")[2])[0]
    publisher, answer = await call.mcu.publish(
        CAMERA, parse_frozen(f"{offer}a=ssrc-group:SIM {ssrc} 11 12\r\n"), PublishOptions(), WaitableListener()
    )
    assert isinstance(publisher, JanusPublisher)
    await peer.accept(answer)
    return publisher


async def until_targets(janus: JanusProcess, *expected: int) -> None:
    """Wait until Janus was asked for these layers, by its own numbers, one for each subscriber."""
    targets: list[int] = []
    async with asyncio.timeout(WAIT):
        while targets != list(expected):
            streams = [
                stream
                for handle in await janus.handles()
                for stream in handle.get("plugin_specific", {}).get("streams", ())
                if isinstance(stream.get("simulcast"), dict)  # a subscriber's; a publisher's is a boolean
            ]
            targets = sorted(stream["simulcast"]["substream-target"] for stream in streams)


async def test_subscribers_get_the_layers_that_they_selected_by_the_measured_order(
    call: JanusCall, janus: JanusProcess
) -> None:
    async with PublishingPeer(5, 400.0, audio=False, video=True, channels=()) as peer:
        publisher = await publish_layers(call, peer)
        _, watcher, _ = await call.subscribe()
        small, _, _ = await call.subscribe(options=SMALLEST_LAYER)
        await watcher.wait_for_picture(5)
        await until_targets(janus, 0, 2)
        await small.select(MediaSelection(substream=1))
        await until_targets(janus, 1, 2)
        for at in range(CONFIRMATIONS):
            publisher.on_layer_rates(LayerRates(float(at), (9_000, 3_000, 27_000)))
        await until_targets(janus, 0, 2)  # substream 1 is Janus' 0 now, and 2 is the same as before
        for at in range(CONFIRMATIONS):
            publisher.on_layer_rates(LayerRates(10.0 + at, (27_000, 9_000, 3_000)))
        await until_targets(janus, 0, 1)
        await small.select(MediaSelection(substream=0))
        late, _, _ = await call.subscribe()
        await until_targets(janus, 0, 0, 2)
        await late.select(MediaSelection(substream=1, video=True))
        await until_targets(janus, 0, 1, 2)
