"""Budget of memory for the bodies of requests that are not authenticated yet."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

import pytest

from gateway.edge.http import body_budget
from gateway.edge.http.body_budget import BodyBudget, Overloaded

ONE_ADDRESS, OTHER_ADDRESS = ip_address("192.0.2.1"), ip_address("192.0.2.2")


class Reading:
    """Task that reads a body until ``done`` is set."""

    def __init__(self, budget: BodyBudget, size: int, address: str = "192.0.2.1") -> None:
        self.has_begun = False
        self.done = asyncio.Event()
        self.task = asyncio.create_task(self._read(budget, size, address))

    async def _read(self, budget: BodyBudget, size: int, address: str) -> str:
        try:
            async with budget.reserve(ip_address(address), size):
                self.has_begun = True
                await self.done.wait()
        except Overloaded:
            return "refused"
        return "read"


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def _small_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_budget, "ADDRESS_LIMIT", 100)
    monkeypatch.setattr(body_budget, "MAX_BUFFERED", 10)
    monkeypatch.setattr(body_budget, "WAITING_LIMIT", 20)
    monkeypatch.setattr(body_budget, "TOTAL_LIMIT", 250)


# reference 1.4-h
async def test_bodies_beyond_the_share_of_an_address_wait_and_then_are_refused() -> None:
    budget = BodyBudget(asyncio.get_running_loop().time)
    readings = [Reading(budget, 50) for _ in range(5)]
    await turns()
    assert [reading.has_begun for reading in readings] == [True, True, False, False, False]
    assert await readings[4].task == "refused"
    other = Reading(budget, 50, "192.0.2.2")
    await turns()
    assert other.has_begun
    readings[0].done.set()
    await turns()
    assert [reading.has_begun for reading in readings[:4]] == [True, True, True, False]
    for reading in [*readings, other]:
        reading.done.set()
    assert [await reading.task for reading in readings[:4]] == ["read"] * 4
    assert await other.task == "read"
    await turns()
    assert (budget._shares, budget._readings) == ({}, {})


async def test_body_larger_than_the_share_is_read_alone() -> None:
    budget = BodyBudget(asyncio.get_running_loop().time)
    large, other = Reading(budget, 200), Reading(budget, 11)
    await turns()
    assert (large.has_begun, other.has_begun) == (True, False)
    large.done.set()
    other.done.set()
    assert [await large.task, await other.task] == ["read", "read"]


# reference 1.4-h
async def test_short_body_does_not_wait_and_slow_bodies_are_aborted_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = BodyBudget(asyncio.get_running_loop().time)
    slow = [Reading(budget, 10) for _ in range(10)]
    await turns()
    short = Reading(budget, 10)
    await turns()
    assert short.has_begun
    assert not slow[0].task.done()
    monkeypatch.setattr(body_budget, "SLOW_AFTER", 0.0)
    another = Reading(budget, 10)
    await turns()
    assert another.has_begun
    assert [await reading.task for reading in slow[:2]] == ["refused"] * 2
    assert not any(reading.task.done() for reading in slow[2:])
    for reading in (*slow, short, another):
        reading.done.set()
    assert [await reading.task for reading in (*slow[2:], short, another)] == ["read"] * 10


# reference 1.4-h
async def test_long_body_that_waits_gets_the_place_of_a_slow_body(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_budget, "SLOW_AFTER", 0.02)
    monkeypatch.setattr(body_budget, "CHECK_PERIOD", 0.01)
    budget = BodyBudget(asyncio.get_running_loop().time)
    slow, waiting = Reading(budget, 100), Reading(budget, 100)
    await turns()
    assert (slow.has_begun, waiting.has_begun) == (True, False)
    assert await slow.task == "refused"
    waiting.done.set()
    assert await waiting.task == "read"
    assert (budget._shares, budget._readings) == ({}, {})


async def test_hosts_of_one_ipv6_network_have_one_share() -> None:
    budget = BodyBudget(asyncio.get_running_loop().time)
    readings = [Reading(budget, 60, f"2001:db8::{number}") for number in range(1, 4)]
    await turns()
    assert [reading.has_begun for reading in readings] == [True, False, False]
    for reading in readings:
        reading.task.cancel()
    await turns()
    assert (budget._shares, budget._readings) == ({}, {})


# reference 1.4-h
async def test_oldest_bodies_are_aborted_when_the_total_is_too_large() -> None:
    budget = BodyBudget(asyncio.get_running_loop().time)
    readings = [Reading(budget, 100, f"192.0.2.{number}") for number in range(4)]
    await turns()
    assert [await reading.task for reading in readings[:2]] == ["refused"] * 2
    for reading in readings[2:]:
        reading.done.set()
    assert [await reading.task for reading in readings[2:]] == ["read"] * 2


async def test_cancelled_wait_frees_its_place() -> None:
    budget = BodyBudget(asyncio.get_running_loop().time)
    first = Reading(budget, 100)
    await turns()
    waiting = [Reading(budget, 100) for _ in range(2)]
    await turns()
    for reading in waiting:
        reading.task.cancel()
    await turns()
    again = Reading(budget, 100)
    first.done.set()
    again.done.set()
    assert [await first.task, await again.task] == ["read", "read"]


async def test_exception_of_the_block_is_not_taken_for_an_overload() -> None:
    budget = BodyBudget(asyncio.get_running_loop().time)
    with pytest.raises(KeyError):
        async with budget.reserve(ONE_ADDRESS, 1):
            raise KeyError
    async with budget.reserve(OTHER_ADDRESS, 1):
        pass
    assert (budget._shares, budget._readings) == ({}, {})
