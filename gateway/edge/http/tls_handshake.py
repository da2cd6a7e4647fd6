"""The asyncio protocol of a new TLS connection until its handshake is done.

Source: docs/operations.md, "Limits". A handshake takes up to 5 ms of CPU time (RSA with 4096 bits), and its client
needs no more than one packet. asyncio's server carries out all handshakes whose octets have arrived in one
iteration of the event loop, and does not tell of its connections before. So the octets of the transport pass through
``TlsHandshake``, which hands them over to asyncio's TLS protocol in later iterations, network by network. A connection
whose handshake is not done is an ``IdleConnection``, with a time limit.

``asyncio.loop.start_tls`` makes its TLS protocol the transport's protocol before it first waits. That protocol receives
octets through the methods of ``asyncio.BufferedProtocol``, on uvloop too.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Hashable
from typing import Protocol

from gateway.edge.http.accepted_connection import Acceptor, TimedConnection
from gateway.edge.http.new_connection import NewConnection

STEPS_PER_ITERATION = 2  # of handshakes, in each iteration of the event loop: at most 10 ms
_NO_LIMIT = 86_400.0 * 365  # seconds, for ``start_tls``: a ``PeerTimer`` limits the handshake
_BUFFER = bytearray(16_384)  # of all handshakes: the octets received are copied at once


class HandshakeTurns:
    """The steps of handshakes that wait; in each iteration of the event loop the next networks in turn get one each."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, deque[Callable[[], None]]] = {}  # by network
        self._scheduled = False

    def put(self, network: Hashable, step: Callable[[], None]) -> None:
        """Call ``step``, which must not raise, in a later iteration of the event loop."""
        self._waiting.setdefault(network, deque()).append(step)
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        self._scheduled = False
        for _ in range(STEPS_PER_ITERATION):
            if not self._waiting:
                return
            network = next(iter(self._waiting))
            steps = self._waiting.pop(network)
            step = steps.popleft()
            if steps:
                self._waiting[network] = steps  # behind the other networks
            step()
        if self._waiting:
            self._schedule()


class TlsAcceptor(Acceptor, Protocol):
    """The server of TLS connections; the handshake must be done within the time of ``add``."""

    def secured(self) -> NewConnection:
        """Return the protocol of a connection whose handshake is done."""

    def own(self, task: asyncio.Task[None]) -> None:
        """Keep a reference to the task of a handshake until it is done."""


class TlsHandshake(TimedConnection, asyncio.BufferedProtocol):
    """Runs the TLS handshake of a connection, and hands the connection over to ``NewConnection``."""

    _owner: TlsAcceptor

    def __init__(self, owner: TlsAcceptor, turns: HandshakeTurns, context: ssl.SSLContext) -> None:
        super().__init__(owner)
        self._turns = turns
        self._context = context
        self._tls: asyncio.BufferedProtocol | None = None  # asyncio's
        self._early = b""  # received before ``_tls`` exists
        self._lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the handshake, with its time limit; abort a TCP connection whose peer address is unknown."""
        if not self._begin(transport):
            return
        loop = asyncio.get_running_loop()
        self._owner.own(loop.create_task(self._run(), name="tls-handshake"))
        loop.call_soon(self._intercept)  # after the task's first step, and before the TLS protocol's first octets

    def _intercept(self) -> None:
        """Receive in place of asyncio's TLS protocol."""
        tls = self.transport.get_protocol()
        if tls is self:  # the connection was closed before the task's first step
            return
        self._tls = tls  # type: ignore[assignment]
        self.transport.set_protocol(self)
        if self._early:
            asyncio.get_running_loop().call_soon(self._read_early)  # after the TLS protocol's ``connection_made``

    def _read_early(self) -> None:
        early, self._early = self._early, b""
        if not self._lost:
            self._read_in_turn(early)

    async def _run(self) -> None:
        loop, received = asyncio.get_running_loop(), _Received()
        try:
            if self._lost:
                return
            secured = await loop.start_tls(
                self.transport, received, self._context, server_side=True, ssl_handshake_timeout=_NO_LIMIT
            )
        except OSError:  # the client has closed the connection, or has broken the rules of TLS
            return
        finally:
            self._end()
        if self._lost or self._tls is None or secured is None:
            return
        self.transport.set_protocol(self._tls)
        received.hand_over(secured, self._owner.secured())

    def _end(self) -> None:
        self._end_timer()
        self._owner.remove(self)

    def close(self) -> None:
        """Close the connection because the server stops or the handshake was not done in time."""
        self.abort()

    # -- asyncio.BufferedProtocol

    def get_buffer(self, sizehint: int) -> bytearray:
        """Return the buffer for the octets that the transport receives."""
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        """Let asyncio's TLS protocol read when it is the network's turn, and receive nothing more until then."""
        received = bytes(_BUFFER[:nbytes])
        if self._tls is None:
            self._early += received
            self.transport.pause_reading()
        else:
            self._read_in_turn(received)

    def _read_in_turn(self, octets: bytes) -> None:
        self.transport.pause_reading()
        self._turns.put(self.network, lambda: self._read(octets))

    def _read(self, octets: bytes) -> None:
        if self._lost or self._tls is None:
            return
        memoryview(self._tls.get_buffer(len(octets)))[: len(octets)] = octets
        self._tls.buffer_updated(len(octets))
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def eof_received(self) -> bool | None:
        """Let asyncio's TLS protocol end the connection."""
        return None if self._tls is None else self._tls.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let asyncio's TLS protocol end the handshake."""
        self._lost = True
        self._end()
        if self._tls is not None:
            self._tls.connection_lost(exc)

    def pause_writing(self) -> None:
        """See ``asyncio.BaseProtocol.pause_writing``."""
        if self._tls is not None:
            self._tls.pause_writing()

    def resume_writing(self) -> None:
        """See ``asyncio.BaseProtocol.resume_writing``."""
        if self._tls is not None:
            self._tls.resume_writing()


class _Received(asyncio.Protocol):
    """Keeps the octets that a TLS connection receives until its next protocol gets them."""

    def __init__(self) -> None:
        self._data = b""
        self._lost = False

    def data_received(self, data: bytes) -> None:
        self._data += data

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True

    def hand_over(self, transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
        if self._lost:
            return
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if self._data:
            transport.get_protocol().data_received(self._data)  # type: ignore[attr-defined]
