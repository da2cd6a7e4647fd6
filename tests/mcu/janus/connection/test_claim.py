"""A connection that breaks between the gateway and a real Janus: the session is claimed, and nobody notices."""

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
from tests.mcu.descriptions import described
from tests.mcu.janus.conftest import CAMERA, SCREEN, WAIT, Heard
from tests.mcu.janus.house import House, Pace, house
from tests.media import PublishingPeer, WatchingPeer

__all__ = ["house"]

log = logging.getLogger("portunus.tests")


@pytest.mark.parametrize("gap", [0.4, pytest.param(6.0, marks=pytest.mark.full)])
async def test_media_go_on_while_the_connection_is_cut(
    house: House, caplog: pytest.LogCaptureFixture, gap: float
) -> None:
    call = await house.open()
    publisher, sender, published = await call.publisher(5, video=True)
    _, watcher, subscribed = await call.subscriber()
    await watcher.wait_for_picture(5)
    before, media = await house.handles(), list(published.media)
    pace = Pace(watcher)
    pacing = asyncio.create_task(pace.keep())
    with pytest.raises(TimeoutError):
        await published.end(gap)
    usual = pace.pictures
    for _ in range(2):
        house.relay.refusing = True
        house.relay.cut()
        assert await house.away() == "the connection was closed"
        limiting = asyncio.create_task(publisher.limit(300_000))  # waits for the connection and is carried out then
        seen = pace.pictures
        with pytest.raises(TimeoutError):
            await house.back(gap)
        assert pace.pictures - seen >= usual * 0.7 - 1
        house.relay.refusing = False
        await house.back(2)
        await limiting
    await watcher.wait_for_picture(5)
    await watcher.wait_for_tone(sender.frequency)
    pacing.cancel()
    assert pace.longest < 1.0
    assert await house.handles() == before
    assert (published.closed, subscribed.closed, published.media) == ([], [], media)
    told = [record.getMessage() for record in caplog.records if record.name == "portunus.mcu.janus"]
    assert [text.split(":")[0] for text in told if "away" in text or "lost" in text] == ["Janus is away"] * 2
    assert not [text for text in told if "127.0.0.1" in text]


async def test_what_is_asked_for_during_the_gap_is_done_after_it(house: House) -> None:
    call = await house.open()
    _, sender, _ = await call.publisher()
    subscriber, watcher, _ = await call.subscriber()
    await watcher.wait_for_tone(sender.frequency)
    house.relay.refusing = True
    house.relay.cut()
    await house.away()
    limiting = asyncio.create_task(subscriber.select(MediaSelection(audio=True)))
    publishing = asyncio.create_task(call.publisher(2, key=SCREEN))
    leaving = asyncio.create_task(subscriber.close())
    given_up = asyncio.create_task(house.mcu.subscribe(CAMERA, SubscribeOptions(timeout=0.3), Heard()))
    with pytest.raises(McuLost, match="not there"):
        await given_up
    house.relay.refusing = False
    await asyncio.gather(limiting, leaving)
    await publishing
    await house.comes_to(rooms=2, handles=2)


async def test_a_cut_connection_is_made_again_at_once(house: House) -> None:
    await house.open()
    with pytest.raises(TimeoutError):
        await house.states.until(lambda status: not status.ready, 1.1)  # after a shorter time it would pause
    cut = time.monotonic()
    house.relay.cut()
    await house.away()
    await house.back()
    log.info("usable %.1f ms after the cut", 1000 * (time.monotonic() - cut))
    assert time.monotonic() - cut < 0.2
    begun = house.mcu.status().sfus[0].connected_since
    house.relay.cut()
    await house.away()
    assert house.mcu.status().sfus[0].connected_since == 0
    await house.back()
    assert house.mcu.status().sfus[0].connected_since > begun


async def test_the_answer_to_a_claim_may_be_lost(house: House) -> None:
    call = await house.open()
    _, sender, heard = await call.publisher()
    _, watcher, _ = await call.subscriber()
    house.relay.swallow('"janus":"success","session_id"')
    house.relay.cut()
    await house.away()
    await house.relay.swallowed.wait()
    await house.back()
    await watcher.wait_for_tone(sender.frequency)
    assert heard.closed == []


async def test_a_session_that_janus_ended_meanwhile_is_lost_at_once(house: House) -> None:
    call = await house.open()
    _, _, published = await call.publisher()
    _, _, subscribed = await call.subscriber()
    session = (await house.mcu.session()).id
    house.relay.refusing = True
    house.relay.cut()
    await house.away()
    await house.janus.admin(janus="destroy_session", session_id=session)
    house.relay.refusing = False
    assert await published.end(2) is CloseReason.LOST
    assert await subscribed.end(2) is CloseReason.LOST
    await house.back(2)
    again, sender, _ = await call.publisher(2)
    _, watcher, _ = await call.subscriber()
    await watcher.wait_for_tone(sender.frequency)
    await again.close()
    await house.comes_to(rooms=0, handles=0)


