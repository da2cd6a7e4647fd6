"""Media that are added, removed and switched during a stream, keyframe requests, and offers that are never answered."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from aiortc import RTCRtpSender

from mcu.base import McuError, MediaKind, MediaSelection, SubscribeOptions, TransportState
from sdp.document import identity
from tests.mcu.contract.clients import KEY, sender, viewer
from tests.mcu.contract.sfus import Sfu
from tests.mcu.descriptions import WITHOUT_MEDIA, WITHOUT_TRANSPORT, parse_frozen
from tests.media import SubscribingPeer
from tests.media.peers import WAIT


async def test_camera_that_is_added_switched_off_and_on_reaches_subscribers(sfu: Sfu) -> None:
    async with sender(11, 500.0, video=False) as alice, viewer() as carol, viewer() as dave:
        await alice.publish(sfu.mcu)
        for watcher in (carol, dave):
            await watcher.subscribe(sfu.mcu)
            await watcher.peer.wait_for_tone(500.0)
        alice.peer.add_camera()
        await alice.renegotiate()
        for watcher in (carol, dave):
            await watcher.peer.wait_for_picture(11)
        alice.peer.switch_camera(False)
        await alice.renegotiate()
        await alice.until(lambda: alice.media[-1] == (MediaKind.VIDEO, False), "that the picture stops")
        alice.peer.switch_camera(True)
        await alice.renegotiate()
        for watcher in (carol, dave):
            await watcher.peer.wait_for_picture(11)
            await watcher.peer.wait_for_tone(500.0)
            assert watcher.closed == []


async def test_refresh_offers_the_same_peer_connection_again(sfu: Sfu) -> None:
    async with sender(12) as alice, viewer() as carol:
        await alice.publish(sfu.mcu)
        subscription, offer = await sfu.mcu.subscribe(KEY, SubscribeOptions(), carol)
        carol.subscriber = subscription
        await carol.answer(offer)
        await carol.peer.wait_for_picture(12)
        again = await subscription.refresh()
        assert identity(again) == identity(offer)
        await carol.answer(again)
        await carol.peer.wait_for_picture(12)
        assert carol.closed == []


async def test_unanswered_offer_blocks_no_other_client(sfu: Sfu) -> None:
    async with sender(13, 500.0, video=False) as alice, viewer() as silent, viewer() as dave:
        await alice.publish(sfu.mcu)
        for watcher in (silent, dave):
            await watcher.subscribe(sfu.mcu)
            await watcher.peer.wait_for_tone(500.0)
        silent.answers = False
        alice.peer.add_camera()
        await alice.renegotiate()
        await silent.until(lambda: bool(silent.offers), "an offer")
        await dave.peer.wait_for_picture(13)
        alice.peer.switch_camera(False)
        await alice.renegotiate()
        alice.peer.switch_camera(True)
        await alice.renegotiate()
        await dave.peer.wait_for_picture(13)
        assert silent.subscriber is not None
        await silent.answer(await silent.subscriber.refresh())
        await silent.peer.wait_for_picture(13)


async def test_first_section_that_is_inactive_at_first_is_resumed(sfu: Sfu) -> None:
    async with sender(19, 500.0) as alice, viewer() as carol:
        microphone = alice.peer.pc.getTransceivers()[0]
        microphone.direction = "inactive"
        await alice.publish(sfu.mcu)
        await carol.subscribe(sfu.mcu)
        await carol.peer.wait_for_picture(19)
        microphone.direction = "sendonly"
        await alice.renegotiate()
        await carol.peer.wait_for_tone(500.0)
        await carol.peer.wait_for_picture(19)
        assert carol.closed == []


async def test_all_sections_that_are_inactive_at_first_are_resumed(sfu: Sfu) -> None:
    async with sender(20, 500.0, channels=()) as alice, viewer() as carol:
        for transceiver in alice.peer.pc.getTransceivers():
            transceiver.direction = "inactive"
        await alice.publish(sfu.mcu)
        await alice.until(lambda: TransportState.CONNECTED in alice.transport, "a connection")
        for transceiver in alice.peer.pc.getTransceivers():
            transceiver.direction = "sendonly"
        await alice.renegotiate()
        await carol.subscribe(sfu.mcu)
        await carol.peer.wait_for_tone(500.0)
        await carol.peer.wait_for_picture(20)


async def test_unusable_descriptions_change_nothing(sfu: Sfu) -> None:
    async with sender(16) as alice, viewer() as carol:
        await alice.publish(sfu.mcu)
        subscription = await carol.subscribe(sfu.mcu)
        with pytest.raises(McuError):
            await alice.publisher.update(WITHOUT_MEDIA)
        with pytest.raises(McuError):
            await subscription.accept(WITHOUT_TRANSPORT)
        await carol.peer.wait_for_picture(16)


@pytest.mark.parametrize(
    "line",
    ["ssrc:{0} cname:x", "ssrc-group:FID {0} {0}", "extmap:{0} urn:ietf:params:rtp-hdrext:sdes:mid", "ssrc-group:"]
    + [f"extmap:{number} urn:ietf:params:rtp-hdrext:sdes:mid" for number in ("-1", "4294967295", "9" * 10)],
)
async def test_malformed_numbers_end_no_stream(sfu: Sfu, line: str) -> None:
    """An SFU may ignore them, or refuse them with the errors of the interface."""
    malformed = f"a={line.format('9' * 5000)}\r\n"

    def with_malformed_line(sdp: str) -> str:
        return sdp.replace("\nm=", f"\n{malformed}m=") + malformed

    async with sender(18) as alice, viewer() as carol:
        await alice.publish(sfu.mcu)
        subscription = await carol.subscribe(sfu.mcu)
        with contextlib.suppress(McuError):
            await alice.publisher.update(parse_frozen(with_malformed_line(await alice.peer.offer())))
        await alice.renegotiate()
        answer = await carol.peer.answer(await subscription.refresh())
        with contextlib.suppress(McuError):
            await subscription.accept(parse_frozen(with_malformed_line(answer)))
        await carol.peer.wait_for_picture(18)


async def wait_until_switched_off(peer: SubscribingPeer, kind: MediaKind) -> None:
    """Wait until five pictures or tones are decoded with nothing of media kind ``kind`` in between."""

    def counts() -> tuple[int, int]:
        audio, video = peer.tone_count, sum(peer.frames.values())
        return (audio, video) if kind is MediaKind.AUDIO else (video, audio)

    off, on = counts()

    def is_off() -> bool:
        nonlocal off, on
        if counts()[0] > off:
            off, on = counts()
        return counts()[1] >= on + 5

    await peer.until(is_off, f"the end of {kind.value}")


async def test_audio_and_video_are_switched_off_and_on(sfu: Sfu) -> None:
    async with sender(17, 500.0) as alice, viewer() as carol:
        await alice.publish(sfu.mcu)
        subscription = await carol.subscribe(sfu.mcu, KEY, SubscribeOptions(selection=MediaSelection(video=False)))
        await carol.peer.wait_for_tone(500.0)
        assert sum(carol.peer.frames.values()) == 0
        await subscription.select(MediaSelection(video=True))
        await carol.peer.wait_for_picture(17)
        for kind in (MediaKind.AUDIO, MediaKind.VIDEO):
            await subscription.select(MediaSelection(**{kind.value: False}))
            await wait_until_switched_off(carol.peer, kind)
            await subscription.select(MediaSelection(**{kind.value: True}))
            await carol.peer.wait_for_picture(17)
            await carol.peer.wait_for_tone(500.0)


async def test_requested_keyframe_is_sent_by_the_publisher(sfu: Sfu, monkeypatch: pytest.MonkeyPatch) -> None:
    requested = asyncio.Event()
    monkeypatch.setattr(RTCRtpSender, "_send_keyframe", lambda _: requested.set())  # at a PLI
    async with sender(19, audio=False) as alice:
        await alice.publish(sfu.mcu)
        await alice.until(lambda: (MediaKind.VIDEO, True) in alice.media, "video")
        requested.clear()
        async with asyncio.timeout(WAIT):
            while not requested.is_set():
                await alice.publisher.request_keyframe()
                with contextlib.suppress(TimeoutError):  # Janus 1.4 sends at most one PLI a second
                    await asyncio.wait_for(requested.wait(), 1.0)
