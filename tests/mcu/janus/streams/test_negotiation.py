"""Offers, answers and candidates between a real Janus and its clients, while media change."""

from __future__ import annotations

import contextlib
import re

import pytest

from mcu.base import (
    IceCandidate,
    PublishOptions,
    Rejected,
)
from mcu.janus.backend import JanusMcu
from mcu.janus.streams.publisher import MAX_SECTIONS
from sdp.codecs import payloads
from sdp.document import kinds
from tests.mcu.descriptions import WITHOUT_TRANSPORT, parse_frozen
from tests.mcu.janus.conftest import (
    CAMERA,
    PUBLISH,
    JanusCall,
    WaitableListener,
    answer_offer,
    offer_of_closed_peer,
    renegotiate,
)
from tests.media import PublishingPeer

pytestmark = pytest.mark.usefixtures("janus_version")


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


async def test_an_offer_with_more_sections_than_janus_can_safely_add_is_refused(mcu: JanusMcu) -> None:
    head, _, rest = str(await offer_of_closed_peer()).partition("m=")
    section = f"m={rest.partition('m=')[0]}"
    for count in (MAX_SECTIONS, MAX_SECTIONS + 1):
        mids = range(count)
        group = f"a=group:BUNDLE {' '.join(map(str, mids))}\r"
        sections = (re.sub(r"(?m)^a=mid:.*\r$", f"a=mid:{mid}\r", section) for mid in mids)
        offer = parse_frozen(re.sub(r"(?m)^a=group:BUNDLE.*\r$", group, head) + "".join(sections))
        refused = pytest.raises(Rejected, match="more than 16 media sections")
        with refused if count > MAX_SECTIONS else contextlib.nullcontext():
            await mcu.publish(CAMERA, offer, PUBLISH, WaitableListener())


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
