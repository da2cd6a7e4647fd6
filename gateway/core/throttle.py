"""Who guessed a secret wrong how often: failures cost time, and too many of them block.

Source: reference 14.1. Failures are remembered per address and action; an IPv6 address counts as its /64
network, for a host may choose the rest. Success resets nothing.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from ipaddress import IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address

FIRST_DELAY = 0.1  # seconds; doubled by each further failure
MAX_DELAY = 25.0  # seconds
MAX_FAILURES = 10  # that many within ``BLOCK_WINDOW`` block
BLOCK_WINDOW = 1800.0  # seconds
MEMORY = 43_200.0  # seconds that a failure is remembered
SWEEP_PERIOD = 60.0  # seconds
MAX_ENTRIES = 100_000  # addresses and actions remembered; IPv6 has more networks than we have memory

_HOST_BITS = 64  # of an IPv6 address


class ThrottledAction(Enum):
    """What can be guessed wrong; the value is the metrics' label."""

    HELLO_RESUME = "HelloResume"
    HELLO_INTERNAL = "HelloInternal"
    ROOM_AUTH = "BackendRoomAuth"


class Throttle:
    """Failed attempts by address and action; ``now`` is seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._failures: dict[tuple[int, ThrottledAction], deque[float]] = {}
        self._sweep_at = 0.0

    def __len__(self) -> int:
        return len(self._failures)

    def blocks(self, address: Address, action: ThrottledAction, now: float) -> bool:
        """Whether this address may not try at all now; an attempt that is blocked does not count as a failure."""
        failures = self._failures.get((network(address), action))
        return failures is not None and len(failures) >= MAX_FAILURES and now - failures[-MAX_FAILURES] <= BLOCK_WINDOW

    def failed(self, address: Address, action: ThrottledAction, now: float) -> float:
        """Remember a failure and return the seconds to wait before it is answered."""
        key = (network(address), action)
        failures = self._failures.pop(key, None)
        if failures is None:
            failures = deque()
        self._failures[key] = failures  # at the end: the first one failed longest ago
        failures.append(now)
        _forget(failures, now)
        if len(self._failures) > MAX_ENTRIES:
            del self._failures[next(iter(self._failures))]
        doublings = min(len(failures) - 1, 16)  # beyond the longest delay, and short of an overflow
        return min(FIRST_DELAY * 2.0**doublings, MAX_DELAY)

    def sweep(self, now: float) -> None:
        """Forget old failures; may be called often, works once a minute."""
        if now < self._sweep_at:
            return
        self._sweep_at = now + SWEEP_PERIOD
        for key, failures in list(self._failures.items()):
            _forget(failures, now)
            if not failures:
                del self._failures[key]


def _forget(failures: deque[float], now: float) -> None:
    while failures and now - failures[0] >= MEMORY:
        failures.popleft()


def network(address: Address) -> int:
    """Return a number for the network whose hosts count together; IPv4 and IPv6 never meet."""
    if isinstance(address, IPv4Address):
        return -1 - int(address)
    return int(address) >> _HOST_BITS
