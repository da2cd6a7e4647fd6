"""A broken connection between the gateway and a real Janus: the session is claimed, and its streams go on."""

from __future__ import annotations

import asyncio
import logging
import random
import time

import pytest

from mcu.base import (
    BackendId,
    CloseReason,
    McuError,
    McuLost,
    McuTimeout,
    MediaSelection,
    PublisherId,
    PublishOptions,
    SfuState,
    StreamKey,
    StreamType,
    SubscribeOptions,
)
from mcu.janus.settings import JanusServerSettings
from tests.janus_process import ADMIN_KEY, API_SECRET
from tests.mcu.descriptions import parse_frozen
from tests.mcu.janus.behind_proxy import JanusBehindProxy, proxied_janus
from tests.mcu.janus.conftest import CAMERA, POLL, PUBLISH, SCREEN, WAIT, WaitableListener, answer_offer, handle_ids
from tests.media import PublishingPeer, SubscribingPeer

__all__ = ["proxied_janus"]

DURATION = 8.0  # seconds of publishing and cutting, at least
MIN_STREAMS = 10
log = logging.getLogger("portunus.tests")


@pytest.mark.parametrize("gap", [0.4, pytest.param(6.0, marks=pytest.mark.full)])
async def test_media_flow_on_while_the_connection_is_cut(
    proxied_janus: JanusBehindProxy, caplog: pytest.LogCaptureFixture, gap: float
) -> None:
    call = await proxied_janus.start_call()
    publisher, sender, published = await call.publish(5, video=True)
    _, watcher, subscribed = await call.subscribe()
    await watcher.wait_for_picture(5)
    before, media = await handle_ids(proxied_janus.janus), list(published.media)
    for _ in range(2):
        proxied_janus.proxy.refusing = True
        proxied_janus.proxy.cut()
        assert await proxied_janus.until_unreachable() == "the connection was closed"
        limiting = asyncio.create_task(publisher.limit(300_000))  # waits for the connection and is carried out then
        with pytest.raises(TimeoutError):
            await proxied_janus.until_ready(gap)
        seen = sum(watcher.frames.values()) + 3
        await watcher.until(lambda seen=seen: sum(watcher.frames.values()) > seen, "media during the cut")  # type: ignore[misc]
        assert not proxied_janus.mcu.status().ready
        proxied_janus.proxy.refusing = False
        await proxied_janus.until_ready()
        await limiting
    await watcher.wait_for_picture(5)
    await watcher.wait_for_tone(sender.frequency)
    assert await handle_ids(proxied_janus.janus) == before
    assert (published.closed, subscribed.closed, published.media) == ([], [], media)
    lines = [record.getMessage() for record in caplog.records if record.name == "portunus.mcu.janus"]
    assert [text.split(":")[0] for text in lines if "away" in text or "lost" in text] == ["Janus is away"] * 2
    assert not [text for text in lines if "127.0.0.1" in text]


async def test_requests_made_while_the_connection_is_broken_are_carried_out_after_the_claim(
    proxied_janus: JanusBehindProxy,
) -> None:
    call = await proxied_janus.start_call()
    _, sender, _ = await call.publish()
    subscriber, watcher, _ = await call.subscribe()
    await watcher.wait_for_tone(sender.frequency)
    proxied_janus.proxy.refusing = True
    proxied_janus.proxy.cut()
    await proxied_janus.until_unreachable()
    selecting = asyncio.create_task(subscriber.select(MediaSelection(audio=True)))
    publishing = asyncio.create_task(call.publish(2, key=SCREEN))
    closing = asyncio.create_task(subscriber.close())
    given_up = asyncio.create_task(
        proxied_janus.mcu.subscribe(CAMERA, SubscribeOptions(timeout=0.3), WaitableListener())
    )
    with pytest.raises(McuLost, match="not there"):
        await given_up
    proxied_janus.proxy.refusing = False
    await asyncio.gather(selecting, closing)
    await publishing
    await proxied_janus.until_counts(rooms=2, handles=2)


