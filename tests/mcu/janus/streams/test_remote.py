"""A stream that goes on from one real Janus to another: with media, for those who are served better there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcu.base import CloseReason, MediaKind, MediaSelection, PublishOptions, SubscribeOptions
from tests.janus_process import ADMIN_KEY, API_SECRET, JanusApi, JanusProcess
from tests.mcu.descriptions import described
from tests.mcu.janus.conftest import CAMERA, INSTANCE, Heard
from tests.mcu.janus.several import Several, comes_to, several
from tests.media.loopback import loopback

__all__ = ["loopback"]

IN_US = PublishOptions(country="US")
FROM_US = SubscribeOptions(country="US")
FROM_DE = SubscribeOptions(country="DE")
QUICK = 4.0  # seconds for a picture: without a keyframe that is asked for, aiortc sends one each 30 s or so


@pytest.fixture
async def pool(loopback: None) -> AsyncIterator[Several]:
    """Return one Janus in the US and one in Germany."""
    async with several(2, remote_streams=True) as pool:
        pool.change(0, country="US")
        pool.change(1, country="DE")
        await pool.start()
        yield pool


async def test_a_stream_goes_on_once_for_all_subscribers_there_and_ends_with_the_last(pool: Several) -> None:
    call = pool.call()
    publisher, sender, _ = await call.publisher(5, video=True, channels=False, options=IN_US)
    _, local, _ = await call.subscriber(options=FROM_US)
    await local.wait_for_picture(5)
    assert await pool.rooms() == [1, 0]
    joined = await asyncio.gather(*(call.subscriber(options=FROM_DE) for _ in range(3)))
    for _, watcher, _ in joined:
        await watcher.wait_for_picture(5, QUICK)
        await watcher.wait_for_tone(sender.frequency)
    assert await pool.rooms() == [1, 1]
    assert await pool.handles() == [2, 3]
    assert await forwarded(pool, publisher.feed.room) == 1
    assert [(sfu.publishers, sfu.subscribers) for sfu in pool.mcu.status().sfus] == [(1, 1), (0, 3)]
    for subscriber, _, _ in joined[:2]:
        await subscriber.close()
    await joined[2][1].wait_for_picture(5)
    assert await pool.rooms() == [1, 1]
    await joined[2][0].close()
    await comes_to(pool.rooms, [1, 0])
    assert await forwarded(pool, publisher.feed.room) == 0
    await local.wait_for_picture(5)
    _, watcher, _ = await call.subscriber(options=FROM_DE)
    await watcher.wait_for_picture(5, QUICK)
    await publisher.close()
    await pool.is_clean()


async def forwarded(pool: Several, room: int) -> int:
    """Ask the source itself to how many other Janus a room's publisher goes on."""
    secrets = {"apisecret": API_SECRET}
    async with JanusApi(pool.janus[0].url, "janus-protocol", secrets) as janus:
        session = (await janus.request(janus="create"))["data"]["id"]
        attached = await janus.request(janus="attach", session_id=session, plugin="janus.plugin.videoroom")
        body = {"request": "listremotes", "room": room, "publisher_id": 1}
        answer = await janus.request(janus="message", session_id=session, handle_id=attached["data"]["id"], body=body)
        await janus.request(janus="destroy", session_id=session)
    return len(answer["plugindata"]["data"]["list"])


@pytest.mark.full
async def test_a_subscriber_that_comes_late_gets_a_picture_at_once(pool: Several) -> None:
    call = pool.call()
    await call.publisher(6, video=True, channels=False, options=IN_US)
    _, first, _ = await call.subscriber(options=FROM_DE)
    await first.wait_for_picture(6, QUICK)
    for _ in range(3):
        _, late, _ = await call.subscriber(options=FROM_DE)
        await late.wait_for_picture(6, QUICK)


