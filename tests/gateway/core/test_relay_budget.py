"""The budget of bytes that are relayed to one room or session."""

from __future__ import annotations

import pytest

from gateway.config.sections import SessionsSection
from gateway.core.limits import Limits
from gateway.core.relay_budget import (
    FULL_OUTBOX_DIVISOR,
    LONGEST_WAIT,
    OFFER_COST,
    RECIPIENTS_PER_CHARGE,
    SENDER_BURST,
    SENDER_RATE,
    SLOW_RATE_DIVISOR,
    SLOWEST_RATE,
    RelayBudget,
    cost,
)
from gateway.core.session import EXPIRY
from gateway.edge.clients.websocket_connection import MESSAGE_LIMIT, WRITE_DEADLINE

LIMITS = Limits(relayed_bytes_per_second=100, relayed_bytes_burst=1000)


def take(budget: RelayBudget, size: int, now: float, *, outbox_fills: bool = False, limits: Limits = LIMITS) -> float:
    budget.left -= size
    return budget.refill(size, limits, outbox_fills, now) if budget.left < 0 else 0.0


def test_message_to_a_large_room_counts_several_times() -> None:
    assert [
        cost(10, recipients)
        for recipients in (1, RECIPIENTS_PER_CHARGE - 1, RECIPIENTS_PER_CHARGE, 2 * RECIPIENTS_PER_CHARGE)
    ] == [10, 10, 20, 30]


def test_burst_may_be_relayed_at_once_and_then_the_rate() -> None:
    budget = RelayBudget()
    assert take(budget, 1000, 50.0) == 0
    assert take(budget, 1, 50.0) > 0
    assert take(budget, 100, 51.0) == 0
    assert take(budget, 1, 51.0) > 0
    assert take(budget, 1000, 1000.0) == 0


def test_long_message_may_exceed_the_budget_and_delays_later_messages() -> None:
    budget = RelayBudget()
    assert take(budget, 1500, 0.0) == 0
    assert take(budget, 1, 4.9) > 0
    assert take(budget, 1, 5.1) == 0


def test_refused_message_leaves_the_budget_unchanged() -> None:
    budget = RelayBudget()
    take(budget, 1000, 0.0)
    for _ in range(100):
        take(budget, 500, 0.0)
    assert take(budget, 1, 0.1) == 0


def test_outbox_that_fills_slows_the_rate_down() -> None:
    budget = RelayBudget()
    take(budget, 1000, 0.0)
    take(budget, 100, 1.0, outbox_fills=True)
    assert budget.left == pytest.approx(100 / SLOW_RATE_DIVISOR - 100)


def test_budget_is_granted_in_parts() -> None:
    budget = RelayBudget(grant=100)
    assert take(budget, 30, 0.0) == 0
    assert budget.left == 100
    assert [take(budget, 101, 0.0) for _ in range(9)] == [0.0] * 9
    assert budget.left == 1000 - 30 - 9 * 101
    assert [take(budget, 62, 0.0), take(budget, 1, 0.0) > 0] == [0.0, True]


@pytest.mark.parametrize("rate", [0, 100])
def test_each_grant_needs_a_refill(rate: int) -> None:
    budget = RelayBudget(grant=100)
    take(budget, 1, 0.0, limits=Limits(relayed_bytes_per_second=rate, relayed_bytes_burst=1000))
    assert budget.left == 100


def test_rate_of_0_is_no_limit() -> None:
    budget = RelayBudget()
    assert [take(budget, 1 << 30, 0.0, limits=Limits(relayed_bytes_per_second=0)) for _ in range(9)] == [0.0] * 9


def test_slow_refills_let_one_message_pass_after_the_time_that_it_takes_at_the_slowest_rate() -> None:
    budget = RelayBudget(grant=1000)
    budget.left = 10.0
    size = 20 * SLOWEST_RATE

    def attempt(now: float) -> float:
        budget.left -= size
        return budget.refill_slowly(size, now)

    assert attempt(100.0) == LONGEST_WAIT
    assert 0 < attempt(119.999) < LONGEST_WAIT
    assert [attempt(120.0), attempt(120.0), attempt(139.0), attempt(140.0)] == [0, LONGEST_WAIT, LONGEST_WAIT, 0]
    assert budget.left == 10.0
    budget.refill(1, LIMITS, False, 141.0)
    assert attempt(170.0) == LONGEST_WAIT  # the time before the refill does not count


def test_defaults_of_bursts_and_outbox_fit_each_other() -> None:
    limits, outbox = Limits(), SessionsSection(secret="").outbox_bytes
    # The bytes that one session may send at once (docs/protocol.md: twice the burst) do not fill an outbox.
    assert 2 * limits.bytes_burst <= 0.75 * outbox
    # Nor do the bytes that 100 flooding members may relay to a member that reads nothing until its connection ends, and
    # then until its session expires: the burst, the last message, then the slow rate and the shares of all senders.
    senders, seconds = 100, EXPIRY + WRITE_DEADLINE
    until_outbox_fills = max(outbox / FULL_OUTBOX_DIVISOR, limits.relayed_bytes_burst) + MESSAGE_LIMIT
    slowly = seconds * limits.relayed_bytes_per_second / SLOW_RATE_DIVISOR
    shares = senders * (SENDER_BURST + seconds * SENDER_RATE)
    assert until_outbox_fills + slowly + shares < outbox
    # Offers that they cause are subtracted from the same budget, and none exceeds it by more than the longest message.
    assert OFFER_COST <= MESSAGE_LIMIT
    # Yet 50 members may offer a screen to a new member at once.
    assert limits.relayed_bytes_burst >= 50 * OFFER_COST
    # Half as many floods leave room for the join events of one user, or of the guests of one address.
    joins = limits.join_bytes_burst + seconds * limits.join_bytes_per_second
    assert until_outbox_fills + slowly + shares / 2 + joins < outbox
    # A member that reads 2.5 MB/s catches up.
    assert limits.relayed_bytes_per_second + senders * SENDER_RATE < 2_500_000 / 2
