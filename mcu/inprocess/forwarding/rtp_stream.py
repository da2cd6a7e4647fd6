"""One RTP stream of a medium as it comes from the publisher: order, repair, history, fan-out to the down tracks.

A medium has one, with simulcast one per layer. A packet is made once, and only its header per subscriber. The numbers
that down tracks get are extended, so that they do not wrap, and go on without a break when the publisher changes its
SSRC.

Source: RFC 3550 A.1, A.3 and A.8 (statistics), RFC 4585 (feedback), RFC 4588 (retransmission).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from mcu.base import MediaKind
from mcu.inprocess.forwarding import rtcp, rtp
from mcu.inprocess.forwarding.payload_descriptor import Vp8Descriptor, begins_keyframe, read_vp8
from mcu.inprocess.forwarding.reception_statistics import ReceptionStatistics
from mcu.inprocess.negotiation.parameters import OfferedStream

if TYPE_CHECKING:
    from mcu.inprocess.forwarding.down_track import DownTrack
    from mcu.inprocess.forwarding.receive_track import ReceiveTrack

HISTORY = 1024  # packets kept for retransmission, a power of two: 8 s of 1 Mbit/s video, 20 s of audio
MAX_KEPT = 2 << 20  # bytes of payloads among them: enough for each to be as long as a link's packet
CLOCK_INTERVAL = 0.1  # seconds between two reports that go on: one packet may hold thousands, each goes to everybody
SILENCE = 1.0  # seconds after which another SSRC may take the place of one that is not heard any more


class StoredPacket(NamedTuple):
    """A packet as every down track forwards it, its header apart."""

    number: int  # extended
    timestamp: int
    flags: int
    marker: int
    extension: bytes
    payload: bytes
    at: float  # when it came, monotonic
    picture: Vp8Descriptor | None  # where numbers or layers have to be looked at


class RtpStream:
    """Takes the packets of one SSRC and its retransmission."""

    def __init__(self, track: ReceiveTrack, source: OfferedStream) -> None:
        self.track = track
        self.kind = track.kind
        self.name = source.name
        self.source: int | None = None  # the publisher's SSRC
        self.rtx_source: int | None = None
        self.packets = 0
        self.octets = 0  # of payloads
        self.repaired = 0  # packets that came first as a retransmission
        self.keyframe_requests = 0
        self.heard_at: float | None = None  # monotonic
        self.arrival = ReceptionStatistics(track.codec.payload.clock_rate)
        self._lost_before = 0  # packets of SSRCs that came before this one
        self._down_tracks: tuple[DownTrack, ...] = ()
        self._waiting: tuple[DownTrack, ...] = ()  # for a keyframe
        self._history: list[StoredPacket | None] = [None] * HISTORY
        self._kept = 0  # bytes of payloads in the history
        self._join = False  # the next packet begins another SSRC
        self._first = 0  # number that the SSRC began with, where another one came before it
        self._shift = 0  # added to the publisher's sequence numbers
        self._time_shift = 0  # added to the publisher's timestamps
        self._last: StoredPacket | None = None  # the newest
        self._clock: tuple[int, int, float] | None = None  # NTP time, timestamp and arrival of the last SR
        self._told_at = -CLOCK_INTERVAL  # monotonic, of the last that went on
        self.update(source)

    @property
    def lost(self) -> int:
        """Packets that never arrived on their own."""
        return self._lost_before + self.arrival.lost

    def update(self, source: OfferedStream) -> None:
        """Take what a description says of the SSRCs."""
        if source.ssrc is None:
            return
        if self.source is not None and source.ssrc != self.source:
            self._begin(source.ssrc)
        self.source = source.ssrc
        self.rtx_source = source.rtx_ssrc

    def claims(self, packet: rtp.RtpPacket, now: float, *, named: bool) -> bool:
        """Whether a packet of an SSRC that nobody knows belongs here; if so it is known from now on.

        ``named`` tells that the packet says so itself, by the name of its layer.
        """
        codec = self.track.codec
        if packet.payload_type == codec.payload.type:
            silent = self.heard_at is None or now - self.heard_at > SILENCE
            if self.source is not None and not (silent or named):
                return False
            if self.source is not None:
                self._begin(packet.ssrc)
            self.source = packet.ssrc
            return True
        if codec.rtx is not None and packet.payload_type == codec.rtx.type and (named or self.rtx_source is None):
            self.rtx_source = packet.ssrc
            return True
        return False

    def receive(self, packet: rtp.RtpPacket, now: float) -> None:
        """Forward one packet of a known SSRC."""
        track = self.track
        again = packet.ssrc == self.rtx_source
        if again:
            if self._join:
                return
            unwrapped = self._unwrap(packet)
            if unwrapped is None:
                return
            packet = unwrapped
        elif packet.payload_type != track.codec.payload.type:
            return
        else:
            if self._join:
                self._bridge(packet, now)
            self.arrival.count(packet.sequence, packet.timestamp, now)
        number = packet.sequence + self._shift
        last = self._last
        if last is not None:
            ahead = number - last.number & 0xFFFF
            number = last.number + (ahead if ahead < 0x8000 else ahead - 0x10000)
        known = self._history[number & HISTORY - 1]
        if known is not None and known.number >= number:
            return  # arrived twice, or from before all that is kept
        self.heard_at = now
        self.packets += 1
        size = len(packet.payload)
        self.octets += size
        self._kept += size if known is None else size - len(known.payload)
        if again:
            self.repaired += 1
        stored = StoredPacket(
            number,
            packet.timestamp + self._time_shift & 0xFFFFFFFF,
            packet.flags,
            packet.marker,
            track.extension(packet),
            packet.payload,
            now,
            read_vp8(packet.payload) if track.inspects else None,
        )
        self._history[number & HISTORY - 1] = stored
        if self._kept > MAX_KEPT:
            self._forget(stored)
        if last is None or number > last.number:
            self._last = stored
        if self._waiting and begins_keyframe(track.codec.payload.codec, packet.payload):
            for down_track in self._waiting:
                down_track.follow(self, stored)
        for down_track in self._down_tracks:
            down_track.forward(stored)
        if track.nacks:
            self.repair(now)

    def _forget(self, newest: StoredPacket) -> None:
        """Keep none but the newest packet; what is older does not count any more if it comes now."""
        self._history = [newest._replace(payload=b"")] * HISTORY
        self._history[newest.number & HISTORY - 1] = newest
        self._kept = len(newest.payload)

    def _unwrap(self, packet: rtp.RtpPacket) -> rtp.RtpPacket | None:
        """Take the original out of a retransmission; ``None`` for one that holds none, sent to probe the way."""
        if self.source is None or len(packet.payload) < 2 + bool(packet.flags):
            return None
        original = int.from_bytes(packet.payload[:2], "big")
        payload = packet.payload[2:]
        if packet.flags and payload[-1] >= len(payload):
            return None
        self.arrival.repaired(original)
        return packet._replace(
            payload_type=self.track.codec.payload.type, sequence=original, ssrc=self.source, payload=payload
        )

    def repair(self, now: float) -> None:
        """Ask the publisher for what is missing."""
        if self.arrival.broken:
            self.arrival.broken = False
            self.request_keyframe(now)
        missing = self.arrival.due(now)
        if missing and self.source is not None:
            self.track.feedback.nack(self.source, missing)

    def _begin(self, ssrc: int) -> None:
        """Go on with another SSRC where the last one ended."""
        self.source, self.rtx_source = ssrc, None
        self._lost_before += self.arrival.lost
        self.arrival = ReceptionStatistics(self.track.codec.payload.clock_rate)
        self._clock = None
        self._join = self._last is not None

    def _bridge(self, packet: rtp.RtpPacket, now: float) -> None:
        """Give the first packet of another SSRC the next number, and a timestamp as far ahead as time has passed."""
        self._join = False
        if self._last is None or self.heard_at is None:
            return
        passed = max(1, int((now - self.heard_at) * self.track.codec.payload.clock_rate))
        self._first = self._last.number + 1
        self._shift = self._first - packet.sequence
        self._time_shift = self._last.timestamp + passed - packet.timestamp
        self.request_keyframe(now)

    def recall(self, number: int) -> StoredPacket | None:
        """Return a packet that was forwarded; if it never came, ask the publisher for it."""
        stored = self._history[number & HISTORY - 1]
        if stored is not None and stored.number == number:
            return stored
        if number < self._first or self._join:
            return None  # of an SSRC that is gone
        original = number - self._shift & 0xFFFF
        if self.track.nacks and self.source is not None and self.arrival.want(original, time.monotonic()):
            self.track.feedback.nack(self.source, [original])
        return None

    def request_keyframe(self, now: float) -> None:
        """Ask the publisher for a keyframe."""
        if self.kind is MediaKind.VIDEO:
            self.track.feedback.request_keyframe(self, now)

    def report(self, report: rtcp.SenderReport, now: float) -> None:
        """Pass the publisher's clock on to every subscriber."""
        if report.ssrc != self.source:
            return
        self._clock = report.ntp, report.timestamp, now
        if self._join or now - self._told_at < CLOCK_INTERVAL:
            return  # how another SSRC's time goes on from ours is known with its first packet
        self._told_at = now
        for down_track in self._down_tracks:
            down_track.report(report.ntp, report.timestamp + self._time_shift)

    def receiver_block(self, now: float) -> rtcp.ReportBlock | None:
        """Return what to report to the publisher; what its subscribers lose is part of it.

        Of audio the worst loss counts: the publisher's error correction then serves whoever needs it. Of video the
        median of the better half does, so that one bad line does not take the picture from everybody.
        """
        if self.source is None:
            return None
        fractions = sorted(down_track.fraction for down_track in self._down_tracks)
        below = 0
        if fractions:
            below = fractions[-1] if self.kind is MediaKind.AUDIO else fractions[(len(fractions) - 1) // 2]
        last_report, delay = 0, 0
        if self._clock is not None:
            last_report = self._clock[0] >> 16 & 0xFFFFFFFF
            delay = min(int((now - self._clock[2]) * 65536), 0xFFFFFFFF)
        return self.arrival.block(self.source, last_report, delay, below)

    def enter(self, down_track: DownTrack) -> None:
        """Forward to ``down_track`` too."""
        if down_track not in self._down_tracks:
            self._down_tracks = (*self._down_tracks, down_track)

    def tell_clock(self, down_track: DownTrack, now: float) -> None:
        """Send ``down_track`` a report with the publisher's clock as it stands now."""
        if self._clock is not None and not self._join:
            ntp, timestamp, since = self._clock
            passed = now - since
            ahead = timestamp + self._time_shift + int(passed * self.track.codec.payload.clock_rate)
            down_track.report(ntp + int(passed * (1 << 32)) & 0xFFFFFFFFFFFFFFFF, ahead)  # NTP's era ends in 2036

    def wait(self, down_track: DownTrack) -> None:
        """Call ``down_track.follow`` when the next keyframe begins."""
        if down_track not in self._waiting:
            self._waiting = (*self._waiting, down_track)

    def leave(self, down_track: DownTrack) -> None:
        """Forward to ``down_track`` no more, and call it no more."""
        self._down_tracks = tuple(other for other in self._down_tracks if other is not down_track)
        self._waiting = tuple(other for other in self._waiting if other is not down_track)
