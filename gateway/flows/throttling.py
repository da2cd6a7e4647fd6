"""Throttling of attempts to guess a secret: failures are answered late, and too many of them block an address.

Source: reference 14.1. Only failures are throttled: a client with the right secret may share the
address of an attacker.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway.core.throttle import MAX_DELAY, Address, Throttle, ThrottledAction
from gateway.flows.ports import FlowCounters
from gateway.wire.errors import Code, ProtocolError


class Caller(Protocol):
    """The peer that makes an attempt; its address is used for throttling only and never logged."""

    @property
    def address(self) -> Address:
        """The address of the client, not of a proxy (14.2)."""

    def wait_until_gone(self, seconds: float) -> Awaitable[None]:
        """Wait until the connection of the caller is closed, at most ``seconds``."""


class Throttling:
    """Delays and counts failed attempts: await ``refuse`` or ``record_failure`` after a wrong secret.

    ``on_blocked`` is called for each attempt of a blocked address, with the metrics label of the action.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        counters: FlowCounters,
        on_blocked: Callable[[str], None] = lambda action: None,
    ) -> None:
        self._on_blocked = on_blocked
        self._throttle = Throttle()
        self._clock = clock
        self._counters = counters

    def blocks(self, address: Address, action: ThrottledAction) -> bool:
        """Return whether this address is blocked after too many failures; count and report the attempt if it is."""
        if not self._throttle.blocks(address, action, self._clock()):
            return False
        self._counters.throttle_bruteforce[action.value] += 1
        self._on_blocked(action.value)
        return True

    async def refuse(self, caller: Caller, action: ThrottledAction) -> None:
        """Await ``record_failure``, and raise the error if the client's address is blocked.

        Raises:
            ProtocolError: ``too_many_requests``, the address is blocked.
        """
        if await self.record_failure(caller, action):
            raise ProtocolError(Code.TOO_MANY_REQUESTS.error())

    async def record_failure(self, caller: Caller, action: ThrottledAction) -> bool:
        """Count a failure, and return after the delay for the answer or as soon as the caller has disconnected.

        Return whether the address is blocked; such a failure is not counted.
        """
        blocked, delay = self.blocks(caller.address, action), MAX_DELAY
        if not blocked:
            delay = self._throttle.record_failure(caller.address, action, self._clock())
            self._counters.throttle_delayed[action.value, round(delay * 1000)] += 1
        await caller.wait_until_gone(delay)
        return blocked

    def blocked_addresses(self) -> dict[str, int]:
        """Return the number of addresses that are blocked now, by the metrics label of the action."""
        return self._throttle.count_blocked(self._clock())

    def clear(self, action: ThrottledAction) -> None:
        """Remove all failures of an action, because its secret was changed."""
        self._throttle.clear(action)

    def sweep(self, now: float) -> None:
        """Remove old failures; called once a second."""
        self._throttle.sweep(now)
