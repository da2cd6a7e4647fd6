"""The budgets of join events in one room."""

from __future__ import annotations

from msgspec import Raw

from gateway.core.join_budget import JoinBudgets, events_size, joining_party
from gateway.core.limits import Limits
from tests.gateway.core.members import session

LIMITS = Limits(join_bytes_per_second=100, join_bytes_burst=1000)


def test_each_party_may_send_the_burst_and_then_the_rate() -> None:
    budgets = JoinBudgets()
    assert [budgets.take("a", 600, LIMITS, 0.0), budgets.take("b", 600, LIMITS, 0.0)] == [0.0, 0.0]
    assert budgets.take("a", 600, LIMITS, 0.0) == 1.0
    assert budgets.take("a", 600, LIMITS, 2.5) == 0.0


def test_event_longer_than_the_burst_takes_all_of_it() -> None:
    budgets = JoinBudgets()
    assert budgets.take("a", 5000, LIMITS, 0.0) == 0.0
    assert budgets.take("a", 1, LIMITS, 0.0) == 0.05


def test_rate_of_0_is_no_limit() -> None:
    limits = Limits(join_bytes_per_second=0, join_bytes_burst=1)
    assert [JoinBudgets().take("a", 1 << 30, limits, 0.0) for _ in range(3)] == [0.0] * 3


def test_full_buckets_are_forgotten() -> None:
    budgets = JoinBudgets()
    for number in range(100):
        budgets.take(number, 10, LIMITS, 0.0)
    budgets.take(0, 10, LIMITS, 9.0)
    budgets.take("new", 10, LIMITS, 11.0)
    assert len(budgets) == 2


def test_defaults_let_a_thousand_guests_of_one_address_and_all_sessions_of_a_user_join_at_once() -> None:
    guest, limits = session(features=tuple("x" * 30 for _ in range(12))), Limits()
    guest.user = Raw(b'{"displayname":"' + b"x" * 80 + b'"}')
    size, budgets = events_size(guest, "x" * 255), JoinBudgets()
    assert [budgets.take("guests", size, limits, 0.0) for _ in range(1000)] == [0.0] * 1000
    assert [budgets.take("user", size, limits, 0.0) for _ in range(limits.sessions_per_user)] == [0.0] * 200


def test_users_have_budgets_of_their_own_and_guests_share_that_of_their_network() -> None:
    alice, guests = session("alice"), [session(), session()]
    for member in (alice, *guests):
        member.network = 7
    assert joining_party(alice) == "alice"
    assert {joining_party(member) for member in guests} == {7}
