"""The order of a publisher's simulcast layers by size, and Janus' numbers for them. Pure.

Janus numbers the layers by their order in the offer, not by their resolution, and RIDs may mislead. But it reports the
bytes that it receives of each layer, and of one camera the higher resolution has the higher bit rate. Where the bit
rates contradict the order, a subscriber's selected layer is translated to another number of Janus.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

RATIO = 1.3  # factor from which one rate counts as higher than another
MIN_RATE = 1000  # bytes per second; a lower rate does not depend on the size of the picture
CONFIRMATIONS = 3  # consecutive measurements, about a second apart, that prove an order
CLOSE_WATCH_MEASUREMENTS = 30  # after which an order without proof is not watched closely any more
STOP_MEASUREMENTS = 2  # in succession without a byte, after which a layer counts as stopped
HIGHEST_LAYER = 2  # Janus' greatest number of a layer, which it assumes for a subscriber without a selection


class LayerRates(NamedTuple):
    """One measurement: the received bytes per second of each layer, by Janus' numbers."""

    at: float  # seconds on any clock that does not go back
    rates: tuple[int, ...]


class LayerOrder:
    """The order of ``count`` layers; at first that of Janus' numbers, lowest first."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._order = list(range(count))  # Janus' numbers, smallest layer first
        self._higher: Counter[tuple[int, int]] = Counter()  # (a, b): measurements in a row in which b's rate was higher
        self._silent: Counter[int] = Counter()  # measurements in a row without a byte, by Janus' number
        self._measured_at = -math.inf
        self._measurements = 0

    @property
    def is_janus_order(self) -> bool:
        """Whether Janus' numbers are in order of size; then Janus replaces a stopped layer by itself."""
        return self._order == sorted(self._order)

    @property
    def needs_close_watch(self) -> bool:
        """Whether to measure each second: until the order is proved, and while ``number`` replaces stopped layers."""
        proved = all(self._higher[pair] >= CONFIRMATIONS for pair in pairwise(self._order))
        return not self.is_janus_order or not (proved or self._measurements >= CLOSE_WATCH_MEASUREMENTS)

    def observe(self, measurement: LayerRates) -> bool:
        """Apply a newer measurement, and return whether a result of ``number`` has changed; ignore an older one."""
        if measurement.at <= self._measured_at:
            return False
        self._measured_at = measurement.at
        self._measurements += 1
        before = [self.number(substream) for substream in range(self.count)]
        rates = [*measurement.rates, *[0] * self.count][: self.count]
        for layer, rate in enumerate(rates):
            self._silent[layer] = 0 if rate else self._silent[layer] + 1
        self._compare(rates)
        self._sort()
        return before != [self.number(substream) for substream in range(self.count)]

    def _compare(self, rates: Sequence[int]) -> None:
        """Count, for each pair of layers, the measurements in a row in which one rate was higher than the other."""
        for first in range(self.count):
            for second in range(first + 1, self.count):
                low, high = sorted((first, second), key=rates.__getitem__)
                if rates[low] < MIN_RATE:
                    continue
                clear = rates[high] >= RATIO * rates[low]
                self._higher[low, high] = self._higher[low, high] + 1 if clear else 0
                self._higher[high, low] = 0

    def _sort(self) -> None:
        """Exchange the places of layers that are proved to be in the wrong order."""
        order = self._order
        for place in range(self.count):
            for later in range(place + 1, self.count):
                if self._higher[order[later], order[place]] >= CONFIRMATIONS:
                    order[place], order[later] = order[later], order[place]

    def number(self, substream: int) -> int:
        """Return Janus' number for a selected layer (0: the smallest).

        If that layer has stopped, and Janus does not replace it (``is_janus_order``), return the number of the next
        smaller layer that is sent, or else of the smallest.
        """
        if self.is_janus_order:
            return substream
        wanted = min(substream, self.count - 1)
        sent = [place for place, layer in enumerate(self._order) if self._silent[layer] < STOP_MEASUREMENTS]
        lower = [place for place in sent if place <= wanted]
        return self._order[max(lower, default=min(sent, default=wanted))]
