"""A frozen Janus, a silent network, and a killed Janus: in real time, with media."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest
from aiortc import MediaStreamTrack

from mcu.base import CloseReason, McuLost, SubscribeOptions
from mcu.janus.backend import JanusMcu
from mcu.janus.connection import connector
from mcu.janus.connection.connector import STALL_TIMEOUT
from mcu.janus.connection.session import KEEPALIVE
from mcu.janus.settings import JanusServerSettings
from tests.janus_process import ADMIN_KEY, ADMIN_SECRET, API_SECRET, JanusProcess
from tests.mcu.janus.conftest import (
    CAMERA,
    INSTANCE,
    WAIT,
    JanusCall,
    RecordedStates,
    WaitableListener,
    handle_ids,
    until_counts,
)
from tests.mcu.janus.tcp_proxy import TcpProxy
from tests.media import PublishingPeer
from tests.media.tracks import NumberTrack

pytestmark = [pytest.mark.full, pytest.mark.usefixtures("janus_version")]

RECOVERED_WITHIN = 3.0  # seconds from the end of a stall of 15 s to media, and to the gateway's use of Janus
SHORT_STALL = 2.5  # seconds after the detection; together shorter than ``STALL_TIMEOUT``
log = logging.getLogger("portunus.tests")


class StallableCall:
    """A call over a Janus behind a proxy, either of which can be frozen and resumed."""

    def __init__(self, janus: JanusProcess, proxy: TcpProxy, states: RecordedStates, call: JanusCall) -> None:
        self.states = states
        self.call = call
        self.janus = janus
        self.freeze: dict[str, Callable[[], None]] = {"janus": janus.freeze, "network": proxy.silence}
        self.resume: dict[str, Callable[[], None]] = {"janus": janus.thaw, "network": proxy.restore}


@pytest.fixture
async def stallable_call(janus: JanusProcess, states: RecordedStates, loopback: None) -> AsyncIterator[StallableCall]:
    async with TcpProxy(janus.values["WS_PORT"]) as proxy, AsyncExitStack() as stack:
        mcu = JanusMcu((JanusServerSettings(proxy.url, API_SECRET, "", ADMIN_KEY),), timeout=WAIT, instance=INSTANCE)
        await mcu.start(states)
        stack.push_async_callback(mcu.stop)
        await states.until(lambda status: status.ready)
        yield StallableCall(janus, proxy, states, JanusCall(mcu, stack))


@pytest.mark.parametrize("stalled", ["janus", "network"])
async def test_a_short_stall_ends_no_stream(stallable_call: StallableCall, stalled: str) -> None:
    publisher, sender, published = await stallable_call.call.publish(5, video=True)
    _, watcher, subscribed = await stallable_call.call.subscribe()
    await watcher.wait_for_picture(5)
    handles = await handle_ids(stallable_call.janus)
    stallable_call.freeze[stalled]()
    status = await stallable_call.states.until(lambda status: not status.ready)
    assert status.sfus[0].reason == "Janus does not answer any more"
    with pytest.raises(TimeoutError):
        await published.close_reason(SHORT_STALL)
    if stalled == "network":
        await watcher.wait_for_picture(5)
        await watcher.wait_for_tone(sender.frequency)
    stallable_call.resume[stalled]()
    await publisher.limit(400_000)
    await stallable_call.states.until(lambda status: status.ready)
    await watcher.wait_for_picture(5)
    await watcher.wait_for_tone(sender.frequency)
    assert (published.closed, subscribed.closed) == ([], [])
    assert await handle_ids(stallable_call.janus) == handles


@pytest.mark.parametrize(("stalled", "limit"), [("janus", STALL_TIMEOUT), ("network", 14.0)])
async def test_a_stall_that_lasts_ends_the_streams_and_leaves_nothing_on_janus(
    stallable_call: StallableCall, monkeypatch: pytest.MonkeyPatch, stalled: str, limit: float
) -> None:
    monkeypatch.setattr(connector, "STALL_TIMEOUT", limit)
    _, _, published = await stallable_call.call.publish(5)
    _, watcher, subscribed = await stallable_call.call.subscribe()
    await watcher.wait_until_connected()
    stallable_call.freeze[stalled]()
    begun = time.monotonic()
    await stallable_call.states.until(lambda status: not status.ready)
    noticed = time.monotonic() - begun
    assert await published.close_reason(limit + WAIT) is CloseReason.LOST
    assert await subscribed.close_reason() is CloseReason.LOST
    lost = time.monotonic() - begun
    assert lost > limit - KEEPALIVE - 1  # counted from the last answer
    with pytest.raises(McuLost, match="not there"):
        await stallable_call.call.mcu.subscribe(CAMERA, SubscribeOptions(timeout=1.0), WaitableListener())
    stallable_call.resume[stalled]()
    again = time.monotonic()
    await stallable_call.states.until(lambda status: status.ready)
    usable = time.monotonic() - again
    _, sender, _ = await stallable_call.call.publish(2)
    _, watcher, _ = await stallable_call.call.subscribe()
    await watcher.wait_for_tone(sender.frequency)
    log.info(
        "%s: noticed after %.1f s, lost after %.1f, usable %.2f s after it was over", stalled, noticed, lost, usable
    )
    await until_counts(stallable_call.janus, rooms=1, handles=2)
    log.info("%s: nothing left %.1f s after it was over", stalled, time.monotonic() - again)
    await watcher.wait_for_tone(sender.frequency)
    assert stallable_call.janus.runs


@pytest.mark.parametrize(("reclaim_timeout", "admin"), [("0", False), ("20", True)])
async def test_a_janus_that_stalls_for_15_seconds_is_not_lost(
    states: RecordedStates, loopback: None, caplog: pytest.LogCaptureFixture, reclaim_timeout: str, admin: bool
) -> None:
    """The clients do nothing; by default Janus keeps no session whose connection was closed."""
    caplog.set_level(logging.INFO, "portunus")
    async with JanusProcess(RECLAIM_TIMEOUT=reclaim_timeout) as janus, AsyncExitStack() as stack:
        admin_url, admin_secret = (janus.admin_url, ADMIN_SECRET) if admin else ("", "")
        settings = JanusServerSettings(janus.url, API_SECRET, "", ADMIN_KEY, admin_url, admin_secret)
        mcu = JanusMcu((settings,), timeout=WAIT, instance=INSTANCE)
        await mcu.start(states)
        stack.push_async_callback(mcu.stop)
        await states.until(lambda status: status.ready)
        call = JanusCall(mcu, stack)
        _, sender, published = await call.publish(5, video=True)
        _, watcher, subscribed = await call.subscribe()
        await watcher.wait_for_picture(5)
        handles = await handle_ids(janus)
        janus.freeze()
        with pytest.raises(TimeoutError):
            await published.close_reason(15.0)
        assert not states.statuses[-1].ready
        (camera,) = [track for track in tracks_of(sender) if isinstance(track, NumberTrack)]
        over, camera.number = time.time(), 6  # Janus may still have received pictures of the number 5
        janus.thaw()
        await watcher.wait_for_picture(6)
        flowing = time.time() - over
        await states.until(lambda status: status.ready)
        (used,) = [record.created - over for record in caplog.records if "answers again" in record.getMessage()]
        log.info("15 s: usable after %.2f s, media flow after %.2f s", used, flowing)
        assert max(used, flowing) < RECOVERED_WITHIN
        await watcher.wait_for_picture(6)
        await watcher.wait_for_tone(sender.frequency)
        assert (published.closed, subscribed.closed) == ([], [])
        assert await handle_ids(janus) == handles
        assert len(await janus.rooms()) == 1


def tracks_of(publisher: PublishingPeer) -> list[MediaStreamTrack | None]:
    return [transceiver.sender.track for transceiver in publisher.pc.getTransceivers()]


async def test_a_killed_janus_is_used_again_as_soon_as_it_accepts_connections(
    call: JanusCall, janus: JanusProcess, states: RecordedStates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Log the time from the moment at which Janus accepts connections until media flow again."""
    for away in (0.0, 0.3, 1.0, 3.0):
        _, sender, published = await call.publish(5)
        _, watcher, subscribed = await call.subscribe()
        await watcher.wait_for_tone(sender.frequency)
        monkeypatch.setattr(call.mcu.server().connector, "_reclaim_timeout", 3600.0)  # only the end of Janus tells
        await janus.kill()
        assert await published.close_reason() is CloseReason.LOST
        assert await subscribed.close_reason() is CloseReason.LOST
        with pytest.raises(TimeoutError):
            await states.until(lambda status: status.ready, away)
        await janus.start()
        accepts = time.monotonic()
        await states.until(lambda status: status.ready)
        ready = time.monotonic() - accepts
        again, sender, _ = await call.publish(6)
        _, watcher, _ = await call.subscribe()
        await watcher.wait_for_tone(sender.frequency)
        flowing = time.monotonic() - accepts
        log.info("away for %s s: usable after %.2f s, media flow after %.2f s", away, ready, flowing)
        await again.close()
        assert (len(await janus.rooms()), len(await janus.handles())) == (0, 1)
