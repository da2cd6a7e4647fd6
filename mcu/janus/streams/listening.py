"""What a listener may rely on: nothing is said before the verb has returned, nor after the end of the stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mcu.base import CloseReason, StreamListener

Saying = Callable[[StreamListener], None]


class Ear:
    """Speaks to one listener, in order, within the stream's life."""

    def __init__(self, listener: StreamListener) -> None:
        self._listener = listener
        self._kept: list[Saying] | None = []  # None: the verb has returned
        self._ended = False

    def say(self, saying: Saying) -> None:
        """Say it, now or as soon as the verb has returned; nothing after ``end``."""
        if self._ended:
            return
        if self._kept is None:
            saying(self._listener)
        else:
            self._kept.append(saying)

    def end(self, reason: CloseReason | None) -> None:
        """Say reason the stream ended; ``None``: its owner knows, and nothing kept is said either."""
        if reason is None:
            self._kept = None
        else:
            self.say(lambda listener: listener.on_closed(reason))
        self._ended = True

    def open_soon(self) -> None:
        """Call this last in ``publish`` and ``subscribe``: what was kept is said when they have returned."""
        asyncio.get_running_loop().call_soon(self._open)

    def _open(self) -> None:
        kept, self._kept = self._kept, None
        for saying in kept or ():
            saying(self._listener)
