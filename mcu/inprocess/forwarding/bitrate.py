"""Bitrates of several named byte counters."""

from __future__ import annotations

from collections.abc import Mapping

MIN_INTERVAL = 0.9  # seconds: the shortest interval that a bitrate covers


class BitrateMeter:
    """The bitrates between the last two samples of the counters, which begin at 0; ``now`` is monotonic, in seconds."""

    def __init__(self, now: float) -> None:
        self._sampled_at = now
        self._octets: Mapping[str, int] = {}
        self._rates: dict[str, int] = {}

    def sample(self, octets: Mapping[str, int], now: float) -> None:
        """Record the byte counters by name; ignored within ``MIN_INTERVAL`` of the last one."""
        passed = now - self._sampled_at
        if passed < MIN_INTERVAL:
            return
        self._rates = {name: int((count - self._octets.get(name, 0)) * 8 / passed) for name, count in octets.items()}
        self._sampled_at, self._octets = now, octets

    def bits_per_second(self, name: str) -> int | None:
        """Return the bitrate of one counter; ``None`` before the first sample."""
        return self._rates.get(name)
