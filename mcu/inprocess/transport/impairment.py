"""Lines that lose, delay and reorder what they carry, at the wish of whoever tests with this SFU."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

MAX_DELAY = 10.0  # seconds


class StreamLeg(Enum):
    """Which connections of a stream are meant."""

    PUBLISHER = "publisher"  # the one between the publisher and the SFU
    SUBSCRIBERS = "subscribers"  # those between the SFU and each subscriber, those to come included


@dataclass(frozen=True, slots=True)
class Impairment:
    """What happens to each RTP and RTCP packet, in both directions. Connectivity checks and DTLS are left alone.

    Raises:
        ValueError: a value is out of bounds.
    """

    loss: float = 0.0  # share of the packets, 0 to 1
    delay: float = 0.0  # seconds
    jitter: float = 0.0  # seconds, up to so much more, evenly distributed: packets overtake one another
    seed: int | None = None  # the same seed loses and delays the same packets; None = drawn

    def __post_init__(self) -> None:
        if not 0.0 <= self.loss <= 1.0:
            raise ValueError("loss is a share of the packets, from 0 to 1")
        if not (0.0 <= self.delay <= MAX_DELAY and 0.0 <= self.jitter <= MAX_DELAY):
            raise ValueError(f"delay and jitter are seconds, from 0 to {MAX_DELAY:g}")


class ImpairedLink:
    """One direction of a connection that is impaired."""

    def __init__(self, impairment: Impairment, direction: str, deliver: Callable[[bytes], object]) -> None:
        self._impairment = impairment
        self._deliver = deliver
        self._chance = random.Random(None if impairment.seed is None else f"{impairment.seed} {direction}")

    def carry(self, data: bytes) -> bool:
        """Deliver a packet, now, later or never."""
        impairment = self._impairment
        lost = self._chance.random() < impairment.loss
        wait = impairment.delay + self._chance.random() * impairment.jitter
        if lost:
            return True
        if wait > 0.0:
            asyncio.get_running_loop().call_later(wait, self._arrive, data)
        else:
            self._deliver(data)
        return True

    def close(self) -> None:
        """Deliver nothing more, and let go of who would have got it: packets may be on the way for long."""
        self._deliver = _drop

    def _arrive(self, data: bytes) -> None:
        self._deliver(data)


def _drop(data: bytes) -> None:
    """Lose a packet."""
