"""Sessions whose clients have read very little for a long time although much waits for them."""

from __future__ import annotations

from gateway.core.outbox import Outbox
from gateway.core.relay_budget import GRANT
from gateway.core.session import Session
from gateway.core.stalled_readers import PATIENCE, StalledReaders
from tests.gateway.core.members import session


def reader(*sizes: int) -> Session:
    """Return a session in whose outbox messages of these sizes wait."""
    made = session()
    made.outbox = Outbox(1 << 30)
    for size in sizes:
        assert made.outbox.append(b"x" * size)
    return made


def test_a_session_stalls_when_it_reads_nothing() -> None:
    stalled, readers = reader(GRANT, 1), StalledReaders()
    readers.update([stalled], 10.0)
    readers.update([stalled], 10.0 + PATIENCE - 1)
    assert readers.among([stalled], 10.0 + PATIENCE - 1) == []
    assert readers.among([stalled, reader(GRANT, 1)], 10.0 + PATIENCE) == [stalled]


def test_a_session_that_reads_does_not_stall() -> None:
    reading, readers = reader(GRANT, GRANT, GRANT), StalledReaders()
    readers.update([reading], 10.0)
    reading.outbox.take(1)
    reading.outbox.confirm()
    readers.update([reading], 10.0 + PATIENCE)
    assert readers.among([reading], 10.0 + PATIENCE) == []
    assert readers.among([reading], 10.0 + 2 * PATIENCE) == [reading]


def test_a_session_that_reads_less_than_a_grant_stalls() -> None:
    trickling, readers = reader(*[1000] * 100), StalledReaders()
    readers.update([trickling], 10.0)
    for second in range(1, 31):
        trickling.outbox.take(1)
        trickling.outbox.confirm()
        readers.update([trickling], 10.0 + 2 * second)
    assert readers.among([trickling], 10.0 + PATIENCE) == [trickling]


def test_a_session_that_was_left_out_begins_anew() -> None:
    silent, readers = reader(GRANT, GRANT), StalledReaders()
    readers.update([silent], 10.0)
    readers.update([], 30.0)
    readers.update([silent], 50.0)
    assert readers.among([silent], 10.0 + PATIENCE) == []
    assert readers.among([silent], 50.0 + PATIENCE) == [silent]
