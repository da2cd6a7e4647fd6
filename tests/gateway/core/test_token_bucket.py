"""Rate limits of a session, in virtual time."""

from __future__ import annotations

import pytest

from gateway.core.limits import Limits, exceeds
from gateway.core.token_bucket import UNLIMITED, QuantityBucket, TokenBucket

LIMITS = Limits(messages_per_second=10, messages_burst=20, bytes_per_second=1000, bytes_burst=5000)


def take_message(bucket: TokenBucket, now: float, size: int = 1, limits: Limits = LIMITS) -> bool:
    """Subtract one message, as the dispatcher does."""
    bucket.messages -= 1
    bucket.octets -= size
    return (bucket.messages >= 0 and bucket.octets >= 0) or bucket.refill(limits, now)


def test_burst_may_be_sent_at_once_and_no_further_message() -> None:
    bucket = TokenBucket(LIMITS, 0.0)
    assert all(take_message(bucket, 0.0) for _ in range(20))
    assert not take_message(bucket, 0.0)


def test_bytes_are_limited_separately_from_messages() -> None:
    bucket = TokenBucket(LIMITS, 0.0)
    assert take_message(bucket, 0.0, 5000)
    assert not take_message(bucket, 0.0, 1)
    assert bucket.messages >= 0 > bucket.octets


def test_sending_at_the_rate_never_exceeds_the_limit() -> None:
    bucket = TokenBucket(LIMITS, 0.0)
    assert all(take_message(bucket, number / 10, 100) for number in range(1000))


def test_sending_above_the_rate_exceeds_the_limit_once_the_burst_is_used() -> None:
    bucket = TokenBucket(LIMITS, 0.0)
    sent = next(number for number in range(1000) if not take_message(bucket, number / 20))
    assert 20 / (1 - 10 / 20) - 2 <= sent <= 20 / (1 - 10 / 20) + 2


def test_pause_refills_the_burst_and_no_more_than_twice_the_burst_passes() -> None:
    bucket = TokenBucket(LIMITS, 0.0)
    for _ in range(5):
        take_message(bucket, 0.0)
    sent = next(number for number in range(1000) if not take_message(bucket, 3600.0))
    assert 20 <= sent <= 40


@pytest.mark.parametrize(
    "limits", [Limits(messages_per_second=0, bytes_burst=10), Limits(bytes_per_second=0, messages_burst=10)]
)
def test_zero_disables_one_limit_and_keeps_the_other(limits: Limits) -> None:
    bucket = TokenBucket(limits, 0.0)
    assert UNLIMITED in (bucket.messages, bucket.octets)
    assert all(take_message(bucket, 0.0, limits=limits) for _ in range(10))
    assert not take_message(bucket, 0.0, limits=limits)
    assert take_message(bucket, 1.0, limits=limits)
    assert UNLIMITED in (bucket.messages, bucket.octets)


def test_byte_bucket_begins_full_and_refills_to_its_burst() -> None:
    bucket = QuantityBucket()
    assert [bucket.take(60, rate=10, burst=100, now=now) for now in (0.0, 0.0, 1.9, 2.0)] == [True, False, False, True]
    assert not bucket.take(101, rate=10, burst=100, now=1000.0)
    assert bucket.take(100, rate=10, burst=100, now=1000.0)


def test_byte_bucket_without_a_rate_has_no_limit() -> None:
    bucket = QuantityBucket()
    assert all(bucket.take(1 << 30, rate=0, burst=1, now=0.0) for _ in range(3))
    assert bucket.take(1, rate=1, burst=1, now=1.0)


def test_limit_of_zero_is_never_exceeded() -> None:
    assert [exceeds(count, 2) for count in (1, 2, 3)] == [False, False, True]
    assert not exceeds(1_000_000, 0)


def test_allowance_before_hello_is_the_smaller_limit() -> None:
    limits = Limits(messages_burst=20, bytes_burst=500, messages_before_hello=5, bytes_before_hello=1000)
    bucket = TokenBucket.before_hello(limits, 0.0)
    assert (bucket.messages, bucket.octets) == (5.0, 500.0)
    unlimited = TokenBucket.before_hello(Limits(messages_before_hello=0, bytes_before_hello=0), 0.0)
    assert unlimited.messages == float(Limits().messages_burst)