@pytest.mark.full
async def test_an_added_camera_is_offered_there_too(pool: Several) -> None:
    call = pool.call()
    publisher, sender, _ = await call.publisher(3, channels=False, options=IN_US)
    subscriber, watcher, heard = await call.subscriber(options=FROM_DE)
    await watcher.wait_for_tone(sender.frequency)
    sender.add_camera()
    await sender.accept(await publisher.update(described(await sender.offer())))
    await heard.until(lambda: bool(heard.offers))
    await subscriber.accept(described(await watcher.answer(heard.offers[0])))
    await watcher.wait_for_picture(3, QUICK)
    sender.switch_camera(False)
    await sender.accept(await publisher.update(described(await sender.offer())))
    _, later, _ = await call.subscriber(options=FROM_DE)
    await later.wait_for_tone(sender.frequency)
    sender.switch_camera(True)
    await sender.accept(await publisher.update(described(await sender.offer())))
    await watcher.wait_for_picture(3)
    await later.wait_for_picture(3)


@pytest.mark.full
async def test_the_end_of_the_publisher_is_told_there(pool: Several) -> None:
    call = pool.call()
    await call.publisher(1, options=IN_US)
    _, _, heard = await call.subscriber(options=FROM_DE)
    publisher, _, _ = await call.publisher(2, options=IN_US)
    assert await heard.end() is CloseReason.REPLACED
    _, _, again = await call.subscriber(options=FROM_DE)
    await publisher.close()
    assert await again.end() is CloseReason.PUBLISHER_GONE
    await pool.is_clean()


@pytest.mark.full
async def test_the_death_of_the_source_ends_it_and_so_does_that_of_the_target(pool: Several) -> None:
    call = pool.call()
    publisher, _, own = await call.publisher(1, video=True, channels=False, options=IN_US)
    _, watcher, heard = await call.subscriber(options=FROM_DE)
    _, local, local_heard = await call.subscriber(options=FROM_US)
    await watcher.wait_for_picture(1)
    await pool.janus[1].kill()
    assert await heard.end() is CloseReason.LOST
    _, back, _ = await call.subscriber(options=FROM_DE)  # over the source meanwhile
    await back.wait_for_picture(1)
    await local.wait_for_picture(1)
    assert (own.closed, local_heard.closed) == ([], [])
    await comes_to_forwarded(pool, publisher.feed.room, 0)
    await pool.janus[1].start()
    await pool.states.until(lambda status: status.sfus[1].state.value == "ready")
    _, there, there_heard = await call.subscriber(options=FROM_DE)
    await there.wait_for_picture(1)
    assert await pool.rooms() == [1, 1]
    await pool.janus[0].kill()
    assert await there_heard.end() is CloseReason.LOST
    assert await own.end() is CloseReason.LOST

    async def rooms() -> int:
        return len(await pool.janus[1].rooms())

    await comes_to(rooms, 0)


async def comes_to_forwarded(pool: Several, room: int, count: int) -> None:
    async def ask() -> int:
        return await forwarded(pool, room)

    await comes_to(ask, count)


@pytest.mark.full
async def test_h264_and_a_selection_work_there(pool: Several) -> None:
    call = pool.call()
    options = PublishOptions(country="US", videocodecs=("h264",))
    _, sender, _ = await call.publisher(7, video=True, channels=False, options=options)
    subscriber, watcher, _ = await call.subscriber(
        options=SubscribeOptions(country="DE", selection=MediaSelection(video=False))
    )
    await watcher.wait_for_tone(sender.frequency)
    assert watcher.frames == {}
    await subscriber.select(MediaSelection(video=True))
    await watcher.wait_for_picture(7, QUICK)
    codecs = {report.codec for report in pool.mcu.streams() if report.kind is MediaKind.VIDEO and report.subscriber}
    assert codecs == {"h264"}


@pytest.mark.full
async def test_where_streams_may_not_go_on_the_source_serves(loopback: None) -> None:
    async with several(2) as pool:
        pool.change(0, country="US", remote_streams=True)
        pool.change(1, country="DE")
        await pool.start()
        call = pool.call()
        _, sender, _ = await call.publisher(1, options=IN_US)
        _, watcher, _ = await call.subscriber(options=FROM_DE)
        await watcher.wait_for_tone(sender.frequency)
        assert await pool.rooms() == [1, 0]


