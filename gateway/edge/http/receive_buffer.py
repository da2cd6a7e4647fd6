"""The kernel's receive buffers of connections: small until a request is accepted.

Source: docs/operations.md, "Limits". The event loop reads all that the kernel has received for a connection before a
handler is called. So the receive buffer bounds what strangers can make the process read and keep in one turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterable
from typing import Any

OF_STRANGERS = 32_768  # bytes; Linux accepts up to 1.5 times as many
OF_ACCEPTED = 262_144  # bytes, for WebSockets, and for bodies that are to be read


def narrow(listening: Iterable[Any]) -> None:
    """Limit the receive buffers of the connections that listening TCP sockets will accept."""
    for sock in listening:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, OF_STRANGERS)


def widen(transport: asyncio.BaseTransport | None) -> None:
    """Allow a connection to receive much at once: its request was accepted."""
    sock = None if transport is None else transport.get_extra_info("socket")
    if sock is None or sock.family == socket.AF_UNIX:
        return
    with contextlib.suppress(OSError):  # the connection is being closed
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, OF_ACCEPTED)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP, OF_ACCEPTED)  # which stays small otherwise
