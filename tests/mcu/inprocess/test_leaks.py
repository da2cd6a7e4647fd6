"""A hundred rounds of joining and leaving leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import os
from collections import Counter
from pathlib import Path

import pytest

from mcu.base import CloseReason
from mcu.inprocess import InprocessSettings
from mcu.inprocess.backend import InprocessMcu
from tests.mcu.contract.clients import sender, viewer

ROUNDS = 100
WARM = 50  # the round whose memory the last one is compared with
MAX_GROWTH = 5 << 20  # bytes


def objects() -> Counter[str]:
    """Count the live objects of classes of ours; aiortc's are those of the test's peers too."""
    gc.collect()
    kinds = (type(thing) for thing in gc.get_objects())
    return Counter(kind.__qualname__ for kind in kinds if str(kind.__module__).startswith("mcu.inprocess"))


def tasks() -> list[str]:
    """Name the running tasks."""
    return sorted(task.get_name() for task in asyncio.all_tasks() if not task.done())


def descriptors() -> int:
    """Count the open file descriptors."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def memory() -> int:
    """Return the resident memory in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def one_round(mcu: InprocessMcu, number: int) -> None:
    """Join and leave in one of several ways."""
    async with sender(number % 64, audio=False) as alice, viewer() as carol, viewer() as dave:
        await alice.publish(mcu)
        await carol.subscribe(mcu)
        subscription = await dave.subscribe(mcu)
        await carol.peer.connected()
        await dave.peer.connected()
        if number % 4 == 0:
            await alice.peer.close()
            await alice.hears_closed(CloseReason.FAILED)
        elif number % 4 == 1:
            await alice.publish_again(mcu)
            await alice.peer.connected()  # aioice 0.13 leaves a task when a peer is closed in the middle of this
            await alice.publisher.close()
        elif number % 4 == 2:
            await subscription.close()
            await alice.publisher.close()
        else:
            await carol.peer.close()
            await carol.hears_closed(CloseReason.FAILED)
            await alice.publisher.close()


@pytest.mark.full
async def test_hundred_rounds_leave_nothing(loopback: None) -> None:
    mcu = InprocessMcu(InprocessSettings(address="127.0.0.1"))
    await mcu.start(lambda status: None)
    await one_round(mcu, 1)
    await settled(mcu)
    before = tasks(), descriptors(), objects()
    at_half = 0
    for number in range(ROUNDS):
        await one_round(mcu, number)
        if number + 1 == WARM:
            await settled(mcu)
            gc.collect()
            at_half = memory()
    await settled(mcu)
    assert (tasks(), descriptors(), objects()) == before
    assert memory() - at_half <= MAX_GROWTH
    await mcu.stop()


async def settled(mcu: InprocessMcu) -> None:
    """Wait until what was ended is closed on both sides."""
    async with asyncio.timeout(10):
        while len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110  tasks of aiortc's that nobody can wait for
            await asyncio.sleep(0.02)
