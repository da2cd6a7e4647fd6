"""One medium on its way to one subscriber: the layer it gets, numbers of its own, retransmission, mute.

SSRC and header extensions are the track's, so that everything behind the header is the same for all subscribers.
With simulcast one rtp_stream at a time is forwarded, and another one takes over where its keyframe begins. Of VP8's
temporal layers those above the chosen one are left out.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from mcu.base import MediaSelection
from mcu.inprocess.forwarding import rtcp, rtp
from mcu.inprocess.forwarding.payload_descriptor import TOP, renumber_vp8
from mcu.inprocess.forwarding.rtp_rewriter import FIRST_SEQUENCE, OffsetSegment, RtpRewriter
from mcu.inprocess.negotiation.parameters import AcceptedSection

if TYPE_CHECKING:
    from mcu.inprocess.forwarding.receive_track import ReceiveTrack
    from mcu.inprocess.forwarding.rtp_stream import RtpStream, StoredPacket

MAX_REPAIRS = 500  # packets sent again per second: more is no loss but a client that makes us send
MAX_ASKED = 4 * MAX_REPAIRS  # numbers looked up per second for the same reason
HIGHEST = 1 << 16  # as a substream: the best there is
ASK_AGAIN = 1.0  # seconds after which a keyframe that another layer waits for is asked for again
_HEAD = rtp.VERSION_BITS | rtp.EXTENSION_BIT


class PacketSender(Protocol):
    """How packets leave."""

    def send_rtp(self, packet: bytes) -> bool:
        """Encrypt and send."""

    def send_rtcp(self, packet: bytes) -> bool:
        """Encrypt and send a compound packet."""


class DownTrack:
    """Forwards what a track takes in, once ``accept`` says how and ``start`` that it may."""

    def __init__(self, track: ReceiveTrack, way: PacketSender) -> None:
        self.track = track
        self._way = way
        self._accepted: AcceptedSection | None = None
        self._format: tuple[str, int, str] | None = None
        self._started = False
        self._entered = False
        self._muted = False
        self._substream = HIGHEST
        self._temporal = TOP
        self._thinned = False  # whether temporal layers were ever to be left out
        self._reached = TOP  # the temporal layer forwarded now
        self._frame = -1  # timestamp of the newest picture
        self._left_out: int | None = None  # number of the last picture of a temporal layer that was left out
        self.source: RtpStream | None = None  # forwarded now
        self._next_source: RtpStream | None = None  # to be forwarded from its next keyframe on
        self._asked_at = 0.0
        self._rewriter = RtpRewriter()
        self._run: OffsetSegment | None = None
        self._newest: StoredPacket | None = None  # that was forwarded
        self._highest = -1  # the source's number up to which is forwarded or left out
        self._rtx_next = self._rewriter.next ^ FIRST_SEQUENCE >> 1
        self._repairs_now = 0  # packets sent again since ``_repairs_since``
        self._asked_now = 0  # and numbers looked up
        self._repairs_since = 0.0
        self.packets = 0
        self.octets = 0
        self.repairs = 0  # packets sent again
        self.keyframe_requests = 0  # of the subscriber
        self.lost: int | None = None  # packets, as the subscriber says
        self.fraction = 0  # lost lately, in 1/256
        self.round_trip: float | None = None  # seconds
        self.estimate: int | None = None  # bit/s that the subscriber thinks it can take
        self._report_sent = (0, 0.0)  # middle of the NTP time, and when

    @property
    def open(self) -> bool:
        """Whether packets are forwarded."""
        return (
            self._started
            and not self._muted
            and self._accepted is not None
            and self._accepted.receives
            and self._format == self.track.codec.format
        )

    @property
    def thins(self) -> bool:
        """Whether temporal layers are to be left out."""
        return self._temporal < TOP

    @property
    def substream(self) -> int | None:
        """The layer that is forwarded, 0 = lowest; ``None`` where nothing is."""
        rtp_streams = self.track.rtp_streams
        return rtp_streams.index(self.source) if self.source in rtp_streams else None

    def accept(self, accepted: AcceptedSection) -> None:
        """Take what the subscriber's answer says."""
        self._accepted = accepted
        self._format = self.track.codec.format
        self.review()

    def start(self) -> None:
        """Forward from now on: the connection is up."""
        self._started = True
        self.review()

    def mute(self, muted: bool) -> None:
        """Stop or resume forwarding, at the subscriber's wish."""
        self._muted = muted
        self.review()

    def select(self, layer: MediaSelection) -> None:
        """Choose simulcast and temporal layer; one that is not there, or that this codec has not, means the best."""
        if layer.substream is not None:
            self._substream = max(0, layer.substream)
        if layer.temporal is not None:
            self._temporal = min(max(0, layer.temporal), TOP)
            self._thinned = self._thinned or self.thins
        if self._entered:
            self.track.look()
            self.pursue(time.monotonic())

    def close(self) -> None:
        """Forward nothing more."""
        self._started = False
        self.review()

    def review(self) -> None:
        """Begin or end to forward, as things stand now."""
        if not self.open:
            self.restart()
            if self._entered:
                self._entered = False
                self.track.leave(self)
        elif not self._entered:
            self._entered = True
            self.track.enter(self)
            self.pursue(time.monotonic())
        elif self.source is None:
            self.pursue(time.monotonic())

    def restart(self) -> None:
        """Forward nothing until an RTP stream is chosen anew; the numbers then go on."""
        for rtp_stream in filter(None, (self.source, self._next_source)):
            rtp_stream.leave(self)
        self.source = self._next_source = self._run = None

    def pursue(self, now: float) -> None:
        """Have the RTP stream that is wanted: one that is alone at once, a layer from its next keyframe on."""
        wanted = self.track.choose(self._substream)
        if wanted is self.source:
            wanted = None
        if wanted is None or not self.track.layered:
            self._wait_for(None)
            if wanted is not None:
                self.source = wanted
                wanted.enter(self)
                wanted.tell_clock(self, now)
                wanted.request_keyframe(now)
        elif wanted is not self._next_source or now - self._asked_at >= ASK_AGAIN:
            self._wait_for(wanted)
            self._asked_at = now
            wanted.request_keyframe(now)

    def _wait_for(self, rtp_stream: RtpStream | None) -> None:
        if self._next_source is not None and self._next_source is not rtp_stream:
            self._next_source.leave(self)
        self._next_source = rtp_stream
        if rtp_stream is not None:
            rtp_stream.wait(self)

    def follow(self, rtp_stream: RtpStream, stored: StoredPacket) -> None:
        """Go on with another RTP stream, of which a keyframe begins with this packet."""
        if self.source is not None:
            self.source.leave(self)
        rtp_stream.leave(self)
        rtp_stream.enter(self)
        self.source, self._next_source = rtp_stream, None
        self._run = self._bridge(rtp_stream, stored)
        rtp_stream.tell_clock(self, stored.at)

    def _bridge(self, rtp_stream: RtpStream, stored: StoredPacket) -> OffsetSegment:
        """Begin a run with the next number, the next picture, and a timestamp as far ahead as time has passed."""
        self._highest = stored.number - 1
        last, newest = self._rewriter.last, self._newest
        if last is None or newest is None:
            return self._rewriter.begin(rtp_stream, stored.number)
        passed = max(1, int((stored.at - newest.at) * self.track.codec.payload.clock_rate))
        times = newest.timestamp + last.time_shift + passed - stored.timestamp
        pictures = levels = 0
        one, other = newest.picture, stored.picture
        if one is not None and other is not None:
            pictures = last.picture_shift + 1 + (one.picture or 0) - (other.picture or 0)
            levels = last.level_shift + 1 + (one.level or 0) - (other.level or 0)
        return self._rewriter.begin(rtp_stream, stored.number, times, pictures, levels)

    def _resume(self, stored: StoredPacket) -> OffsetSegment:
        """Begin a run of the only RTP stream, whose timestamps go on as they are."""
        self._highest = stored.number - 1
        source, last = self.source, self._rewriter.last
        if source is None:
            raise RuntimeError("a packet of nowhere")
        if last is None or last.source is not source:
            return self._bridge(source, stored)
        return self._rewriter.begin(source, stored.number, last.time_shift, last.picture_shift, last.level_shift)

    def forward(self, stored: StoredPacket) -> None:
        """Send one packet of the RTP stream that is forwarded."""
        run = self._run
        if run is None:
            run = self._run = self._resume(stored)
        number = stored.number
        if number > self._highest:
            if stored.picture is not None and self._is_above(stored):
                self._highest = number
                return
            self._highest = number
            self._newest = stored
            self._rewriter.next = number + run.shift + 1
        elif number < run.first:
            earlier = self._rewriter.late(number)
            if earlier is None:
                return  # came late, from before we began or were muted
            run = earlier
            self._rewriter.next = max(self._rewriter.next, number + run.shift + 1)
        accepted = self._accepted
        if accepted is None:
            return
        payload = stored.payload if stored.picture is None else self._payload(stored, run)
        header = rtp.HEADER.pack(
            _HEAD | stored.flags if payload else _HEAD,
            stored.marker | accepted.payload_type,
            number + run.shift & 0xFFFF,
            stored.timestamp + run.time_shift & 0xFFFFFFFF,
            self.track.ssrc,
        )
        if self._way.send_rtp(header + stored.extension + payload):
            self.packets += 1
            self.octets += len(payload)

    def _is_above(self, stored: StoredPacket) -> bool:
        """Whether the newest packet belongs to a temporal layer above the wanted one; if so it is left out.

        The layer changes with a whole picture: down at any, up at one that needs nothing of what was left out.
        """
        picture = stored.picture
        if picture is None:
            return False
        if stored.timestamp != self._frame:
            self._frame = stored.timestamp
            if self._reached > self._temporal or picture.keyframe:
                self._reached = self._temporal
            elif self._reached < picture.temporal <= self._temporal and picture.sync:
                self._reached = picture.temporal
        if picture.temporal <= self._reached:
            return False
        another = picture.picture is not None and picture.picture != self._left_out
        self._left_out = picture.picture
        self._run = self._rewriter.skip(stored.number, int(another))
        return True

    def _payload(self, stored: StoredPacket, run: OffsetSegment) -> bytes:
        """Return the payload as this subscriber gets it; none where only the number's place has to be filled."""
        picture = stored.picture
        if picture is None:
            return stored.payload
        if picture.temporal > self._reached:
            return b""
        if run.picture_shift == run.level_shift == 0:
            return stored.payload
        return renumber_vp8(stored.payload, picture, run.picture_shift, run.level_shift)

    def retransmit(self, sequences: Iterable[int]) -> None:
        """Answer a NACK: send again what the track still has, and let it ask for the rest."""
        accepted = self._accepted
        if self._run is None or accepted is None:
            return
        now = time.monotonic()
        if now - self._repairs_since >= 1.0:
            self._repairs_since, self._repairs_now, self._asked_now = now, 0, 0
        for sequence in sequences:
            if self._repairs_now >= MAX_REPAIRS or self._asked_now >= MAX_ASKED:
                return
            self._asked_now += 1
            found = self._rewriter.find(sequence)
            if found is None:
                continue
            run, number = found
            stored = run.source.recall(number)
            if stored is not None:
                self._repairs_now += 1
                self._repeat(stored, run, accepted)

    def _repeat(self, stored: StoredPacket, run: OffsetSegment, accepted: AcceptedSection) -> None:
        if accepted.rtx_payload_type is None and self._thinned and stored.picture and stored.picture.temporal:
            return  # may have gone without its payload, or now would: SRTP may encrypt but one text per number
        self.repairs += 1
        sequence = stored.number + run.shift & 0xFFFF
        timestamp = stored.timestamp + run.time_shift & 0xFFFFFFFF
        payload = self._payload(stored, run)
        flags = _HEAD | stored.flags if payload else _HEAD
        if accepted.rtx_payload_type is None:
            second = stored.marker | accepted.payload_type
            header = rtp.HEADER.pack(flags, second, sequence, timestamp, self.track.ssrc)
            self._way.send_rtp(header + stored.extension + payload)
            return
        second = stored.marker | accepted.rtx_payload_type
        header = rtp.HEADER.pack(flags, second, self._rtx_next, timestamp, self.track.rtx_ssrc)
        self._rtx_next = self._rtx_next + 1 & 0xFFFF
        self._way.send_rtp(header + stored.extension + sequence.to_bytes(2, "big") + payload)

    def report(self, ntp: int, timestamp: int) -> None:
        """Send a sender report with the publisher's clock, by which the subscriber keeps lips and voice together."""
        ssrc = self.track.ssrc
        last = self._rewriter.last
        if last is not None and last.source is not self.source:
            return  # how its time goes on from ours is known with its first packet
        ours = timestamp if last is None else timestamp + last.time_shift
        counters = self.packets & 0xFFFFFFFF, self.octets & 0xFFFFFFFF
        report = rtcp.pack_sender_report(rtcp.SenderReport(ssrc, ntp, ours & 0xFFFFFFFF, *counters))
        self._way.send_rtcp(report + rtcp.pack_source_description(ssrc, self.track.cname))
        self._report_sent = ntp >> 16 & 0xFFFFFFFF, time.monotonic()

    def heard(self, block: rtcp.ReportBlock) -> None:
        """Take the subscriber's report of what it receives."""
        self.lost = block.lost
        self.fraction = block.fraction
        middle, sent = self._report_sent
        if block.last_report and block.last_report == middle:
            self.round_trip = max(0.0, time.monotonic() - sent - block.delay / 65536)

    def request_keyframe(self, now: float) -> None:
        """Pass on that the subscriber wants a keyframe of what it gets."""
        self.keyframe_requests += 1
        source = self.source or self._next_source
        if source is not None:
            source.request_keyframe(now)
