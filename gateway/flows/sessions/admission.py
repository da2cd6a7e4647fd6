"""Limits on the connections of an address: on all connections, and on connections without a hello.

Source: docs/protocol.md, "Limits". The hosts of one IPv6 /64 network count as one address.
"""

from __future__ import annotations

from gateway.core.limits import exceeds
from gateway.core.throttle import Address, network
from gateway.flows.services import Services


class Admission:
    """Counts connections by address; ``key`` is the address' ``network``."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._connections: dict[int, int] = {}
        self._without_hello: dict[int, int] = {}

    def admits(self, address: Address) -> bool:
        """Return whether one more connection is allowed; a refusal is counted in the metrics."""
        limit = self.exceeded(address)
        if limit is not None:
            self._services.count_excess(limit)
        return limit is None

    def exceeded(self, address: Address) -> str | None:
        """Return the name of the limit that one more connection would exceed; ``None``: the connection is allowed."""
        limits, key = self._services.settings.limits, network(address)
        if exceeds(self._connections.get(key, 0) + 1, limits.connections_per_address):
            return "connections_per_address"
        if exceeds(self._without_hello.get(key, 0) + 1, limits.hellos_per_address):
            return "hellos_per_address"
        return None

    def connection_opened(self, key: int) -> None:
        """Count a new connection, which has no hello yet."""
        self._connections[key] = self._connections.get(key, 0) + 1
        self._without_hello[key] = self._without_hello.get(key, 0) + 1

    def hello_ended(self, key: int) -> None:
        """Stop counting a connection as one without a hello: it has a session, timed out, or was closed."""
        _decrease(self._without_hello, key)

    def connection_closed(self, key: int) -> None:
        """Stop counting a connection."""
        _decrease(self._connections, key)


def _decrease(counts: dict[int, int], key: int) -> None:
    count = counts.get(key, 0) - 1
    if count > 0:
        counts[key] = count
    else:
        counts.pop(key, None)
