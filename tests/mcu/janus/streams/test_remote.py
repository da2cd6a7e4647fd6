"""A stream that is forwarded from one real Janus to another, for subscribers that the other serves better."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcu.base import CloseReason, MediaKind, MediaSelection, PublishOptions, SubscribeOptions
from tests.janus_process import ADMIN_KEY, API_SECRET, JanusApi, JanusProcess
from tests.mcu.janus.conftest import CAMERA, INSTANCE, WaitableListener, answer_offer, renegotiate
from tests.mcu.janus.janus_group import JanusGroup, start_several, until_equal
from tests.media.loopback import loopback

pytestmark = pytest.mark.usefixtures("janus_version")

__all__ = ["loopback"]

IN_US = PublishOptions(country="US")
FROM_US = SubscribeOptions(country="US")
FROM_DE = SubscribeOptions(country="DE")
# Seconds. Video within this time proves a keyframe request: without one, aiortc sends a keyframe about every 30 s.
PICTURE_TIMEOUT = 4.0


@pytest.fixture
async def group(loopback: None) -> AsyncIterator[JanusGroup]:
    """Start one Janus in the US and one in Germany."""
    async with start_several(2, remote_streams=True) as group:
        group.change(0, country="US")
        group.change(1, country="DE")
        await group.start()
        yield group


async def test_a_stream_is_forwarded_once_for_all_subscribers_and_ends_with_the_last(group: JanusGroup) -> None:
    call = group.new_call()
    publisher, sender, _ = await call.publish(5, video=True, channels=False, options=IN_US)
    _, local, _ = await call.subscribe(options=FROM_US)
    await local.wait_for_picture(5)
    assert await group.room_counts() == [1, 0]
    joined = await asyncio.gather(*(call.subscribe(options=FROM_DE) for _ in range(3)))
    for _, watcher, _ in joined:
        await watcher.wait_for_picture(5, PICTURE_TIMEOUT)
        await watcher.wait_for_tone(sender.frequency)
    assert await group.room_counts() == [1, 1]
    assert await group.handle_counts() == [2, 3]
    assert await forward_count(group, publisher.feed.room) == 1
    assert [(sfu.publishers, sfu.subscribers) for sfu in group.mcu.status().sfus] == [(1, 1), (0, 3)]
    for subscriber, _, _ in joined[:2]:
        await subscriber.close()
    await joined[2][1].wait_for_picture(5)
    assert await group.room_counts() == [1, 1]
    await joined[2][0].close()
    await until_equal(group.room_counts, [1, 0])
    assert await forward_count(group, publisher.feed.room) == 0
    await local.wait_for_picture(5)
    _, watcher, _ = await call.subscribe(options=FROM_DE)
    await watcher.wait_for_picture(5, PICTURE_TIMEOUT)
    await publisher.close()
    await group.until_clean()


async def forward_count(group: JanusGroup, room: int) -> int:
    """Return the number of other Janus to which the source forwards the publisher of a room."""
    secrets = {"apisecret": API_SECRET}
    async with JanusApi(group.janus[0].url, "janus-protocol", secrets) as janus:
        session = (await janus.request(janus="create"))["data"]["id"]
        attached = await janus.request(janus="attach", session_id=session, plugin="janus.plugin.videoroom")
        body = {"request": "listremotes", "room": room, "publisher_id": 1}
        answer = await janus.request(janus="message", session_id=session, handle_id=attached["data"]["id"], body=body)
        await janus.request(janus="destroy", session_id=session)
    return len(answer["plugindata"]["data"]["list"])


@pytest.mark.full
async def test_a_late_subscriber_gets_video_at_once(group: JanusGroup) -> None:
    call = group.new_call()
    await call.publish(6, video=True, channels=False, options=IN_US)
    _, first, _ = await call.subscribe(options=FROM_DE)
    await first.wait_for_picture(6, PICTURE_TIMEOUT)
    for _ in range(3):
        _, late, _ = await call.subscribe(options=FROM_DE)
        await late.wait_for_picture(6, PICTURE_TIMEOUT)


@pytest.mark.full
async def test_an_added_camera_is_offered_at_the_target(group: JanusGroup) -> None:
    call = group.new_call()
    publisher, sender, _ = await call.publish(3, channels=False, options=IN_US)
    subscriber, watcher, listener = await call.subscribe(options=FROM_DE)
    await watcher.wait_for_tone(sender.frequency)
    sender.add_camera()
    await renegotiate(publisher, sender)
    await listener.until(lambda: bool(listener.offers))
    await answer_offer(subscriber, watcher, listener.offers[0])
    await watcher.wait_for_picture(3, PICTURE_TIMEOUT)
    sender.switch_camera(False)
    await renegotiate(publisher, sender)
    _, later, _ = await call.subscribe(options=FROM_DE)
    await later.wait_for_tone(sender.frequency)
    sender.switch_camera(True)
    await renegotiate(publisher, sender)
    await watcher.wait_for_picture(3)
    await later.wait_for_picture(3)


@pytest.mark.full
async def test_the_end_of_the_publisher_ends_the_subscriptions_at_the_target(group: JanusGroup) -> None:
    call = group.new_call()
    await call.publish(1, options=IN_US)
    _, _, listener = await call.subscribe(options=FROM_DE)
    publisher, _, _ = await call.publish(2, options=IN_US)
    assert await listener.close_reason() is CloseReason.REPLACED
    _, _, again = await call.subscribe(options=FROM_DE)
    await publisher.close()
    assert await again.close_reason() is CloseReason.PUBLISHER_GONE
    await group.until_clean()


@pytest.mark.full
async def test_killing_the_target_or_the_source_ends_the_forwarded_stream(group: JanusGroup) -> None:
    call = group.new_call()
    publisher, _, own = await call.publish(1, video=True, channels=False, options=IN_US)
    _, watcher, listener = await call.subscribe(options=FROM_DE)
    _, local, local_listener = await call.subscribe(options=FROM_US)
    await watcher.wait_for_picture(1)
    await group.janus[1].kill()
    assert await listener.close_reason() is CloseReason.LOST
    _, back, _ = await call.subscribe(options=FROM_DE)  # served by the source meanwhile
    await back.wait_for_picture(1)
    await local.wait_for_picture(1)
    assert (own.closed, local_listener.closed) == ([], [])
    await until_forward_count(group, publisher.feed.room, 0)
    await group.janus[1].start()
    await group.states.until(lambda status: status.sfus[1].state.value == "ready")
    _, at_target, target_listener = await call.subscribe(options=FROM_DE)
    await at_target.wait_for_picture(1)
    assert await group.room_counts() == [1, 1]
    await group.janus[0].kill()
    assert await target_listener.close_reason() is CloseReason.LOST
    assert await own.close_reason() is CloseReason.LOST

    async def rooms() -> int:
        return len(await group.janus[1].rooms())

    await until_equal(rooms, 0)


async def until_forward_count(group: JanusGroup, room: int, count: int) -> None:
    async def ask() -> int:
        return await forward_count(group, room)

    await until_equal(ask, count)


@pytest.mark.full
async def test_h264_and_a_selection_work_at_the_target(group: JanusGroup) -> None:
    call = group.new_call()
    options = PublishOptions(country="US", videocodecs=("h264",))
    _, sender, _ = await call.publish(7, video=True, channels=False, options=options)
    subscriber, watcher, _ = await call.subscribe(
        options=SubscribeOptions(country="DE", selection=MediaSelection(video=False))
    )
    await watcher.wait_for_tone(sender.frequency)
    assert watcher.frames == {}
    await subscriber.select(MediaSelection(video=True))
    await watcher.wait_for_picture(7, PICTURE_TIMEOUT)
    codecs = {report.codec for report in group.mcu.streams() if report.kind is MediaKind.VIDEO and report.subscriber}
    assert codecs == {"h264"}


@pytest.mark.full
async def test_the_source_serves_where_forwarding_is_off(loopback: None) -> None:
    async with start_several(2) as group:
        group.change(0, country="US", remote_streams=True)
        group.change(1, country="DE")
        await group.start()
        call = group.new_call()
        _, sender, _ = await call.publish(1, options=IN_US)
        _, watcher, _ = await call.subscribe(options=FROM_DE)
        await watcher.wait_for_tone(sender.frequency)
        assert await group.room_counts() == [1, 0]


@pytest.mark.full
async def test_the_source_serves_where_forwarding_fails(loopback: None) -> None:
    async with start_several(2, remote_streams=True) as group:
        group.change(0, country="US", address="no.such.source.invalid")
        group.change(1, country="DE", address="no.such.target.invalid")
        await group.start()
        call = group.new_call()
        _, sender, _ = await call.publish(1, options=IN_US)
        _, watcher, _ = await call.subscribe(options=FROM_DE)
        await watcher.wait_for_tone(sender.frequency)
        await until_equal(group.room_counts, [1, 0])
        await until_equal(group.handle_counts, [2, 0])


@pytest.mark.full
async def test_a_subscriber_with_little_time_does_not_suspend_forwarding_for_later_ones(group: JanusGroup) -> None:
    call = group.new_call()
    _, sender, _ = await call.publish(1, options=IN_US)
    await call.subscribe(options=FROM_US)  # so that the publisher is connected
    group.janus[1].freeze()
    _, watcher, _ = await call.subscribe(options=SubscribeOptions(timeout=0.8, country="DE"))
    await watcher.wait_for_tone(sender.frequency)
    group.janus[1].thaw()
    await until_equal(group.room_counts, [1, 0])
    _, watcher, _ = await call.subscribe(options=FROM_DE)
    await watcher.wait_for_tone(sender.frequency)
    assert await group.room_counts() == [1, 1]


@pytest.mark.full
async def test_cancelled_subscribes_leave_nothing_at_the_target(group: JanusGroup) -> None:
    publisher, sender, _ = await group.new_call().publish(1, options=IN_US)
    await sender.wait_until_connected()
    for step in range(20):
        subscribing = asyncio.create_task(group.mcu.subscribe(CAMERA, FROM_DE, WaitableListener()))
        await asyncio.sleep(step * 0.001)
        subscribing.cancel()
        await asyncio.wait([subscribing])
        if not subscribing.cancelled():
            await subscribing.result()[0].close()
    await until_equal(group.room_counts, [1, 0])
    await until_equal(group.handle_counts, [1, 0])
    assert await forward_count(group, publisher.feed.room) == 0


@pytest.mark.full
async def test_subscribing_and_closing_repeatedly_crashes_neither_janus(group: JanusGroup) -> None:
    _, sender, _ = await group.new_call().publish(1, video=True, options=IN_US)
    await sender.wait_until_connected()
    for _ in range(40):
        subscriber, _ = await group.mcu.subscribe(CAMERA, FROM_DE, WaitableListener())
        await subscriber.close()
    await until_equal(group.room_counts, [1, 0])
    assert all(janus.runs for janus in group.janus)
    assert receiver_threads(group.janus[1]) == 0


def receiver_threads(janus: JanusProcess) -> int:
    """Return the number of threads of a Janus that receive forwarded streams; each has two ports."""
    names = [path.read_text() for path in Path(f"/proc/{janus.pid}/task").glob("*/comm")]
    return sum(name.startswith("vremote") for name in names)


@pytest.mark.full
async def test_a_copy_left_by_a_killed_gateway_is_removed_with_its_room_and_ports(
    loopback: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcu.janus.rooms.sweep.FIRST_PAUSES", (0.1,))
    monkeypatch.setattr("mcu.janus.rooms.sweep.PAUSE", 0.1)
    async with start_several(1) as group:
        (janus,) = group.janus
        room = {"room": 1234, "description": f"portunus|{INSTANCE}|cloud|x|video|remote", "admin_key": ADMIN_KEY}
        stream = {"mid": "0", "mindex": 0, "type": "audio", "codec": "opus"}
        async with JanusApi(janus.url, "janus-protocol", {"apisecret": API_SECRET}) as other:
            session = (await other.request(janus="create"))["data"]["id"]
            handle = await other.request(janus="attach", session_id=session, plugin="janus.plugin.videoroom")
            for body in (
                {"request": "create", "is_private": True, **room},
                {"request": "add_remote_publisher", "room": 1234, "id": 1, "streams": [stream]},
            ):
                await other.request(janus="message", session_id=session, handle_id=handle["data"]["id"], body=body)
            await other.request(janus="destroy", session_id=session)
        assert await group.room_counts() == [1]

        async def running() -> int:
            return receiver_threads(janus)

        await until_equal(running, 1)  # the thread takes its name after the answer
        await group.start()
        await until_equal(group.room_counts, [0])
        await until_equal(running, 0)
        assert janus.runs


@pytest.mark.full
async def test_data_channel_label_at_the_target_is_the_feed_id(group: JanusGroup) -> None:
    """Labels are not forwarded to another Janus (docs/mcu.md, "Several Janus")."""
    call = group.new_call()
    _, sender, _ = await call.publish(1, options=IN_US)
    _, watcher, _ = await call.subscribe(options=FROM_DE)
    await watcher.wait_for_tone(sender.frequency)
    for step in range(5):
        await sender.send_message("status", f"{step}")
    await sender.send_message("unordered", b"\x00\xff")
    await watcher.until(lambda: len(watcher.messages) == 6, "all messages")
    assert watcher.messages == [("1", f"{step}") for step in range(5)] + [("1", b"\x00\xff")]
