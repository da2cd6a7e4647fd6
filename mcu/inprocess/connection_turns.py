"""Opens one PeerConnection, or continues one DTLS handshake, in each loop iteration, first come, first served.

A PeerConnection needs a certificate, a DTLS context and sockets, which take about 2 ms of CPU time, and a step of a
handshake takes 1 ms, or 5 ms if the client has a large RSA key. Many in one iteration would hold up all clients.
"""

from __future__ import annotations

import asyncio
from collections import deque


class ConnectionTurns:
    """Lets callers continue one by one, each in an iteration of the event loop of its own."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._taken = False  # the present iteration

    async def take(self) -> None:
        """Return in an iteration of the event loop in which no other call returns."""
        loop = asyncio.get_running_loop()
        if self._taken:
            turn = loop.create_future()
            self._waiting.append(turn)
            await turn
        else:
            self._taken = True
            loop.call_soon(self._next)

    def _next(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # else its task was cancelled
                turn.set_result(None)
                asyncio.get_running_loop().call_soon(self._next)
                return
        self._taken = False
