"""How many bits per second went by, of each of several things whose bytes are counted."""

from __future__ import annotations

from collections.abc import Mapping

LEAST = 0.9  # seconds that a rate is of


class BitrateMeter:
    """Keeps the rates between the last two looks; ``now`` is monotonic."""

    def __init__(self, now: float) -> None:
        self._looked_at = now
        self._octets: Mapping[str, int] = {}
        self._rates: dict[str, int] = {}

    def look(self, octets: Mapping[str, int], now: float) -> None:
        """Take the bytes counted so far, by name; too soon after the last look it changes nothing."""
        passed = now - self._looked_at
        if passed < LEAST:
            return
        self._rates = {name: int((count - self._octets.get(name, 0)) * 8 / passed) for name, count in octets.items()}
        self._looked_at, self._octets = now, octets

    def of(self, name: str) -> int | None:
        """Return the bit/s of a name, ``None`` before they are known."""
        return self._rates.get(name)
