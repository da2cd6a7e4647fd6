"""The outbox: order, limit and rewind (invariants 3 and 6)."""

from __future__ import annotations

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.outbox import Offline, Outbox


def outbox(limit: int = 100, *messages: bytes) -> Outbox:
    made = Outbox(limit)
    for message in messages:
        assert made.append(message)
    return made


def test_messages_are_taken_in_the_order_of_appending() -> None:
    box = outbox(100, b"one", b"two", b"three")
    assert box.take(1000) == [b"one", b"two", b"three"]


def test_take_stops_after_the_message_that_fills_the_batch() -> None:
    box = outbox(100, b"aaaa", b"bbbb", b"cccc")
    assert box.take(5) == [b"aaaa", b"bbbb"]
    assert box.waiting
    assert box.take(5) == [b"cccc"]
    assert not box.waiting


# reference 5.6-d
def test_message_that_exceeds_the_limit_is_not_added() -> None:
    box = outbox(10, b"12345", b"67890")
    assert not box.append(b"x")
    assert box.size == 10
    assert box.take(1000) == [b"12345", b"67890"]


def test_taken_but_not_confirmed_messages_count_against_the_limit() -> None:
    box = outbox(10, b"1234567890")
    box.take(1000)
    assert not box.append(b"x")
    box.confirm()
    assert box.size == 0
    assert box.append(b"x")


def test_sealed_outbox_refuses_messages_and_is_sealed_once() -> None:
    box = outbox(10, b"a")
    assert box.seal()
    assert not box.seal()
    assert not box.append(b"")
    assert box.take(10) == [b"a"]


def test_rewind_returns_the_taken_messages() -> None:
    box = outbox(100, b"one", b"two")
    box.take(3)
    box.take(3)
    box.rewind()
    assert box.take(1000) == [b"one", b"two"]


def test_confirm_keeps_the_messages_at_the_end_of_the_batch_for_a_rewind() -> None:
    box = outbox(100, b"one", b"two", b"three")
    box.take(1000)
    box.append(b"four")
    box.confirm(2)
    assert box.size == len(b"twothreefour")
    box.rewind()
    assert box.take(1000) == [b"two", b"three", b"four"]


def test_second_chat_refresh_is_skipped_while_disconnected() -> None:
    box = Outbox(100)
    assert box.append_offline(b"refresh 1", Offline.REFRESH_ONCE)
    assert box.append_offline(b"text", Offline.KEEP)
    assert box.append_offline(b"refresh 2", Offline.REFRESH_ONCE)
    assert box.take(1000) == [b"refresh 1", b"text"]


def test_chat_refresh_is_queued_again_after_a_connection() -> None:
    box = Outbox(100)
    box.append_offline(b"refresh 1", Offline.REFRESH_ONCE)
    box.connection_attached()
    box.append_offline(b"refresh 2", Offline.REFRESH_ONCE)
    assert box.take(1000) == [b"refresh 1", b"refresh 2"]


def test_queued_message_is_found_by_its_prefix() -> None:
    box = outbox(100, b"taken 1", b"other")
    assert box.take(1) == [b"taken 1"]
    assert box.append_offline(b"offline", Offline.KEEP)
    assert [box.holds(beginning) for beginning in (b"taken", b"off", b"line", b"no")] == [True, True, False, False]
    box.confirm()
    assert not box.holds(b"taken")


Step = tuple[str, int]
steps = st.lists(
    st.tuples(st.sampled_from(["append", "take", "confirm", "rewind"]), st.integers(0, 12)), min_size=1, max_size=60
)


@settings(max_examples=200)
@given(steps=steps)
def test_accepted_messages_are_delivered_in_order_or_kept(steps: list[Step]) -> None:
    box = Outbox(64)
    kept: deque[bytes] = deque()  # accepted and not delivered
    taken = 0
    for number, (step, size) in enumerate(steps):
        if step == "append":
            message = f"{number:03}".encode() + b"x" * size
            accepted = box.append(message)
            assert accepted is (sum(map(len, kept)) + len(message) <= 64)
            if accepted:
                kept.append(message)
        elif step == "take":
            batch = box.take(size)
            assert batch == list(kept)[taken : taken + len(batch)]
            assert sum(map(len, batch[:-1])) < max(size, 1)
            taken += len(batch)
        elif step == "confirm":
            left = min(size, taken)
            box.confirm(left)
            for _ in range(taken - left):
                kept.popleft()
            taken = left
        else:
            box.rewind()
            taken = 0
        assert box.size == sum(map(len, kept)) <= 64
        assert box.waiting is (len(kept) > taken)
    box.rewind()
    assert box.take(1000) == list(kept)


def test_truncating_drops_the_messages_behind_the_given_message() -> None:
    last, equal = bytes(bytearray(b"last")), bytes(bytearray(b"last"))
    box = outbox(100, b"first", last, b"behind", equal)
    box.truncate_after(last)
    assert box.take(100) == [b"first", last]
    assert box.size == len(b"first") + len(last)


def test_truncating_after_a_message_that_was_not_added_leaves_nothing() -> None:
    box = outbox(8, b"first")
    box.truncate_after(b"too long for it")
    assert not box.waiting


def test_list_may_exceed_the_limit_and_raises_it_by_the_size_of_the_outbox() -> None:
    box = Outbox(10)
    assert box.append(b"12345678")
    box.append_list([b"list" * 5, b"more"])
    assert box.size == 32
    assert box.append(b"1234567890")
    assert not box.append(b"1")


def test_list_for_a_sealed_outbox_is_dropped() -> None:
    box = Outbox(10)
    box.seal()
    box.append_list([b"list"])
    assert box.size == 0


def test_head_has_the_oldest_messages_of_a_size_and_takes_none() -> None:
    box = outbox(100, b"first", b"second", b"third")
    assert box.head(5) == [b"first"]
    assert box.head(6) == [b"first", b"second"]
    assert box.head(100) == box.take(100) == [b"first", b"second", b"third"]
    assert outbox(100).head(1) == []
