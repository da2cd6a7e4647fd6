"""Sessions whose clients have read nothing for a long time although much waits for them."""

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


def test_a_session_stalls_when_its_oldest_message_stays_the_oldest() -> None:
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


def test_a_session_for_which_little_waits_does_not_stall() -> None:
    idle, empty, readers = reader(GRANT), reader(), StalledReaders()
    assert empty.outbox.first is None
    for now in (10.0, 10.0 + PATIENCE):
        readers.update([idle, empty], now)
    assert readers.among([idle, empty], 10.0 + PATIENCE) == []
