"""The periodic sweeps, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from gateway.edge.housekeeper import MAX_EXCLUDED, PERIOD, RECOVERY, Housekeeper


# reference 2.5-d
async def test_each_sweep_is_called_with_the_time_once_a_second() -> None:
    clock = asyncio.get_running_loop().time
    first: list[float] = []
    second: list[float] = []
    housekeeper = Housekeeper(clock, first.append, second.append)
    start = clock()
    housekeeper.start()
    await asyncio.sleep(3.5 * PERIOD)
    await housekeeper.stop()
    assert first == second == pytest.approx([start + PERIOD, start + 2 * PERIOD, start + 3 * PERIOD])
    await asyncio.sleep(2 * PERIOD)
    assert len(first) == 3


async def test_exception_in_a_sweep_stops_no_sweep(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[float] = []

    def fail(now: float) -> None:
        calls.append(now)
        raise ValueError("broken")

    housekeeper = Housekeeper(asyncio.get_running_loop().time, fail, calls.append)
    housekeeper.start()
    await asyncio.sleep(2.5 * PERIOD)
    await housekeeper.stop()
    assert len(calls) == 4
    assert "ValueError: broken" in caplog.text


async def test_stop_is_idempotent_and_allowed_before_start() -> None:
    housekeeper = Housekeeper(asyncio.get_running_loop().time)
    await housekeeper.stop()
    housekeeper.start()
    await housekeeper.stop()
    await housekeeper.stop()


# reference 2.5-g
async def test_standstill_does_not_count_for_the_time_limits_of_clients(caplog: pytest.LogCaptureFixture) -> None:
    loop, jumped = asyncio.get_running_loop(), 0.0
    start = loop.time()
    silence_times: list[float] = []
    other_times: list[float] = []

    def clock() -> float:
        return loop.time() - start + jumped

    silence_sweep, other_sweep = silence_times.append, other_times.append
    housekeeper = Housekeeper(clock, silence_sweep, other_sweep, silence_sweeps=(silence_sweep,))
    housekeeper.start()
    await asyncio.sleep(1.5 * PERIOD)
    jumped = 15.0
    await asyncio.sleep(2 * PERIOD)
    assert other_times == pytest.approx([1, 17, 18])
    assert silence_times == pytest.approx([1, 2, 3])
    assert "the process stood still for 15 s" in caplog.text
    await asyncio.sleep(RECOVERY)
    assert silence_times[-1] == other_times[-1]
    jumped += 1000.0
    await asyncio.sleep(PERIOD)
    await housekeeper.stop()
    assert other_times[-1] - silence_times[-1] == MAX_EXCLUDED
