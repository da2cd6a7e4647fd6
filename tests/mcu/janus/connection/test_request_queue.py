"""The queue of requests to Janus: its order, and unanswered requests after a broken connection."""

from __future__ import annotations

import asyncio

import pytest

from mcu.janus.connection.request_queue import RequestQueue


async def take(queue: RequestQueue, count: int) -> list[str]:
    """Take the next ``count`` requests from the queue, as if to send them, and return their texts."""
    return [await queue.next_text() for _ in range(count)]


async def test_requests_are_taken_in_order_and_an_empty_queue_waits_for_the_next() -> None:
    queue = RequestQueue()
    waiting = asyncio.create_task(take(queue, 2))
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
    await take(queue, 5)
    assert queue.forget("1")
    assert queue.requeue() == ["2"]
    assert await take(queue, 4) == ["request 0", "request 3", "request 4", "request 5"]
    assert [queue.was_repeated(str(number)) for number in range(6)] == [True, False, False, True, True, False]


async def test_a_request_that_is_forgotten_before_it_was_sent_is_never_sent() -> None:
    queue = RequestQueue()
    queue.put("1", "one", repeatable=True)
    queue.put("2", "two", repeatable=True)
    assert not queue.forget("1")
    assert await queue.next_text() == "two"
    assert queue.forget("2")
    assert queue.forget("2")
    assert queue.requeue() == []


async def test_unanswered_requests_are_sent_again_after_each_broken_connection() -> None:
    queue = RequestQueue()
    queue.put("1", "one", repeatable=True)
    await queue.next_text()
    queue.requeue()
    queue.requeue()  # this connection broke before the request was sent over it
    assert await queue.next_text() == "one"
    queue.requeue()
    assert await queue.next_text() == "one"
    assert queue.was_repeated("1")
