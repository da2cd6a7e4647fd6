"""Sees to it that a chosen layer of simulcast comes.

Janus switches with the next keyframe of the layer, asks the publisher for one, once, and then waits for ever. Browsers
ignore what is asked within 0.3 s of the last keyframe: a choice soon after another one, or after somebody came, would
never come true. So while Janus does not say that the layer has come, we ask again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

AGAIN = (0.4, 0.8, 1.6, 3.2)  # seconds from one request to the next; a layer that is not sent is given up then


class LayerSwitch:
    """Follows one subscription; ``ask`` asks its publisher for a keyframe."""

    def __init__(self, ask: Callable[[], None]) -> None:
        self._ask = ask
        self._wanted: int | None = None
        self._shown: int | None = None  # what Janus has told; nothing of streams that have no layers
        self._timer: asyncio.TimerHandle | None = None
        self._left: list[float] = []

    def want(self, substream: int) -> None:
        """Learn of a choice."""
        self._wanted = substream
        self._left = list(AGAIN)
        self._go_on()

    def show(self, substream: int) -> None:
        """Learn which layer comes now."""
        self._shown = substream
        self._go_on()

    def stop(self) -> None:
        """Ask no more."""
        self._left = []
        self._go_on()

    def _go_on(self) -> None:
        waiting = self._wanted is not None and self._shown is not None and self._wanted != self._shown
        if self._timer is not None and not (waiting and self._left):
            self._timer.cancel()
            self._timer = None
        elif self._timer is None and waiting and self._left:
            self._timer = asyncio.get_running_loop().call_later(self._left.pop(0), self._remind)

    def _remind(self) -> None:
        self._timer = None
        self._ask()
        self._go_on()
