"""Throttling with the numbers of reference 14.1."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from gateway.core.throttle import BLOCK_WINDOW, FAILURE_LIFETIME, MAX_FAILURES, SWEEP_PERIOD, Throttle, ThrottledAction

ONE_ADDRESS = ip_address("192.0.2.1")
OTHER_ADDRESS = ip_address("192.0.2.2")
RESUME = ThrottledAction.HELLO_RESUME


def throttle_with_failures(count: int) -> Throttle:
    throttle = Throttle()
    for _ in range(count):
        throttle.record_failure(ONE_ADDRESS, RESUME, 0.0)
    return throttle


# reference 14.1-a
def test_delay_doubles_from_100_ms_to_25_s() -> None:
    throttle = Throttle()
    delays = [throttle.record_failure(ONE_ADDRESS, RESUME, 0.0) for _ in range(12)]
    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.0, 25.0, 25.0, 25.0])


def test_very_many_failures_cause_no_overflow() -> None:
    assert throttle_with_failures(2000).record_failure(ONE_ADDRESS, RESUME, 1.0) == 25.0


# reference 14.1-b
def test_ten_failures_block_and_nine_do_not() -> None:
    assert not throttle_with_failures(MAX_FAILURES - 1).blocks(ONE_ADDRESS, RESUME, 0.0)
    assert throttle_with_failures(MAX_FAILURES).blocks(ONE_ADDRESS, RESUME, 0.0)


# reference 14.1-b
def test_block_ends_when_the_tenth_latest_failure_is_over_30_minutes_old() -> None:
    throttle = throttle_with_failures(MAX_FAILURES)
    assert throttle.blocks(ONE_ADDRESS, RESUME, BLOCK_WINDOW)
    assert not throttle.blocks(ONE_ADDRESS, RESUME, BLOCK_WINDOW + 0.001)


def test_one_more_failure_after_the_block_does_not_block_again() -> None:
    throttle = throttle_with_failures(MAX_FAILURES)
    later = BLOCK_WINDOW + 1.0
    assert throttle.record_failure(ONE_ADDRESS, RESUME, later) == 25.0  # the other failures still count
    assert not throttle.blocks(ONE_ADDRESS, RESUME, later + MAX_FAILURES)


def test_addresses_and_actions_are_counted_separately() -> None:
    throttle = throttle_with_failures(MAX_FAILURES)
    assert not throttle.blocks(OTHER_ADDRESS, RESUME, 0.0)
    assert not throttle.blocks(ONE_ADDRESS, ThrottledAction.ROOM_AUTH, 0.0)
    assert throttle.record_failure(ONE_ADDRESS, ThrottledAction.HELLO_INTERNAL, 0.0) == pytest.approx(0.1)


def test_ipv6_addresses_of_one_64_network_count_together() -> None:
    throttle = Throttle()
    for host in range(MAX_FAILURES):
        throttle.record_failure(ip_address(f"2001:db8:0:1::{host:x}"), RESUME, 0.0)
    assert throttle.blocks(ip_address("2001:db8:0:1:ffff::"), RESUME, 0.0)
    assert not throttle.blocks(ip_address("2001:db8:0:2::1"), RESUME, 0.0)


def test_ipv4_address_never_counts_as_an_ipv6_network() -> None:
    throttle = Throttle()
    for _ in range(MAX_FAILURES):
        throttle.record_failure(ip_address("0.0.0.1"), RESUME, 0.0)
    assert not throttle.blocks(ip_address("0:0:0:1::"), RESUME, 0.0)
    assert not throttle.blocks(ip_address("::1"), RESUME, 0.0)


# reference 14.1-c
def test_failures_are_remembered_for_12_hours() -> None:
    throttle = throttle_with_failures(3)
    assert throttle.record_failure(ONE_ADDRESS, RESUME, FAILURE_LIFETIME - 0.001) == pytest.approx(0.8)
    assert throttle.record_failure(ONE_ADDRESS, RESUME, FAILURE_LIFETIME) == pytest.approx(0.2)


def test_sweep_removes_old_failures_once_a_minute() -> None:
    throttle = Throttle()
    throttle.record_failure(ONE_ADDRESS, RESUME, 0.0)
    throttle.record_failure(OTHER_ADDRESS, RESUME, 1.0)
    throttle.sweep(FAILURE_LIFETIME)
    assert len(throttle) == 1
    throttle.sweep(FAILURE_LIFETIME + SWEEP_PERIOD - 0.001)
    assert len(throttle) == 1
    throttle.sweep(FAILURE_LIFETIME + SWEEP_PERIOD)
    assert len(throttle) == 0


def test_number_of_entries_is_bounded_and_the_oldest_is_removed_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.core.throttle.MAX_ENTRIES", 2)
    throttle = throttle_with_failures(MAX_FAILURES)
    throttle.record_failure(OTHER_ADDRESS, RESUME, 1.0)
    throttle.record_failure(ONE_ADDRESS, RESUME, 2.0)
    throttle.record_failure(ip_address("192.0.2.3"), RESUME, 3.0)
    assert len(throttle) == 2
    assert throttle.blocks(ONE_ADDRESS, RESUME, 3.0)
    assert throttle.record_failure(OTHER_ADDRESS, RESUME, 3.0) == pytest.approx(0.1)


def test_cleared_action_is_not_blocked_and_others_are() -> None:
    throttle = Throttle()
    for action in (RESUME, ThrottledAction.ROOM_AUTH):
        for _ in range(MAX_FAILURES):
            throttle.record_failure(ONE_ADDRESS, action, 0.0)
    throttle.clear(ThrottledAction.ROOM_AUTH)
    assert not throttle.blocks(ONE_ADDRESS, ThrottledAction.ROOM_AUTH, 1.0)
    assert throttle.blocks(ONE_ADDRESS, RESUME, 1.0)


def test_blocked_addresses_are_counted_by_action() -> None:
    throttle = throttle_with_failures(MAX_FAILURES)
    throttle.record_failure(OTHER_ADDRESS, RESUME, 0.0)
    assert throttle.count_blocked(0.0) == {action.value: int(action is RESUME) for action in ThrottledAction}
    assert set(throttle.count_blocked(BLOCK_WINDOW + 1).values()) == {0}