@pytest.mark.full
async def test_where_it_does_not_come_about_the_source_serves(loopback: None) -> None:
    async with several(2, remote_streams=True) as pool:
        pool.change(0, country="US", address="neither.is.this.invalid")
        pool.change(1, country="DE", address="no.such.host.invalid")
        await pool.start()
        call = pool.call()
        _, sender, _ = await call.publisher(1, options=IN_US)
        _, watcher, _ = await call.subscriber(options=FROM_DE)
        await watcher.wait_for_tone(sender.frequency)
        await comes_to(pool.rooms, [1, 0])
        await comes_to(pool.handles, [2, 0])


@pytest.mark.full
async def test_who_is_short_of_time_does_not_speak_for_those_who_come_after(pool: Several) -> None:
    call = pool.call()
    _, sender, _ = await call.publisher(1, options=IN_US)
    await call.subscriber(options=FROM_US)  # so its connection is up
    pool.janus[1].freeze()
    _, watcher, _ = await call.subscriber(options=SubscribeOptions(timeout=0.8, country="DE"))
    await watcher.wait_for_tone(sender.frequency)
    pool.janus[1].thaw()
    await comes_to(pool.rooms, [1, 0])
    _, watcher, _ = await call.subscriber(options=FROM_DE)
    await watcher.wait_for_tone(sender.frequency)
    assert await pool.rooms() == [1, 1]


@pytest.mark.full
async def test_cancelled_calls_leave_nothing_there(pool: Several) -> None:
    publisher, sender, _ = await pool.call().publisher(1, options=IN_US)
    await sender.connected()
    for step in range(20):
        subscribing = asyncio.create_task(pool.mcu.subscribe(CAMERA, FROM_DE, Heard()))
        await asyncio.sleep(step * 0.001)
        subscribing.cancel()
        await asyncio.wait([subscribing])
        if not subscribing.cancelled():
            await subscribing.result()[0].close()
    await comes_to(pool.rooms, [1, 0])
    await comes_to(pool.handles, [1, 0])
    assert await forwarded(pool, publisher.feed.room) == 0


@pytest.mark.full
async def test_coming_and_going_again_and_again_crashes_nobody(pool: Several) -> None:
    _, sender, _ = await pool.call().publisher(1, video=True, options=IN_US)
    await sender.connected()
    for _ in range(40):
        subscriber, _ = await pool.mcu.subscribe(CAMERA, FROM_DE, Heard())
        await subscriber.close()
    await comes_to(pool.rooms, [1, 0])
    assert all(janus.runs for janus in pool.janus)
    assert threads(pool.janus[1]) == 0


def threads(janus: JanusProcess) -> int:
    """Count the threads of a Janus that receive streams of others; each of them holds two ports."""
    names = [path.read_text() for path in Path(f"/proc/{janus.pid}/task").glob("*/comm")]
    return sum(name.startswith("vremote") for name in names)


@pytest.mark.full
async def test_what_a_killed_gateway_left_there_goes_with_its_ports(
    loopback: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcu.janus.rooms.sweep.FIRST", (0.1,))
    monkeypatch.setattr("mcu.janus.rooms.sweep.EVERY", 0.1)
    async with several(1) as pool:
        (janus,) = pool.janus
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
        assert await pool.rooms() == [1]
        assert threads(janus) == 1
        await pool.start()
        await comes_to(pool.rooms, [0])

        async def running() -> int:
            return threads(janus)

        await comes_to(running, 0)
        assert janus.runs


@pytest.mark.full
async def test_data_arrive_there_under_the_number_of_the_feed(pool: Several) -> None:
    """Labels do not travel between two Janus: docs/mcu.md, "Several Janus"."""
    call = pool.call()
    _, sender, _ = await call.publisher(1, options=IN_US)
    _, watcher, _ = await call.subscriber(options=FROM_DE)
    await watcher.wait_for_tone(sender.frequency)
    for step in range(5):
        await sender.send_message("status", f"{step}")
    await sender.send_message("unordered", b"\x00\xff")
    await watcher.until(lambda: len(watcher.messages) == 6, "what was said")
    assert watcher.messages == [("1", f"{step}") for step in range(5)] + [("1", b"\x00\xff")]
