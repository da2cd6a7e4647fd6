"""Media come back after Janus was killed or stood still (docs/mcu.md, "When streams are lost")."""

from __future__ import annotations

import asyncio
import os
import random

import pytest

from tests.interop.heal import HealingCall, healing_call, impatient
from tests.media.loopback import loopback

__all__ = ["impatient", "loopback"]

TARGET = 5.0  # seconds after Janus accepts connections, and after a client's own offer
SEED = "PORTUNUS_SEED"  # the environment's, to play a run again


def seeded() -> random.Random:
    """Return this run's chance, and say how to have it again."""
    seed = os.environ.get(SEED) or str(random.randrange(1 << 32))
    print(f"\n{SEED}={seed}")  # noqa: T201 - the evidence names it
    return random.Random(seed)


async def fail_often(call: HealingCall, chance: random.Random, kills: int, stalls: list[float]) -> None:
    """Kill Janus and let it stand still, at moments that chance names; each fourth time once more while it recovers."""
    await call.begin()
    for number in range(1, kills + 1):
        await asyncio.sleep(chance.uniform(0.0, 2.0))
        away, again = chance.choice((0.0, 0.0, 0.3, 1.0, 3.0)), chance.uniform(0.0, 2.0)
        await call.kill(away=away, again=None if number % 4 else again)
    assert not any(caller.requests for caller in call.callers)  # everything was offered unasked
    for seconds in stalls:
        await asyncio.sleep(chance.uniform(0.0, 2.0))
        await call.stall(seconds)
    await call.end()
    print(call.times.table())  # noqa: T201 - the evidence
    assert await call.ready() == 200
    assert max(call.times.a + call.times.b + call.times.c) < TARGET


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("loopback", "impatient")
async def test_media_come_back_after_each_of_twenty_kills_and_five_stalls_of_janus() -> None:
    async with healing_call() as call:
        await fail_often(call, seeded(), 20, [1.0, 3.0, 8.0, 12.0, 20.0])


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("loopback", "impatient")
async def test_media_come_back_after_each_of_a_hundred_kills_and_twenty_stalls_of_janus() -> None:
    async with healing_call() as call:
        await fail_often(call, seeded(), 100, [1.0, 3.0, 8.0, 12.0, 20.0] * 4)
