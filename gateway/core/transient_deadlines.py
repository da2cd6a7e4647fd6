"""The expiry times of the transient values of all rooms, earliest first.

A heap. An entry stays in it when its value is replaced or removed; such a stale entry is skipped when it reaches the
top. When the heap has doubled, it is rebuilt without stale entries, so that setting one value repeatedly does not
fill the memory.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from gateway.core.room import RoomKey

_MIN_SIZE = 64  # entries below which the heap is never rebuilt


class TransientDeadlines:
    """Expiry times by room and key; ``current`` returns a value's present expiry time, ``None`` without one."""

    def __init__(self, current: Callable[[RoomKey, str], float | None]) -> None:
        self._current = current
        self._heap: list[tuple[float, RoomKey, str]] = []
        self._rebuild_size = _MIN_SIZE

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, at: float, room: RoomKey, key: str) -> None:
        """Add an expiry time; ``current`` must return it from now on."""
        heapq.heappush(self._heap, (at, room, key))
        if len(self._heap) > self._rebuild_size:
            self._heap = [entry for entry in set(self._heap) if self._is_valid(entry)]
            heapq.heapify(self._heap)
            self._rebuild_size = 2 * len(self._heap) + _MIN_SIZE

    def next_expiry(self) -> float | None:
        """Return the earliest expiry time; ``None`` when no value expires."""
        while self._heap and not self._is_valid(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take(self, now: float) -> tuple[RoomKey, str] | None:
        """Remove an expired entry from the heap and return its room and key; ``None`` when none has expired."""
        at = self.next_expiry()
        if at is None or at > now:
            return None
        _, room, key = heapq.heappop(self._heap)
        return room, key

    def _is_valid(self, entry: tuple[float, RoomKey, str]) -> bool:
        at, room, key = entry
        return self._current(room, key) == at