async def test_a_janus_that_does_not_give_the_session_back_loses_the_streams(house: House) -> None:
    call = await house.open()
    _, _, published = await call.publisher()
    _, _, subscribed = await call.subscriber()
    session = await house.mcu.session()
    session._secrets = {"apisecret": "of another Janus"}
    house.relay.cut()
    assert await published.end(2) is CloseReason.LOST
    assert await subscribed.end(2) is CloseReason.LOST
    await house.back(2)
    await house.comes_to(rooms=0, handles=0)


async def test_a_gateway_that_stops_while_the_connection_is_broken_ends_its_streams(house: House) -> None:
    call = await house.open()
    _, _, published = await call.publisher()
    house.relay.refusing = True
    house.relay.cut()
    await house.away()
    async with asyncio.timeout(2):
        await house.mcu.stop()
    assert published.closed in ([], [CloseReason.LOST])
    assert house.mcu.status().sfus[0].state is SfuState.STOPPED
    with pytest.raises(McuLost):
        await house.mcu.publish(SCREEN, described("v=0\r\n"), PublishOptions(timeout=1), Heard())


async def test_an_admin_api_that_does_not_let_us_in_disturbs_nobody(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    call = await house.open()
    admin_url = house.janus.admin_url
    await house.mcu.reconfigure(
        (JanusServerSettings(house.relay.url, API_SECRET, "", ADMIN_KEY, admin_url, "not the secret"),)
    )
    _, sender, heard = await call.publisher()
    house.relay.cut()
    await house.away()
    await house.back()
    _, watcher, _ = await call.subscriber()
    await watcher.wait_for_tone(sender.frequency)
    async with asyncio.timeout(WAIT):
        while "does not tell which events were missed" not in caplog.text:  # noqa: ASYNC110  a log tells nobody
            await asyncio.sleep(0.01)
    assert heard.closed == []
    assert "not the secret" not in caplog.text


async def test_nothing_is_left_of_a_session_that_could_not_be_claimed_in_time(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcu.janus.connection.connector.HEARTBEAT", 0.4)
    monkeypatch.setattr("mcu.janus.connection.connector.CONNECT", 0.4)
    call = await house.open()
    monkeypatch.setattr(house.mcu.server().connector, "_reclaim_timeout", 1.0)
    _, _, published = await call.publisher()
    _, _, subscribed = await call.subscriber()
    house.relay.hold()
    assert await house.away() == "Janus does not answer any more"
    assert await published.end(5) is CloseReason.LOST
    assert await subscribed.end(5) is CloseReason.LOST
    assert len(await house.handles()) == 3
    house.relay.restore()
    await house.back()
    await house.comes_to(rooms=0, handles=0)


@pytest.mark.full
@pytest.mark.parametrize("admin", [True, False])
async def test_cuts_at_any_moment_leave_nothing_and_hold_up_nobody(house: House, admin: bool) -> None:
    """Streams come and go while the connection is cut again and again; the seed tells when."""
    seed = random.randrange(1 << 32)
    log.info("seed %d", seed)
    chance = random.Random(seed)
    await house.open(admin=admin)
    until = time.monotonic() + 20
    failures: list[McuError] = []
    streams = 0

    async def cutting() -> None:
        while time.monotonic() < until:
            await asyncio.sleep(chance.uniform(0.0, 0.3))
            house.relay.cut()

    async def coming_and_going(name: str) -> None:
        nonlocal streams
        key = StreamKey(BackendId("cloud"), PublisherId(name), StreamType.VIDEO)
        while time.monotonic() < until:
            async with PublishingPeer(1, 440.0, video=False) as sender, WatchingPeer() as watcher:
                heard = Heard()
                publisher = subscriber = None
                try:
                    publisher, answer = await house.mcu.publish(
                        key, described(await sender.offer()), PublishOptions(), heard
                    )
                    await sender.accept(answer)
                    subscriber, offer = await house.mcu.subscribe(key, SubscribeOptions(), heard)
                    await subscriber.accept(described(await watcher.answer(offer)))
                    await watcher.wait_for_tone(440.0)
                    streams += 1
                except McuError as error:
                    failures.append(error)
                for leg in (subscriber, publisher) if chance.random() < 0.5 else (publisher, subscriber):
                    if leg is not None:
                        await leg.close()

    await asyncio.gather(cutting(), *(coming_and_going(name) for name in ("anna", "ben", "carl")))
    await house.back()
    log.info("seed %d: %d streams, %d verbs failed: %s", seed, streams, len(failures), {str(it) for it in failures})
    assert house.janus.runs
    assert streams >= 10
    assert not [error_of for error_of in failures if isinstance(error_of, McuTimeout)]
    session = await house.mcu.session()
    assert list(session.handles) == [session.control.id]
    if admin:
        await house.comes_to(rooms=0, handles=0)
    else:  # handles whose numbers were lost have no connection, and go with the session
        async with asyncio.timeout(WAIT):
            while await house.janus.rooms():
                pass
        assert not [handle for handle in await house.janus.handles() if "webrtc" in handle]
