"""Messages of a real Janus that are lost with the connection: the gateway determines their effect after the claim."""

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
from tests.mcu.descriptions import parse_frozen
from tests.mcu.janus.behind_proxy import JanusBehindProxy, proxied_janus
from tests.mcu.janus.conftest import CAMERA, WaitableListener, renegotiate
from tests.media import PublishingPeer

__all__ = ["proxied_janus"]


@pytest.mark.parametrize(
    "answer",
    ['"data":{"id"', '"videoroom":"created"', '"videoroom":"joined"', '"configured":"ok"', '"janus":"webrtcup"'],
)
@pytest.mark.parametrize("admin", [True, False])
async def test_a_stream_is_published_although_a_message_of_janus_is_lost(
    proxied_janus: JanusBehindProxy, answer: str, admin: bool
) -> None:
    call = await proxied_janus.start_call(admin=admin)
    proxied_janus.proxy.drop_next(answer)
    waiting = asyncio.create_task(call.subscribe())
    publisher, sender, _ = await call.publish()
    _, watcher, _ = await waiting
    assert proxied_janus.proxy.dropped.is_set()
    await watcher.wait_for_tone(sender.frequency)
    orphans = 0 if admin or answer != '"data":{"id"' else 1  # a handle whose id was lost
    await proxied_janus.until_counts(rooms=1, handles=2 + orphans)
    await publisher.close()
    await proxied_janus.until_counts(rooms=0, handles=orphans)


@pytest.mark.parametrize("answer", ['"data":{"id"', '"videoroom":"attached"', '"configured":"ok"', '"started":"ok"'])
async def test_a_subscription_succeeds_although_a_message_of_janus_is_lost(
    proxied_janus: JanusBehindProxy, answer: str
) -> None:
    call = await proxied_janus.start_call(admin=True)
    _, sender, _ = await call.publish()
    await sender.wait_until_connected()
    proxied_janus.proxy.drop_next(answer)
    _, watcher, listener = await call.subscribe(options=SubscribeOptions(selection=MediaSelection(audio=True)))
    await watcher.wait_for_tone(sender.frequency)
    assert proxied_janus.proxy.dropped.is_set()
    assert listener.closed == []
    await proxied_janus.until_counts(rooms=1, handles=2)


async def test_a_lost_offer_ends_the_subscription_as_replaced(proxied_janus: JanusBehindProxy) -> None:
    call = await proxied_janus.start_call()
    publisher, sender, _ = await call.publish(8)
    _, watcher, listener = await call.subscribe()
    await watcher.wait_for_tone(sender.frequency)
    proxied_janus.proxy.drop_next('"type":"offer"')
    sender.add_camera()
    await renegotiate(publisher, sender)
    assert await listener.close_reason() is CloseReason.REPLACED
    _, watcher, _ = await call.subscribe()
    await watcher.wait_for_picture(8)
    await proxied_janus.until_counts(rooms=1, handles=2)


async def test_a_refresh_whose_offer_was_lost_fails_and_ends_the_subscription_as_replaced(
    proxied_janus: JanusBehindProxy,
) -> None:
    call = await proxied_janus.start_call()
    _, sender, _ = await call.publish()
    subscriber, watcher, listener = await call.subscribe()
    await watcher.wait_for_tone(sender.frequency)
    proxied_janus.proxy.drop_next('"type":"offer"')
    with pytest.raises(McuLost, match="the stream has ended"):
        await subscriber.refresh()
    assert listener.closed == [CloseReason.REPLACED]
    await proxied_janus.until_counts(rooms=1, handles=1)


@pytest.mark.parametrize("answer", ['"configured":"ok"', '"type":"answer"'])
async def test_a_renegotiation_whose_answer_was_lost_is_carried_out(
    proxied_janus: JanusBehindProxy, answer: str
) -> None:
    call = await proxied_janus.start_call()
    publisher, sender, _ = await call.publish(8, video=True)
    await sender.wait_until_connected()
    proxied_janus.proxy.drop_next(answer)
    await renegotiate(publisher, sender)
    _, watcher, _ = await call.subscribe()
    await watcher.wait_for_picture(8)
    assert proxied_janus.proxy.dropped.is_set()


async def test_a_publisher_whose_hangup_event_was_lost_has_failed(proxied_janus: JanusBehindProxy) -> None:
    call = await proxied_janus.start_call()
    _, sender, published = await call.publish()
    _, watcher, subscribed = await call.subscribe()
    await watcher.wait_for_tone(sender.frequency)
    proxied_janus.proxy.drop_next('"janus":"hangup"')
    await sender.close()
    assert await published.close_reason() is CloseReason.FAILED
    assert await subscribed.close_reason() is CloseReason.PUBLISHER_GONE
    await proxied_janus.until_counts(rooms=0, handles=0)


async def test_a_subscriber_whose_hangup_event_was_lost_has_failed_with_the_admin_api(
    proxied_janus: JanusBehindProxy,
) -> None:
    call = await proxied_janus.start_call(admin=True)
    _, sender, published = await call.publish()
    _, watcher, subscribed = await call.subscribe()
    await watcher.wait_for_tone(sender.frequency)
    proxied_janus.proxy.drop_next('"janus":"hangup"')
    await watcher.close()
    assert await subscribed.close_reason() is CloseReason.FAILED
    assert published.closed == []
    await proxied_janus.until_counts(rooms=1, handles=1)


async def test_media_whose_event_was_lost_are_reported(proxied_janus: JanusBehindProxy) -> None:
    call = await proxied_janus.start_call()
    proxied_janus.proxy.drop_next('"janus":"webrtcup"')
    _, _, listener = await call.publish()
    await listener.until(lambda: (MediaKind.AUDIO, True) in listener.media)
    assert proxied_janus.proxy.dropped.is_set()


async def test_a_room_whose_destruction_event_was_lost_ends_its_stream(proxied_janus: JanusBehindProxy) -> None:
    call = await proxied_janus.start_call()
    publisher, _, listener = await call.publish()
    session = await proxied_janus.mcu.session()
    proxied_janus.proxy.drop_next('"videoroom":"destroyed"')
    session.control.send({"request": "destroy", "room": publisher.feed.room})
    assert await listener.close_reason() is CloseReason.FAILED
    assert proxied_janus.proxy.dropped.is_set()


async def test_a_publisher_that_does_not_connect_after_the_claim_fails(
    proxied_janus: JanusBehindProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcu.janus.streams.publisher.CONNECT_TIMEOUT", 0.2)
    await proxied_janus.start_call()
    listener = WaitableListener()
    async with PublishingPeer(1, 440.0, video=False) as silent:
        await proxied_janus.mcu.publish(CAMERA, parse_frozen(await silent.offer()), PublishOptions(), listener)
        proxied_janus.proxy.cut()
        assert await listener.close_reason() is CloseReason.FAILED


async def test_a_stream_is_removed_although_an_answer_of_janus_is_lost(proxied_janus: JanusBehindProxy) -> None:
    call = await proxied_janus.start_call()
    publisher, sender, _ = await call.publish()
    _, watcher, _ = await call.subscribe()
    await watcher.wait_for_tone(sender.frequency)
    proxied_janus.proxy.drop_next('"videoroom":"destroyed"')
    await publisher.close()
    assert proxied_janus.proxy.dropped.is_set()
    await proxied_janus.until_counts(rooms=0, handles=0)
