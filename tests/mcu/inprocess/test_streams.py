"""Streams of the in-process SFU beyond the contract: ICE restarts, timeouts, renegotiation, stop."""

from __future__ import annotations

import asyncio
import logging
import re

import aioice.ice
import pytest

from mcu.base import (
    BackendId,
    CloseReason,
    IceCandidate,
    McuLost,
    McuStatus,
    MediaKind,
    NewConnectionRequired,
    PublisherId,
    PublishOptions,
    SfuState,
    StreamKey,
    StreamType,
    SubscribeOptions,
    TransportState,
)
from mcu.inprocess import InprocessSettings, publisher, subscriber
from mcu.inprocess.backend import InprocessMcu
from mcu.inprocess.transport import peer_transport
from tests.mcu.contract.clients import KEY, sender, viewer
from tests.mcu.descriptions import parse_frozen
from tests.sdp.recorded import BY_ID

UNPUBLISHED_STREAM = StreamKey(BackendId("cloud"), PublisherId("unpublished"), StreamType.VIDEO)
SHORT_TIMEOUT = 0.3  # seconds, in place of longer timeouts


@pytest.mark.parametrize("program", ["chromium", "firefox"])
async def test_ice_restart_needs_a_new_peer_connection(mcu: InprocessMcu, program: str) -> None:
    before = BY_ID[f"{program}/ice-restarted-before.offer.sdp"].text
    after = BY_ID[f"{program}/ice-restarted.offer.sdp"].text
    async with sender() as alice:
        published, _ = await mcu.publish(KEY, parse_frozen(before), PublishOptions(), alice)
        with pytest.raises(NewConnectionRequired):
            await published.update(parse_frozen(after))
        await published.update(parse_frozen(before))


@pytest.mark.parametrize("program", ["chromium", "firefox"])
async def test_stopped_camera_is_answered_with_port_0(mcu: InprocessMcu, program: str) -> None:
    before = BY_ID[f"{program}/camera-stopped-before.offer.sdp"].text
    after = BY_ID[f"{program}/camera-stopped.offer.sdp"].text
    async with sender() as alice:
        published, answer = await mcu.publish(KEY, parse_frozen(before), PublishOptions(), alice)
        assert "m=video 9 " in str(answer)
        assert "m=video 0 " in str(await published.update(parse_frozen(after)))


async def test_publisher_that_does_not_connect_in_time_fails(
    mcu: InprocessMcu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_transport, "CONNECT_TIMEOUT", SHORT_TIMEOUT)
    async with sender() as alice:
        await mcu.publish(KEY, parse_frozen(await alice.peer.offer()), PublishOptions(), alice)
        await alice.wait_for_close(CloseReason.ICE_FAILED)
    (state,) = mcu.status().sfus
    assert state.publishers == 0


async def test_publisher_with_another_certificate_than_it_announced_fails(mcu: InprocessMcu) -> None:
    async with sender(59, video=False, channels=()) as alice:
        fingerprint = re.compile(r"(?m)^(a=fingerprint:\S+ )([0-9A-F:]+)")
        offer = fingerprint.sub(lambda found: found[1] + found[2][::-1], await alice.peer.offer())
        _, answer = await mcu.publish(KEY, parse_frozen(offer), PublishOptions(), alice)
        await alice.peer.accept(answer)
        await alice.wait_for_close(CloseReason.DTLS_FAILED)
    assert alice.transport == [TransportState.ICE_CONNECTED]


async def test_subscription_without_an_accepting_answer_fails(
    mcu: InprocessMcu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber, "ANSWER_TIMEOUT", SHORT_TIMEOUT)
    async with sender(58, video=False) as alice, viewer() as silent, viewer() as rejecting, viewer() as carol:
        await alice.publish(mcu)
        await mcu.subscribe(KEY, SubscribeOptions(), silent)
        refused, offer = await mcu.subscribe(KEY, SubscribeOptions(), rejecting)
        await refused.accept(parse_frozen(re.sub(r"(?m)^m=(\w+) 9 ", r"m=\1 0 ", str(offer))))
        await carol.subscribe(mcu)
        await silent.wait_for_close(CloseReason.FAILED)
        await rejecting.wait_for_close(CloseReason.FAILED)
        await refused.close()
        await carol.peer.wait_for_tone(440.0)
        assert carol.closed == []
        assert mcu.status().sfus[0].subscribers == 1


@pytest.mark.full
async def test_subscription_of_a_vanished_client_fails(mcu: InprocessMcu, monkeypatch: pytest.MonkeyPatch) -> None:
    async with sender(50, channels=()) as alice, viewer() as carol:
        await alice.publish(mcu)
        await carol.subscribe(mcu)
        await carol.peer.wait_for_picture(50)
        monkeypatch.setattr(aioice.ice, "CONSENT_FAILURES", 1)
        carol.peer.cut()
        await carol.wait_for_close(CloseReason.ICE_FAILED)
        assert mcu.status().sfus[0].subscribers == 0
        assert alice.closed == []


