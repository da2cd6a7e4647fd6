"""The relayed bytes that wait for the sessions of a room, of a backend and of the process."""

from __future__ import annotations

import pytest

from gateway.core.limits import Limits
from gateway.core.outbox import Outbox
from gateway.core.outbox_totals import sessions_to_end
from gateway.core.relay_budget import GRANT
from gateway.core.relayed_backlog import RELAYED_DIVISOR, RelayedBacklog
from gateway.core.room import RoomKey
from gateway.core.session import Session
from tests.gateway.core.members import session

TOTAL = 1 << 20
FULL = TOTAL // RELAYED_DIVISOR


def reader(waiting: int = 0, room: str = "r") -> Session:
    """Return a session of a room with an outbox of a size."""
    made = session()
    made.room = RoomKey("cloud", room) if room else None
    made.outbox = Outbox(1 << 30)
    assert made.outbox.append(b"x" * waiting)
    return made


def fill(backlog: RelayedBacklog, recipient: Session, size: int) -> Session:
    """Relay a message of a size to a session that does not read."""
    backlog.add(recipient, size)
    assert recipient.outbox.append(b"x" * size)
    return recipient


@pytest.mark.parametrize("limit", ["outbox_bytes_room", "outbox_bytes_backend", "outbox_bytes_process"])
def test_messages_wait_for_the_sessions_with_more_than_their_share(limit: str) -> None:
    backlog, limits = RelayedBacklog(), Limits(**{limit: TOTAL})
    first, second = fill(backlog, reader(), FULL // 2), fill(backlog, reader(), FULL // 4)
    assert backlog.full_limit(first, limits) == backlog.full_limit(second, limits) == ""
    third = fill(backlog, reader(), FULL // 5)
    assert backlog.full_limit(first, limits) == backlog.full_limit(second, limits) == limit
    assert backlog.full_limit(third, limits) == ""
    assert backlog.full_limit(reader(), limits) == ""
    assert backlog.full_limit(fill(backlog, reader(), GRANT), limits) == ""


def test_own_bytes_of_a_session_make_nobody_wait() -> None:
    backlog, limits = RelayedBacklog(), Limits(outbox_bytes_process=TOTAL)
    fill(backlog, reader(), FULL)
    assert backlog.full_limit(reader(FULL), limits) == ""


def test_many_short_backlogs_stay_below_the_limit() -> None:
    total = 10_000_000
    backlog, limits, victim = RelayedBacklog(), Limits(outbox_bytes_process=total), reader()
    fill(backlog, victim, 3_000_000)
    readers = [reader() for _ in range(400)]
    for _ in range(100):
        for other in readers:
            if not backlog.full_limit(other, limits):
                fill(backlog, other, 2000)
        backlog.recount([*readers, victim])
    waiting = sum(other.outbox.size for other in (*readers, victim))
    assert 0.7 * total < waiting < 0.85 * total
    assert sessions_to_end([*readers, victim], total) == []
    assert backlog.full_limit(reader(), limits) == ""


def test_long_messages_count_at_once_and_short_ones_of_readers_with_the_next_count() -> None:
    backlog, limits = RelayedBacklog(), Limits(outbox_bytes_process=TOTAL)
    slow, all_read = fill(backlog, reader(), 2 * GRANT), reader(room="")
    for _ in range(100):
        backlog.add(all_read, GRANT)
    assert backlog.full_limit(slow, limits) == ""
    backlog.add(all_read, FULL)
    assert backlog.full_limit(slow, limits) == "outbox_bytes_process"
    backlog.recount([slow, all_read])
    assert backlog.full_limit(slow, limits) == ""


def test_other_rooms_and_limits_of_0_delay_nothing() -> None:
    backlog = RelayedBacklog()
    full, other = fill(backlog, reader(), FULL), fill(backlog, reader(room="other"), FULL // 2)
    assert backlog.full_limit(other, Limits(outbox_bytes_room=TOTAL)) == ""
    assert backlog.full_limit(full, Limits(outbox_bytes_room=TOTAL)) == "outbox_bytes_room"
    none = Limits(outbox_bytes_room=0, outbox_bytes_backend=0, outbox_bytes_process=0)
    assert backlog.full_limit(full, none) == ""


def test_bytes_that_were_read_count_no_longer() -> None:
    backlog, limits = RelayedBacklog(), Limits(outbox_bytes_room=TOTAL)
    full = fill(backlog, reader(), FULL)
    full.outbox.take(1 << 30)
    full.outbox.confirm()
    backlog.recount([full])
    assert full.relay_budget.relayed == 0
    assert full.outbox.append(b"x" * FULL)
    assert backlog.full_limit(full, limits) == ""


def test_bytes_that_still_wait_count_anew() -> None:
    backlog, limits = RelayedBacklog(), Limits(outbox_bytes_room=TOTAL)
    full = fill(backlog, reader(), FULL)
    backlog.recount([full])
    assert backlog.full_limit(full, limits) == "outbox_bytes_room"


@pytest.mark.parametrize("limit", ["outbox_bytes_room", "outbox_bytes_backend", "outbox_bytes_process"])
def test_a_limit_is_spent_at_three_quarters(limit: str) -> None:
    backlog, limits = RelayedBacklog(), Limits(**{limit: TOTAL})
    below = fill(backlog, reader(), TOTAL * 3 // 4 - 1)
    assert not backlog.is_spent(below, limits)
    assert backlog.is_spent(fill(backlog, reader(), GRANT + 1), limits)
    assert not backlog.is_spent(below, Limits(**{limit: 0}))
