"""What a real Janus says while the connection breaks is lost, and made up for."""

from __future__ import annotations

import asyncio

import pytest

from mcu.base import (
    CloseReason,
    McuLost,
    MediaKind,
    MediaSelection,
    PublishOptions,
    SubscribeOptions,
)
from tests.mcu.descriptions import described
from tests.mcu.janus.conftest import CAMERA, Heard
from tests.mcu.janus.house import House, house
from tests.media import PublishingPeer

__all__ = ["house"]


@pytest.mark.parametrize(
    "answer",
    ['"data":{"id"', '"videoroom":"created"', '"videoroom":"joined"', '"configured":"ok"', '"janus":"webrtcup"'],
)
@pytest.mark.parametrize("admin", [True, False])
async def test_what_janus_says_while_a_stream_is_published_may_be_lost(house: House, answer: str, admin: bool) -> None:
    call = await house.open(admin=admin)
    house.relay.swallow(answer)
    waiting = asyncio.create_task(call.subscriber())
    publisher, sender, _ = await call.publisher()
    _, watcher, _ = await waiting
    assert house.relay.swallowed.is_set()
    await watcher.wait_for_tone(sender.frequency)
    orphans = 0 if admin or answer != '"data":{"id"' else 1  # a handle whose number nobody was told
    await house.comes_to(rooms=1, handles=2 + orphans)
    await publisher.close()
    await house.comes_to(rooms=0, handles=orphans)


@pytest.mark.parametrize("answer", ['"data":{"id"', '"videoroom":"attached"', '"configured":"ok"', '"started":"ok"'])
async def test_what_janus_says_while_somebody_subscribes_may_be_lost(house: House, answer: str) -> None:
    call = await house.open(admin=True)
    _, sender, _ = await call.publisher()
    await sender.connected()
    house.relay.swallow(answer)
    _, watcher, heard = await call.subscriber(options=SubscribeOptions(selection=MediaSelection(audio=True)))
    await watcher.wait_for_tone(sender.frequency)
    assert house.relay.swallowed.is_set()
    assert heard.closed == []
    await house.comes_to(rooms=1, handles=2)


async def test_an_offer_that_was_lost_begins_the_subscription_anew(house: House) -> None:
    call = await house.open()
    publisher, sender, _ = await call.publisher(8)
    _, watcher, heard = await call.subscriber()
    await watcher.wait_for_tone(sender.frequency)
    house.relay.swallow('"type":"offer"')
    sender.add_camera()
    await sender.accept(await publisher.update(described(await sender.offer())))
    assert await heard.end() is CloseReason.REPLACED
    _, watcher, _ = await call.subscriber()
    await watcher.wait_for_picture(8)
    await house.comes_to(rooms=1, handles=2)


async def test_a_refresh_whose_offer_was_lost_fails_and_begins_anew(house: House) -> None:
    call = await house.open()
    _, sender, _ = await call.publisher()
    subscriber, watcher, heard = await call.subscriber()
    await watcher.wait_for_tone(sender.frequency)
    house.relay.swallow('"type":"offer"')
    with pytest.raises(McuLost, match="during the request"):
        await subscriber.refresh()
    assert heard.closed == [CloseReason.REPLACED]
    await house.comes_to(rooms=1, handles=1)


@pytest.mark.parametrize("answer", ['"configured":"ok"', '"type":"answer"'])
async def test_a_renegotiation_whose_answer_was_lost_is_carried_out(house: House, answer: str) -> None:
    call = await house.open()
    publisher, sender, _ = await call.publisher(8, video=True)
    await sender.connected()
    house.relay.swallow(answer)
    await sender.accept(await publisher.update(described(await sender.offer())))
    _, watcher, _ = await call.subscriber()
    await watcher.wait_for_picture(8)
    assert house.relay.swallowed.is_set()


async def test_a_publisher_that_hung_up_meanwhile_has_failed(house: House) -> None:
    call = await house.open()
    _, sender, published = await call.publisher()
    _, watcher, subscribed = await call.subscriber()
    await watcher.wait_for_tone(sender.frequency)
    house.relay.swallow('"janus":"hangup"')
    await sender.close()
    assert await published.end() is CloseReason.FAILED
    assert await subscribed.end() is CloseReason.PUBLISHER_GONE
    await house.comes_to(rooms=0, handles=0)


async def test_a_subscriber_that_hung_up_meanwhile_has_failed_where_the_admin_api_tells(house: House) -> None:
    call = await house.open(admin=True)
    _, sender, published = await call.publisher()
    _, watcher, subscribed = await call.subscriber()
    await watcher.wait_for_tone(sender.frequency)
    house.relay.swallow('"janus":"hangup"')
    await watcher.close()
    assert await subscribed.end() is CloseReason.FAILED
    assert published.closed == []
    await house.comes_to(rooms=1, handles=1)


async def test_media_that_began_meanwhile_are_told_of(house: House) -> None:
    call = await house.open()
    house.relay.swallow('"janus":"webrtcup"')
    _, _, heard = await call.publisher()
    await heard.until(lambda: (MediaKind.AUDIO, True) in heard.media)


async def test_a_room_that_went_meanwhile_ends_its_stream(house: House) -> None:
    call = await house.open()
    publisher, _, heard = await call.publisher()
    session = await house.mcu.session()
    house.relay.swallow('"videoroom":"destroyed"')
    session.control.send({"request": "destroy", "room": publisher.feed.room})
    assert await heard.end() is CloseReason.FAILED


async def test_a_publisher_of_which_nothing_is_heard_is_given_up(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcu.janus.streams.publisher.CONNECTS_WITHIN", 0.2)
    await house.open()
    heard = Heard()
    async with PublishingPeer(1, 440.0, video=False) as silent:
        await house.mcu.publish(CAMERA, described(await silent.offer()), PublishOptions(), heard)
        house.relay.cut()
        assert await heard.end() is CloseReason.FAILED


async def test_what_janus_says_while_a_stream_is_closed_may_be_lost(house: House) -> None:
    call = await house.open()
    publisher, sender, _ = await call.publisher()
    _, watcher, _ = await call.subscriber()
    await watcher.wait_for_tone(sender.frequency)
    house.relay.swallow('"videoroom":"destroyed"')
    await publisher.close()
    assert house.relay.swallowed.is_set()
    await house.comes_to(rooms=0, handles=0)
