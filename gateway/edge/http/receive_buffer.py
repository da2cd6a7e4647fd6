"""The kernel's receive buffers of connections: small until a request is accepted.

Source: docs/operations.md, "Limits". The event loop reads all that the kernel has received for a connection before a
handler is called. So the receive buffers bound the octets that clients without a session or signature can make the
process read and keep in one loop iteration.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterable
from typing import Any

NARROW_SIZE = 32_768  # bytes; Linux accepts up to 1.5 times as many
BODY_SIZE = 262_144  # bytes, for bodies that a handler reads
# Bytes, for WebSockets: the longest message. Messages beyond the gateway's capacity wait there, and delay all
# other messages when the load ends; a slow network carries such a message in one round trip.
WEBSOCKET_SIZE = 65_536


def narrow(listening: Iterable[Any]) -> None:
    """Limit the receive buffers of the connections that listening TCP sockets will accept."""
    for sock in listening:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW_SIZE)


def widen(transport: asyncio.BaseTransport | None, size: int) -> None:
    """Give a connection whose request was accepted a larger receive buffer; ``None``: the connection has ended."""
    of_transport = None if transport is None else transport.get_extra_info("socket")
    if of_transport is None or of_transport.family == socket.AF_UNIX:
        return
    with contextlib.suppress(OSError, ValueError):  # the connection is being closed, or is closed
        # The object that uvloop returned makes a socket for each call; this is one for both calls.
        sock = socket.socket(of_transport.family, of_transport.type, of_transport.proto, of_transport.fileno())
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP, size)  # Linux leaves it narrow
        finally:
            sock.detach()
