"""Bounds the packets that are forwarded in one loop iteration, so that a keyframe does not delay signaling.

A keyframe for hundreds of subscribers is thousands of packets, each of which has to be encrypted and sent. Publishers
whose packets have to wait take turns, a packet each; the packets of one publisher stay in order. A received packet is
forwarded to all its subscribers in one iteration.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from mcu.inprocess.forwarding.rtp import RtpPacket

PACKETS_PER_ITERATION = 128  # received and sent, 1.5 ms; the packet that exceeds it still goes to all subscribers
MAX_WAITING = 512  # packets of one publisher that wait: a keyframe of 600 kB; further ones are lost

log = logging.getLogger("portunus.inprocess")

Forward: TypeAlias = Callable[[RtpPacket, float], int]


class ForwardingTurns:
    """The packets that this loop iteration may still forward, and the publishers that wait for the next ones."""

    def __init__(self) -> None:
        self.left = PACKETS_PER_ITERATION
        self._waiting: deque[ForwardingQueue] = deque()
        self._scheduled = False

    def spend(self, packets: int) -> None:
        """Count packets that were received and sent in this loop iteration."""
        self.left -= packets
        self._schedule()

    def queue(self, packets: ForwardingQueue) -> None:
        """Forward the waiting packets of a publisher in later loop iterations."""
        self._waiting.append(packets)
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        """Begin the next iteration, and forward waiting packets."""
        self._scheduled = False
        self.left = PACKETS_PER_ITERATION
        waiting = self._waiting
        while waiting and self.left > 0:
            packets = waiting.popleft()
            self.left -= packets.forward_next()
            if packets:
                waiting.append(packets)
        if waiting or self.left < PACKETS_PER_ITERATION:
            self._schedule()


class ForwardingQueue:
    """The packets of one publisher that wait.

    ``forward`` forwards a packet with the time of its arrival, and returns the number of packets that it has sent.
    """

    __slots__ = ("_faults", "_forward", "_turns", "_waiting")

    def __init__(self, turns: ForwardingTurns, forward: Forward) -> None:
        self._turns = turns
        self._forward = forward
        self._waiting: deque[tuple[RtpPacket, float]] = deque()
        self._faults = 0  # packets for which ``forward`` raised

    def __len__(self) -> int:
        return len(self._waiting)

    def receive(self, packet: RtpPacket, now: float) -> None:
        """Forward a packet at once, or in a later iteration behind the waiting packets; drop it if too many wait."""
        turns, waiting = self._turns, self._waiting
        if not waiting and turns.left > 0:
            turns.spend(1 + self._forward(packet, now))
        elif len(waiting) < MAX_WAITING:
            waiting.append((packet, now))
            if len(waiting) == 1:
                turns.queue(self)

    def forward_next(self) -> int:
        """Forward the first packet that waits; return the number of packets received and sent. Does not raise."""
        if not self._waiting:
            return 0
        packet, now = self._waiting.popleft()
        try:
            return 1 + self._forward(packet, now)
        except Exception:
            self._faults += 1
            if self._faults == 1:
                log.exception("a packet could not be forwarded; further ones of this publisher are not logged")
            return 1

    def clear(self) -> None:
        """Drop the packets that wait."""
        self._waiting.clear()
