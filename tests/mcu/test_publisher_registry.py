"""A stream has one publisher at a time; calls for it take turns, wait for its publisher, and time out."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import dataclass

import pytest

from mcu.base import BackendId, McuLost, McuTimeout, NoSuchStream, PublisherId, StreamKey, StreamType
from mcu.publisher_registry import PublisherRegistry

ALICE = StreamKey(BackendId("cloud"), PublisherId("alice"), StreamType.VIDEO)
BOB = StreamKey(BackendId("cloud"), PublisherId("bob"), StreamType.VIDEO)


@dataclass(eq=False)
class PlainPublisher:
    key: StreamKey = ALICE
    connected: bool = False
    closed: bool = False


Registry = PublisherRegistry[PlainPublisher]


def ignore(publisher: PlainPublisher | None) -> None:
    """Raise no error, so that the call keeps waiting."""


def unreachable() -> str:
    return "the SFU is unreachable"


async def run_other_tasks(count: int = 3) -> None:
    """Let the other tasks run for ``count`` loop iterations."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_added_publisher_is_found_until_it_is_closed() -> None:
    registry: Registry = PublisherRegistry()
    publisher = PlainPublisher()
    registry.add(publisher)
    assert registry.get(ALICE) is publisher
    assert (ALICE in registry, BOB in registry, len(registry), list(registry)) == (True, False, 1, [publisher])
    registry.publisher_changed(publisher)
    assert registry.get(ALICE) is publisher
    publisher.closed = True
    registry.publisher_changed(publisher)
    assert (registry.get(ALICE), len(registry)) == (None, 0)


async def test_replaced_publisher_does_not_remove_its_successor() -> None:
    registry: Registry = PublisherRegistry()
    replaced, successor = PlainPublisher(closed=True), PlainPublisher()
    registry.add(replaced)
    registry.add(successor)
    registry.publisher_changed(replaced)
    assert registry.get(ALICE) is successor


async def test_iteration_is_not_disturbed_by_changes() -> None:
    registry: Registry = PublisherRegistry()
    for key in (ALICE, BOB):
        registry.add(PlainPublisher(key))
    for publisher in registry:
        publisher.closed = True
        registry.publisher_changed(publisher)
    assert len(registry) == 0


async def test_replacements_of_one_stream_take_turns_and_those_of_others_do_not_wait() -> None:
    registry: Registry = PublisherRegistry()
    order: list[str] = []
    gate = asyncio.Event()

    async def publish(key: StreamKey, name: str) -> None:
        async with registry.replacement(key) as running:
            order.append(f"{name} {'replaces' if running else 'begins'}")
            await gate.wait()
            registry.add(PlainPublisher(key))

    async with asyncio.TaskGroup() as tasks:
        for key, name in ((ALICE, "first"), (ALICE, "second"), (BOB, "other")):
            tasks.create_task(publish(key, name))
        await run_other_tasks()
        assert order == ["first begins", "other begins"]
        gate.set()
    assert order == ["first begins", "other begins", "second replaces"]


async def test_lock_of_a_stream_is_dropped_with_its_last_call() -> None:
    registry: Registry = PublisherRegistry()
    async with registry.replacement(ALICE):
        pass
    gc.collect()
    assert len(registry._locks) == 0


async def test_call_waits_until_the_publisher_is_connected() -> None:
    registry: Registry = PublisherRegistry()
    waiting = asyncio.create_task(registry.wait_until_connected(ALICE, ignore))
    await run_other_tasks()
    publisher = PlainPublisher()
    registry.add(publisher)
    await run_other_tasks()
    assert not waiting.done()
    publisher.connected = True
    registry.publisher_changed(publisher)
    assert await waiting is publisher


async def test_replaced_publisher_does_not_end_the_wait() -> None:
    registry: Registry = PublisherRegistry()
    replaced, successor = PlainPublisher(), PlainPublisher(connected=True)
    registry.add(replaced)
    waiting = asyncio.create_task(registry.wait_until_connected(ALICE, ignore))
    await run_other_tasks()
    replaced.closed = True
    registry.publisher_changed(replaced)
    await run_other_tasks()
    registry.add(successor)
    assert await waiting is successor


async def test_check_is_made_at_each_change_and_its_error_ends_the_wait() -> None:
    registry: Registry = PublisherRegistry()
    checked: list[PlainPublisher | None] = []

    def check(publisher: PlainPublisher | None) -> None:
        checked.append(publisher)
        if len(checked) == 3:
            raise McuLost("stopped")

    waiting = asyncio.create_task(registry.wait_until_connected(ALICE, check))
    await run_other_tasks()
    publisher = PlainPublisher()
    registry.add(publisher)
    await run_other_tasks()
    registry.wake_all()
    with pytest.raises(McuLost):
        await waiting
    assert checked == [None, publisher, publisher]


async def test_cancelled_wait_leaves_nothing() -> None:
    registry: Registry = PublisherRegistry()
    cancelled, waiting = (asyncio.create_task(registry.wait_for_change(ALICE)) for _ in range(2))
    await run_other_tasks()
    cancelled.cancel()
    await run_other_tasks()
    registry.publisher_changed(PlainPublisher())
    await waiting
    assert cancelled.cancelled()
    assert registry._waiting == {}


@pytest.mark.parametrize(
    ("published", "awaited", "error"),
    [(False, None, McuTimeout), (False, ALICE, NoSuchStream), (True, ALICE, McuTimeout)],
)
async def test_error_of_a_call_out_of_time_names_the_cause(
    published: bool, awaited: StreamKey | None, error: type[Exception]
) -> None:
    registry: Registry = PublisherRegistry()
    if published:
        registry.add(PlainPublisher())
    with pytest.raises(error):
        async with registry.time_limit(0, awaited):
            await asyncio.Event().wait()


async def test_unreachable_sfu_is_the_cause_before_all_others() -> None:
    registry: Registry = PublisherRegistry()
    with pytest.raises(McuLost, match="unreachable"):
        async with registry.time_limit(0, ALICE, unreachable=unreachable):
            await asyncio.Event().wait()


async def test_call_in_time_raises_its_own_errors_only() -> None:
    registry: Registry = PublisherRegistry()
    async with registry.time_limit(10, ALICE, unreachable=unreachable):
        pass
    with pytest.raises(KeyError):
        async with registry.time_limit(10):
            raise KeyError
