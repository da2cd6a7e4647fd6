"""The end of the gateway's parts within time limits, in virtual time."""

from __future__ import annotations

import asyncio
import inspect
import math

import pytest

from gateway.app import Gateway
from gateway.edge.shutdown import LEAST_TIME, PART_LIMIT, TOTAL_LIMIT, Shutdown
from gateway.tools.serve import END_TIME, EXIT_LIMIT
from tests.captured_log import captured_lines


async def never() -> None:
    await asyncio.Event().wait()


async def fail() -> None:
    raise RuntimeError("a fault")


async def test_part_that_does_not_end_is_named_and_does_not_keep_the_others() -> None:
    shutdown, ended = Shutdown(asyncio.get_running_loop().time), []

    async def end() -> None:
        ended.append(asyncio.get_running_loop().time())

    started = asyncio.get_running_loop().time()
    with captured_lines() as lines:
        await shutdown.end("the streams", never())
        await shutdown.end("the requests", fail())
        await shutdown.end("the timers", end())
    assert ended == [started + PART_LIMIT]
    first, second = lines
    assert f"the streams did not end within {PART_LIMIT:.1f} s" in first
    assert "the requests did not end properly" in second
    assert "a fault" in second


async def test_all_parts_together_end_in_time_for_the_service_manager() -> None:
    loop = asyncio.get_running_loop()
    shutdown, started = Shutdown(loop.time), loop.time()
    parts = inspect.getsource(Gateway.stop).count("await shutdown.end(")
    for number in range(parts):
        await shutdown.end(f"part {number}", never())
    waited_in_full = math.ceil(TOTAL_LIMIT / PART_LIMIT)
    assert parts > waited_in_full
    assert loop.time() - started == pytest.approx(TOTAL_LIMIT + (parts - waited_in_full) * LEAST_TIME)
    assert loop.time() - started + EXIT_LIMIT < END_TIME


async def test_part_that_is_left_is_cancelled() -> None:
    cancelled = asyncio.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    await Shutdown(asyncio.get_running_loop().time, part=0.5).end("the streams", wait())
    await asyncio.wait_for(cancelled.wait(), 1)
