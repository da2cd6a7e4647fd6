"""What a session may send, in virtual time."""

from __future__ import annotations

import pytest

from gateway.core.allowance import UNLIMITED, Allowance
from gateway.core.limits import Limits, exceeds

LIMITS = Limits(messages_per_second=10, messages_burst=20, bytes_per_second=1000, bytes_burst=5000)


def taken(allowance: Allowance, now: float, size: int = 1, limits: Limits = LIMITS) -> bool:
    """Take one message, as the dispatcher does."""
    allowance.messages -= 1
    allowance.octets -= size
    return (allowance.messages >= 0 and allowance.octets >= 0) or allowance.refill(limits, now)


def test_burst_may_be_sent_at_once_and_one_more_may_not() -> None:
    allowance = Allowance(LIMITS, 0.0)
    assert all(taken(allowance, 0.0) for _ in range(20))
    assert not taken(allowance, 0.0)


def test_bytes_count_apart_from_messages() -> None:
    allowance = Allowance(LIMITS, 0.0)
    assert taken(allowance, 0.0, 5000)
    assert not taken(allowance, 0.0, 1)
    assert allowance.messages >= 0 > allowance.octets


def test_the_rate_can_be_sent_for_ever() -> None:
    allowance = Allowance(LIMITS, 0.0)
    assert all(taken(allowance, number / 10, 100) for number in range(1000))


def test_more_than_the_rate_ends_once_the_burst_is_used() -> None:
    allowance = Allowance(LIMITS, 0.0)
    sent = next(number for number in range(1000) if not taken(allowance, number / 20))
    assert 20 / (1 - 10 / 20) - 2 <= sent <= 20 / (1 - 10 / 20) + 2


def test_a_pause_gives_the_burst_back_but_no_more_than_twice() -> None:
    allowance = Allowance(LIMITS, 0.0)
    for _ in range(5):
        taken(allowance, 0.0)
    sent = next(number for number in range(1000) if not taken(allowance, 3600.0))
    assert 20 <= sent <= 40


@pytest.mark.parametrize(
    "limits", [Limits(messages_per_second=0, bytes_burst=10), Limits(bytes_per_second=0, messages_burst=10)]
)
def test_zero_is_no_limit_and_leaves_the_other_in_force(limits: Limits) -> None:
    allowance = Allowance(limits, 0.0)
    assert UNLIMITED in (allowance.messages, allowance.octets)
    assert all(taken(allowance, 0.0, limits=limits) for _ in range(10))
    assert not taken(allowance, 0.0, limits=limits)
    assert taken(allowance, 1.0, limits=limits)
    assert UNLIMITED in (allowance.messages, allowance.octets)


def test_exceeds_takes_zero_for_no_limit() -> None:
    assert [exceeds(count, 2) for count in (1, 2, 3)] == [False, False, True]
    assert not exceeds(1_000_000, 0)
