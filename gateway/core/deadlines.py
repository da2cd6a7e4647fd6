"""When the shared values of all rooms are over, the next one first.

A heap, in which an entry stays when its value is set anew or removed: it is stale then, which is found when its turn
comes. Stale entries are never more than the others (and a few), so that setting one value over and over takes no
memory.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from gateway.core.room import RoomKey

_FEW = 64


class Deadlines:
    """The deadlines of values by room and key; ``current`` says when a value is over, ``None``: never, or no value."""

    def __init__(self, current: Callable[[RoomKey, str], float | None]) -> None:
        self._current = current
        self._heap: list[tuple[float, RoomKey, str]] = []
        self._tidy_at = _FEW

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, at: float, room: RoomKey, key: str) -> None:
        """Note a deadline that ``current`` tells from now on."""
        heapq.heappush(self._heap, (at, room, key))
        if len(self._heap) > self._tidy_at:
            self._heap = [entry for entry in set(self._heap) if self._counts(entry)]
            heapq.heapify(self._heap)
            self._tidy_at = 2 * len(self._heap) + _FEW

    def next(self) -> float | None:
        """Return the earliest deadline."""
        while self._heap and not self._counts(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take(self, now: float) -> tuple[RoomKey, str] | None:
        """Return a value that is over, and forget its deadline; ``None``: there is none."""
        at = self.next()
        if at is None or at > now:
            return None
        _, room, key = heapq.heappop(self._heap)
        return room, key

    def _counts(self, entry: tuple[float, RoomKey, str]) -> bool:
        at, room, key = entry
        return self._current(room, key) == at
