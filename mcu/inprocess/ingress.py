"""One medium of a publisher: its encodings, of which simulcast has several, and who of them belongs to a packet.

All subscribers get the same SSRC and header extensions, whichever encoding they get.

Source: RFC 8852 (names of layers in packets), RFC 8285 (header extensions).
"""

from __future__ import annotations

import random
import time

from mcu.base import MediaKind
from mcu.inprocess import rtp
from mcu.inprocess.agreement import (
    ABS_SEND_TIME,
    AUDIO_LEVEL,
    EXTENSIONS,
    MID,
    ORIENTATION,
    REPAIRED_RID,
    RID,
    Codec,
    Medium,
)
from mcu.inprocess.encoding import Encoding
from mcu.inprocess.sink import Sink
from mcu.inprocess.upstream import Upstream

STOPPED = 0.7  # seconds that a layer of simulcast may be behind the others before it counts as stopped


class Ingress:
    """Knows what a medium consists of."""

    def __init__(self, medium: Medium, mid: str, cname: str, upstream: Upstream) -> None:
        if medium.codec is None:
            raise ValueError("not a medium of RTP")
        self.kind: MediaKind = medium.kind
        self.mid = mid
        self.cname = cname
        self.upstream = upstream
        self.ssrc = random.getrandbits(32)
        self.rtx_ssrc = self.ssrc ^ 1
        self.codec: Codec = medium.codec
        self.sends = medium.sends
        self.nacks = False  # whether the publisher sends packets again
        self.inspects = False  # whether layers and numbers within the payload are looked at
        self.encodings: tuple[Encoding, ...] = ()  # lowest first
        self._sinks: tuple[Sink, ...] = ()
        self._others: frozenset[int] = frozenset()
        self._extension_ids: dict[str, int] = {}
        self._static = (EXTENSIONS[self.kind.value][MID], mid.encode())
        self._passed_on: tuple[int, int] | None = None  # theirs and ours, of the element that goes on as it is
        self.update(medium)

    def update(self, medium: Medium) -> None:
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
        known = {encoding.name: encoding for encoding in self.encodings}
        encodings = []
        for source in medium.sources:
            encoding = known.pop(source.name, None)
            if encoding is None:
                encoding = Encoding(self, source)
            else:
                encoding.update(source)
            encodings.append(encoding)
        for gone in known.values():
            self.upstream.forget(gone)
        changed = self.encodings != tuple(encodings)
        self.encodings = tuple(encodings)
        for sink in self._sinks if changed else ():
            sink.restart()
        for sink in self._sinks:
            sink.review()
        self.look()

    def look(self) -> None:
        """Find out whether payloads have to be looked at: where layers or numbers may have to be changed."""
        thinned = any(sink.thins for sink in self._sinks)
        self.inspects = self.codec.payload.codec == "vp8" and (self.layered or thinned)

    @property
    def layered(self) -> bool:
        """Whether there is a choice of encodings."""
        return len(self.encodings) > 1

    @property
    def mid_ident(self) -> int | None:
        """The number of the publisher's header extension with its mid."""
        return self._extension_ids.get(MID)

    @property
    def routes(self) -> dict[int, Encoding]:
        """The encodings by the publisher's SSRCs, retransmission's included, as far as they are known."""
        return {
            ssrc: encoding
            for encoding in self.encodings
            for ssrc in (encoding.source, encoding.rtx_source)
            if ssrc is not None
        }

    @property
    def octets(self) -> int:
        """Bytes of payload since the connection began."""
        return sum(encoding.octets for encoding in self.encodings)

    @property
    def lost(self) -> int:
        """Packets that never arrived on their own."""
        return sum(encoding.lost for encoding in self.encodings)

    @property
    def heard_at(self) -> float | None:
        """When the last packet came, monotonic."""
        return max((at for encoding in self.encodings if (at := encoding.heard_at) is not None), default=None)

    def carries(self, payload_type: int) -> bool:
        """Whether a payload type is this medium's."""
        codec = self.codec
        return payload_type == codec.payload.type or (codec.rtx is not None and payload_type == codec.rtx.type)

    def claim(self, packet: rtp.Packet, now: float) -> Encoding | None:
        """Return the encoding of a packet whose SSRC nobody knows; from now on it is known."""
        if packet.ssrc in self._others:
            return None
        if not self.layered:
            (encoding,) = self.encodings
            return encoding if encoding.claims(packet, now, named=False) else None
        uri = RID if packet.payload_type == self.codec.payload.type else REPAIRED_RID
        ident = self._extension_ids.get(uri)
        name = None if ident is None else rtp.element(packet, ident)
        for encoding in self.encodings:
            if name is not None and encoding.name.encode() == name and encoding.claims(packet, now, named=True):
                return encoding
        return None

    def choose(self, substream: int) -> Encoding | None:
        """Return the highest encoding up to ``substream`` that is being sent, else the lowest above it."""
        if not self.layered:
            return self.encodings[0]
        heard = [(place, it, it.heard_at) for place, it in enumerate(self.encodings) if it.heard_at is not None]
        newest = max((at for _, _, at in heard), default=0.0)
        sent = [(place, it) for place, it, at in heard if newest - at <= STOPPED]
        return next((it for place, it in reversed(sent) if place <= substream), next((it for place, it in sent), None))

    def extension(self, packet: rtp.Packet) -> bytes:
        """Return the header extension with which a packet goes on."""
        elements = [self._static]
        if self.kind is MediaKind.VIDEO:
            moment = int(time.time() * (1 << 18)) & 0xFFFFFF
            elements.append((EXTENSIONS["video"][ABS_SEND_TIME], moment.to_bytes(3, "big")))
        if packet.profile and self._passed_on is not None:
            theirs, ours = self._passed_on
            value = rtp.element(packet, theirs)
            if value:
                elements.append((ours, value[:1]))
        return rtp.extension_block(elements)

    def request_keyframe(self, now: float) -> None:
        """Ask the publisher for a keyframe of each encoding."""
        for encoding in self.encodings:
            encoding.request_keyframe(now)

    def tick(self, now: float) -> None:
        """Do what had to wait; to be called a few times per second."""
        if self.nacks:
            for encoding in self.encodings:
                encoding.repair(now)
        if self.layered:
            for sink in self._sinks:
                sink.pursue(now)

    def enter(self, sink: Sink) -> None:
        """Count ``sink`` among those that forward this medium."""
        self._sinks = (*self._sinks, sink)
        self.look()

    def leave(self, sink: Sink) -> None:
        """Count ``sink`` no more."""
        self._sinks = tuple(other for other in self._sinks if other is not sink)
        for encoding in self.encodings:
            encoding.leave(sink)
        self.look()
