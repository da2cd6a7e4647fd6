"""Three Janus that come and go at random under streams that come and go: nothing is left, and nobody hangs."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

import pytest

from mcu.base import CloseReason, McuError, PublishOptions, SfuState, SubscribeOptions
from tests.mcu.descriptions import described
from tests.mcu.janus.conftest import Heard
from tests.mcu.janus.several import Several, key, several
from tests.media import PublishingPeer
from tests.media.loopback import loopback

__all__ = ["loopback"]

SECONDS = 30.0
PLACES = ("", "US", "DE")


class Person:
    """Publishes again and again, from connections that come up, and ends them."""

    def __init__(self, pool: Several, number: int, chance: random.Random) -> None:
        self._pool, self._chance = pool, chance
        self.key = key(f"{number}")
        self.opened = 0
        self.ends: list[CloseReason] = []

    async def publish(self) -> None:
        async with PublishingPeer(1, 440.0, video=False) as peer:
            heard = Heard()
            options = PublishOptions(timeout=5.0, country=self._chance.choice(PLACES))
            publisher, answer = await self._pool.mcu.publish(self.key, described(await peer.offer()), options, heard)
            await peer.accept(answer)
            self.opened += 1
            with contextlib.suppress(TimeoutError):
                await heard.end(self._chance.uniform(0.5, 6.0))
            await publisher.close()
            self.ends += heard.closed

    async def watch(self) -> None:
        heard = Heard()
        options = SubscribeOptions(timeout=5.0, country=self._chance.choice(PLACES))
        subscriber, _ = await self._pool.mcu.subscribe(self.key, options, heard)
        self.opened += 1
        with contextlib.suppress(TimeoutError):
            await heard.end(self._chance.uniform(0.1, 2.0))
        await subscriber.close()
        self.ends += heard.closed


async def again_and_again(what: Any, chance: random.Random) -> None:
    """Do something until cancelled; now and then it is given up in the middle, and it may fail as it likes."""
    while True:
        with contextlib.suppress(McuError, TimeoutError):
            async with asyncio.timeout(chance.uniform(0.01, 0.3) if chance.random() < 0.3 else 30.0):
                await what()
        await asyncio.sleep(0.05)


async def trouble(pool: Several, chance: random.Random) -> None:
    """Kill, stop and drain one after another, so that each is back before the next."""
    while True:
        await asyncio.sleep(chance.uniform(0.5, 2.0))
        place = chance.randrange(3)
        janus = pool.janus[place]
        match chance.choice(("kill", "freeze", "drain")):
            case "kill":
                await janus.kill()
                await asyncio.sleep(chance.uniform(0.0, 1.0))
                await janus.start()
            case "freeze":
                janus.freeze()
                await asyncio.sleep(chance.uniform(0.5, 4.0))
                janus.thaw()
            case "drain":
                for draining in (True, False):
                    pool.change(place, draining=draining)
                    await pool.reload()
                    await asyncio.sleep(chance.uniform(0.1, 2.0))


@pytest.mark.full
@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", [1, 2])
async def test_nothing_is_left_whatever_happens(loopback: None, seed: int) -> None:
    chance = random.Random(seed)
    async with several(3, remote_streams=True) as pool:
        pool.change(1, country="US")
        pool.change(2, country="DE")
        await pool.start()
        people = [Person(pool, number, chance) for number in range(5)]
        tasks = [asyncio.create_task(again_and_again(person.publish, chance)) for person in people]
        tasks += [asyncio.create_task(again_and_again(person.watch, chance)) for person in people for _ in range(3)]
        troubling = asyncio.create_task(trouble(pool, chance))
        await asyncio.wait([*tasks, troubling], timeout=SECONDS, return_when=asyncio.FIRST_COMPLETED)
        assert not [task for task in (*tasks, troubling) if task.done()]
        for janus in pool.janus:
            with contextlib.suppress(ProcessLookupError, AssertionError):
                janus.thaw()
        for task in (*tasks, troubling):
            task.cancel()
        await asyncio.wait([*tasks, troubling])
        for place, janus in enumerate(pool.janus):
            if not janus.runs:
                await janus.start()
            pool.change(place, draining=False)
        await pool.reload()
        await pool.states.until(lambda status: all(sfu.state is SfuState.READY for sfu in status.sfus), 20)
        assert sum(person.opened for person in people) > 50
        assert CloseReason.LOST in {why for person in people for why in person.ends}
        await is_clean(pool)
        peer = Person(pool, 99, chance)
        await asyncio.wait_for(asyncio.gather(peer.publish(), peer.watch()), 20)
        await is_clean(pool)


async def is_clean(pool: Several) -> None:
    """Wait until no Janus has anything: after a loss the sweep needs a few looks."""
    async with asyncio.timeout(40):
        while (found := (await pool.rooms(), await pool.handles())) != ([0, 0, 0], [0, 0, 0]):
            await asyncio.sleep(0.2)
            assert found is not None
