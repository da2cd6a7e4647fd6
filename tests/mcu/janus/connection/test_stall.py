"""A Janus that stands still, a network that loses its way, a Janus that is killed: in real time, with media."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from mcu.base import CloseReason, McuLost, SubscribeOptions
from mcu.janus.backend import JanusMcu
from mcu.janus.settings import JanusServerSettings
from tests.janus_process import ADMIN_KEY, API_SECRET, JanusProcess
from tests.mcu.janus.conftest import CAMERA, INSTANCE, WAIT, Call, Heard, States
from tests.mcu.janus.relay import Relay

pytestmark = pytest.mark.full

NOTICED = 8.0  # seconds within which a Janus that does not answer must have been noticed
WINDOW = 10.0  # seconds for which Janus lets a session be claimed (``janus-config/``)

log = logging.getLogger("portunus.tests")


class Scene:
    """A call over a Janus behind a network, and what can happen to both."""

    def __init__(self, janus: JanusProcess, relay: Relay, states: States, call: Call) -> None:
        self.states = states
        self.call = call
        self.janus = janus
        self.stop: dict[str, Callable[[], None]] = {"janus": janus.freeze, "network": relay.hold}
        self.go_on: dict[str, Callable[[], None]] = {"janus": janus.thaw, "network": relay.restore}

    async def comes_to(self, *, rooms: int, handles: int, limit: float = WAIT) -> None:
        """Ask Janus until it has that many rooms, and handles beside the control handle."""
        async with asyncio.timeout(limit):
            while (len(await self.janus.rooms()), len(await self.janus.handles()) - 1) != (rooms, handles):
                pass


@pytest.fixture
async def scene(janus: JanusProcess, states: States, loopback: None) -> AsyncIterator[Scene]:
    async with Relay(janus.values["WS_PORT"]) as relay, AsyncExitStack() as stack:
        mcu = JanusMcu((JanusServerSettings(relay.url, API_SECRET, "", ADMIN_KEY),), timeout=WAIT, instance=INSTANCE)
        await mcu.start(states)
        stack.push_async_callback(mcu.stop)
        await states.until(lambda status: status.ready)
        yield Scene(janus, relay, states, Call(mcu, stack))


@pytest.mark.parametrize("what", ["janus", "network"])
@pytest.mark.parametrize("seconds", [5.0, 8.5])
async def test_a_stall_within_the_window_ends_nothing(scene: Scene, what: str, seconds: float) -> None:
    publisher, sender, published = await scene.call.publisher(5, video=True)
    _, watcher, subscribed = await scene.call.subscriber()
    await watcher.wait_for_picture(5)
    handles = {handle["handle_id"] for handle in await scene.janus.handles()}
    scene.stop[what]()
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        await published.end(seconds)
    if seconds > NOTICED:
        status = scene.states.heard[-1]
        assert (status.ready, status.sfus[0].reason) == (False, "it does not answer")
    if what == "network":
        await watcher.wait_for_picture(5)
        await watcher.wait_for_tone(sender.frequency)
    scene.go_on[what]()
    await publisher.limit(400_000)
    await scene.states.until(lambda status: status.ready, 3)
    log.info("%s stood still for %s s; usable %.2f s after", what, seconds, time.monotonic() - begun - seconds)
    await watcher.wait_for_picture(5)
    await watcher.wait_for_tone(sender.frequency)
    assert (published.closed, subscribed.closed) == ([], [])
    assert handles == {handle["handle_id"] for handle in await scene.janus.handles()}


@pytest.mark.parametrize("what", ["janus", "network"])
async def test_a_stall_beyond_the_window_ends_the_streams_and_leaves_nothing(scene: Scene, what: str) -> None:
    _, _, published = await scene.call.publisher(5)
    _, watcher, subscribed = await scene.call.subscriber()
    await watcher.connected()
    scene.stop[what]()
    begun = time.monotonic()
    await scene.states.until(lambda status: not status.ready, NOTICED)
    noticed = time.monotonic() - begun
    assert await published.end(WINDOW) is CloseReason.LOST
    assert await subscribed.end(WINDOW) is CloseReason.LOST
    lost = time.monotonic() - begun
    assert lost < WINDOW + 1
    with pytest.raises(McuLost, match="not there"):
        await scene.call.mcu.subscribe(CAMERA, SubscribeOptions(timeout=1.0), Heard())
    await asyncio.sleep(max(0.0, 15.0 - (time.monotonic() - begun)))
    scene.go_on[what]()
    again = time.monotonic()
    await scene.states.until(lambda status: status.ready, 5)
    usable = time.monotonic() - again
    _, sender, _ = await scene.call.publisher(2)
    _, watcher, _ = await scene.call.subscriber()
    await watcher.wait_for_tone(sender.frequency)
    log.info("%s: noticed after %.1f s, lost after %.1f, usable %.2f s after it was over", what, noticed, lost, usable)
    await scene.comes_to(rooms=1, handles=2, limit=20)
    log.info("%s: nothing left %.1f s after it was over", what, time.monotonic() - again)
    await watcher.wait_for_tone(sender.frequency)
    assert scene.janus.runs


async def test_a_janus_that_was_killed_is_used_again_at_once(call: Call, janus: JanusProcess, states: States) -> None:
    """Times from the moment at which Janus accepts connections until media flow again; the clients lose no time."""
    times = []
    for away in (0.0, 0.3, 1.0, 3.0):
        _, sender, published = await call.publisher(5)
        _, watcher, subscribed = await call.subscriber()
        await watcher.wait_for_tone(sender.frequency)
        begun = time.monotonic()
        await janus.kill()
        assert await published.end(1) is CloseReason.LOST
        assert await subscribed.end(1) is CloseReason.LOST
        assert time.monotonic() - begun < 1
        with pytest.raises(TimeoutError):
            await states.until(lambda status: status.ready, away)
        await janus.start()
        accepts = time.monotonic()
        await states.until(lambda status: status.ready)
        ready = time.monotonic() - accepts
        again, sender, _ = await call.publisher(6)
        _, watcher, _ = await call.subscriber()
        await watcher.wait_for_tone(sender.frequency)
        times.append(time.monotonic() - accepts)
        log.info("away for %s s: usable after %.2f s, media flow after %.2f s", away, ready, times[-1])
        await again.close()
        assert (len(await janus.rooms()), len(await janus.handles())) == (0, 1)
    assert max(times) < 4
