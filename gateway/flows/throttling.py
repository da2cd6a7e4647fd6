"""Failed attempts to guess a secret: counted, answered late, and refused altogether when there are too many.

Source: reference 14.1.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway.core.throttle import Address, Throttle, ThrottledAction
from gateway.wire.errors import Code, ProtocolError


class Counters(Protocol):
    """What throttling counts."""

    throttle_delayed: dict[tuple[str, int], int]  # by action and delay, milliseconds
    throttle_bruteforce: dict[str, int]  # by action


class Caller(Protocol):
    """Who tries; the address is for this alone and never logged."""

    @property
    def address(self) -> Address:
        """The real address (14.2)."""

    def until_gone(self, seconds: float) -> Awaitable[None]:
        """Wait, but no longer than the caller is connected."""


class Throttling:
    """What a flow asks before it checks a secret, and awaits when the secret was wrong."""

    def __init__(self, clock: Callable[[], float], counters: Counters) -> None:
        self._throttle = Throttle()
        self._clock = clock
        self._counters = counters

    def blocks(self, address: Address, action: ThrottledAction) -> bool:
        """Whether this address failed too often to try again now; counts it if so."""
        if not self._throttle.blocks(address, action, self._clock()):
            return False
        self._counters.throttle_bruteforce[action.value] += 1
        return True

    def check(self, caller: Caller, action: ThrottledAction) -> None:
        """Let a caller try.

        Raises:
            ProtocolError: ``too_many_requests``, whatever it would have said.
        """
        if self.blocks(caller.address, action):
            raise ProtocolError(Code.TOO_MANY_REQUESTS.error())

    async def failed(self, caller: Caller, action: ThrottledAction) -> None:
        """Count a failure, and return when it may be answered, or as soon as the caller is gone."""
        delay = self._throttle.failed(caller.address, action, self._clock())
        self._counters.throttle_delayed[action.value, round(delay * 1000)] += 1
        await caller.until_gone(delay)

    def sweep(self, now: float) -> None:
        """Forget old failures; called once a second."""
        self._throttle.sweep(now)
