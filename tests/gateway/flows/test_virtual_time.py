"""The event loop with virtual time."""

from __future__ import annotations

import asyncio

import pytest

from tests.gateway.flows.virtual_time import VirtualLoop, settle


async def test_an_hour_passes_at_once() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    before = loop.time()
    await asyncio.sleep(3600)
    assert loop.time() == pytest.approx(before + 3600)


async def test_settle_returns_when_nothing_is_ready() -> None:
    steps = 0

    async def work() -> None:
        nonlocal steps
        for _ in range(100):
            await asyncio.sleep(0)
            steps += 1

    task = asyncio.create_task(work())
    await settle()
    assert task.done()
    assert steps == 100


async def test_timeout_ends_a_wait() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(10):
            await asyncio.Event().wait()
