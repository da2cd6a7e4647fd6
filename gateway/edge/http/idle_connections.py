"""The TCP connections on which no request is being served: new connections, and connections kept after an answer.

Source: docs/operations.md, "Limits". If a network has too many, its longest idle connection is closed; if descriptors
run out, that of the network that has most. A network is an IPv4 address, an IPv6 /64, or a trusted proxy. So a client
that sends its request at once is served, however many connections others leave open.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Protocol

from gateway.core.limits import exceeds

KEPT = 16  # connections that are kept although descriptors run out, so that the request of a new one can be read


class IdleConnection(Protocol):
    """A connection that may be closed at any moment, since its peer waits for no answer."""

    @property
    def network(self) -> Hashable:
        """The network of the TCP peer, which may be a proxy (``TrustedProxies.counted``)."""

    @property
    def uses_reserve(self) -> bool:
        """Whether the connection has a descriptor of the reserve."""

    def abort(self) -> None:
        """Close the connection at once."""


class IdleConnections:
    """The idle connections, by network, in the order in which they became idle.

    ``per_address`` returns the greatest number for one network (0: no limit); ``on_excess`` is called with the name of
    the limit for which a connection is closed.
    """

    def __init__(self, per_address: Callable[[], int], on_excess: Callable[[str], None]) -> None:
        self._per_address = per_address
        self._on_excess = on_excess
        self._by_network: dict[Hashable, dict[IdleConnection, None]] = {}
        self._networks_by_count: dict[int, dict[Hashable, None]] = {}
        self._most = 0  # connections of one network
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, connection: IdleConnection) -> None:
        """Add a connection that has become idle; close the longest idle connection if there are too many."""
        network = connection.network
        of_network = self._by_network.setdefault(network, {})
        of_network[connection] = None
        self._change_count(network, len(of_network) - 1, len(of_network))
        if exceeds(len(of_network), self._per_address()):
            self._close_oldest(of_network, "idle_connections_per_address")
        elif connection.uses_reserve and self._count > KEPT:
            with_most = next(iter(self._networks_by_count[self._most]))
            self._close_oldest(self._by_network[with_most], "descriptors")

    def remove(self, connection: IdleConnection) -> None:
        """Remove a connection on which a request has arrived, or which is closed. Idempotent."""
        of_network = self._by_network.get(connection.network, {})
        if connection not in of_network:
            return
        del of_network[connection]
        self._change_count(connection.network, len(of_network) + 1, len(of_network))
        if not of_network:
            del self._by_network[connection.network]

    def _change_count(self, network: Hashable, before: int, after: int) -> None:
        """Record that a network has another number of connections, one more or less."""
        self._count += after - before
        if before:
            networks = self._networks_by_count[before]
            del networks[network]
            if not networks:
                del self._networks_by_count[before]
        if after:
            self._networks_by_count.setdefault(after, {})[network] = None
        if after > self._most or self._most not in self._networks_by_count:
            self._most = after

    def _close_oldest(self, connections: dict[IdleConnection, None], limit: str) -> None:
        oldest = next(iter(connections))
        self.remove(oldest)
        self._on_excess(limit)
        oldest.abort()
