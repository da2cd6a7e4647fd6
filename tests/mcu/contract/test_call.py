"""A call through an SFU: video, audio and data channels reach the subscribers, which wait for their publisher."""

from __future__ import annotations

import asyncio

import pytest

from mcu.base import (
    BackendId,
    McuTimeout,
    MediaKind,
    NoSuchStream,
    PublisherId,
    PublishOptions,
    StreamKey,
    StreamType,
    SubscribeOptions,
)
from tests.mcu.contract.clients import KEY, sender, viewer
from tests.mcu.contract.sfus import Sfu
from tests.mcu.descriptions import parse_frozen

OTHER_STREAM = StreamKey(BackendId("cloud"), PublisherId("bob"), StreamType.SCREEN)


async def test_two_subscribers_receive_audio_video_and_data_of_their_publisher(sfu: Sfu) -> None:
    async with sender(21, 440.0) as alice, sender(42, 880.0) as bob, viewer() as carol, viewer() as dave:
        await alice.publish(sfu.mcu)
        await bob.publish(sfu.mcu, OTHER_STREAM)
        await carol.subscribe(sfu.mcu)
        await dave.subscribe(sfu.mcu)
        for watcher in (carol, dave):
            await watcher.peer.wait_for_picture(21)
            await watcher.peer.wait_for_tone(440.0)
            assert set(watcher.peer.numbers.values()) == {21}
        await alice.peer.send_message("status", "muted")
        await alice.peer.send_message("status", b"\x00\xff")
        for watcher in (carol, dave):
            await watcher.peer.wait_for_message("status", "muted")
            await watcher.peer.wait_for_message("status", b"\x00\xff")
        await alice.until(
            lambda: {(MediaKind.AUDIO, True), (MediaKind.VIDEO, True)} <= set(alice.media), "that media flow"
        )
        sfus = sfu.mcu.status().sfus
        assert (sum(one.publishers for one in sfus), sum(one.subscribers for one in sfus)) == (2, 2)
        assert await sfu.open_streams() == 4
        await bob.publisher.close()
        await alice.publisher.close()
        assert await sfu.open_streams() == 0
    assert alice.closed == []


async def test_subscriber_waits_for_its_publisher(sfu: Sfu) -> None:
    async with sender(7, 660.0) as alice, viewer() as carol:
        early = asyncio.create_task(carol.subscribe(sfu.mcu))
        await alice.publish(sfu.mcu)
        await early
        await carol.peer.wait_for_picture(7)
        await carol.peer.wait_for_tone(660.0)


async def test_subscribing_to_an_unpublished_stream_raises_no_such_stream(sfu: Sfu) -> None:
    async with viewer() as carol:
        with pytest.raises(NoSuchStream):
            await carol.subscribe(sfu.mcu, KEY, SubscribeOptions(timeout=0.3))
    assert await sfu.open_streams() == 0


async def test_subscribing_to_a_publisher_that_never_connects_times_out(sfu: Sfu) -> None:
    async with sender() as alice, viewer() as carol:
        alice.publisher, _ = await sfu.mcu.publish(KEY, parse_frozen(await alice.peer.offer()), PublishOptions(), alice)
        with pytest.raises(McuTimeout):
            await carol.subscribe(sfu.mcu, KEY, SubscribeOptions(timeout=0.7))
        await alice.publisher.close()
    assert await sfu.open_streams() == 0


async def test_data_channels_of_the_publisher_and_no_others_reach_its_subscriber(sfu: Sfu) -> None:
    async with sender(45, channels=()) as alice, viewer() as carol:
        await alice.publish(sfu.mcu)
        await carol.subscribe(sfu.mcu)
        await carol.peer.wait_for_picture(45)
        assert carol.peer.channels == {}
        await alice.publisher.close()
    async with sender(46, channels=("status", "unordered-chat")) as bob, viewer() as dave:
        await bob.publish(sfu.mcu)
        await dave.subscribe(sfu.mcu)
        await dave.peer.wait_for_picture(46)
        sent = [f"word {number}" for number in range(50)]
        for text in sent:
            await bob.peer.send_message("status", text)
        await bob.peer.send_message("unordered-chat", b"\x00" * 1000)
        await dave.peer.wait_for_message("unordered-chat", b"\x00" * 1000)
        await dave.peer.wait_for_message("status", sent[-1])
        assert [data for label, data in dave.peer.messages if label == "status"] == sent
