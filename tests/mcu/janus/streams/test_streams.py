"""Streams through a real Janus: media and data reach the subscribers, which wait for their publisher."""

from __future__ import annotations

import asyncio
import contextlib
import json
from contextlib import AsyncExitStack

import pytest

from mcu.base import (
    McuTimeout,
    MediaKind,
    MediaSelection,
    NoSuchStream,
    PublishOptions,
    SubscribeOptions,
    TransportState,
)
from mcu.janus.backend import JanusMcu
from mcu.janus.connection.messages import parse
from mcu.janus.streams.publisher import JanusPublisher
from tests.janus_process import JanusProcess
from tests.mcu.descriptions import parse_frozen
from tests.mcu.janus.conftest import (
    CAMERA,
    PUBLISH,
    SCREEN,
    WAIT,
    JanusCall,
    WaitableListener,
    counts,
    settings_for,
)
from tests.media import PublishingPeer

pytestmark = pytest.mark.usefixtures("janus_version")


async def test_video_audio_and_data_of_two_streams_reach_their_own_subscribers(call: JanusCall) -> None:
    _, camera, listener = await call.publish(5, video=True)
    _, screen, _ = await call.publish(9, key=SCREEN, audio=False, video=True, channels=False)
    _, first, _ = await call.subscribe()
    _, second, _ = await call.subscribe()
    _, third, _ = await call.subscribe(SCREEN)
    await asyncio.gather(first.wait_for_picture(5), second.wait_for_picture(5), third.wait_for_picture(9))
    await asyncio.gather(first.wait_for_tone(camera.frequency), second.wait_for_tone(camera.frequency))
    await listener.until(lambda: {(MediaKind.AUDIO, True), (MediaKind.VIDEO, True)} <= set(listener.media))
    assert screen.number not in first.numbers.values()


async def test_a_message_arrives_with_the_label_of_its_data_channel(call: JanusCall) -> None:
    _, sender, _ = await call.publish()
    _, first, _ = await call.subscribe()
    _, second, _ = await call.subscribe()
    await asyncio.gather(first.wait_until_connected(), second.wait_until_connected())
    for step in range(20):
        await sender.send_message("status", f"{step}")
    await sender.send_message("unordered", b"\x00\xff")
    for watcher in (first, second):
        await watcher.wait_for_message("unordered", b"\x00\xff")
        await watcher.wait_for_message("status", "19")
        ordered = [text for label, text in watcher.messages if label == "status"]
        assert ordered == [f"{step}" for step in range(20)]


async def test_a_subscriber_may_come_before_the_publisher(call: JanusCall) -> None:
    waiting = asyncio.create_task(call.subscribe())
    await asyncio.sleep(0)
    _, sender, _ = await call.publish()
    _, watcher, _ = await waiting
    await watcher.wait_for_tone(sender.frequency)


async def test_a_stream_without_a_publisher_by_the_deadline_does_not_exist(mcu: JanusMcu) -> None:
    with pytest.raises(NoSuchStream):
        await mcu.subscribe(CAMERA, SubscribeOptions(timeout=0.2), WaitableListener())


async def test_a_subscription_to_an_unconnected_publisher_times_out_and_leaves_no_handle(
    call: JanusCall, mcu: JanusMcu, janus: JanusProcess
) -> None:
    async with PublishingPeer(1, 440.0, video=False) as silent:
        publisher, _ = await mcu.publish(CAMERA, parse_frozen(await silent.offer()), PUBLISH, WaitableListener())
        with pytest.raises(McuTimeout):
            await mcu.subscribe(CAMERA, SubscribeOptions(timeout=0.3), WaitableListener())
        assert await counts(janus) == (1, 1)
        await publisher.close()


async def test_slow_link_is_reported(call: JanusCall) -> None:
    publisher, _, published = await call.publish()
    subscriber, _, subscribed = await call.subscribe()
    for peer, listener in ((subscriber, subscribed), (publisher, published)):
        event = {"janus": "slowlink", "session_id": peer.session.id, "sender": peer.handle.id, "uplink": True}
        peer.session.receive(parse(json.dumps({**event, "lost": 40})))
        assert listener.transport[-1] is TransportState.SLOW_LINK


async def test_the_ceiling_and_the_limit_reach_the_encoder(call: JanusCall) -> None:
    publisher, sender, _ = await call.publish(1, video=True, options=PublishOptions(bitrate=600_000))
    _, watcher, _ = await call.subscribe()  # the conditions below are checked at each of its frames
    await watcher.until(lambda: sender.video_bitrate == 600_000, "the ceiling")
    await publisher.limit(350_000)
    await watcher.until(lambda: sender.video_bitrate == 350_000, "the limit")
    await publisher.request_keyframe()


async def test_media_selected_at_the_start_and_later_are_received(call: JanusCall) -> None:
    _, sender, _ = await call.publish(6, video=True)
    subscriber, watcher, _ = await call.subscribe(options=SubscribeOptions(selection=MediaSelection(video=False)))
    await watcher.wait_for_tone(sender.frequency)
    assert watcher.frames == {}
    await subscriber.select(MediaSelection(video=True))
    await watcher.wait_for_picture(6)


async def test_the_unchanged_videoroom_names_the_channel_after_the_feed_and_waits_for_a_channel(loopback: None) -> None:
    """The reason for ``janus-config/datachannels.c`` (docs/janus.md, "Data channels")."""
    async with JanusProcess(DATACHANNELS="") as process, AsyncExitStack() as stack:
        mcu = JanusMcu((settings_for(process),), timeout=WAIT)
        await mcu.start(lambda status: None)
        call = JanusCall(mcu, stack)
        _, sender, _ = await call.publish()
        _, silent, _ = await call.subscribe()
        _, opening, _ = await call.subscribe()
        opened = opening.pc.createDataChannel("of the subscriber")
        await opening.until(lambda: opened.readyState == "open", "an open channel")
        await silent.wait_until_connected()

        async def arrives() -> None:
            while ("1", "hello") not in opening.messages:  # Janus is ready a moment after the channel is open
                await sender.send_message("status", "hello")
                with contextlib.suppress(AssertionError):
                    await opening.until(lambda: bool(opening.messages), "a message", 0.2)

        await asyncio.wait_for(arrives(), WAIT)
        assert silent.messages == []
        await mcu.stop()


async def test_a_subscriber_that_janus_refuses_as_too_early_waits_for_the_publishers_connection(
    call: JanusCall, mcu: JanusMcu
) -> None:
    async with PublishingPeer(1, 440.0, video=False) as sender:
        publisher, answer = await mcu.publish(CAMERA, parse_frozen(await sender.offer()), PUBLISH, WaitableListener())
        assert isinstance(publisher, JanusPublisher)
        publisher.on_event(parse('{"janus": "webrtcup"}'))  # too early: Janus answers a join with 428
        waiting = asyncio.create_task(call.subscribe())
        with pytest.raises(McuTimeout):
            await mcu.subscribe(CAMERA, SubscribeOptions(timeout=0.3), WaitableListener())
        await sender.accept(answer)
        _, watcher, _ = await waiting
        await watcher.wait_for_tone(440.0)
