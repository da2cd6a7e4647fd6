"""How many connections come from one address, and how many of them have not said hello.

Source: docs/protocol.md, "Limits". Hosts of one IPv6 /64 network count as one address.
"""

from __future__ import annotations

from typing import Protocol

from gateway.core.limits import exceeds
from gateway.core.throttle import Address, network
from gateway.flows.services import Services


class Visitor(Protocol):
    """A connection."""

    @property
    def address(self) -> Address:
        """Where it really comes from."""


class Admission:
    """Counts connections by address."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._connected: dict[int, int] = {}
        self._silent: dict[int, int] = {}  # not said hello

    def admits(self, address: Address) -> bool:
        """Whether one more connection may be opened; counts it when not."""
        limits, key = self._services.settings.limits, network(address)
        if exceeds(self._connected.get(key, 0) + 1, limits.connections_per_address):
            self._services.count_excess("connections_per_address")
            return False
        if exceeds(self._silent.get(key, 0) + 1, limits.hellos_per_address):
            self._services.count_excess("hellos_per_address")
            return False
        return True

    def entered(self, visitor: Visitor) -> None:
        """Note a new connection, which has not said hello."""
        key = network(visitor.address)
        self._connected[key] = self._connected.get(key, 0) + 1
        self._silent[key] = self._silent.get(key, 0) + 1

    def greeted(self, visitor: Visitor) -> None:
        """Note that a connection said hello, or was told that its time for that is over."""
        _decrease(self._silent, visitor)

    def left(self, visitor: Visitor) -> None:
        """Note that a connection is gone."""
        _decrease(self._connected, visitor)


def _decrease(counts: dict[int, int], visitor: Visitor) -> None:
    key = network(visitor.address)
    count = counts.get(key, 0) - 1
    if count > 0:
        counts[key] = count
    else:
        counts.pop(key, None)
