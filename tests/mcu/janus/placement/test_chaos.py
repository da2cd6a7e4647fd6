"""Three Janus that fail at random while streams are published and subscribed to: no call hangs, nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

import pytest

from mcu.base import CloseReason, McuError, PublishOptions, SfuState, SubscribeOptions
from tests.mcu.descriptions import described
from tests.mcu.janus.conftest import WaitableListener
from tests.mcu.janus.janus_group import JanusGroup, start_several, stream_key
from tests.media import PublishingPeer
from tests.media.loopback import loopback

pytestmark = pytest.mark.usefixtures("janus_version")

__all__ = ["loopback"]

SECONDS = 30.0
COUNTRIES = ("", "US", "DE")


class RandomPublisher:
    """Publishes and subscribes to one stream, from and to random countries."""

    def __init__(self, group: JanusGroup, number: int, rng: random.Random) -> None:
        self._group, self._rng = group, rng
        self.key = stream_key(f"{number}")
        self.opened = 0
        self.ends: list[CloseReason] = []

    async def publish(self) -> None:
        async with PublishingPeer(1, 440.0, video=False) as peer:
            listener = WaitableListener()
            options = PublishOptions(timeout=5.0, country=self._rng.choice(COUNTRIES))
            publisher, answer = await self._group.mcu.publish(
                self.key, described(await peer.offer()), options, listener
            )
            await peer.accept(answer)
            self.opened += 1
            with contextlib.suppress(TimeoutError):
                await listener.close_reason(self._rng.uniform(0.5, 6.0))
            await publisher.close()
            self.ends += listener.closed

    async def subscribe(self) -> None:
        listener = WaitableListener()
        options = SubscribeOptions(timeout=5.0, country=self._rng.choice(COUNTRIES))
        subscriber, _ = await self._group.mcu.subscribe(self.key, options, listener)
        self.opened += 1
        with contextlib.suppress(TimeoutError):
            await listener.close_reason(self._rng.uniform(0.1, 2.0))
        await subscriber.close()
        self.ends += listener.closed


async def repeat(call: Any, rng: random.Random) -> None:
    """Make a call repeatedly until cancelled; some calls time out early, and every call may fail."""
    while True:
        with contextlib.suppress(McuError, TimeoutError):
            async with asyncio.timeout(rng.uniform(0.01, 0.3) if rng.random() < 0.3 else 30.0):
                await call()
        await asyncio.sleep(0.05)


async def cause_failures(group: JanusGroup, rng: random.Random) -> None:
    """Kill, freeze and drain one Janus after another; each is restored before the next failure."""
    while True:
        await asyncio.sleep(rng.uniform(0.5, 2.0))
        index = rng.randrange(3)
        janus = group.janus[index]
        match rng.choice(("kill", "freeze", "drain")):
            case "kill":
                await janus.kill()
                await asyncio.sleep(rng.uniform(0.0, 1.0))
                await janus.start()
            case "freeze":
                janus.freeze()
                await asyncio.sleep(rng.uniform(0.5, 4.0))
                janus.thaw()
            case "drain":
                for draining in (True, False):
                    group.change(index, draining=draining)
                    await group.reload()
                    await asyncio.sleep(rng.uniform(0.1, 2.0))


@pytest.mark.full
@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", [1, 2])
async def test_nothing_is_left_on_janus_after_random_failures(loopback: None, seed: int) -> None:
    rng = random.Random(seed)
    async with start_several(3, remote_streams=True) as group:
        group.change(1, country="US")
        group.change(2, country="DE")
        await group.start()
        publishers = [RandomPublisher(group, number, rng) for number in range(5)]
        tasks = [asyncio.create_task(repeat(publisher.publish, rng)) for publisher in publishers]
        tasks += [asyncio.create_task(repeat(publisher.subscribe, rng)) for publisher in publishers for _ in range(3)]
        failing = asyncio.create_task(cause_failures(group, rng))
        await asyncio.wait([*tasks, failing], timeout=SECONDS, return_when=asyncio.FIRST_COMPLETED)
        assert not [task for task in (*tasks, failing) if task.done()]
        for janus in group.janus:
            with contextlib.suppress(ProcessLookupError, AssertionError):
                janus.thaw()
        for task in (*tasks, failing):
            task.cancel()
        await asyncio.wait([*tasks, failing])
        for index, janus in enumerate(group.janus):
            if not janus.runs:
                await janus.start()
            group.change(index, draining=False)
        await group.reload()
        await group.states.until(lambda status: all(sfu.state is SfuState.READY for sfu in status.sfus), 20)
        assert sum(publisher.opened for publisher in publishers) > 50
        assert CloseReason.LOST in {reason for publisher in publishers for reason in publisher.ends}
        await until_clean(group)
        peer = RandomPublisher(group, 99, rng)
        await asyncio.wait_for(asyncio.gather(peer.publish(), peer.subscribe()), 20)
        await until_clean(group)


async def until_clean(group: JanusGroup) -> None:
    """Wait until no Janus has a room or handle: after a loss the sweep needs a few looks."""
    async with asyncio.timeout(40):
        while (found := (await group.room_counts(), await group.handle_counts())) != ([0, 0, 0], [0, 0, 0]):
            await asyncio.sleep(0.2)
            assert found is not None
