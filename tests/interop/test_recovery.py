"""Media are restored after Janus was killed or stalled (docs/mcu.md, "When streams are lost")."""

from __future__ import annotations

import asyncio
import os
import random

import pytest

from tests.interop.recovering_call import RecoveringCall, fast_consent_failure, recovering_call
from tests.janus_process import CURRENT, SYSTEM_JANUS, select_janus
from tests.media.loopback import loopback

__all__ = ["fast_consent_failure", "loopback"]

TARGET = 5.0  # seconds after Janus accepts connections, and after a client's own offer; on an idle machine
SEED = "PORTUNUS_SEED"  # environment variable with another seed than 1


def seeded_random() -> random.Random:
    """Return the random generator of this run, and print its seed."""
    seed = os.environ.get(SEED, "1")
    print(f"\n{SEED}={seed}")  # noqa: T201 - shown with pytest -s
    return random.Random(seed)


async def fail_repeatedly(call: RecoveringCall, rng: random.Random, kills: int, stalls: list[float]) -> None:
    """Kill and stall Janus at random moments; each fourth kill follows another one during the recovery."""
    await call.begin()
    for number in range(1, kills + 1):
        await asyncio.sleep(rng.uniform(0.0, 2.0))
        away, before = rng.choice((0.0, 0.0, 0.3, 1.0, 3.0)), rng.uniform(0.0, 2.0)
        await call.kill(away=away, killed_before=None if number % 4 else before)
    assert not any(member.requests_sent for member in call.members)  # all streams were offered without a request
    for seconds in stalls:
        await asyncio.sleep(rng.uniform(0.0, 2.0))
        await call.stall(seconds)
    await call.end()
    print(call.outages.table())  # noqa: T201 - shown with pytest -s
    await call.wait_for_readiness(200)


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("loopback", "fast_consent_failure")
@pytest.mark.parametrize(
    ("version", "kills", "stalls"),
    [(SYSTEM_JANUS.version, 8, [8.0, 20.0]), (CURRENT.version, 8, [3.0, 12.0])],
    ids=[SYSTEM_JANUS.version, CURRENT.version],
)
async def test_media_are_restored_after_each_of_many_kills_and_stalls_of_janus(
    version: str, kills: int, stalls: list[float]
) -> None:
    with select_janus(version):
        async with recovering_call() as call:
            await fail_repeatedly(call, seeded_random(), kills, stalls)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("loopback", "fast_consent_failure")
async def test_media_are_restored_after_each_of_a_hundred_kills_and_twenty_stalls_of_janus() -> None:
    async with recovering_call() as call:
        await fail_repeatedly(call, seeded_random(), 100, [1.0, 3.0, 8.0, 12.0, 20.0] * 4)
        assert max(call.outages.republishing + call.outages.protocol_only + call.outages.subscribers) < TARGET
