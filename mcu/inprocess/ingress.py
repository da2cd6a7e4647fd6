"""One medium as it comes from its publisher: order, repair, keyframe requests, and the fan-out to the sinks.

All subscribers get the same SSRC, timestamps, header extensions and payload, so that a packet is made once and only
its first twelve bytes per subscriber. The numbers that subscribers see go on without a break when the publisher
changes its SSRC.

Source: RFC 3550 A.1, A.3 and A.8 (statistics), RFC 4585 (feedback), RFC 4588 (retransmission).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import NamedTuple

from mcu.base import Kind
from mcu.inprocess import rtp
from mcu.inprocess.agreement import ABS_SEND_TIME, AUDIO_LEVEL, EXTENSIONS, MID, ORIENTATION, Codec, Medium
from mcu.inprocess.arrival import Arrival
from mcu.inprocess.sink import Sink

HISTORY = 1024  # packets kept for retransmission, a power of two: 8 s of 1 Mbit/s video, 20 s of audio
KEYFRAME_INTERVAL = 0.3  # seconds between two keyframe requests
SILENCE = 1.0  # seconds after which another SSRC may take the place of one that is not heard any more


class Stored(NamedTuple):
    """A packet as every sink forwards it, its header apart."""

    sequence: int
    timestamp: int
    flags: int
    marker: int
    extension: bytes
    payload: bytes


class Ingress:
    """Takes the packets of one medium; ``send_rtcp`` reaches the publisher."""

    def __init__(self, medium: Medium, mid: str, reporter: int, cname: str, send_rtcp: Callable[[bytes], bool]) -> None:
        if medium.codec is None:
            raise ValueError("not a medium of RTP")
        self.kind: Kind = medium.kind
        self.mid = mid
        self.cname = cname
        self.reporter = reporter  # our SSRC in feedback to the publisher
        self.ssrc = random.getrandbits(32)
        self.rtx_ssrc = self.ssrc ^ 1
        self.codec: Codec = medium.codec
        self.sends = medium.sends
        self.octets = 0  # payload bytes since the connection began
        self.heard_at: float | None = None  # monotonic
        self._send_rtcp = send_rtcp
        self._sinks: tuple[Sink, ...] = ()
        self._history: list[Stored | None] = [None] * HISTORY
        self._source: int | None = None  # the publisher's SSRC
        self._rtx_source: int | None = None
        self._others: frozenset[int] = frozenset()
        self._join = False  # the next packet begins another SSRC
        self._shift = 0  # added to the publisher's sequence numbers
        self._time_shift = 0  # added to the publisher's timestamps
        self._last: Stored | None = None  # the newest
        self._keyframe_asked = -KEYFRAME_INTERVAL
        self._keyframe_wanted = False
        self._clock: tuple[int, int, float] | None = None  # NTP time, timestamp and arrival of the last SR
        self._extension_ids: dict[str, int] = {}
        self._passed_on: tuple[int, int] | None = None  # theirs and ours, of the element that goes on as it is
        self._static = (EXTENSIONS[self.kind.value][MID], mid.encode())
        self._nacks = False
        self.arrival = Arrival(self.codec.payload.clock_rate)
        self.update(medium)

    def update(self, medium: Medium) -> None:
        """Take what a renegotiation changed."""
        if medium.codec is None:
            raise ValueError("not a medium of RTP")
        self.codec = medium.codec
        self.sends = medium.sends
        self._nacks = "nack" in medium.codec.feedback
        self._extension_ids = medium.extensions
        uri = AUDIO_LEVEL if self.kind is Kind.AUDIO else ORIENTATION
        theirs = medium.extensions.get(uri)
        self._passed_on = None if theirs is None else (theirs, EXTENSIONS[self.kind.value][uri])
        self._others = medium.others
        if medium.ssrc is not None:
            if self._source is not None and medium.ssrc != self._source:
                self._begin(medium.ssrc)
            self._source = medium.ssrc
            self._rtx_source = medium.rtx_ssrc
        for sink in self._sinks:
            sink.review()

    @property
    def mid_ident(self) -> int | None:
        """The number of the publisher's header extension with its mid."""
        return self._extension_ids.get(MID)

    def carries(self, payload_type: int) -> bool:
        """Whether a payload type is this medium's."""
        codec = self.codec
        return payload_type == codec.payload.type or (codec.rtx is not None and payload_type == codec.rtx.type)

    @property
    def sources(self) -> list[int]:
        """The publisher's SSRCs, its retransmission's last."""
        return [ssrc for ssrc in (self._source, self._rtx_source) if ssrc is not None]

    @property
    def source(self) -> int | None:
        """The publisher's SSRC, once it is known."""
        return self._source

    def claims(self, packet: rtp.Packet, now: float) -> bool:
        """Whether a packet of an SSRC that nobody knows belongs here; if so it is known from now on."""
        if packet.ssrc in self._others:
            return False
        if packet.payload_type == self.codec.payload.type:
            silent = self.heard_at is None or now - self.heard_at > SILENCE
            if self._source is not None and not silent:
                return False  # a further layer of simulcast, which nobody asked for
            if self._source is not None:
                self._begin(packet.ssrc)
            self._source = packet.ssrc
            return True
        if self.codec.rtx is not None and packet.payload_type == self.codec.rtx.type and self._rtx_source is None:
            self._rtx_source = packet.ssrc
            return True
        return False

    def receive(self, packet: rtp.Packet, now: float) -> None:
        """Forward one packet of a known SSRC."""
        if packet.ssrc == self._rtx_source:
            if self._join:
                return
            repaired = self._unwrap(packet)
            if repaired is None:
                return
            packet = repaired
        elif packet.payload_type != self.codec.payload.type:
            return
        else:
            if self._join:
                self._bridge(packet, now)
            self.arrival.count(packet.sequence, packet.timestamp, now)
        sequence = packet.sequence + self._shift & 0xFFFF
        known = self._history[sequence & HISTORY - 1]
        if known is not None and known.sequence == sequence:
            return  # arrived twice
        self.heard_at = now
        self.octets += len(packet.payload)
        stored = Stored(
            sequence,
            packet.timestamp + self._time_shift & 0xFFFFFFFF,
            packet.flags,
            packet.marker,
            self._extension(packet),
            packet.payload,
        )
        self._history[sequence & HISTORY - 1] = stored
        if self._last is None or rtp.newer(sequence, self._last.sequence):
            self._last = stored
        for sink in self._sinks:
            sink.forward(stored)
        if self._nacks:
            self._repair(now)

    def _unwrap(self, packet: rtp.Packet) -> rtp.Packet | None:
        """Take the original out of a retransmission; ``None`` for one that holds none, sent to probe the way."""
        if self._source is None or len(packet.payload) < 2 + bool(packet.flags):
            return None
        original = int.from_bytes(packet.payload[:2], "big")
        payload = packet.payload[2:]
        if packet.flags and payload[-1] >= len(payload):
            return None
        self.arrival.repaired(original)
        return packet._replace(
            payload_type=self.codec.payload.type, sequence=original, ssrc=self._source, payload=payload
        )

    def _extension(self, packet: rtp.Packet) -> bytes:
        elements = [self._static]
        if self.kind is Kind.VIDEO:
            moment = int(time.time() * (1 << 18)) & 0xFFFFFF
            elements.append((EXTENSIONS["video"][ABS_SEND_TIME], moment.to_bytes(3, "big")))
        if packet.profile and self._passed_on is not None:
            theirs, ours = self._passed_on
            value = rtp.element(packet, theirs)
            if value:
                elements.append((ours, value[:1]))
        return rtp.extension_block(elements)

    def _repair(self, now: float) -> None:
        """Ask the publisher for what is missing."""
        if self.arrival.broken:
            self.arrival.broken = False
            self.request_keyframe(now)
        missing = self.arrival.due(now)
        if missing and self._source is not None:
            self._send_rtcp(rtp.nack(self.reporter, self._source, missing))

    def _begin(self, ssrc: int) -> None:
        """Go on with another SSRC where the last one ended."""
        self._source, self._rtx_source = ssrc, None
        self.arrival = Arrival(self.codec.payload.clock_rate)
        self._clock = None
        self._join = self._last is not None

    def _bridge(self, packet: rtp.Packet, now: float) -> None:
        """Give the first packet of another SSRC the next number, and a timestamp as far ahead as time has passed."""
        self._join = False
        if self._last is None or self.heard_at is None:
            return
        passed = max(1, int((now - self.heard_at) * self.codec.payload.clock_rate))
        self._shift = self._last.sequence + 1 - packet.sequence
        self._time_shift = self._last.timestamp + passed - packet.timestamp
        self.request_keyframe(now)

    def recall(self, sequence: int) -> Stored | None:
        """Return a packet that was forwarded; if it never came, ask the publisher for it."""
        stored = self._history[sequence & HISTORY - 1]
        if stored is not None and stored.sequence == sequence:
            return stored
        original = sequence - self._shift & 0xFFFF
        if self._nacks and self._source is not None and self.arrival.want(original, time.monotonic()):
            self._send_rtcp(rtp.nack(self.reporter, self._source, [original]))
        return None

    def request_keyframe(self, now: float) -> None:
        """Ask the publisher for a keyframe, now or as soon as the last request is long enough ago (see ``tick``)."""
        if self.kind is not Kind.VIDEO:
            return
        if self._source is None or now - self._keyframe_asked < KEYFRAME_INTERVAL:
            self._keyframe_wanted = True
            return
        self._keyframe_asked = now
        self._keyframe_wanted = False
        self._send_rtcp(rtp.pli(self.reporter, self._source))

    def tick(self, now: float) -> None:
        """Do what had to wait; to be called a few times per second."""
        if self._keyframe_wanted:
            self.request_keyframe(now)
        if self._nacks:
            self._repair(now)

    def report(self, report: rtp.SenderReport, now: float) -> None:
        """Pass the publisher's clock on to every subscriber."""
        if report.ssrc != self._source:
            return
        self._clock = report.ntp, report.timestamp, now
        for sink in self._sinks:
            sink.report(report.ntp, report.timestamp + self._time_shift & 0xFFFFFFFF, self.cname)

    def receiver_block(self, now: float) -> rtp.Block | None:
        """Return what to report to the publisher; what its subscribers lose is part of it.

        Of audio the worst loss counts: the publisher's error correction then serves whoever needs it. Of video the
        median of the better half does, so that one bad line does not take the picture from everybody.
        """
        if self._source is None:
            return None
        fractions = sorted(sink.fraction for sink in self._sinks)
        below = 0
        if fractions:
            below = fractions[-1] if self.kind is Kind.AUDIO else fractions[(len(fractions) - 1) // 2]
        last_report, delay = 0, 0
        if self._clock is not None:
            last_report = self._clock[0] >> 16 & 0xFFFFFFFF
            delay = min(int((now - self._clock[2]) * 65536), 0xFFFFFFFF)
        return self.arrival.block(self._source, last_report, delay, below)

    def enter(self, sink: Sink) -> None:
        """Forward to ``sink`` too, beginning with a keyframe and the publisher's clock."""
        if sink not in self._sinks:
            self._sinks = (*self._sinks, sink)
        now = time.monotonic()
        if self._clock is not None:
            ntp, timestamp, since = self._clock
            passed = now - since
            ahead = timestamp + self._time_shift + int(passed * self.codec.payload.clock_rate)
            sink.report(ntp + int(passed * (1 << 32)), ahead & 0xFFFFFFFF, self.cname)
        self.request_keyframe(now)

    def leave(self, sink: Sink) -> None:
        """Forward to ``sink`` no more."""
        self._sinks = tuple(other for other in self._sinks if other is not sink)