async def test_a_cut_connection_is_restored_at_once(
    proxied_janus: JanusBehindProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is a pause only after a failed attempt, and after a connection of less than ``MIN_LIFETIME``."""
    monkeypatch.setattr("mcu.janus.connection.connector.MIN_LIFETIME", 0.0)
    monkeypatch.setattr("mcu.janus.connection.connector.back_off", lambda *_: 3600.0)
    await proxied_janus.start_call()
    proxied_janus.proxy.cut()
    await proxied_janus.until_unreachable()
    await proxied_janus.until_ready()
    begun = proxied_janus.mcu.status().sfus[0].connected_since
    proxied_janus.proxy.cut()
    await proxied_janus.until_unreachable()
    assert proxied_janus.mcu.status().sfus[0].connected_since == 0
    await proxied_janus.until_ready()
    assert proxied_janus.mcu.status().sfus[0].connected_since > begun


async def test_a_lost_answer_to_a_claim_loses_no_stream(proxied_janus: JanusBehindProxy) -> None:
    call = await proxied_janus.start_call()
    _, sender, listener = await call.publish()
    _, watcher, _ = await call.subscribe()
    proxied_janus.proxy.drop_next('"janus":"success","session_id"')
    proxied_janus.proxy.cut()
    await proxied_janus.until_unreachable()
    await proxied_janus.proxy.dropped.wait()
    await proxied_janus.until_ready()
    await watcher.wait_for_tone(sender.frequency)
    assert listener.closed == []


async def test_a_session_that_janus_ended_meanwhile_is_lost_at_once(
    proxied_janus: JanusBehindProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = await proxied_janus.start_call()
    monkeypatch.setattr(proxied_janus.mcu.server().connector, "_reclaim_timeout", 3600.0)
    _, _, published = await call.publish()
    _, _, subscribed = await call.subscribe()
    session = (await proxied_janus.mcu.session()).id
    proxied_janus.proxy.refusing = True
    proxied_janus.proxy.cut()
    await proxied_janus.until_unreachable()
    await proxied_janus.janus.admin(janus="destroy_session", session_id=session)
    proxied_janus.proxy.refusing = False
    assert await published.close_reason() is CloseReason.LOST
    assert await subscribed.close_reason() is CloseReason.LOST
    await proxied_janus.until_ready()
    again, sender, _ = await call.publish(2)
    _, watcher, _ = await call.subscribe()
    await watcher.wait_for_tone(sender.frequency)
    await again.close()
    await proxied_janus.until_counts(rooms=0, handles=0)


async def test_a_refused_claim_loses_the_streams(
    proxied_janus: JanusBehindProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = await proxied_janus.start_call()
    monkeypatch.setattr(proxied_janus.mcu.server().connector, "_reclaim_timeout", 3600.0)
    _, _, published = await call.publish()
    _, _, subscribed = await call.subscribe()
    session = await proxied_janus.mcu.session()
    session._secrets = {"apisecret": "of another Janus"}
    proxied_janus.proxy.cut()
    assert await published.close_reason() is CloseReason.LOST
    assert await subscribed.close_reason() is CloseReason.LOST
    await proxied_janus.until_ready()
    await proxied_janus.until_counts(rooms=0, handles=0)


async def test_a_gateway_that_stops_while_the_connection_is_broken_ends_its_streams(
    proxied_janus: JanusBehindProxy,
) -> None:
    call = await proxied_janus.start_call()
    _, _, published = await call.publish()
    proxied_janus.proxy.refusing = True
    proxied_janus.proxy.cut()
    await proxied_janus.until_unreachable()
    async with asyncio.timeout(WAIT - 5.0):  # less than the time limit of a request
        await proxied_janus.mcu.stop()
    assert published.closed in ([], [CloseReason.LOST])
    assert proxied_janus.mcu.status().sfus[0].state is SfuState.STOPPED
    with pytest.raises(McuLost):
        await proxied_janus.mcu.publish(SCREEN, parse_frozen("v=0\r\n"), PublishOptions(timeout=1), WaitableListener())


async def test_an_admin_api_that_refuses_the_secret_does_not_disturb_calls(
    proxied_janus: JanusBehindProxy, caplog: pytest.LogCaptureFixture
) -> None:
    call = await proxied_janus.start_call()
    admin_url = proxied_janus.janus.admin_url
    proxied_janus.mcu.reconfigure(
        (JanusServerSettings(proxied_janus.proxy.url, API_SECRET, "", ADMIN_KEY, admin_url, "not the secret"),)
    )
    _, sender, listener = await call.publish()
    proxied_janus.proxy.cut()
    await proxied_janus.until_unreachable()
    await proxied_janus.until_ready()
    _, watcher, _ = await call.subscribe()
    await watcher.wait_for_tone(sender.frequency)
    async with asyncio.timeout(WAIT):
        while "does not tell which events were missed" not in caplog.text:  # noqa: ASYNC110  a log cannot be waited for
            await asyncio.sleep(0.01)
    assert listener.closed == []
    assert "not the secret" not in caplog.text


async def test_a_session_that_could_not_be_claimed_in_time_is_removed_from_janus(
    proxied_janus: JanusBehindProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcu.janus.connection.session.KEEPALIVE", 0.2)
    monkeypatch.setattr("mcu.janus.connection.session.STALLED_AFTER", 0.2)
    monkeypatch.setattr("mcu.janus.connection.connector.CONNECT_TIMEOUT", 0.4)
    monkeypatch.setattr("mcu.janus.connection.connector.STALL_TIMEOUT", 1.0)
    call = await proxied_janus.start_call()
    monkeypatch.setattr(proxied_janus.mcu.server().connector, "_reclaim_timeout", 1.0)
    _, _, published = await call.publish()
    _, _, subscribed = await call.subscribe()
    proxied_janus.proxy.silence()
    assert await proxied_janus.until_unreachable() == "Janus does not answer any more"
    assert await published.close_reason() is CloseReason.LOST
    assert await subscribed.close_reason() is CloseReason.LOST
    assert len(await handle_ids(proxied_janus.janus)) == 3
    proxied_janus.proxy.restore()
    await proxied_janus.until_ready()
    await proxied_janus.until_counts(rooms=0, handles=0)


@pytest.mark.full
@pytest.mark.parametrize("admin", [True, False])
async def test_cuts_at_any_moment_leave_nothing_on_janus_and_time_no_call_out(
    proxied_janus: JanusBehindProxy, admin: bool
) -> None:
    """Streams are published and closed while the connection is cut repeatedly, at random times."""
    rng = random.Random(1)
    await proxied_janus.start_call(admin=admin)
    until = time.monotonic() + DURATION
    failures: list[McuError] = []
    streams = 0

    def goes_on() -> bool:
        return time.monotonic() < until or streams < MIN_STREAMS

    async def cut_repeatedly() -> None:
        while goes_on():
            await asyncio.sleep(rng.uniform(0.0, 0.3))
            proxied_janus.proxy.cut()

    async def publish_and_subscribe(name: str) -> None:
        nonlocal streams
        key = StreamKey(BackendId("cloud"), PublisherId(name), StreamType.VIDEO)
        while goes_on():
            async with PublishingPeer(1, 440.0, video=False) as sender, SubscribingPeer() as watcher:
                listener = WaitableListener()
                publisher = subscriber = None
                try:
                    publisher, answer = await proxied_janus.mcu.publish(
                        key, parse_frozen(await sender.offer()), PUBLISH, listener
                    )
                    await sender.accept(answer)
                    subscriber, offer = await proxied_janus.mcu.subscribe(key, SubscribeOptions(timeout=WAIT), listener)
                    await answer_offer(subscriber, watcher, offer)
                    await watcher.wait_for_tone(440.0)
                    streams += 1
                except McuError as error:
                    failures.append(error)
                for end in (subscriber, publisher) if rng.random() < 0.5 else (publisher, subscriber):
                    if end is not None:
                        await end.close()

    await asyncio.gather(cut_repeatedly(), *(publish_and_subscribe(name) for name in ("anna", "ben", "carl")))
    await proxied_janus.until_ready()
    log.info("%d streams, %d calls failed: %s", streams, len(failures), {str(failure) for failure in failures})
    assert proxied_janus.janus.runs
    assert not [failure for failure in failures if isinstance(failure, McuTimeout)]
    session = await proxied_janus.mcu.session()
    assert list(session.handles) == [session.control.id]
    if admin:
        await proxied_janus.until_counts(rooms=0, handles=0)
    else:  # handles whose ids were lost have no PeerConnection, and end with the session
        async with asyncio.timeout(WAIT):
            while await proxied_janus.janus.rooms():  # noqa: ASYNC110 - Janus sends no event of it
                await asyncio.sleep(POLL)
        assert not [handle for handle in await proxied_janus.janus.handles() if "webrtc" in handle]
