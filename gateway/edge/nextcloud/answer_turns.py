"""Limits the octets of backends' answers that are parsed in one iteration of the event loop.

Source: docs/operations.md, "Limits". A piece of an answer may take 3 ms, if it consists of chunks of one byte, and
hostile backends may send such pieces on all connections at once. So the answers share ``TURN_BYTES`` in each iteration;
the rest waits, and the backends get their turns one after another.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable

PIECE = 4096  # bytes that are parsed at once: 3 ms if they are chunks of one byte
TURN_BYTES = 2 * PIECE  # of one iteration; the last piece may exceed it


class AnswerTurns:
    """Admits octets to be parsed at once, or calls the parser in a later iteration of the event loop."""

    def __init__(self) -> None:
        self._left = TURN_BYTES
        self._waiting: dict[Hashable, deque[Callable[[], None]]] = {}  # by backend
        self._scheduled = False

    def take(self, size: int) -> bool:
        """Return whether ``size`` bytes may be parsed at once; otherwise call ``put``."""
        if size > PIECE or self._left <= 0 or self._waiting:
            return False
        self._left -= size
        self._schedule()
        return True

    def put(self, backend: Hashable, parse_piece: Callable[[], None]) -> None:
        """Call ``parse_piece``, which parses one piece and must not raise, in a later iteration."""
        self._waiting.setdefault(backend, deque()).append(parse_piece)
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._scheduled, self._left = False, TURN_BYTES
        while self._waiting and self._left > 0:
            backend = next(iter(self._waiting))
            pieces = self._waiting.pop(backend)
            parse_piece = pieces.popleft()
            if pieces:
                self._waiting[backend] = pieces  # behind the others
            self._left -= PIECE
            parse_piece()
        if self._left < TURN_BYTES:
            self._schedule()
