"""Background tasks have an owner and an end (invariant 10); serial queues keep the order of jobs (invariant 5)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import warnings

import pytest

from gateway.flows.tasks import CLOSE_LIMIT, SerialQueue, Tasks
from tests.gateway.flows.virtual_time import settle


async def test_close_cancels_running_tasks_and_waits_for_their_end() -> None:
    tasks, ended = Tasks(), []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)
            ended.append(True)

    tasks.spawn(work(), "work")
    await settle()
    assert len(tasks) == 1
    await tasks.close()
    assert ended == [True]
    assert len(tasks) == 0


async def test_close_cancels_tasks_that_are_spawned_during_the_close() -> None:
    tasks, ended = Tasks(), []

    async def second() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def first() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            tasks.spawn(second(), "second")
            await asyncio.sleep(0)

    tasks.spawn(first(), "first")
    await settle()
    await tasks.close()
    assert ended == [True]


async def test_close_cancels_a_task_again_that_has_swallowed_its_cancellation() -> None:
    tasks, cancellations = Tasks(), 0

    async def work() -> None:
        nonlocal cancellations
        while cancellations < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancellations += 1

    tasks.spawn(work(), "work")
    await settle()
    await tasks.close()
    assert (cancellations, len(tasks)) == (2, 0)


async def test_close_names_a_task_that_does_not_end_and_returns(caplog: pytest.LogCaptureFixture) -> None:
    tasks, over = Tasks(), False

    async def work() -> None:
        while not over:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60.0)

    task = tasks.spawn(work(), "stubborn work")
    await settle()
    await tasks.close()
    (record,) = caplog.records
    assert f"task stubborn work did not end within {CLOSE_LIMIT:g} s" in record.getMessage()
    over = True
    task.cancel()
    await asyncio.wait([task])


async def test_close_from_a_task_does_not_wait_for_that_task() -> None:
    tasks = Tasks()
    await tasks.spawn(tasks.close(), "close")
    assert len(tasks) == 0


async def test_failed_task_is_logged_with_its_name(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks()

    async def work() -> None:
        raise ValueError("broken")

    await tasks.spawn(work(), "the work")
    assert "the work" in caplog.text
    assert "ValueError: broken" in caplog.text


async def test_task_cancelled_before_its_first_step_leaves_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tasks = Tasks()
        queue = SerialQueue(tasks, "queue")

        async def work() -> None:
            """Never begins."""

        queue.put(work)
        queue.close()
        tasks.spawn(work(), "work").cancel()
        await settle()
        await tasks.close()
        gc.collect()


async def test_jobs_run_in_order_one_at_a_time() -> None:
    queue, log, gate = SerialQueue(Tasks(), "queue"), [], asyncio.Event()

    def job(number: int) -> None:
        async def run() -> None:
            log.append(f"{number} begins")
            await gate.wait()
            await asyncio.sleep(3 - number)
            log.append(f"{number} ends")

        queue.put(run)

    for number in range(3):
        job(number)
    await settle()
    assert log == ["0 begins"]
    assert queue.waiting
    gate.set()
    await asyncio.sleep(10)
    assert log == ["0 begins", "0 ends", "1 begins", "1 ends", "2 begins", "2 ends"]
    assert not queue.waiting


async def test_failed_job_does_not_stop_the_next(caplog: pytest.LogCaptureFixture) -> None:
    queue, done = SerialQueue(Tasks(), "queue"), []

    async def fail() -> None:
        raise ValueError("broken")

    async def work() -> None:
        done.append(True)

    queue.put(fail)
    queue.put(work)
    await settle()
    assert done == [True]
    assert "ValueError: broken" in caplog.text


async def test_closed_queue_drops_waiting_jobs_and_cancels_the_running_one() -> None:
    queue, log = SerialQueue(Tasks(), "queue"), []

    async def wait() -> None:
        log.append("begun")
        await asyncio.Event().wait()
        log.append("not reached")

    queue.put(wait, on_dropped=lambda: log.append("the running one"))
    queue.put(wait, on_dropped=lambda: log.append("dropped"))
    await settle()
    queue.close()
    queue.put(wait, on_dropped=lambda: log.append("dropped at once"))
    await settle()
    assert log == ["begun", "dropped", "dropped at once"]


async def test_job_that_closes_its_own_queue_runs_to_its_end() -> None:
    queue, log = SerialQueue(Tasks(), "queue"), []

    async def work() -> None:
        queue.close()
        await asyncio.sleep(1)
        log.append("end")

    queue.put(work)
    await asyncio.sleep(2)
    assert log == ["end"]


async def test_queue_accepts_jobs_after_it_was_empty() -> None:
    queue, log = SerialQueue(Tasks(), "queue"), []

    async def work() -> None:
        log.append(True)

    queue.put(work)
    await settle()
    queue.put(work)
    await settle()
    assert log == [True, True]


def test_queue_can_be_closed_without_a_loop() -> None:
    SerialQueue(Tasks(), "queue").close()
