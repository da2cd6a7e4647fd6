"""Three Janus that fail at random while streams are published and subscribed to.

No request hangs, and neither a room nor a handle is left on a Janus.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from mcu.base import CloseReason, McuError, PublishOptions, SfuState, SubscribeOptions
from tests.janus_process import SYSTEM_JANUS
from tests.mcu.descriptions import parse_frozen
from tests.mcu.janus.conftest import WAIT, WaitableListener
from tests.mcu.janus.janus_group import JanusGroup, start_several, stream_key
from tests.media import PublishingPeer
from tests.media.loopback import loopback

pytestmark = pytest.mark.usefixtures("janus_version")

__all__ = ["loopback"]

ROUNDS = 3
FAILURES_TIMEOUT = 90.0  # seconds for ``cause_failures``; three rounds take about 22
# Seconds until every Janus is empty, usually 5: orphans are searched for each minute, more often after a lost session.
CLEAN_TIMEOUT = 75.0
COUNTRIES = ("", "US", "DE")


class StreamClients:
    """The clients of one stream, in random countries: publishers one after another, and subscribers."""

    def __init__(self, group: JanusGroup, number: int, rng: random.Random) -> None:
        self._group, self._rng = group, rng
        self.key = stream_key(f"{number}")
        self.opened = 0  # publications and subscriptions
        self.timeout = 5.0  # seconds for each publish or subscribe request
        self.close_reasons: list[CloseReason] = []

    async def publish(self) -> None:
        """Publish the stream until Janus ends it, for a few seconds at most."""
        async with PublishingPeer(1, 440.0, video=False) as peer:
            listener = WaitableListener()
            options = PublishOptions(timeout=self.timeout, country=self._rng.choice(COUNTRIES))
            publisher, answer = await self._group.mcu.publish(
                self.key, parse_frozen(await peer.offer()), options, listener
            )
            try:
                await peer.accept(answer)
                self.opened += 1
                with contextlib.suppress(TimeoutError):
                    await listener.close_reason(self._rng.uniform(0.5, 6.0))
            finally:  # also when cancelled: Janus would wait for the peer's ICE for some 20 s
                await publisher.close()
            self.close_reasons += listener.closed

    async def subscribe(self) -> None:
        """Subscribe to the stream until Janus ends the subscription, for two seconds at most."""
        listener = WaitableListener()
        options = SubscribeOptions(timeout=self.timeout, country=self._rng.choice(COUNTRIES))
        subscriber, _ = await self._group.mcu.subscribe(self.key, options, listener)
        self.opened += 1
        try:
            with contextlib.suppress(TimeoutError):
                await listener.close_reason(self._rng.uniform(0.1, 2.0))
        finally:
            await subscriber.close()
        self.close_reasons += listener.closed


async def repeat(request: Callable[[], Awaitable[None]], rng: random.Random) -> None:
    """Make a request repeatedly until cancelled; each may fail, and about a third are cancelled early."""
    while True:
        with contextlib.suppress(McuError, TimeoutError):
            async with asyncio.timeout(rng.uniform(0.01, 0.3) if rng.random() < 0.3 else 30.0):
                await request()
        await asyncio.sleep(0.05)


async def rooms_and_handles(group: JanusGroup) -> tuple[list[int], list[int]]:
    """Return the number of rooms and the number of handles of each Janus.

    A Janus 1.1.2 that has crashed is started again first: it sometimes crashes when remote publishers come and go,
    later versions do not. Such a crash counts as one more random failure.
    """
    while True:
        try:
            return await group.room_counts(), await group.handle_counts()
        except aiohttp.ClientError:
            crashed = [janus for janus in group.janus if not janus.runs]
            if not crashed or crashed[0].installation is not SYSTEM_JANUS:
                raise
            for janus in crashed:
                await janus.stop()
                await janus.start()


async def janus_with_rooms(group: JanusGroup, rng: random.Random) -> int:
    """Wait until at least one Janus has rooms, and return the index of such a Janus."""
    while True:
        rooms, _ = await rooms_and_handles(group)
        if used := [index for index, count in enumerate(rooms) if count]:
            return rng.choice(used)
        await asyncio.sleep(0.05)


async def cause_failures(group: JanusGroup, rng: random.Random, had_effect: Callable[[], bool]) -> None:
    """Kill, freeze and drain one Janus after another; each is restored before the next failure.

    Each round has all three failures, in random order. There are ``ROUNDS`` of them, and more until ``had_effect()``.
    """
    rounds = 0
    while rounds < ROUNDS or not had_effect():
        rounds += 1
        for failure in rng.sample(("kill", "freeze", "drain"), 3):
            await asyncio.sleep(rng.uniform(0.5, 1.5))
            index = await janus_with_rooms(group, rng)
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
async def test_random_failures_leave_no_object_on_janus(loopback: None, seed: int) -> None:
    rng = random.Random(seed)
    async with start_several(3, remote_streams=True) as group:
        group.change(1, country="US")
        group.change(2, country="DE")
        await group.start()
        streams = [StreamClients(group, number, rng) for number in range(5)]
        tasks = [asyncio.create_task(repeat(clients.publish, rng)) for clients in streams]
        tasks += [asyncio.create_task(repeat(clients.subscribe, rng)) for clients in streams for _ in range(3)]

        def had_effect() -> bool:
            """Return whether a stream was lost, and enough publications and subscriptions succeeded nevertheless."""
            lost = any(CloseReason.LOST in clients.close_reasons for clients in streams)
            return lost and sum(clients.opened for clients in streams) > 50

        failing = asyncio.create_task(cause_failures(group, rng, had_effect))
        await asyncio.wait([*tasks, failing], timeout=FAILURES_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        assert not [task for task in tasks if task.done()]
        assert failing.done(), f"the failures had too little effect: {[clients.close_reasons for clients in streams]}"
        await failing
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await rooms_and_handles(group)
        await group.states.until(lambda status: all(sfu.state is SfuState.READY for sfu in status.sfus))
        await until_clean(group)
        new_stream = StreamClients(group, 99, rng)
        new_stream.timeout = WAIT
        await asyncio.wait_for(asyncio.gather(new_stream.publish(), new_stream.subscribe()), WAIT)
        await until_clean(group)


async def until_clean(group: JanusGroup) -> None:
    """Wait until no Janus has a room or handle; the search for orphans may have to run several times."""
    try:
        async with asyncio.timeout(CLEAN_TIMEOUT):
            while any(map(any, await rooms_and_handles(group))):  # noqa: ASYNC110
                await asyncio.sleep(0.2)
    except TimeoutError:
        left = [(await janus.rooms(), await janus.handles()) for janus in group.janus]
        raise AssertionError(f"rooms and handles stayed on Janus: {left}") from None
