"""A connection that breaks between the gateway and a real Janus: the session is claimed, and nobody notices."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from mcu.base import (
    BackendId,
    Closed,
    Kind,
    Layer,
    McuError,
    McuLost,
    McuTimeout,
    PublisherId,
    PublishOptions,
    SfuState,
    StreamKey,
    StreamType,
    SubscribeOptions,
)
from mcu.janus.backend import JanusMcu
from mcu.janus.settings import JanusServer
from tests.janus_process import ADMIN_KEY, ADMIN_SECRET, API_SECRET, JanusProcess
from tests.mcu.janus.conftest import CAMERA, INSTANCE, SCREEN, WAIT, Call, Heard, States
from tests.mcu.janus.relay import Relay
from tests.media import PublishingPeer, WatchingPeer

log = logging.getLogger("portunus.tests")


class House:
    """A Janus behind a network that can be cut, and the backend on this side of it."""

    def __init__(self, janus: JanusProcess, relay: Relay, states: States, stack: AsyncExitStack) -> None:
        self.janus = janus
        self.relay = relay
        self.states = states
        self._stack = stack

    async def open(self, *, admin: bool = False) -> Call:
        """Start the backend; with the Admin API, which the network does not touch."""
        admin_url, admin_secret = (self.janus.admin_url, ADMIN_SECRET) if admin else ("", "")
        server = JanusServer(self.relay.url, API_SECRET, "", ADMIN_KEY, admin_url, admin_secret)
        self.mcu = JanusMcu((server,), timeout=WAIT, instance=INSTANCE)
        await self.mcu.start(self.states)
        self._stack.push_async_callback(self.mcu.stop)
        await self.states.until(lambda status: status.ready)
        return Call(self.mcu, self._stack)

    async def back(self, limit: float = WAIT) -> None:
        """Wait until Janus can be used again."""
        await self.states.until(lambda status: status.ready, limit)

    async def away(self, limit: float = WAIT) -> str:
        """Wait until Janus cannot be used, and return the reason that is given."""
        status = await self.states.until(lambda status: not status.ready, limit)
        assert status.sfus[0].state is SfuState.CONNECTING
        return status.sfus[0].reason

    async def handles(self) -> set[int]:
        """Ask Janus for its handles."""
        return {handle["handle_id"] for handle in await self.janus.handles()}

    async def comes_to(self, *, rooms: int, handles: int) -> None:
        """Ask Janus until it has that many rooms, and handles beside the control handle."""
        async with asyncio.timeout(WAIT):
            while (len(await self.janus.rooms()), len(await self.janus.handles()) - 1) != (rooms, handles):
                pass


@pytest.fixture
async def house(janus: JanusProcess, states: States, loopback: None) -> AsyncIterator[House]:
    async with Relay(janus.values["WS_PORT"]) as relay, AsyncExitStack() as stack:
        yield House(janus, relay, states, stack)


class Pace:
    """Notes the longest time between two pictures that a peer decodes, in seconds."""

    def __init__(self, watcher: WatchingPeer) -> None:
        self._watcher = watcher
        self._frames = 0
        self._last = 0.0
        self.longest = 0.0
        self.pictures = 0

    async def keep(self) -> None:
        """Watch until cancelled."""
        await self._watcher.until(self._look, "never", 3600)

    def _look(self) -> bool:
        frames, now = sum(self._watcher.frames.values()), time.monotonic()
        if frames != self._frames:
            if self._frames:
                self.longest = max(self.longest, now - self._last)
                self.pictures += frames - self._frames
            self._frames, self._last = frames, now
        return False


@pytest.mark.parametrize("gap", [0.4, pytest.param(6.0, marks=pytest.mark.full)])
async def test_media_go_on_while_the_connection_is_cut(
    house: House, caplog: pytest.LogCaptureFixture, gap: float
) -> None:
    call = await house.open()
    publisher, sender, published = await call.publisher(5, video=True)
    _, watcher, subscribed = await call.subscriber()
    await watcher.sees(5)
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
    await watcher.sees(5)
    await watcher.hears(sender.frequency)
    pacing.cancel()
    assert pace.longest < 1.0
    assert await house.handles() == before
    assert (published.closed, subscribed.closed, published.media) == ([], [], media)
    told = [record.getMessage() for record in caplog.records if record.name == "portunus.mcu.janus"]
    assert [text.split(":")[0] for text in told if "away" in text or "lost" in text] == ["Janus is away"] * 2
    assert not [text for text in told if "127.0.0.1" in text]


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
    await watcher.hears(sender.frequency)
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
    _, watcher, heard = await call.subscriber(options=SubscribeOptions(layer=Layer(audio=True)))
    await watcher.hears(sender.frequency)
    assert house.relay.swallowed.is_set()
    assert heard.closed == []
    await house.comes_to(rooms=1, handles=2)


async def test_an_offer_that_was_lost_begins_the_subscription_anew(house: House) -> None:
    call = await house.open()
    publisher, sender, _ = await call.publisher(8)
    _, watcher, heard = await call.subscriber()
    await watcher.hears(sender.frequency)
    house.relay.swallow('"type":"offer"')
    sender.add_camera()
    await sender.accept(await publisher.update(await sender.offer()))
    assert await heard.end() is Closed.REPLACED
    _, watcher, _ = await call.subscriber()
    await watcher.sees(8)
    await house.comes_to(rooms=1, handles=2)


async def test_a_refresh_whose_offer_was_lost_fails_and_begins_anew(house: House) -> None:
    call = await house.open()
    _, sender, _ = await call.publisher()
    subscriber, watcher, heard = await call.subscriber()
    await watcher.hears(sender.frequency)
    house.relay.swallow('"type":"offer"')
    with pytest.raises(McuLost, match="during the request"):
        await subscriber.refresh()
    assert heard.closed == [Closed.REPLACED]
    await house.comes_to(rooms=1, handles=1)


@pytest.mark.parametrize("answer", ['"configured":"ok"', '"type":"answer"'])
async def test_a_renegotiation_whose_answer_was_lost_is_carried_out(house: House, answer: str) -> None:
    call = await house.open()
    publisher, sender, _ = await call.publisher(8, video=True)
    await sender.connected()
    house.relay.swallow(answer)
    await sender.accept(await publisher.update(await sender.offer()))
    _, watcher, _ = await call.subscriber()
    await watcher.sees(8)
    assert house.relay.swallowed.is_set()


async def test_a_publisher_that_hung_up_meanwhile_has_failed(house: House) -> None:
    call = await house.open()
    _, sender, published = await call.publisher()
    _, watcher, subscribed = await call.subscriber()
    await watcher.hears(sender.frequency)
    house.relay.swallow('"janus":"hangup"')
    await sender.close()
    assert await published.end() is Closed.FAILED
    assert await subscribed.end() is Closed.PUBLISHER_GONE
    await house.comes_to(rooms=0, handles=0)


async def test_a_subscriber_that_hung_up_meanwhile_has_failed_where_the_admin_api_tells(house: House) -> None:
    call = await house.open(admin=True)
    _, sender, published = await call.publisher()
    _, watcher, subscribed = await call.subscriber()
    await watcher.hears(sender.frequency)
    house.relay.swallow('"janus":"hangup"')
    await watcher.close()
    assert await subscribed.end() is Closed.FAILED
    assert published.closed == []
    await house.comes_to(rooms=1, handles=1)


async def test_media_that_began_meanwhile_are_told_of(house: House) -> None:
    call = await house.open()
    house.relay.swallow('"janus":"webrtcup"')
    _, _, heard = await call.publisher()
    await heard.until(lambda: (Kind.AUDIO, True) in heard.media)


async def test_a_room_that_went_meanwhile_ends_its_stream(house: House) -> None:
    call = await house.open()
    publisher, _, heard = await call.publisher()
    session = await house.mcu.session()
    house.relay.swallow('"videoroom":"destroyed"')
    session.control.tell({"request": "destroy", "room": publisher.room})
    assert await heard.end() is Closed.FAILED


async def test_a_publisher_of_which_nothing_is_heard_is_given_up(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcu.janus.publisher.CONNECTS_WITHIN", 0.2)
    await house.open()
    heard = Heard()
    async with PublishingPeer(1, 440.0, video=False) as silent:
        await house.mcu.publish(CAMERA, await silent.offer(), PublishOptions(), heard)
        house.relay.cut()
        assert await heard.end() is Closed.FAILED


async def test_what_is_asked_for_during_the_gap_is_done_after_it(house: House) -> None:
    call = await house.open()
    _, sender, _ = await call.publisher()
    subscriber, watcher, _ = await call.subscriber()
    await watcher.hears(sender.frequency)
    house.relay.refusing = True
    house.relay.cut()
    await house.away()
    limiting = asyncio.create_task(subscriber.select(Layer(audio=True)))
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
    await watcher.hears(sender.frequency)
    assert heard.closed == []


async def test_what_janus_says_while_a_stream_is_closed_may_be_lost(house: House) -> None:
    call = await house.open()
    publisher, sender, _ = await call.publisher()
    _, watcher, _ = await call.subscriber()
    await watcher.hears(sender.frequency)
    house.relay.swallow('"videoroom":"destroyed"')
    await publisher.close()
    assert house.relay.swallowed.is_set()
    await house.comes_to(rooms=0, handles=0)


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
    assert await published.end(2) is Closed.LOST
    assert await subscribed.end(2) is Closed.LOST
    await house.back(2)
    again, sender, _ = await call.publisher(2)
    _, watcher, _ = await call.subscriber()
    await watcher.hears(sender.frequency)
    await again.close()
    await house.comes_to(rooms=0, handles=0)


async def test_a_janus_that_does_not_give_the_session_back_loses_the_streams(house: House) -> None:
    call = await house.open()
    _, _, published = await call.publisher()
    _, _, subscribed = await call.subscriber()
    session = await house.mcu.session()
    session._secrets = {"apisecret": "of another Janus"}
    house.relay.cut()
    assert await published.end(2) is Closed.LOST
    assert await subscribed.end(2) is Closed.LOST
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
    assert published.closed in ([], [Closed.LOST])
    assert house.mcu.status().sfus[0].state is SfuState.STOPPED
    with pytest.raises(McuLost):
        await house.mcu.publish(SCREEN, "v=0\r\n", PublishOptions(timeout=1), Heard())


async def test_an_admin_api_that_does_not_let_us_in_disturbs_nobody(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    call = await house.open()
    admin_url = house.janus.admin_url
    await house.mcu.reconfigure((JanusServer(house.relay.url, API_SECRET, "", ADMIN_KEY, admin_url, "not the secret"),))
    _, sender, heard = await call.publisher()
    house.relay.cut()
    await house.away()
    await house.back()
    _, watcher, _ = await call.subscriber()
    await watcher.hears(sender.frequency)
    async with asyncio.timeout(WAIT):
        while "does not tell what was missed" not in caplog.text:  # noqa: ASYNC110  a log tells nobody
            await asyncio.sleep(0.01)
    assert heard.closed == []
    assert "not the secret" not in caplog.text


async def test_nothing_is_left_of_a_session_that_could_not_be_claimed_in_time(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcu.janus.client.HEARTBEAT", 0.4)
    monkeypatch.setattr("mcu.janus.client.CONNECT", 0.4)
    call = await house.open()
    monkeypatch.setattr(house.mcu.node().client, "_reclaim", 1.0)
    _, _, published = await call.publisher()
    _, _, subscribed = await call.subscriber()
    house.relay.hold()
    assert await house.away() == "Janus does not answer any more"
    assert await published.end(5) is Closed.LOST
    assert await subscribed.end(5) is Closed.LOST
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
                    publisher, answer = await house.mcu.publish(key, await sender.offer(), PublishOptions(), heard)
                    await sender.accept(answer)
                    subscriber, offer = await house.mcu.subscribe(key, SubscribeOptions(), heard)
                    await subscriber.accept(await watcher.answer(offer))
                    await watcher.hears(440.0)
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
    assert not [failure for failure in failures if isinstance(failure, McuTimeout)]
    session = await house.mcu.session()
    assert list(session.handles) == [session.control.id]
    if admin:
        await house.comes_to(rooms=0, handles=0)
    else:  # handles whose numbers were lost have no connection, and go with the session
        async with asyncio.timeout(WAIT):
            while await house.janus.rooms():
                pass
        assert not [handle for handle in await house.janus.handles() if "webrtc" in handle]
