"""Ends of streams on a real Janus: replaced, closed, cancelled, hung up; no room or handle is left."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from mcu.base import (
    CloseReason,
    McuLost,
    MediaSelection,
    NoSuchStream,
    SubscribeOptions,
)
from mcu.janus.backend import JanusMcu
from mcu.janus.connection.messages import encode, parse
from mcu.janus.streams import subscriber as subscriber_module
from mcu.janus.streams.handle_peer import close_reason
from tests.janus_process import JanusProcess
from tests.mcu.descriptions import parse_frozen
from tests.mcu.janus.conftest import (
    CAMERA,
    PUBLISH,
    WAIT,
    JanusCall,
    WaitableListener,
    counts,
    until_counts,
)
from tests.media import PublishingPeer

pytestmark = pytest.mark.usefixtures("janus_version")


async def test_a_call_that_crosses_the_end_of_its_stream_fails_at_once(call: JanusCall) -> None:
    publisher, _, _ = await call.publish()
    subscriber, _, _ = await call.subscribe()
    refreshing = asyncio.create_task(subscriber.refresh())
    await asyncio.sleep(0)  # the request is on its way
    publisher.end(None)
    with pytest.raises(McuLost, match="the stream has ended"):
        await refreshing


async def test_a_replaced_publisher_leaves_nothing_on_janus_and_its_subscribers_get_replaced(
    call: JanusCall, janus: JanusProcess
) -> None:
    _, _, old = await call.publish(1)
    _, _, listener = await call.subscribe()
    _, sender, _ = await call.publish(2)
    assert listener.closed == [CloseReason.REPLACED]
    assert old.closed == []
    _, watcher, _ = await call.subscribe()
    await watcher.wait_for_tone(sender.frequency)
    assert await counts(janus) == (1, 2)


async def test_simultaneous_offers_end_in_one_publisher(call: JanusCall, janus: JanusProcess) -> None:
    waiting = [asyncio.create_task(call.subscribe()) for _ in range(2)]
    published = await asyncio.gather(*(call.publish(number) for number in range(4)))
    running = [publisher for publisher, _, _ in published if not publisher.closed]
    assert len(running) == 1
    sender = next(peer for publisher, peer, _ in published if publisher is running[0])
    for _, watcher, _ in await asyncio.gather(*waiting):
        await watcher.wait_for_tone(sender.frequency)
    assert await counts(janus) == (1, 3)


async def test_a_cancelled_publish_leaves_nothing_on_janus(call: JanusCall, mcu: JanusMcu, janus: JanusProcess) -> None:
    async with PublishingPeer(1, 440.0, video=False) as sender:
        offer = await sender.offer()
        for step in range(20):  # cancelled at different points of its execution
            publishing = asyncio.create_task(mcu.publish(CAMERA, parse_frozen(offer), PUBLISH, WaitableListener()))
            await asyncio.sleep(step * 0.0004)
            publishing.cancel()
            await asyncio.wait([publishing])
            if not publishing.cancelled():
                await publishing.result()[0].close()
        publisher, _ = await mcu.publish(CAMERA, parse_frozen(offer), PUBLISH, WaitableListener())
        await publisher.close()
    await until_counts(janus, rooms=0, handles=0)  # cancelled calls are cleaned up a moment later


async def test_publishing_and_closing_repeatedly_does_not_crash_janus(mcu: JanusMcu, janus: JanusProcess) -> None:
    async with PublishingPeer(1, 440.0, video=False) as sender:
        offer = await sender.offer()
        for _ in range(60):  # removed at the same time, handle and room crash Janus 1.1.2 within 20 rounds
            publisher, _ = await mcu.publish(CAMERA, parse_frozen(offer), PUBLISH, WaitableListener())
            await publisher.close()
    assert await counts(janus) == (0, 0)
    assert janus.runs


async def test_a_cancelled_subscribe_leaves_nothing_on_janus(
    call: JanusCall, mcu: JanusMcu, janus: JanusProcess
) -> None:
    publisher, sender, _ = await call.publish()
    await sender.wait_until_connected()
    for step in range(20):
        subscribing = asyncio.create_task(mcu.subscribe(CAMERA, SubscribeOptions(), WaitableListener()))
        await asyncio.sleep(step * 0.0002)
        subscribing.cancel()
        await asyncio.wait([subscribing])
        if not subscribing.cancelled():
            await subscribing.result()[0].close()
    await until_counts(janus, rooms=1, handles=1)
    await publisher.close()
    assert await counts(janus) == (0, 0)


@pytest.mark.parametrize("cancelled", [True, False])
async def test_a_room_is_destroyed_after_the_handles_of_joining_subscribers_are_detached(
    call: JanusCall, mcu: JanusMcu, monkeypatch: pytest.MonkeyPatch, cancelled: bool
) -> None:
    sent: list[str] = []

    def recorded(janus: str, transaction: str, secrets: Mapping[str, str], fields: Mapping[str, Any]) -> str:
        sent.append("destroy" if fields.get("body", {}).get("request") == "destroy" else janus)
        return encode(janus, transaction, secrets, fields)

    monkeypatch.setattr("mcu.janus.connection.session.encode", recorded)
    publisher, peer, _ = await call.publish()
    await peer.until(lambda: publisher.connected, "a connection")
    options = SubscribeOptions(timeout=2.0, selection=MediaSelection(audio=True))
    subscribing = asyncio.create_task(mcu.subscribe(CAMERA, options, WaitableListener()))
    async with asyncio.timeout(WAIT):
        while not publisher.feed.joining:  # noqa: ASYNC110  there is no event of a joining subscriber
            await asyncio.sleep(0)
    if cancelled:
        subscribing.cancel()
    await publisher.close()
    assert not publisher.feed.joining
    assert not publisher.feed._detaching
    assert sent.index("destroy") > max(place for place, janus in enumerate(sent) if janus == "detach")
    assert sent.count("detach") == 2
    with pytest.raises(asyncio.CancelledError if cancelled else NoSuchStream):
        await subscribing


async def test_closing_a_publisher_ends_its_subscribers_and_leaves_nothing_on_janus(
    call: JanusCall, janus: JanusProcess
) -> None:
    publisher, _, own = await call.publish()
    joined = [await call.subscribe() for _ in range(2)]
    assert await counts(janus) == (1, 3)
    await asyncio.gather(publisher.close(), publisher.close())
    assert await counts(janus) == (0, 0)
    assert [listener.closed for _, _, listener in joined] == [[CloseReason.PUBLISHER_GONE]] * 2
    assert own.closed == []
    await publisher.close()
    await joined[0][0].close()


async def test_the_hangup_of_a_publisher_is_not_offered_to_its_subscribers(call: JanusCall) -> None:
    _, sender, _ = await call.publish(4, video=True)
    _, watcher, listener = await call.subscribe()
    await watcher.wait_until_connected()
    await sender.close()
    assert await listener.close_reason() is CloseReason.PUBLISHER_GONE
    assert listener.offers == []


async def test_an_announced_hangup_ends_the_subscription_without_a_hangup_event(
    call: JanusCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber_module, "HANGUP_WITHIN", 0.01)
    subscribed, _, listener = (await call.publish(4), await call.subscribe())[1]
    stream = '{"type":"audio","mid":"0","active":false}'
    data = f'{{"videoroom":"updated","streams":[{stream}]}}'
    offer = '{"type":"offer","sdp":"v=0\\r\\n"}'
    subscribed.on_event(parse(f'{{"janus":"event","plugindata":{{"data":{data}}},"jsep":{offer}}}'))
    assert await listener.close_reason() is CloseReason.PUBLISHER_GONE
    assert listener.offers == []


async def test_closing_a_subscriber_leaves_the_publisher(call: JanusCall, janus: JanusProcess) -> None:
    await call.publish()
    subscriber, _, listener = await call.subscribe()
    await subscriber.close()
    await subscriber.close()
    assert await counts(janus) == (1, 1)
    assert listener.closed == []


async def test_a_publisher_that_hangs_up_is_reported(call: JanusCall, janus: JanusProcess) -> None:
    _, sender, own = await call.publish()
    _, _, listener = await call.subscribe()
    await sender.close()
    assert await own.close_reason() is CloseReason.CLIENT_CLOSED
    assert await listener.close_reason() is CloseReason.PUBLISHER_GONE
    await until_counts(janus, rooms=0, handles=0)


@pytest.mark.parametrize(
    ("connected", "hangup", "reason"),
    [
        (True, "DTLS alert", CloseReason.CLIENT_CLOSED),
        (False, "DTLS alert", CloseReason.DTLS_FAILED),  # the client rejects Janus' certificate
        (False, "DTLS timeout", CloseReason.DTLS_FAILED),
        (True, "ICE failed", CloseReason.ICE_FAILED),
        (True, "Close PC", CloseReason.FAILED),
        (True, "", CloseReason.FAILED),
    ],
)
def test_reason_of_a_hangup_is_reported_to_the_listener(connected: bool, hangup: str, reason: CloseReason) -> None:
    message = parse(json.dumps({"janus": "hangup", "session_id": 1, "sender": 2, "reason": hangup}))
    assert close_reason(message, connected=connected) is reason


async def test_a_stream_whose_ice_failed_has_failed(call: JanusCall) -> None:
    publisher, sender, published = await call.publish()
    subscriber, watcher, subscribed = await call.subscribe()
    await watcher.wait_for_tone(sender.frequency)
    for peer, listener in ((subscriber, subscribed), (publisher, published)):
        event = {"janus": "ice-failed", "session_id": peer.session.id, "sender": peer.handle.id}
        peer.session.receive(parse(json.dumps(event)))
        assert listener.closed == [CloseReason.ICE_FAILED]


async def test_a_subscriber_that_hangs_up_is_reported(call: JanusCall, janus: JanusProcess) -> None:
    await call.publish()
    _, watcher, listener = await call.subscribe()
    await watcher.wait_until_connected()
    await watcher.close()
    assert await listener.close_reason() is CloseReason.CLIENT_CLOSED
    await until_counts(janus, rooms=1, handles=1)


async def test_an_ended_stream_refuses_requests(call: JanusCall) -> None:
    publisher, sender, _ = await call.publish()
    await publisher.close()
    with pytest.raises(McuLost):
        await publisher.update(parse_frozen(await sender.offer()))


@pytest.mark.full
async def test_a_publisher_that_never_connects_fails(mcu: JanusMcu, janus: JanusProcess, loopback: None) -> None:
    listener = WaitableListener()
    async with PublishingPeer(1, 440.0, video=False) as silent:
        await mcu.publish(CAMERA, parse_frozen(await silent.offer()), PUBLISH, listener)
        assert await listener.close_reason(60) is CloseReason.ICE_FAILED
    await until_counts(janus, rooms=0, handles=0)


async def test_a_subscription_to_a_vanished_room_raises_no_such_stream_and_ends_the_publisher(
    call: JanusCall, mcu: JanusMcu
) -> None:
    publisher, sender, listener = await call.publish()
    await sender.wait_until_connected()
    room, publisher.feed.room = publisher.feed.room, 1
    with pytest.raises(NoSuchStream):
        await mcu.subscribe(CAMERA, SubscribeOptions(timeout=5), WaitableListener())
    assert listener.closed == [CloseReason.FAILED]
    publisher.feed.room = room


async def test_a_room_that_another_program_destroys_ends_its_streams(
    call: JanusCall, mcu: JanusMcu, janus: JanusProcess
) -> None:
    publisher, _, own = await call.publish()
    _, _, listener = await call.subscribe()
    session = await mcu.session()
    session.control.send({"request": "destroy", "room": publisher.feed.room})
    assert await own.close_reason() is CloseReason.FAILED
    assert await listener.close_reason() is CloseReason.PUBLISHER_GONE
    await until_counts(janus, rooms=0, handles=0)
