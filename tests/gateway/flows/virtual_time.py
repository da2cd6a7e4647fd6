"""An event loop whose time jumps: a wait for a timer ends at once, so that no test of the flows sleeps.

Nothing of the flows does input or output, so whenever no callback is ready the only thing to wait for is a timer.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Mapping
from selectors import SelectorKey
from typing import Any


class _JumpingSelector(selectors.BaseSelector):
    """Selects without waiting, and counts the time that it would have waited."""

    def __init__(self) -> None:
        self._real = selectors.DefaultSelector()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        events = self._real.select(0)
        if not events:
            if timeout is None:
                raise RuntimeError("everything waits, and for nothing that could come")
            self.now += max(timeout, 0.0)
        return events

    def register(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> SelectorKey:
        return self._real.unregister(fileobj)

    def close(self) -> None:
        self._real.close()

    def get_map(self) -> Mapping[Any, SelectorKey]:
        return self._real.get_map()


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._jumping.now


class VirtualTimePolicy(asyncio.DefaultEventLoopPolicy):
    """Makes such loops."""

    def new_event_loop(self) -> VirtualLoop:
        return VirtualLoop()


async def settle() -> None:
    """Return when everything that is ready has run; a millisecond passes."""
    await asyncio.sleep(0.001)
