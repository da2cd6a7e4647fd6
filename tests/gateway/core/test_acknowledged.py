"""The outbox for clients that acknowledge messages."""

from __future__ import annotations

import random

from gateway.core.acknowledged import AcknowledgedOutbox

ALL_BYTES = 1 << 30


def filled_outbox(*messages: bytes, limit: int = 1000) -> AcknowledgedOutbox:
    outbox = AcknowledgedOutbox(limit)
    assert all(outbox.append(message) for message in messages)
    return outbox


def test_taken_messages_are_sent_again_until_they_are_acknowledged() -> None:
    outbox = filled_outbox(b"1", b"2", b"3")
    assert outbox.take(ALL_BYTES) == [b"1", b"2", b"3"]
    outbox.confirm()
    assert not outbox.waiting
    assert outbox.acknowledge(2)
    outbox.rewind()
    assert outbox.take(ALL_BYTES) == [b"3"]


def test_acknowledging_between_two_batches_keeps_the_position() -> None:
    outbox = filled_outbox(b"1", b"2", b"3")
    assert outbox.take(1) == [b"1"]
    assert outbox.acknowledge(1)
    assert outbox.take(1) == [b"2"]
    assert outbox.append(b"4")
    assert outbox.take(ALL_BYTES) == [b"3", b"4"]


def test_acknowledging_twice_changes_nothing() -> None:
    outbox = filled_outbox(b"1", b"2")
    outbox.take(ALL_BYTES)
    assert outbox.acknowledge(1)
    assert outbox.acknowledge(1)
    assert outbox.size == 1


def test_acknowledging_unsent_or_fewer_messages_than_before_is_refused() -> None:
    outbox = filled_outbox(b"1", b"2", b"3")
    outbox.take(2)
    assert not outbox.acknowledge(3)
    assert outbox.acknowledge(2)
    assert not outbox.acknowledge(1)
    assert outbox.size == 1


def test_messages_that_an_earlier_connection_took_can_be_acknowledged_after_a_rewind() -> None:
    outbox = filled_outbox(b"1", b"2", b"3")
    outbox.take(ALL_BYTES)
    outbox.rewind()
    outbox.take(1)
    assert outbox.acknowledge(3)
    assert not outbox.waiting
    assert outbox.take(ALL_BYTES) == []


def test_unacknowledged_messages_count_against_the_limit() -> None:
    outbox = filled_outbox(b"12345", limit=8)
    outbox.take(ALL_BYTES)
    outbox.confirm()
    assert not outbox.append(b"6789")
    assert outbox.acknowledge(1)
    assert outbox.append(b"6789")


def test_taken_messages_count_as_received_for_a_client_that_resumes_without_a_count() -> None:
    outbox = filled_outbox(b"1", b"2")
    outbox.take(1)
    outbox.rewind()
    outbox.acknowledge_all()
    assert outbox.take(ALL_BYTES) == [b"2"]


def test_any_order_of_events_delivers_each_message_once_and_in_order() -> None:
    rng = random.Random(7)
    for _ in range(200):
        outbox, sent, received, wire = AcknowledgedOutbox(1 << 20), 0, 0, list[bytes]()
        for _ in range(60):
            step = rng.randrange(5)
            if step == 0:
                outbox.append(b"%d" % sent)
                sent += 1
            elif step == 1:
                wire += outbox.take(rng.randrange(1, 8))
                outbox.confirm(rng.randrange(2))
            elif step == 2 and wire:
                assert wire.pop(0) == b"%d" % received
                received += 1
            elif step == 3:
                assert outbox.acknowledge(received)
            elif step == 4:
                wire.clear()
                assert outbox.acknowledge(received)
                outbox.rewind()
        wire += outbox.take(ALL_BYTES)
        assert [int(message) for message in wire] == list(range(received, sent))
