"""The TCP connections on which no request is being served: new connections, and connections kept after an answer.

Source: docs/operations.md, "Limits". If a peer has too many, its longest idle connection is closed; if descriptors run
out, that of the peer that has most. So a client that sends its request at once is served, however many connections
others leave open.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gateway.core.limits import exceeds

KEPT = 16  # connections that are kept although descriptors run out, so that the request of a new one can be read


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
        self._by_peer: dict[str, dict[IdleConnection, None]] = {}
        self._peers_by_count: dict[int, dict[str, None]] = {}
        self._most = 0  # connections of one peer
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, connection: IdleConnection) -> None:
        """Add a connection that has become idle; close the longest idle connection if there are too many."""
        peer = connection.peer
        of_peer = self._by_peer.setdefault(peer, {})
        of_peer[connection] = None
        self._change_count(peer, len(of_peer) - 1, len(of_peer))
        if exceeds(len(of_peer), self._per_address()):
            self._close_oldest(of_peer, "idle_connections_per_address")
        elif connection.uses_reserve and self._count > KEPT:
            with_most = next(iter(self._peers_by_count[self._most]))
            self._close_oldest(self._by_peer[with_most], "descriptors")

    def remove(self, connection: IdleConnection) -> None:
        """Remove a connection on which a request has arrived, or which is closed. Idempotent."""
        of_peer = self._by_peer.get(connection.peer, {})
        if connection not in of_peer:
            return
        del of_peer[connection]
        self._change_count(connection.peer, len(of_peer) + 1, len(of_peer))
        if not of_peer:
            del self._by_peer[connection.peer]

    def _change_count(self, peer: str, before: int, after: int) -> None:
        """Record that a peer has another number of connections, one more or less."""
        self._count += after - before
        if before:
            peers = self._peers_by_count[before]
            del peers[peer]
            if not peers:
                del self._peers_by_count[before]
        if after:
            self._peers_by_count.setdefault(after, {})[peer] = None
        if after > self._most or self._most not in self._peers_by_count:
            self._most = after

    def _close_oldest(self, connections: dict[IdleConnection, None], limit: str) -> None:
        oldest = next(iter(connections))
        self.remove(oldest)
        self._on_excess(limit)
        oldest.abort()
