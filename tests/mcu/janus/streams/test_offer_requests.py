"""Offers that a subscription has requested from Janus, and errors of other requests that cross them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mcu.base import CloseReason, MediaKind, MediaSelection
from mcu.janus.backend import JanusMcu
from mcu.janus.connection.messages import PLUGIN
from mcu.janus.settings import JanusServerSettings
from mcu.janus.streams.layer_order import CONFIRMATIONS, LayerOrder, LayerRates
from mcu.janus.streams.room_feed import RoomFeed
from mcu.janus.streams.subscriber import JanusSubscriber
from tests.mcu.janus.conftest import CAMERA, WAIT, RecordedStates, WaitableListener
from tests.mcu.janus.fake_janus import OFFER, FakeJanus

FEED = 7
MEDIA = {"0": MediaKind.VIDEO}
REVERSED_RATES = (26_000, 13_000, 7_000)  # bytes per second, by Janus' numbers


class FeedPublisher:
    """The owner of a feed with three layers."""

    def __init__(self) -> None:
        self.layers = LayerOrder(3)

    def end(self, reason: CloseReason | None) -> None:
        raise AssertionError("the feed goes on")

    def send_keyframe_request(self) -> None:
        """Do nothing."""

    def on_unsubscribed(self) -> None:
        """Do nothing."""

    def reverse_layers(self, feed: RoomFeed) -> None:
        for at in range(CONFIRMATIONS):
            self.layers.observe(LayerRates(float(at), REVERSED_RATES))
        feed.apply_layer_order()


def event(sender: int, jsep: dict[str, str] | None = None, **data: Any) -> dict[str, Any]:
    message = {"janus": "event", "sender": sender, "plugindata": {"plugin": PLUGIN, "data": data}}
    return message if jsep is None else {**message, "jsep": jsep}


def offer_event(sender: int, *mids: str) -> dict[str, Any]:
    streams = [{"mid": mid, "feed_mid": mid, "type": "video", "active": True} for mid in mids]
    sdp = f"{OFFER}s=offer of {len(mids)}\r\n"
    return event(sender, {"type": "offer", "sdp": sdp}, videoroom="updated", streams=streams)


@asynccontextmanager
async def subscription(
    fake: FakeJanus, states: RecordedStates
) -> AsyncIterator[tuple[JanusSubscriber, FeedPublisher, JanusMcu]]:
    """Subscribe to a feed that has one medium, and answer the first offer."""
    mcu = JanusMcu((JanusServerSettings(fake.url),), timeout=WAIT)
    await mcu.start(states)
    await states.until(lambda status: status.ready)
    publisher = FeedPublisher()
    feed = RoomFeed(await mcu.session(), CAMERA, FEED, publisher)
    feed.set_media(MEDIA)
    subscriber = JanusSubscriber(feed, WaitableListener(), WAIT)
    fake.answers["join"] = None
    opening = asyncio.create_task(subscriber.open(MediaSelection()))
    await fake.reply("join", offer_event((await fake.until("join"))["handle_id"], "0"))
    offer = await opening
    assert offer is not None
    fake.answers["start"] = event(subscriber.handle.id, started="ok")
    await subscriber.accept(offer)
    yield subscriber, publisher, mcu
    subscriber.end(None)
    await mcu.stop()


@pytest.mark.parametrize("by", ["VideoRoom", "core"])
@pytest.mark.parametrize("refused", ["layer", "subscription"])
async def test_only_the_refusal_of_a_request_for_an_offer_ends_the_wait_for_it(
    states: RecordedStates, refused: str, by: str
) -> None:
    async with FakeJanus() as fake, subscription(fake, states) as (subscriber, publisher, _):
        sender = subscriber.handle.id
        refusal: dict[str, Any] = {"janus": "error", "error": {"code": 462, "reason": "Plugin error"}}  # has no sender
        if by == "VideoRoom":
            refusal = event(sender, videoroom="event", error_code=430, error="Invalid element")
        fake.answers["subscribe"] = fake.answers["configure"] = None
        subscriber.feed.set_media({**MEDIA, "1": MediaKind.VIDEO})
        await fake.until("subscribe")
        publisher.reverse_layers(subscriber.feed)
        await fake.until("configure")
        request = "configure" if refused == "layer" else "subscribe"
        await fake.reply(request, refusal)
        refreshing = asyncio.create_task(subscriber.refresh())
        if refused == "layer":
            await subscriber.session.request("info")  # the error was handled before this answer
            await fake.reply("subscribe", offer_event(sender, "0", "1"))
        else:
            await fake.until("configure", 2)
            await fake.reply("configure", offer_event(sender, "0", "1"))
        assert "offer of 2" in str(await refreshing)
        updates = [request for request in fake.received("configure") if request["body"].get("update")]
        assert len(updates) == (0 if refused == "layer" else 1)
