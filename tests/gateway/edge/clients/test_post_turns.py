"""Long posts of long polling: one of them may use each iteration of the event loop."""

from __future__ import annotations

import asyncio

from gateway.edge.clients.polling_connection import PostTurns


async def test_each_turn_of_the_loop_is_given_to_one_caller() -> None:
    turns, loop = PostTurns(), asyncio.get_running_loop()
    turn = 0

    def count() -> None:
        nonlocal turn
        turn += 1
        loop.call_soon(count)

    async def work() -> int:
        await turns.wait()
        return turn

    loop.call_soon(count)
    taken = await asyncio.gather(*(work() for _ in range(20)))
    assert len(set(taken)) == 20
    assert taken == sorted(taken)  # in the order in which they asked


async def test_caller_that_is_cancelled_holds_up_no_other() -> None:
    turns = PostTurns()
    first, second = (asyncio.ensure_future(turns.wait()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert first.cancelled()
