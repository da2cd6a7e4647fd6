"""The queue of requests to Janus: their order, and the requests that a broken connection leaves unanswered."""

from __future__ import annotations

import asyncio

import pytest

from mcu.janus.connection.request_queue import RequestQueue


async def sent(queue: RequestQueue, count: int) -> list[str]:
    """Send ``count`` requests of the queue, and return their texts."""
    return [await queue.next_text() for _ in range(count)]


async def test_requests_are_sent_in_order_and_waited_for() -> None:
    queue = RequestQueue()
    waiting = asyncio.create_task(sent(queue, 2))
    await asyncio.sleep(0)
    queue.put("1", "one", repeatable=True)
    queue.put("2", "two", repeatable=False)
    assert await waiting == ["one", "two"]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.next_text(), 0.01)


async def test_unanswered_repeatable_requests_are_sent_again_before_all_others() -> None:
    queue = RequestQueue()
    for number in range(6):
        queue.put(str(number), f"request {number}", repeatable=number != 2)
    await sent(queue, 5)
    assert queue.close("1")
    assert queue.requeue() == ["2"]
    assert await sent(queue, 4) == ["request 0", "request 3", "request 4", "request 5"]
    assert [queue.was_repeated(str(number)) for number in range(6)] == [True, False, False, True, True, False]


async def test_a_request_that_is_closed_before_it_was_sent_is_never_sent() -> None:
    queue = RequestQueue()
    queue.put("1", "one", repeatable=True)
    queue.put("2", "two", repeatable=True)
    assert not queue.close("1")
    assert await queue.next_text() == "two"
    assert queue.close("2")
    assert queue.close("2")
    assert queue.requeue() == []


async def test_a_second_broken_connection_repeats_the_open_requests_once_more() -> None:
    queue = RequestQueue()
    queue.put("1", "one", repeatable=True)
    await queue.next_text()
    queue.requeue()
    queue.requeue()  # the request was not sent between the two calls
    assert await queue.next_text() == "one"
    queue.requeue()
    assert await queue.next_text() == "one"
    assert queue.was_repeated("1")
