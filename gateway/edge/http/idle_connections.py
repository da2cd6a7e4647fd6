"""The TCP connections on which no request is being served: new connections, and connections kept after an answer.

Source: docs/operations.md, "Limits". If a peer has too many, or if descriptors run out, the longest idle connection is
closed. So a client that sends its request at once is always served, however many connections others leave open.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gateway.core.limits import exceeds


class IdleConnection(Protocol):
    """A connection that may be closed at any moment, since its peer waits for no answer."""

    @property
    def peer(self) -> str:
        """The address of the TCP peer, which may be a proxy."""

    @property
    def uses_reserve(self) -> bool:
        """Whether the connection has a descriptor of the reserve."""

    def abort(self) -> None:
        """Close the connection at once."""


class IdleConnections:
    """The idle connections, by peer, in the order in which they became idle.

    ``per_address`` returns the greatest number for one peer (0: no limit); ``on_excess`` is called with the name of the
    limit for which a connection is closed.
    """

    def __init__(self, per_address: Callable[[], int], on_excess: Callable[[str], None]) -> None:
        self._per_address = per_address
        self._on_excess = on_excess
        self._all: dict[IdleConnection, None] = {}
        self._by_peer: dict[str, dict[IdleConnection, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def add(self, connection: IdleConnection) -> None:
        """Add a connection that has become idle; close the longest idle connection if there are too many."""
        of_peer = self._by_peer.setdefault(connection.peer, {})
        of_peer[connection] = self._all[connection] = None
        if exceeds(len(of_peer), self._per_address()):
            self._close_oldest(of_peer, "idle_connections_per_address")
        elif connection.uses_reserve and len(self._all) > 1:
            self._close_oldest(self._all, "descriptors")

    def remove(self, connection: IdleConnection) -> None:
        """Remove a connection on which a request has arrived, or which is closed. Idempotent."""
        if connection not in self._all:
            return
        del self._all[connection]
        of_peer = self._by_peer[connection.peer]
        del of_peer[connection]
        if not of_peer:
            del self._by_peer[connection.peer]

    def _close_oldest(self, connections: dict[IdleConnection, None], limit: str) -> None:
        oldest = next(iter(connections))
        self.remove(oldest)
        self._on_excess(limit)
        oldest.abort()
