"""A connection that the server has accepted and on which no request has arrived: its peer and its time limit.

Source: docs/operations.md, "Limits".
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Hashable
from typing import Protocol

from gateway.edge.http.idle_connections import IdleConnection
from gateway.standstill import PeerTimer


class AcceptedConnection(IdleConnection, Protocol):
    """An accepted connection, as its server sees it; the server sets ``network`` and ``uses_reserve``."""

    transport: asyncio.Transport
    peer: str  # the address of the TCP peer; empty for a unix socket
    network: Hashable
    uses_reserve: bool

    def close(self) -> None:
        """Close the connection because the server stops."""


class Acceptor(Protocol):
    """The server that has accepted a connection, as the connection sees it."""

    def add(self, connection: AcceptedConnection) -> float:
        """Add a connection; return the seconds within which its request or TLS handshake must arrive, 0: no limit."""

    def remove(self, connection: AcceptedConnection) -> None:
        """Remove a connection: its request has arrived, its handshake is done, or it is closed."""

    def count_expired(self) -> None:
        """Count a connection that was closed because its time was over."""


class TimedConnection:
    """Implements ``AcceptedConnection`` for a protocol of asyncio, whose ``connection_made`` calls ``_begin``."""

    __slots__ = ("_owner", "_timer", "network", "peer", "transport", "uses_reserve")

    def __init__(self, owner: Acceptor) -> None:
        self._owner = owner
        self._timer: PeerTimer | None = None
        self.transport: asyncio.Transport
        self.peer = ""
        self.network: Hashable = None
        self.uses_reserve = False

    def close(self) -> None:
        """Close the connection because the server stops or its time is over."""
        self.transport.close()

    def abort(self) -> None:
        """See ``IdleConnection.abort``."""
        self.transport.abort()

    def _begin(self, transport: asyncio.BaseTransport) -> bool:
        """Add the connection to its server and start its time limit; abort it if the address of its peer is unknown.

        Returns ``False`` if it was aborted.
        """
        self.transport = transport  # type: ignore[assignment]  # of a stream socket
        peer = _peer_address(transport)
        if peer is None:
            self.abort()
            return False
        self.peer = peer
        limit = self._owner.add(self)
        if limit:
            self._timer = PeerTimer(limit, self._expired)
        return True

    def _end_timer(self) -> float | None:
        """Cancel and drop the timer, since the timer refers to this connection; return the time at which it was due."""
        timer, self._timer = self._timer, None
        if timer is None:
            return None
        timer.cancel()
        return timer.due

    def _expired(self) -> None:
        self._owner.count_expired()
        self.close()


def _peer_address(transport: asyncio.BaseTransport) -> str | None:
    """Return the address of the TCP peer, empty for a unix socket; ``None`` if it is unknown.

    If the peer has reset the connection before it was accepted, uvloop has no address, but may still read the request.
    Without an address it would be taken for one over a unix socket, whose peer is trusted.
    """
    name = transport.get_extra_info("peername")
    if isinstance(name, tuple):
        return str(name[0])
    return "" if transport.get_extra_info("socket").family == socket.AF_UNIX else None
