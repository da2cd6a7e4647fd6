"""Descriptions share the iterations of the event loop (docs/operations.md, "Limits")."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from gateway.core.ids import SessionId
from gateway.flows.media.description_turns import ITERATION_BYTES, DescriptionsBusy, DescriptionTurns

LONG_DESCRIPTION = ITERATION_BYTES * 4


async def take(turns: DescriptionTurns, session: str, size: int, order: list[str]) -> None:
    """Read a description as a handler that is repeated does."""
    while True:
        try:
            turns.take(SessionId(session), size)
            order.append(session)
            return
        except DescriptionsBusy as busy:
            await busy.wait()


async def test_short_descriptions_are_read_in_one_turn() -> None:
    turns = DescriptionTurns()
    for number in range(4):
        turns.take(SessionId(str(number)), ITERATION_BYTES // 4)
    with pytest.raises(DescriptionsBusy):
        turns.take(SessionId("late"), 1)


async def test_long_descriptions_are_read_in_order_and_one_in_a_turn() -> None:
    turns, order, seen = DescriptionTurns(), list[str](), list[int]()
    tasks = [asyncio.create_task(take(turns, str(number), LONG_DESCRIPTION, order)) for number in range(5)]
    while len(order) < len(tasks):
        await asyncio.sleep(0)
        seen.append(len(order))
    await asyncio.gather(*tasks)
    assert order == ["0", "1", "2", "3", "4"]
    assert all(after - before <= 1 for before, after in zip([0, *seen], seen, strict=False))


async def test_descriptions_that_arrive_later_do_not_overtake() -> None:
    turns, order = DescriptionTurns(), list[str]()
    tasks = [asyncio.create_task(take(turns, name, LONG_DESCRIPTION, order)) for name in ("first", "second", "third")]
    await asyncio.sleep(0)
    await take(turns, "late", 1, order)
    await asyncio.gather(*tasks)
    assert order == ["first", "second", "third", "late"]


@pytest.mark.parametrize("leaves", ["before its turn", "in its turn"])
async def test_session_that_leaves_does_not_block_the_next(leaves: str) -> None:
    turns, order = DescriptionTurns(), list[str]()
    turns.take(SessionId("first"), LONG_DESCRIPTION)
    with contextlib.suppress(DescriptionsBusy):
        turns.take(SessionId("gone"), LONG_DESCRIPTION)
    if leaves == "before its turn":
        turns._waiting[0][1].cancel()
    async with asyncio.timeout(10):
        await take(turns, "next", LONG_DESCRIPTION, order)
    assert order == ["next"]
