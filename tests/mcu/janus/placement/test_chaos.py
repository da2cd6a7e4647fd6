"""Three Janus that fail at random while streams are published and subscribed to: no call hangs, nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from mcu.base import CloseReason, McuError, PublishOptions, SfuState, SubscribeOptions
from tests.janus_process import OF_THE_SYSTEM
from tests.mcu.descriptions import described
from tests.mcu.janus.conftest import WAIT, WaitableListener
from tests.mcu.janus.janus_group import JanusGroup, start_several, stream_key
from tests.media import PublishingPeer
from tests.media.loopback import loopback

pytestmark = pytest.mark.usefixtures("janus_version")

__all__ = ["loopback"]

ROUNDS = 3
LIMIT = 90.0  # seconds for the failures; three rounds take about 22
CLEAN = 75.0  # seconds until every Janus is empty, usually 5; the sweep looks each minute, more often after a loss
COUNTRIES = ("", "US", "DE")


class RandomPublisher:
    """Publishes and subscribes to one stream, from and to random countries."""

    def __init__(self, group: JanusGroup, number: int, rng: random.Random) -> None:
        self._group, self._rng = group, rng
        self.key = stream_key(f"{number}")
        self.opened = 0
        self.timeout = 5.0  # seconds for a call
        self.ends: list[CloseReason] = []

    async def publish(self) -> None:
        async with PublishingPeer(1, 440.0, video=False) as peer:
            listener = WaitableListener()
            options = PublishOptions(timeout=self.timeout, country=self._rng.choice(COUNTRIES))
            publisher, answer = await self._group.mcu.publish(
                self.key, described(await peer.offer()), options, listener
            )
            try:
                await peer.accept(answer)
                self.opened += 1
                with contextlib.suppress(TimeoutError):
                    await listener.close_reason(self._rng.uniform(0.5, 6.0))
            finally:  # also when the call is cancelled: Janus waits long for a peer that does not connect
                await publisher.close()
            self.ends += listener.closed

    async def subscribe(self) -> None:
        listener = WaitableListener()
        options = SubscribeOptions(timeout=self.timeout, country=self._rng.choice(COUNTRIES))
        subscriber, _ = await self._group.mcu.subscribe(self.key, options, listener)
        self.opened += 1
        try:
            with contextlib.suppress(TimeoutError):
                await listener.close_reason(self._rng.uniform(0.1, 2.0))
        finally:
            await subscriber.close()
        self.ends += listener.closed


async def repeat(call: Any, rng: random.Random) -> None:
    """Make a call repeatedly until cancelled; some calls time out early, and every call may fail."""
    while True:
        with contextlib.suppress(McuError, TimeoutError):
            async with asyncio.timeout(rng.uniform(0.01, 0.3) if rng.random() < 0.3 else 30.0):
                await call()
        await asyncio.sleep(0.05)


async def rooms_and_handles(group: JanusGroup) -> tuple[list[int], list[int]]:
    """Return the numbers of rooms and of handles on each Janus.

    A Janus 1.1.2 that has crashed is started again first: it crashes at times when remote publishers come and go, which
    later versions do not. It is one failure more.
    """
    while True:
        try:
            return await group.room_counts(), await group.handle_counts()
        except aiohttp.ClientError:
            crashed = [janus for janus in group.janus if not janus.runs]
            if not crashed or crashed[0].installation is not OF_THE_SYSTEM:
                raise
            for janus in crashed:
                await janus.stop()
                await janus.start()


async def with_rooms(group: JanusGroup, rng: random.Random) -> int:
    """Wait until some Janus have rooms, and return the index of one of them."""
    while True:
        rooms, _ = await rooms_and_handles(group)
        if used := [index for index, count in enumerate(rooms) if count]:
            return rng.choice(used)
        await asyncio.sleep(0.05)


async def cause_failures(group: JanusGroup, rng: random.Random, sufficient: Callable[[], bool]) -> None:
    """Kill, freeze and drain one Janus after another; each is restored before the next failure.

    Each round has all three failures, in random order. After the last another one follows until ``sufficient()``.
    """
    rounds = 0
    while rounds < ROUNDS or not sufficient():
        rounds += 1
        for failure in rng.sample(("kill", "freeze", "drain"), 3):
            await asyncio.sleep(rng.uniform(0.5, 1.5))
            index = await with_rooms(group, rng)
            janus = group.janus[index]
            match failure:
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
@pytest.mark.timeout(300)
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

        def sufficient() -> bool:
            lost = any(CloseReason.LOST in publisher.ends for publisher in publishers)
            return lost and sum(publisher.opened for publisher in publishers) > 50

        failing = asyncio.create_task(cause_failures(group, rng, sufficient))
        await asyncio.wait([*tasks, failing], timeout=LIMIT, return_when=asyncio.FIRST_COMPLETED)
        assert not [task for task in tasks if task.done()]
        assert failing.done(), f"the failures had too little effect: {[publisher.ends for publisher in publishers]}"
        await failing
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await rooms_and_handles(group)
        await group.states.until(lambda status: all(sfu.state is SfuState.READY for sfu in status.sfus))
        await until_clean(group)
        peer = RandomPublisher(group, 99, rng)
        peer.timeout = WAIT
        await asyncio.wait_for(asyncio.gather(peer.publish(), peer.subscribe()), WAIT)
        await until_clean(group)


async def until_clean(group: JanusGroup) -> None:
    """Wait until no Janus has a room or handle: the sweep may need a few looks."""
    try:
        async with asyncio.timeout(CLEAN):
            while any(map(any, await rooms_and_handles(group))):  # noqa: ASYNC110
                await asyncio.sleep(0.2)
    except TimeoutError:
        left = [(await janus.rooms(), await janus.handles()) for janus in group.janus]
        raise AssertionError(f"rooms and handles stayed on Janus: {left}") from None
