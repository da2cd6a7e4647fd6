"""Time limits that do not count the time in which the process stood still."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

import pytest

from gateway import standstill
from gateway.standstill import GRACE, MIN_STANDSTILL, PeerTimeout, PeerTimer, grace


@pytest.mark.parametrize(
    ("late", "limit", "expected"),
    [
        (0.0, 10, 0.0),
        (MIN_STANDSTILL - 0.01, 10, 0.0),
        (MIN_STANDSTILL, 10, GRACE),
        (5.0, 10, 5.0),
        (15.0, 10, 10.0),
        (15.0, 1, GRACE),
    ],
)
def test_grace_is_the_lateness_of_the_timer_within_bounds(late: float, limit: float, expected: float) -> None:
    assert grace(100.0, 100.0 + late, limit) == expected


@pytest.fixture
async def stand_still(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return a function that makes the loop's clock jump, as after the process was stopped."""
    loop = asyncio.get_running_loop()
    jumped = 0.0
    time = loop.time

    def jump(seconds: float) -> None:
        nonlocal jumped
        jumped += seconds

    monkeypatch.setattr(loop, "time", lambda: time() + jumped)
    return jump


async def run_ready_callbacks() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_timer_that_is_late_fires_only_after_the_grace(stand_still: Callable[[float], None]) -> None:
    fired: list[float] = []
    PeerTimer(10.0, lambda: fired.append(1))
    stand_still(15.0)
    await run_ready_callbacks()
    assert fired == []
    stand_still(5.5)  # more than the grace, and less than a second standstill
    await run_ready_callbacks()
    assert fired == [1]


async def test_cancelled_timer_does_not_fire(stand_still: Callable[[float], None]) -> None:
    fired: list[int] = []
    timer = PeerTimer(10.0, lambda: fired.append(1))
    stand_still(15.0)
    await run_ready_callbacks()
    timer.cancel()
    stand_still(15.0)
    await run_ready_callbacks()
    assert fired == []


async def test_answer_that_waited_during_a_standstill_is_read(stand_still: Callable[[float], None]) -> None:
    answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def wait() -> str:
        async with PeerTimeout(10.0):
            return await answer

    waiting = asyncio.create_task(wait())
    await run_ready_callbacks()
    stand_still(15.0)
    await run_ready_callbacks()
    answer.set_result("late")
    assert await waiting == "late"


async def test_silent_peer_times_out(stand_still: Callable[[float], None]) -> None:
    async def wait() -> None:
        async with PeerTimeout(10.0):
            await asyncio.Event().wait()

    waiting = asyncio.create_task(wait())
    await run_ready_callbacks()
    stand_still(10.0)
    with pytest.raises(TimeoutError):
        await waiting


@pytest.mark.parametrize("seconds", [None, 0, 0.0])
async def test_block_without_a_limit_does_not_time_out(
    seconds: float | None, stand_still: Callable[[float], None]
) -> None:
    async with PeerTimeout(seconds):
        stand_still(1e6)
        await run_ready_callbacks()


async def test_exception_of_the_block_stops_the_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled: list[PeerTimer] = []
    monkeypatch.setattr(standstill.PeerTimer, "cancel", lambda timer: cancelled.append(timer))
    with pytest.raises(KeyError):
        async with PeerTimeout(10.0):
            raise KeyError
    assert len(cancelled) == 1


async def test_timeout_is_freed_without_the_garbage_collector() -> None:
    def existing() -> int:
        return sum(isinstance(it, PeerTimeout | PeerTimer) for it in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = existing()
        async with PeerTimeout(10.0):
            assert existing() == before + 2
            await run_ready_callbacks()
        assert existing() == before
    finally:
        gc.enable()
