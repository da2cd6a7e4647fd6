"""Throttling of failed authentication attempts: a failure delays the answer, and many block the address.

Source: reference 14.1. Failures are counted per address and action; an IPv6 address counts as its /64
network, since a host can choose the other 64 bits. Wrong attempts of a blocked address are refused and not recorded. A
correct attempt is accepted even then, and resets nothing.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from ipaddress import IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address

FIRST_DELAY = 0.1  # seconds; doubled by each further failure
MAX_DELAY = 25.0  # seconds
MAX_FAILURES = 10  # failures within ``BLOCK_WINDOW`` that block an address
BLOCK_WINDOW = 1800.0  # seconds
FAILURE_LIFETIME = 43_200.0  # seconds after which a failure no longer counts
SWEEP_PERIOD = 60.0  # seconds
MAX_ENTRIES = 100_000  # pairs of address and action; bounds the memory that IPv6 networks can take

_HOST_BITS = 64  # bits of an IPv6 address that a host can choose


class ThrottledAction(Enum):
    """An attempt at authentication that is throttled; the value is its metrics label."""

    HELLO_RESUME = "HelloResume"
    HELLO_INTERNAL = "HelloInternal"
    ROOM_AUTH = "BackendRoomAuth"
    TURN_KEY = "TurnCredentials"
    ADMIN_SECRET = "AdminLogin"


class Throttle:
    """Counts failed attempts by address and action, and decides on delays and blocks from the counts.

    ``now`` is in seconds of a monotonic clock.
    """

    def __init__(self) -> None:
        self._failures: dict[tuple[int, ThrottledAction], deque[float]] = {}
        self._sweep_at = 0.0

    def __len__(self) -> int:
        return len(self._failures)

    def blocks(self, address: Address, action: ThrottledAction, now: float) -> bool:
        """Return whether this address is blocked now for an action; its wrong attempts are then not to be recorded."""
        failures = self._failures.get((network(address), action))
        return failures is not None and _is_blocking(failures, now)

    def count_blocked(self, now: float) -> dict[str, int]:
        """Return the number of blocked addresses for the value of each action, 0 included."""
        counts = {action.value: 0 for action in ThrottledAction}
        for (_, action), failures in self._failures.items():
            counts[action.value] += _is_blocking(failures, now)
        return counts

    def record_failure(self, address: Address, action: ThrottledAction, now: float) -> float:
        """Record a failure and return the seconds by which its answer is delayed."""
        key = (network(address), action)
        failures = self._failures.pop(key, None)
        if failures is None:
            failures = deque()
        # Moved to the end, so that the entries are in the order of their latest failures.
        self._failures[key] = failures
        failures.append(now)
        _forget(failures, now)
        if len(self._failures) > MAX_ENTRIES:
            del self._failures[next(iter(self._failures))]
        doublings = min(len(failures) - 1, 16)  # enough for the longest delay, too few for an overflow
        return min(FIRST_DELAY * 2.0**doublings, MAX_DELAY)

    def clear(self, action: ThrottledAction) -> None:
        """Forget all failures of an action."""
        for key in [key for key in self._failures if key[1] is action]:
            del self._failures[key]

    def sweep(self, now: float) -> None:
        """Remove old failures; runs at most once a minute, however often it is called."""
        if now < self._sweep_at:
            return
        self._sweep_at = now + SWEEP_PERIOD
        for key, failures in list(self._failures.items()):
            _forget(failures, now)
            if not failures:
                del self._failures[key]


def _is_blocking(failures: deque[float], now: float) -> bool:
    return len(failures) >= MAX_FAILURES and now - failures[-MAX_FAILURES] <= BLOCK_WINDOW


def _forget(failures: deque[float], now: float) -> None:
    while failures and now - failures[0] >= FAILURE_LIFETIME:
        failures.popleft()


def network(address: Address) -> int:
    """Return the number that stands for an address in counts; all addresses of an IPv6 /64 network have the same.

    The numbers of IPv4 addresses are negative, so that they differ from those of IPv6 networks.
    """
    if isinstance(address, IPv4Address):
        return -1 - int(address)
    return int(address) >> _HOST_BITS
