"""The relayed bytes that wait for the sessions of a room, of a backend and of the process."""

from __future__ import annotations

import pytest

from gateway.core.limits import Limits
from gateway.core.outbox import Outbox
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


@pytest.mark.parametrize("limit", ["outbox_bytes_room", "outbox_bytes_backend", "outbox_bytes_process"])
def test_message_waits_while_relayed_bytes_fill_their_part_of_a_limit(limit: str) -> None:
    backlog, limits, full = RelayedBacklog(), Limits(**{limit: TOTAL}), reader(FULL)
    assert backlog.full_limit(full, 1, limits) == ""
    backlog.add(full, FULL, 1)
    assert backlog.full_limit(full, 1, limits) == limit
    assert backlog.full_limit(reader(GRANT), 1, limits) == limit
    assert backlog.full_limit(reader(GRANT), 0, limits) == ""
    assert backlog.full_limit(reader(), GRANT + 1, limits) == limit


def test_long_messages_count_at_once_and_short_ones_of_readers_with_the_next_count() -> None:
    backlog, limits, all_read = RelayedBacklog(), Limits(outbox_bytes_process=TOTAL), reader(0, room="")
    for _ in range(100):
        backlog.add(all_read, GRANT)
    assert backlog.full_limit(all_read, TOTAL, limits) == ""
    backlog.add(all_read, FULL + 1)
    assert backlog.full_limit(all_read, TOTAL, limits) == "outbox_bytes_process"
    backlog.recount([all_read])
    assert backlog.full_limit(all_read, TOTAL, limits) == ""


def test_other_rooms_and_limits_of_0_delay_nothing() -> None:
    backlog, full = RelayedBacklog(), reader(FULL)
    backlog.add(full, FULL, 1)
    assert backlog.full_limit(reader(FULL, "other"), 1, Limits(outbox_bytes_room=TOTAL)) == ""
    none = Limits(outbox_bytes_room=0, outbox_bytes_backend=0, outbox_bytes_process=0)
    assert backlog.full_limit(full, 1, none) == ""


def test_bytes_that_were_read_count_no_longer() -> None:
    backlog, limits, full = RelayedBacklog(), Limits(outbox_bytes_room=TOTAL), reader(FULL)
    backlog.add(full, FULL, 1)
    full.outbox.take(1 << 30)
    full.outbox.confirm()
    backlog.recount([full])
    assert full.relay_budget.relayed == 0
    assert full.outbox.append(b"x" * FULL)
    assert backlog.full_limit(full, 1, limits) == ""


def test_bytes_that_still_wait_count_anew() -> None:
    backlog, limits, full = RelayedBacklog(), Limits(outbox_bytes_room=TOTAL), reader(FULL + 1)
    backlog.add(full, FULL + 1)
    backlog.recount([full])
    assert backlog.full_limit(full, 1, limits) == "outbox_bytes_room"
