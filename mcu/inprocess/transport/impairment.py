"""Network impairment for tests: packet loss, delay and reordering on the connections of a stream."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

MAX_DELAY = 10.0  # seconds


class StreamLeg(Enum):
    """The connections of a stream that an impairment applies to."""

    PUBLISHER = "publisher"  # between the publisher and the SFU
    SUBSCRIBERS = "subscribers"  # between the SFU and each subscriber, later ones included


@dataclass(frozen=True, slots=True)
class Impairment:
    """Loss and delay of RTP and RTCP packets, in both directions. ICE, DTLS and data channels are not impaired.

    Raises:
        ValueError: a value is out of bounds.
    """

    loss: float = 0.0  # share of the packets, 0 to 1
    delay: float = 0.0  # seconds
    jitter: float = 0.0  # seconds: the greatest additional delay, uniformly distributed from 0; reorders packets
    seed: int | None = None  # the same seed loses and delays the same packets; None = random

    def __post_init__(self) -> None:
        if not 0.0 <= self.loss <= 1.0:
            raise ValueError("loss is a share of the packets, from 0 to 1")
        if not (0.0 <= self.delay <= MAX_DELAY and 0.0 <= self.jitter <= MAX_DELAY):
            raise ValueError(f"delay and jitter are seconds, from 0 to {MAX_DELAY:g}")


class ImpairedLink:
    """One direction of an impaired connection."""

    def __init__(self, impairment: Impairment, direction: str, deliver: Callable[[bytes], object]) -> None:
        """Create a link to ``deliver``; the seed is combined with ``direction``, so that the two directions differ."""
        self._impairment = impairment
        self._deliver = deliver
        self._random = random.Random(None if impairment.seed is None else f"{impairment.seed} {direction}")

    def send(self, packet: bytes) -> bool:
        """Deliver a packet at once or after its delay, or lose it; return True: a sender does not notice a loss."""
        impairment = self._impairment
        lost = self._random.random() < impairment.loss
        delay = impairment.delay + self._random.random() * impairment.jitter
        if lost:
            return True
        if delay > 0.0:
            asyncio.get_running_loop().call_later(delay, self._deliver_delayed, packet)
        else:
            self._deliver(packet)
        return True

    def close(self) -> None:
        """Lose the packets that are still delayed, and release the receiver at once."""
        self._deliver = _discard

    def _deliver_delayed(self, packet: bytes) -> None:
        self._deliver(packet)


def _discard(packet: bytes) -> None:
    """Lose a packet."""
