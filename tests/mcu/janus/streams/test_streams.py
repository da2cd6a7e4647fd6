"""Streams through a real Janus: media and their changes arrive, and no room or handle is left."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest

from mcu.base import (
    CloseReason,
    IceCandidate,
    McuLost,
    McuTimeout,
    MediaKind,
    MediaSelection,
    NoSuchStream,
    PublishOptions,
    Rejected,
    SubscribeOptions,
    TransportState,
)
from mcu.janus.backend import JanusMcu
from mcu.janus.connection.messages import encode, parse
from mcu.janus.streams import subscriber as subscriber_module
from mcu.janus.streams.handle_peer import close_reason
from mcu.janus.streams.publisher import JanusPublisher
from sdp.codecs import payloads
from sdp.document import kinds
from tests.janus_process import JanusProcess
from tests.mcu.descriptions import WITHOUT_TRANSPORT, parse_frozen
from tests.mcu.janus.conftest import (
    CAMERA,
    PUBLISH,
    SCREEN,
    WAIT,
    JanusCall,
    WaitableListener,
    answer_offer,
    counts,
    renegotiate,
    settings_for,
    until_counts,
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


async def test_an_added_camera_is_offered_to_the_subscribers(call: JanusCall) -> None:
    publisher, sender, _ = await call.publish(3, channels=False)
    joined = [await call.subscribe() for _ in range(2)]
    sender.add_camera()
    await renegotiate(publisher, sender)
    for subscriber, watcher, listener in joined:
        await listener.until(lambda listener=listener: bool(listener.offers))  # type: ignore[misc]
        await answer_offer(subscriber, watcher, listener.offers[0])
        await watcher.wait_for_picture(3)
    sender.switch_camera(False)
    await renegotiate(publisher, sender)
    sender.switch_camera(True)
    await renegotiate(publisher, sender)
    for _, watcher, listener in joined:
        await watcher.wait_for_picture(3)
        assert len(listener.offers) == 1  # off and on needs no new offer


async def test_an_unanswered_offer_does_not_block_other_subscribers(call: JanusCall) -> None:
    publisher, sender, _ = await call.publish(4, channels=False)
    silent, _, silent_listener = await call.subscribe(answer=False)
    subscriber, watcher, listener = await call.subscribe()
    sender.add_camera()
    await renegotiate(publisher, sender)
    await listener.until(lambda: bool(listener.offers))
    await answer_offer(subscriber, watcher, listener.offers[0])
    await watcher.wait_for_picture(4)
    assert silent_listener.offers == []  # Janus holds the new offer back until the first offer is answered
    again = await silent.refresh()
    await silent.close()
    assert "video" not in kinds(again)


async def test_changes_that_janus_held_back_are_offered_after_the_answer(call: JanusCall) -> None:
    publisher, sender, _ = await call.publish(4, channels=False)
    late, watcher, listener = await call.subscribe(answer=False)
    sender.add_camera()
    await renegotiate(publisher, sender)
    await answer_offer(late, watcher, await late.refresh())
    await listener.until(lambda: bool(listener.offers))
    await answer_offer(late, watcher, listener.offers[0])
    await watcher.wait_for_picture(4)


async def test_a_refresh_is_a_new_offer_for_the_same_connection(call: JanusCall) -> None:
    _, sender, _ = await call.publish()
    subscriber, watcher, _ = await call.subscribe()
    await watcher.wait_for_tone(sender.frequency)
    await answer_offer(subscriber, watcher, await subscriber.refresh())
    await watcher.wait_for_tone(sender.frequency)


async def test_a_refresh_while_janus_makes_an_offer_returns_that_offer(call: JanusCall) -> None:
    publisher, sender, _ = await call.publish(4, video=True, channels=False)
    subscriber, watcher, listener = await call.subscribe()
    await watcher.wait_for_picture(4)
    sender.switch_camera(False)
    await renegotiate(publisher, sender)
    await subscriber.accept(parse_frozen(await watcher.answer(await subscriber.refresh())))  # the video is inactive now
    sender.switch_camera(True)
    answer = await publisher.update(parse_frozen(await sender.offer()))  # an offer was requested from Janus
    offer = await subscriber.refresh()
    assert listener.offers == [str(offer)]
    await sender.accept(answer)
    await answer_offer(subscriber, watcher, offer)
    await subscriber.accept(parse_frozen(watcher.pc.localDescription.sdp))  # of the same offer: it was received twice
    await watcher.wait_for_picture(4)


async def test_a_call_that_crosses_the_end_of_its_stream_fails_at_once(call: JanusCall) -> None:
    publisher, _, _ = await call.publish()
    subscriber, _, _ = await call.subscribe()
    refreshing = asyncio.create_task(subscriber.refresh())
    await asyncio.sleep(0)  # the request is on its way
    publisher.end(None)
    with pytest.raises(McuLost, match="the stream has ended"):
        await refreshing


async def test_an_answer_without_an_offer_is_rejected(call: JanusCall) -> None:
    await call.publish()
    subscriber, watcher, _ = await call.subscribe()
    with pytest.raises(Rejected):
        await subscriber.accept(parse_frozen(watcher.pc.localDescription.sdp))


async def test_answer_without_transport_leaves_the_subscription_as_it_was(call: JanusCall) -> None:
    _, sender, _ = await call.publish()
    subscriber, watcher, _ = await call.subscribe(answer=False)
    with pytest.raises(Rejected):
        await subscriber.accept(WITHOUT_TRANSPORT)
    await answer_offer(subscriber, watcher, await subscriber.refresh())
    await watcher.wait_for_tone(sender.frequency)


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


async def test_slow_link_is_reported(call: JanusCall) -> None:
    publisher, _, published = await call.publish()
    subscriber, _, subscribed = await call.subscribe()
    for peer, listener in ((subscriber, subscribed), (publisher, published)):
        event = {"janus": "slowlink", "session_id": peer.session.id, "sender": peer.handle.id, "uplink": True}
        peer.session.receive(parse(json.dumps({**event, "lost": 40})))
        assert listener.transport[-1] is TransportState.SLOW_LINK


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


@pytest.mark.parametrize(
    ("options", "codec"),
    [
        (PublishOptions(), "vp8"),
        (PublishOptions(videocodecs=("h264",)), "h264"),
        (PublishOptions(videocodecs=("theora", "av1")), "vp8"),
        (PublishOptions(videocodecs=("h264",), h264profile="640032"), "h264"),  # the offer does not have that profile
    ],
)
async def test_janus_answers_with_the_preferred_codec(mcu: JanusMcu, options: PublishOptions, codec: str) -> None:
    async with PublishingPeer(1, 440.0) as sender:
        publisher, answer = await mcu.publish(CAMERA, parse_frozen(await sender.offer()), options, WaitableListener())
        (video,) = [section for section in answer.media if section.kind == "video"]
        assert payloads(video)[0].codec == codec
        await publisher.close()


async def test_offer_that_janus_does_not_survive_replaces_no_publisher(call: JanusCall, mcu: JanusMcu) -> None:
    _, sender, _ = await call.publish()
    _, watcher, listener = await call.subscribe()
    with pytest.raises(Rejected):
        await mcu.publish(CAMERA, parse_frozen("v=0\r\na=extmap:-1 x\r\n"), PUBLISH, WaitableListener())
    await watcher.wait_for_tone(sender.frequency)
    assert listener.closed == []


async def test_unusable_candidates_are_ignored(call: JanusCall) -> None:
    publisher, sender, _ = await call.publish()
    subscriber, watcher, _ = await call.subscribe()
    for stream in (publisher, subscriber):
        await stream.add_candidate(IceCandidate("candidate:1 1 udp 1 127.0.0.1 9 typ host", "0", 0))
        await stream.add_candidate(IceCandidate("candidate:1 1 udp 1 1b4f.local 9 typ host", "0", 0))
        await stream.add_candidate(IceCandidate("garbage"))
        await stream.add_candidate(None)
    await watcher.wait_for_tone(sender.frequency)
    await subscriber.close()
    await subscriber.add_candidate(None)


async def test_an_ended_stream_refuses_requests(call: JanusCall) -> None:
    publisher, sender, _ = await call.publish()
    await publisher.close()
    with pytest.raises(McuLost):
        await publisher.update(parse_frozen(await sender.offer()))


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


@pytest.mark.full
async def test_a_publisher_that_never_connects_fails(mcu: JanusMcu, janus: JanusProcess, loopback: None) -> None:
    listener = WaitableListener()
    async with PublishingPeer(1, 440.0, video=False) as silent:
        await mcu.publish(CAMERA, parse_frozen(await silent.offer()), PUBLISH, listener)
        assert await listener.close_reason(60) is CloseReason.ICE_FAILED
    await until_counts(janus, rooms=0, handles=0)


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


async def test_a_subscriber_that_came_while_the_camera_was_off_gets_video_when_it_is_on(call: JanusCall) -> None:
    publisher, sender, _ = await call.publish(8, video=True)
    await sender.wait_until_connected()
    sender.switch_camera(False)
    await renegotiate(publisher, sender)
    subscriber, watcher, listener = await call.subscribe()
    await watcher.wait_for_tone(sender.frequency)
    sender.switch_camera(True)
    await renegotiate(publisher, sender)

    await listener.until(lambda: bool(listener.offers))
    await answer_offer(subscriber, watcher, listener.offers[0])
    await watcher.wait_for_picture(8)
