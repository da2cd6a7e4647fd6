"""Event loop with virtual time: a wait for a timer ends at once, so that time limits are tested without real time.

The clock advances only when no callback is ready and no socket has an event. Sockets of loopback can be used, since the
kernel delivers their data at once.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Mapping
from selectors import SelectorKey
from typing import Any


class _JumpingSelector(selectors.BaseSelector):
    """A selector that returns at once, and advances its clock by the time that it would have waited."""

    def __init__(self) -> None:
        self._real = selectors.DefaultSelector()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        events = self._real.select(0)
        if not events:
            if timeout is None:
                raise RuntimeError("no callback is ready and no timer is set: all tasks wait for ever")
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
    """An event loop on the virtual clock."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._jumping.now

    def advance(self, seconds: float) -> None:
        """Let time pass without running anything, as while the process stands still."""
        self._jumping.now += seconds


async def settle() -> None:
    """Return after all ready callbacks have run; a millisecond of virtual time passes."""
    await asyncio.sleep(0.001)
