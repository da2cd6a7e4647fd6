"""One medium of a publisher: its RTP streams, of which simulcast has several, and who of them belongs to a packet.

All subscribers get the same SSRC and header extensions, whichever rtp_stream they get.

Source: RFC 8852 (names of layers in packets), RFC 8285 (header extensions).
"""

from __future__ import annotations

import random
import time

from mcu.base import MediaKind
from mcu.inprocess.forwarding import rtp
from mcu.inprocess.forwarding.down_track import DownTrack
from mcu.inprocess.forwarding.rtcp_feedback import RtcpFeedback
from mcu.inprocess.forwarding.rtp_stream import RtpStream
from mcu.inprocess.negotiation.parameters import (
    ABS_SEND_TIME,
    AUDIO_LEVEL,
    EXTENSIONS,
    MID,
    ORIENTATION,
    REPAIRED_RID,
    RID,
    NegotiatedCodec,
    PublisherSection,
)

STOPPED = 0.7  # seconds that a layer of simulcast may be behind the others before it counts as stopped


class ReceiveTrack:
    """Knows what a medium consists of."""

    def __init__(self, medium: PublisherSection, mid: str, cname: str, feedback: RtcpFeedback) -> None:
        if medium.codec is None:
            raise ValueError("not a medium of RTP")
        self.kind: MediaKind = medium.kind
        self.mid = mid
        self.cname = cname
        self.feedback = feedback
        self.ssrc = random.getrandbits(32)
        self.rtx_ssrc = self.ssrc ^ 1
        self.codec: NegotiatedCodec = medium.codec
        self.sends = medium.sends
        self.nacks = False  # whether the publisher sends packets again
        self.inspects = False  # whether layers and numbers within the payload are looked at
        self.rtp_streams: tuple[RtpStream, ...] = ()  # lowest first
        self._down_tracks: tuple[DownTrack, ...] = ()
        self._others: frozenset[int] = frozenset()
        self._extension_ids: dict[str, int] = {}
        self._static = (EXTENSIONS[self.kind.value][MID], mid.encode())
        self._passed_on: tuple[int, int] | None = None  # theirs and ours, of the element that goes on as it is
        self.update(medium)

    def update(self, medium: PublisherSection) -> None:
        """Take what a renegotiation changed."""
        if medium.codec is None:
            raise ValueError("not a medium of RTP")
        self.codec = medium.codec
        self.sends = medium.sends
        self.nacks = "nack" in medium.codec.feedback
        self._extension_ids = medium.extensions
        uri = AUDIO_LEVEL if self.kind is MediaKind.AUDIO else ORIENTATION
        theirs = medium.extensions.get(uri)
        self._passed_on = None if theirs is None else (theirs, EXTENSIONS[self.kind.value][uri])
        self._others = medium.others
        known = {rtp_stream.name: rtp_stream for rtp_stream in self.rtp_streams}
        rtp_streams = []
        for source in medium.sources:
            rtp_stream = known.pop(source.name, None)
            if rtp_stream is None:
                rtp_stream = RtpStream(self, source)
            else:
                rtp_stream.update(source)
            rtp_streams.append(rtp_stream)
        for gone in known.values():
            self.feedback.forget(gone)
        changed = self.rtp_streams != tuple(rtp_streams)
        self.rtp_streams = tuple(rtp_streams)
        for down_track in self._down_tracks if changed else ():
            down_track.restart()
        for down_track in self._down_tracks:
            down_track.review()
        self.look()

    def look(self) -> None:
        """Find out whether payloads have to be looked at: where layers or numbers may have to be changed."""
        thinned = any(down_track.thins for down_track in self._down_tracks)
        self.inspects = self.codec.payload.codec == "vp8" and (self.layered or thinned)

    @property
    def layered(self) -> bool:
        """Whether there is a choice of RTP streams."""
        return len(self.rtp_streams) > 1

    @property
    def mid_ident(self) -> int | None:
        """The number of the publisher's header extension with its mid."""
        return self._extension_ids.get(MID)

    @property
    def routes(self) -> dict[int, RtpStream]:
        """The RTP streams by the publisher's SSRCs, retransmission's included, as far as they are known."""
        return {
            ssrc: rtp_stream
            for rtp_stream in self.rtp_streams
            for ssrc in (rtp_stream.source, rtp_stream.rtx_source)
            if ssrc is not None
        }

    @property
    def octets(self) -> int:
        """Bytes of payload since the connection began."""
        return sum(rtp_stream.octets for rtp_stream in self.rtp_streams)

    @property
    def lost(self) -> int:
        """Packets that never arrived on their own."""
        return sum(rtp_stream.lost for rtp_stream in self.rtp_streams)

    @property
    def heard_at(self) -> float | None:
        """When the last packet came, monotonic."""
        return max((at for rtp_stream in self.rtp_streams if (at := rtp_stream.heard_at) is not None), default=None)

    def carries(self, payload_type: int) -> bool:
        """Whether a payload type is this medium's."""
        codec = self.codec
        return payload_type == codec.payload.type or (codec.rtx is not None and payload_type == codec.rtx.type)

    def claim(self, packet: rtp.RtpPacket, now: float) -> RtpStream | None:
        """Return the RTP stream of a packet whose SSRC nobody knows; from now on it is known."""
        if packet.ssrc in self._others:
            return None
        if not self.layered:
            (rtp_stream,) = self.rtp_streams
            return rtp_stream if rtp_stream.claims(packet, now, named=False) else None
        uri = RID if packet.payload_type == self.codec.payload.type else REPAIRED_RID
        ident = self._extension_ids.get(uri)
        name = None if ident is None else rtp.extension_element(packet, ident)
        for rtp_stream in self.rtp_streams:
            if name is not None and rtp_stream.name.encode() == name and rtp_stream.claims(packet, now, named=True):
                return rtp_stream
        return None

    def choose(self, substream: int) -> RtpStream | None:
        """Return the highest RTP stream up to ``substream`` that is being sent, else the lowest above it."""
        if not self.layered:
            return self.rtp_streams[0]
        heard = [(place, it, it.heard_at) for place, it in enumerate(self.rtp_streams) if it.heard_at is not None]
        newest = max((at for _, _, at in heard), default=0.0)
        sent = [(place, it) for place, it, at in heard if newest - at <= STOPPED]
        return next((it for place, it in reversed(sent) if place <= substream), next((it for place, it in sent), None))

    def extension(self, packet: rtp.RtpPacket) -> bytes:
        """Return the header extension with which a packet goes on."""
        elements = [self._static]
        if self.kind is MediaKind.VIDEO:
            moment = int(time.time() * (1 << 18)) & 0xFFFFFF
            elements.append((EXTENSIONS["video"][ABS_SEND_TIME], moment.to_bytes(3, "big")))
        if packet.profile and self._passed_on is not None:
            theirs, ours = self._passed_on
            value = rtp.extension_element(packet, theirs)
            if value:
                elements.append((ours, value[:1]))
        return rtp.pack_extension(elements)

    def request_keyframe(self, now: float) -> None:
        """Ask the publisher for a keyframe of each RTP stream."""
        for rtp_stream in self.rtp_streams:
            rtp_stream.request_keyframe(now)

    def tick(self, now: float) -> None:
        """Do what had to wait; to be called a few times per second."""
        if self.nacks:
            for rtp_stream in self.rtp_streams:
                rtp_stream.repair(now)
        if self.layered:
            for down_track in self._down_tracks:
                down_track.pursue(now)

    def enter(self, down_track: DownTrack) -> None:
        """Count ``down_track`` among those that forward this medium."""
        self._down_tracks = (*self._down_tracks, down_track)
        self.look()

    def leave(self, down_track: DownTrack) -> None:
        """Count ``down_track`` no more."""
        self._down_tracks = tuple(other for other in self._down_tracks if other is not down_track)
        for rtp_stream in self.rtp_streams:
            rtp_stream.leave(down_track)
        self.look()
