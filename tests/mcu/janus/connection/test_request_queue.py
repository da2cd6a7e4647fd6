"""The queue of requests to Janus: their order, and the requests that a broken connection makes doubtful."""

from __future__ import annotations

import asyncio

import pytest

from mcu.janus.connection.request_queue import RequestQueue


async def taken(outgoing: RequestQueue, count: int) -> list[str]:
    """Send that many."""
    return [await outgoing.take() for _ in range(count)]


async def test_requests_go_out_in_order_and_are_waited_for() -> None:
    outgoing = RequestQueue()
    waiting = asyncio.create_task(taken(outgoing, 3))
    await asyncio.sleep(0)
    outgoing.put("1", "one", again=True)
    outgoing.tell("told")
    outgoing.put("2", "two", again=False)
    assert await waiting == ["one", "told", "two"]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(outgoing.take(), 0.01)


async def test_what_left_and_was_not_answered_goes_out_again_before_all_else_where_it_may() -> None:
    outgoing = RequestQueue()
    for number in range(6):
        outgoing.put(str(number), f"request {number}", again=number != 2)
    await taken(outgoing, 5)
    assert outgoing.close("1")
    assert outgoing.resume() == ["2"]
    assert await taken(outgoing, 4) == ["request 0", "request 3", "request 4", "request 5"]
    assert [outgoing.repeated(str(number)) for number in range(6)] == [True, False, False, True, True, False]


async def test_what_was_given_up_before_it_left_never_leaves() -> None:
    outgoing = RequestQueue()
    outgoing.put("1", "one", again=True)
    outgoing.put("2", "two", again=True)
    assert not outgoing.close("1")
    assert await outgoing.take() == "two"
    assert outgoing.close("2")
    assert outgoing.close("2")
    assert outgoing.resume() == []


async def test_what_nobody_follows_is_not_sent_twice() -> None:
    outgoing = RequestQueue()
    outgoing.tell("told")
    await outgoing.take()
    assert outgoing.resume() == []
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(outgoing.take(), 0.01)


async def test_a_second_break_repeats_what_is_still_open() -> None:
    outgoing = RequestQueue()
    outgoing.put("1", "one", again=True)
    await outgoing.take()
    outgoing.resume()
    outgoing.resume()  # it had not left again
    assert await outgoing.take() == "one"
    outgoing.resume()
    assert await outgoing.take() == "one"
    assert outgoing.repeated("1")
