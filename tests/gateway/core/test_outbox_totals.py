"""The limits on the memory of all outboxes."""

from __future__ import annotations

import pytest

from gateway.core.outbox import Outbox
from gateway.core.outbox_totals import MESSAGE_OVERHEAD, sessions_to_end
from gateway.core.session import Session
from tests.gateway.core.members import session


def session_with_messages(*messages: bytes) -> Session:
    """Return a session with these messages in its outbox."""
    made = session()
    made.outbox = Outbox(1 << 20)
    for message in messages:
        assert made.outbox.append(message)
    return made


def message_of(size: int) -> bytes:
    return b"x" * size


@pytest.mark.parametrize("limit", [0, 3 * (1000 + MESSAGE_OVERHEAD)])
def test_outboxes_within_the_limit_stay(limit: int) -> None:
    assert sessions_to_end([session_with_messages(message_of(1000)) for _ in range(3)], limit) == []


def test_largest_outboxes_are_ended_first_and_no_more_than_needed() -> None:
    small, large, middle = (
        session_with_messages(message_of(100)),
        session_with_messages(message_of(5000)),
        session_with_messages(message_of(1001)),
    )
    assert sessions_to_end([small, large, middle], 5000) == [large]
    assert sessions_to_end([small, large, middle], 1100) == [large, middle]


def test_message_that_several_outboxes_hold_counts_once() -> None:
    shared = message_of(1000)
    members = [session_with_messages(shared) for _ in range(10)]
    assert sessions_to_end(members, 1000 + 10 * MESSAGE_OVERHEAD) == []
    large = session_with_messages(shared, message_of(3000))
    assert sessions_to_end([*members, large], 1000 + 11 * MESSAGE_OVERHEAD) == [large]


def test_sessions_that_hold_only_a_shared_message_are_ended_until_it_is_freed() -> None:
    shared = message_of(10_000)
    members = [session_with_messages(shared) for _ in range(3)]
    assert len(sessions_to_end(members, 5000)) == 3


def test_messages_that_others_relayed_count_last() -> None:
    victim, attacker = session_with_messages(message_of(5000)), session_with_messages(message_of(1000))
    victim.relay_budget.relayed = 4500
    assert sessions_to_end([victim, attacker], 5500) == [attacker]
    assert sessions_to_end([victim, attacker], 100) == [attacker, victim]


def test_many_short_messages_count_with_their_overhead() -> None:
    large, other = (
        session_with_messages(*[b"%d" % number for number in range(1000)]),
        session_with_messages(message_of(2000)),
    )
    assert sessions_to_end([large, other], 30_000) == [large]
