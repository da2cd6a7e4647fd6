"""One medium on its way to one subscriber: sequence numbers of its own, retransmission, mute.

Timestamps and SSRC are the ingress's, so that everything behind the header is the same for all subscribers.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Protocol

from mcu.inprocess import rtp
from mcu.inprocess.agreement import Accepted

if TYPE_CHECKING:
    from mcu.inprocess.ingress import Ingress, Stored

MAX_REPAIRS = 500  # packets sent again per second: more is no loss but a client that makes us send
FIRST_SEQUENCE = 0x4000  # start below: a receiver that misses the first packets cannot mistake the SRTP rollover
BEHIND = 0x4000  # packets that one may come late: more than are kept, and far from where the numbers' order turns
_HEAD = rtp.VERSION_BITS | rtp.EXTENSION_BIT


class Way(Protocol):
    """How packets leave."""

    def send_rtp(self, packet: bytes) -> bool:
        """Encrypt and send."""

    def send_rtcp(self, packet: bytes) -> bool:
        """Encrypt and send a compound packet."""


class Sink:
    """Forwards what an ingress takes in, once ``accept`` says how and ``start`` that it may."""

    def __init__(self, ingress: Ingress, way: Way) -> None:
        self.ingress = ingress
        self._way = way
        self._accepted: Accepted | None = None
        self._format: tuple[str, int, str] | None = None
        self._started = False
        self._entered = False
        self._muted = False
        self._shift: int | None = None  # added to the ingress's sequence numbers
        self._next = random.randrange(FIRST_SEQUENCE)
        self._oldest = 0  # sequence number of ours before which nothing is sent, at most ``BEHIND`` before ``_next``
        self._rtx_next = random.randrange(FIRST_SEQUENCE)
        self._repairs = 0  # packets sent again since ``_repairs_since``
        self._repairs_since = 0.0
        self.packets = 0
        self.octets = 0
        self.lost: int | None = None  # packets, as the subscriber says
        self.fraction = 0  # lost lately, in 1/256
        self.round_trip: float | None = None  # seconds
        self._report_sent = (0, 0.0)  # middle of the NTP time, and when

    @property
    def open(self) -> bool:
        """Whether packets are forwarded."""
        return (
            self._started
            and not self._muted
            and self._accepted is not None
            and self._accepted.receives
            and self._format == self.ingress.codec.format
        )

    def accept(self, accepted: Accepted) -> None:
        """Take what the subscriber's answer says."""
        self._accepted = accepted
        self._format = self.ingress.codec.format
        self.review()

    def start(self) -> None:
        """Forward from now on: the connection is up."""
        self._started = True
        self.review()

    def mute(self, muted: bool) -> None:
        """Stop or resume forwarding, at the subscriber's wish."""
        self._muted = muted
        self.review()

    def close(self) -> None:
        """Forward nothing more."""
        self._started = False
        self.review()

    def review(self) -> None:
        """Begin or end to forward, as things stand now."""
        if not self.open:
            self._entered = False
            self.ingress.leave(self)
        elif not self._entered:
            self._entered = True
            self._shift = None
            self.ingress.enter(self)

    def forward(self, stored: Stored) -> None:
        """Send one packet."""
        if self._shift is None:
            self._shift = self._next - stored.sequence
            self._oldest = self._next
        sequence = stored.sequence + self._shift & 0xFFFF
        following = sequence + 1 & 0xFFFF
        if rtp.newer(following, self._next):
            self._next = following
            if following - self._oldest & 0xFFFF > BEHIND:
                self._oldest = following - BEHIND & 0xFFFF
        elif rtp.newer(self._oldest, sequence):
            return  # came late, from before we began or were muted
        accepted = self._accepted
        if accepted is None:
            return
        header = rtp.HEADER.pack(
            _HEAD | stored.flags,
            stored.marker | accepted.payload_type,
            sequence,
            stored.timestamp,
            self.ingress.ssrc,
        )
        if self._way.send_rtp(header + stored.extension + stored.payload):
            self.packets += 1
            self.octets += len(stored.payload)

    def retransmit(self, sequences: list[int]) -> None:
        """Answer a NACK: send again what the ingress still has, and let it ask for the rest."""
        if self._shift is None or self._accepted is None:
            return
        now = time.monotonic()
        if now - self._repairs_since >= 1.0:
            self._repairs_since, self._repairs = now, 0
        for sequence in sequences:
            if self._repairs >= MAX_REPAIRS:
                return
            if rtp.newer(self._oldest, sequence) or not rtp.newer(self._next, sequence):
                continue
            stored = self.ingress.recall(sequence - self._shift & 0xFFFF)
            if stored is not None:
                self._repairs += 1
                self._repeat(stored, sequence, self._accepted)

    def _repeat(self, stored: Stored, sequence: int, accepted: Accepted) -> None:
        flags = _HEAD | stored.flags
        if accepted.rtx_payload_type is None:
            second = stored.marker | accepted.payload_type
            header = rtp.HEADER.pack(flags, second, sequence, stored.timestamp, self.ingress.ssrc)
            self._way.send_rtp(header + stored.extension + stored.payload)
            return
        second = stored.marker | accepted.rtx_payload_type
        header = rtp.HEADER.pack(flags, second, self._rtx_next, stored.timestamp, self.ingress.rtx_ssrc)
        self._rtx_next = self._rtx_next + 1 & 0xFFFF
        original = sequence.to_bytes(2, "big")
        self._way.send_rtp(header + stored.extension + original + stored.payload)

    def report(self, ntp: int, timestamp: int, cname: str) -> None:
        """Send a sender report with the publisher's clock, by which the subscriber keeps lips and voice together."""
        ssrc = self.ingress.ssrc
        counters = self.packets & 0xFFFFFFFF, self.octets & 0xFFFFFFFF
        report = rtp.sender_report(rtp.SenderReport(ssrc, ntp, timestamp, *counters))
        self._way.send_rtcp(report + rtp.source_description(ssrc, cname))
        self._report_sent = ntp >> 16 & 0xFFFFFFFF, time.monotonic()

    def heard(self, block: rtp.Block) -> None:
        """Take the subscriber's report of what it receives."""
        self.lost = block.lost
        self.fraction = block.fraction
        middle, sent = self._report_sent
        if block.last_report and block.last_report == middle:
            self.round_trip = max(0.0, time.monotonic() - sent - block.delay / 65536)
