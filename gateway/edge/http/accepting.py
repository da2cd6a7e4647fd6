"""Accept several connections in each iteration of the event loop.

Source: docs/operations.md, "Limits". uvloop accepts one connection of a listening socket in an iteration. If iterations
are long, as beside a flood of TLS handshakes, a new connection waits behind all that the kernel keeps, and beyond
``BACKLOG`` the kernel lets its client try again after a second. So each listening socket has several descriptors, each
of which the event loop watches.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable

BACKLOG = 1024  # connections that the kernel keeps until they are accepted; net.core.somaxconn may be less
ACCEPTS = 8  # of one listening socket, in an iteration


class FurtherAcceptors:
    """Servers on further descriptors of listening sockets."""

    def __init__(self) -> None:
        self._servers: list[asyncio.Server] = []

    async def start(self, protocol: Callable[[], asyncio.BaseProtocol], listening: Iterable[socket.socket]) -> None:
        """Accept connections of listening sockets, in addition to the server that listens on them already."""
        loop = asyncio.get_running_loop()
        for sock in listening:
            for _ in range(ACCEPTS - 1):
                # uvloop's sockets of a server are no ``socket.socket`` and cannot be duplicated as such.
                copy = socket.socket(fileno=socket.dup(sock.fileno()))
                copy.setblocking(False)
                self._servers.append(await loop.create_server(protocol, sock=copy, backlog=BACKLOG))

    def close(self) -> None:
        """Accept no more connections. Idempotent."""
        for server in self._servers:
            server.close()
        self._servers.clear()
