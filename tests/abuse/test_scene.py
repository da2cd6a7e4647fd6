"""The checks of the bystanders: they detect a gateway that stands still, and do not blame it for a busy machine."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.abuse.scene import LATE, running
from tests.frozen_process import freeze

pytestmark = pytest.mark.full


async def test_bystanders_without_an_attack(tmp_path: Path) -> None:
    async with running(tmp_path) as scene, scene.undisturbed(memory=16 << 20):
        await asyncio.sleep(1)


async def test_gateway_that_stands_still_is_detected(tmp_path: Path) -> None:
    async with running(tmp_path) as scene, scene.watched(memory=16 << 20):
        await asyncio.sleep(0.5)
        freeze(scene.process.pid)
        await asyncio.sleep(0.5)
        scene.process.send_signal(signal.SIGCONT)
    assert scene.experience.own > LATE
    assert scene.experience.lost == 0


async def test_gateway_is_not_blamed_for_a_busy_machine(tmp_path: Path) -> None:
    async with running(tmp_path) as scene, scene.watched(memory=16 << 20), AsyncExitStack() as stack:
        processor = min(os.sched_getaffinity(0))
        os.sched_setaffinity(scene.process.pid, {processor})
        os.setpriority(os.PRIO_PROCESS, scene.process.pid, 19)
        for process in [await stack.enter_async_context(busy()) for _ in range(5)]:
            os.sched_setaffinity(process, {processor})
        await asyncio.sleep(2)
    assert scene.experience.worst - scene.experience.own > 0.1
    assert scene.experience.own < LATE
    assert scene.experience.lost == 0


@asynccontextmanager
async def busy() -> AsyncIterator[int]:
    """Run a process that never sleeps, and return its id."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "while True: pass")
    try:
        yield process.pid
    finally:
        process.kill()
        await process.wait()
