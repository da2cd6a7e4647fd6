"""Forged resume ids from an address block it, but throttle no correct resume from the same address (reference 14.1)."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from gateway.core.throttle import MAX_FAILURES
from tests.abuse.bystanders import MachineDelay, Pulse
from tests.abuse.scene import LATE, PATIENCE, Scene, running
from tests.gateway.edge.raw_client import RawClient

pytestmark = pytest.mark.full

ADDRESS = "203.0.113.7"  # of the attacker and of the members
GUESSES = 300
PERIOD = 0.01  # seconds between two guesses
MEMBERS = 5


async def test_forged_resume_ids_throttle_no_correct_resume_from_the_same_address(tmp_path: Path) -> None:
    async with running(tmp_path) as scene, scene.undisturbed(memory=32 << 20) as machine:
        pulse = Pulse()
        beating = asyncio.create_task(pulse.beat())
        members = [await scene.attacker(f"member {number}", room="den", address=ADDRESS) for number in range(MEMBERS)]
        guessing = asyncio.create_task(guess(scene, members[0]))
        times = await asyncio.gather(*(keep_resuming(scene, member, guessing, machine, pulse) for member in members))
        assert min(map(len, times)) > 2
        assert max(max(of_member) for of_member in times) < LATE
        assert await scene.metric('signaling_throttle_delayed_total{action="HelloResume"') == MAX_FAILURES
        assert await scene.metric('portunus_throttled_addresses{action="HelloResume"}') == 1
        for guesser in await guessing:
            guesser.writer.transport.abort()
        beating.cancel()


async def guess(scene: Scene, member: RawClient) -> list[RawClient]:
    """Send forged resume ids, each on a connection of its own; return when all are counted, with the connections."""
    last = "A" if member.resume_id[-1] != "A" else "B"
    forged = [member.resume_id[:-1] + last, member.session_id, "forged"]
    guessers = []
    for number in range(GUESSES):
        guessers.append(await scene.connect(address=ADDRESS))
        resume_id = forged[number % len(forged)]
        guessers[-1].send({"type": "hello", "hello": {"version": "1.0", "resumeid": resume_id}})
        await asyncio.sleep(PERIOD)
    async with asyncio.timeout(PATIENCE):
        while await scene.metric("signaling_throttle_") < GUESSES:  # noqa: ASYNC110 - delayed and refused attempts
            await asyncio.sleep(PERIOD)
    assert await scene.metric("signaling_throttle_") == GUESSES  # and no correct one
    return guessers


async def keep_resuming(
    scene: Scene, member: RawClient, until: asyncio.Task[list[RawClient]], machine: MachineDelay, pulse: Pulse
) -> list[float]:
    """Resume a session until a task is done, and once more; return the seconds that each resume waited."""
    times, is_last = [], False
    while not is_last:
        is_last = until.done()
        client = await scene.connect(address=ADDRESS)
        assert (await client.receive())["type"] == "welcome"
        begun, withheld = time.monotonic(), machine.withheld()
        client.send({"type": "hello", "hello": {"version": "1.0", "resumeid": member.resume_id}})
        reply = await client.receive()
        times.append(time.monotonic() - begun - (machine.withheld() - withheld) - pulse.late())
        assert reply.get("hello", {}).get("sessionid") == member.session_id, reply
        member.writer.transport.abort()  # the connection before
        client.session_id, client.resume_id = member.session_id, member.resume_id
        member = client
    member.writer.transport.abort()
    return times