async def test_unanswered_offer_is_superseded_by_the_next_change(
    mcu: InprocessMcu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber, "REOFFER_DELAY", SHORT_TIMEOUT)
    async with sender(51, video=False) as alice, viewer() as carol:
        await alice.publish(mcu)
        await carol.subscribe(mcu)
        await carol.peer.wait_for_tone(440.0)
        carol.answers = False
        alice.peer.add_camera()
        await alice.renegotiate()
        await carol.until(lambda: len(carol.offers) == 1, "the offer that is not answered")
        alice.peer.switch_camera(False)
        await alice.renegotiate()
        alice.peer.switch_camera(True)
        await alice.renegotiate()
        await carol.until(lambda: len(carol.offers) > 1, "the next offer")
        carol.answers = True
        await carol.answer(carol.offers[-1])
        await carol.peer.wait_for_picture(51)


async def test_change_while_an_offer_is_unanswered_is_offered_after_the_answer(mcu: InprocessMcu) -> None:
    async with sender(52, video=False) as alice, viewer() as carol:
        await alice.publish(mcu)
        carol.subscriber, offer = await mcu.subscribe(KEY, SubscribeOptions(), carol)
        alice.peer.add_camera()
        await alice.renegotiate()
        assert carol.offers == []
        await carol.answer(offer)
        await carol.peer.wait_for_picture(52)
        assert len(carol.offers) == 1


async def test_end_of_video_is_notified(mcu: InprocessMcu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "MEDIA_TIMEOUT", SHORT_TIMEOUT)
    async with sender(53) as alice:
        await alice.publish(mcu)
        await alice.until(lambda: (MediaKind.VIDEO, True) in alice.media, "a picture")
        alice.peer.switch_camera(False)
        await alice.renegotiate()
        await alice.until(lambda: (MediaKind.VIDEO, False) in alice.media, "the end of the video")
        assert (MediaKind.AUDIO, False) not in alice.media


async def test_two_video_tracks_of_one_publisher_are_forwarded_separately(mcu: InprocessMcu) -> None:
    async with sender(55, audio=False) as alice, viewer() as carol:
        alice.peer.number = 56
        alice.peer.add_camera()
        await alice.publish(mcu)
        await carol.subscribe(mcu)
        await carol.peer.until(lambda: len(carol.peer.numbers) == 2, "two pictures")
        assert carol.peer.numbers == {"0": 55, "1": 56}


async def test_unusable_candidates_are_ignored(mcu: InprocessMcu) -> None:
    async with sender(57, audio=False) as alice, viewer() as carol:
        await alice.publish(mcu)
        for text in (
            "",
            "candidate:nonsense",
            "candidate:1 1 udp 1 name.local 5000 typ host",
            "candidate:1 1 tcp 1 127.0.0.1 9 typ host tcptype active",
            "candidate:1 2 udp 1 127.0.0.1 5000 typ host",
            "candidate:1 1 udp 1 0.0.0.0 5000 typ host",
            *(f"candidate:1 1 udp 1 127.0.0.1 {port} typ host" for port in range(1, 2 * peer_transport.MAX_CANDIDATES)),
        ):
            await alice.publisher.add_candidate(IceCandidate(text, "0", 0))
        await alice.publisher.add_candidate(None)
        await carol.subscribe(mcu)
        await carol.peer.wait_for_picture(57)
        assert isinstance(alice.publisher, publisher.InprocessPublisher)
        assert len(alice.publisher._transport._ice.remote_candidates) == peer_transport.MAX_CANDIDATES


async def test_stop_ends_all_streams_and_pending_subscriptions(loopback: None) -> None:
    mcu = InprocessMcu(InprocessSettings(address="127.0.0.1"))
    states: list[McuStatus] = []
    async with sender() as early:
        with pytest.raises(McuLost):
            await early.publish(mcu)
    await mcu.start(states.append)
    async with sender() as alice, viewer() as carol, viewer() as dave:
        waiting = asyncio.create_task(dave.subscribe(mcu))
        await alice.publish(mcu)
        await carol.subscribe(mcu)
        await waiting
        late = asyncio.create_task(mcu.subscribe(UNPUBLISHED_STREAM, SubscribeOptions(), carol))
        await asyncio.sleep(0)
        await mcu.stop()
        await mcu.stop()
        with pytest.raises(McuLost):
            await late
        for client in (alice, carol, dave):
            assert client.closed == [CloseReason.LOST]
    assert [status.sfus[0].state for status in states] == [SfuState.READY, SfuState.STOPPED]
    assert list(mcu.streams()) == []


async def test_log_contains_no_address_and_no_secret(mcu: InprocessMcu, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with sender(54) as alice, viewer() as carol:
        await alice.publish(mcu)
        await carol.subscribe(mcu)
        await carol.peer.wait_for_picture(54)
        secrets = re.findall(r"a=(?:ice-ufrag|ice-pwd|fingerprint):(\S+)", carol.peer.pc.remoteDescription.sdp)
        await alice.publisher.close()
    logged = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("portunus"))
    assert len(set(secrets)) == 3  # ICE username fragment, ICE password and fingerprint
    assert not [secret for secret in (*secrets, "127.0.0.1") if secret in logged]
