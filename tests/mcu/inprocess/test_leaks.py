"""Tasks, file descriptors, objects and memory after a hundred calls."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
from collections import Counter
from pathlib import Path

import pytest

from mcu.base import CloseReason
from mcu.inprocess.backend import InprocessMcu
from tests.mcu.contract.clients import sender, viewer

CALLS = 100
WARM_UP = 50  # calls before memory is measured
MAX_GROWTH = 5 << 20  # bytes
MAX_OBJECTS = 2  # objects of one class that the last callbacks may still hold; a leak leaves one for each call


def objects() -> Counter[str]:
    """Count the live objects of the SFU's classes; aiortc's would include the test's peers."""
    gc.collect()
    classes = (type(instance) for instance in gc.get_objects())
    return Counter(cls.__qualname__ for cls in classes if str(cls.__module__).startswith("mcu.inprocess"))


def tasks() -> list[str]:
    """Return the names of the running tasks."""
    return sorted(task.get_name() for task in asyncio.all_tasks() if not task.done())


def descriptors() -> int:
    """Count the open file descriptors."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def memory() -> int:
    """Return the resident memory in bytes, without freed memory that the allocator keeps."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def make_call(mcu: InprocessMcu, number: int) -> None:
    """Publish and subscribe, and end the streams in one of four ways."""
    async with sender(number % 64, audio=False) as alice, viewer() as carol, viewer() as dave:
        await alice.publish(mcu)
        await carol.subscribe(mcu)
        subscription = await dave.subscribe(mcu)
        await carol.peer.wait_until_connected()
        await dave.peer.wait_until_connected()
        if number % 4 == 0:
            await alice.peer.close()
            await alice.wait_for_close(CloseReason.CLIENT_CLOSED)
        elif number % 4 == 1:
            await alice.publish_again(mcu)
            await alice.peer.wait_until_connected()  # aioice 0.13 leaks a task when a peer is closed while it connects
            await alice.publisher.close()
        elif number % 4 == 2:
            await subscription.close()
            await alice.publisher.close()
        else:
            await carol.peer.close()
            await carol.wait_for_close(CloseReason.CLIENT_CLOSED)
            await alice.publisher.close()


@pytest.mark.full
async def test_hundred_calls_leak_no_task_descriptor_object_or_memory(mcu: InprocessMcu) -> None:
    await make_call(mcu, 1)
    await wait_for_tasks()
    before, objects_before = (tasks(), descriptors()), objects()
    warm_memory = 0
    for number in range(CALLS):
        await make_call(mcu, number)
        if number + 1 == WARM_UP:
            await wait_for_tasks()
            warm_memory = memory()
    await wait_for_tasks()
    assert (tasks(), descriptors()) == before
    assert {name: count for name, count in (objects() - objects_before).items() if count > MAX_OBJECTS} == {}
    assert memory() - warm_memory <= MAX_GROWTH


async def wait_for_tasks() -> None:
    """Wait until the tasks of all ended connections are done."""
    async with asyncio.timeout(60):
        while len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110  aiortc's own tasks cannot be awaited
            await asyncio.sleep(0.02)
