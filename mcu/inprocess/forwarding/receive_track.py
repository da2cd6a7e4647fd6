"""One media section of a publisher: its RTP streams, several with simulcast, and the binding of SSRCs to them.

All subscribers receive the same SSRC and header extensions, whichever RTP stream is forwarded to them.

Source: RFC 8852 (RID in packets), RFC 8285 (header extensions), RFC 9143 9.2 (association of packets).
"""

from __future__ import annotations

import random

from mcu.base import MediaKind
from mcu.inprocess.forwarding import rtp
from mcu.inprocess.forwarding.down_track import DownTrack
from mcu.inprocess.forwarding.rtcp_feedback import RtcpFeedback
from mcu.inprocess.forwarding.rtp_stream import RtpStream
from mcu.inprocess.negotiation.parameters import (
    ABS_SEND_TIME,
    AUDIO_LEVEL,
    EXTENSION_IDS,
    MID,
    ORIENTATION,
    REPAIRED_RID,
    RID,
    NegotiatedCodec,
    PublisherSection,
)

LAYER_TIMEOUT = 0.7  # seconds that a simulcast layer may be behind the others before it counts as stopped


class ReceiveTrack:
    """One received medium of a publisher; ``now`` is monotonic, in seconds.

    Args:
        mid: the media section's identification in the offers to subscribers.
    """

    def __init__(self, section: PublisherSection, mid: str, cname: str, feedback: RtcpFeedback) -> None:
        self.kind: MediaKind = section.kind
        self.mid = mid
        self.cname = cname
        self.feedback = feedback
        self.ssrc = random.getrandbits(32)
        self.rtx_ssrc = self.ssrc ^ 1
        self.rtp_streams: tuple[RtpStream, ...] = ()  # lowest simulcast layer first
        self.parses_vp8 = False  # whether VP8 descriptors are parsed, to switch layers or drop temporal ones
        self._down_tracks: tuple[DownTrack, ...] = ()
        self._mid_element = (EXTENSION_IDS[self.kind.value][MID], mid.encode())
        self._apply(section)

    def update(self, section: PublisherSection, now: float) -> None:
        """Apply a renegotiated media section."""
        before = self.rtp_streams
        self._apply(section)
        if self.rtp_streams != before:
            for down_track in self._down_tracks:
                down_track.drop_streams()
        for down_track in self._down_tracks:
            down_track.update_forwarding(now)
        self.update_vp8_parsing()

    def _apply(self, section: PublisherSection) -> None:
        if section.codec is None:
            raise ValueError("a data channel section has no RTP streams")
        self.codec: NegotiatedCodec = section.codec
        self.sends = section.sends
        self.supports_nack = "nack" in section.codec.feedback
        self._extension_ids = section.extensions
        uri = AUDIO_LEVEL if self.kind is MediaKind.AUDIO else ORIENTATION
        received_id = section.extensions.get(uri)
        # received and sent id of the extension element that is forwarded unchanged
        self._forwarded_element = None if received_id is None else (received_id, EXTENSION_IDS[self.kind.value][uri])
        self._other_ssrcs = section.other_ssrcs
        known = {rtp_stream.name: rtp_stream for rtp_stream in self.rtp_streams}
        rtp_streams = []
        for offered in section.streams:
            rtp_stream = known.pop(offered.name, None)
            if rtp_stream is None:
                rtp_stream = RtpStream(self, offered)
            else:
                rtp_stream.update(offered)
            rtp_streams.append(rtp_stream)
        for ended in known.values():
            self.feedback.forget(ended)
        self.rtp_streams = _smallest_first(tuple(rtp_streams))
        self.update_vp8_parsing()

    def update_vp8_parsing(self) -> None:
        """Set ``parses_vp8`` by the codec, the layers, and the down tracks that drop temporal layers."""
        dropping = any(down_track.drops_temporal_layers for down_track in self._down_tracks)
        self.parses_vp8 = self.codec.payload.codec == "vp8" and (self.is_simulcast or dropping)

    @property
    def is_simulcast(self) -> bool:
        """Whether there are several RTP streams to choose from."""
        return len(self.rtp_streams) > 1

    @property
    def mid_extension_id(self) -> int | None:
        """The id of the publisher's header extension for the mid."""
        return self._extension_ids.get(MID)

    @property
    def streams_by_ssrc(self) -> dict[int, RtpStream]:
        """The RTP streams by the SSRCs bound to them, retransmission SSRCs included."""
        return {
            ssrc: rtp_stream
            for rtp_stream in self.rtp_streams
            for ssrc in (rtp_stream.ssrc, rtp_stream.rtx_ssrc)
            if ssrc is not None
        }

    @property
    def octets(self) -> int:
        """Payload bytes received since the connection began."""
        return sum(rtp_stream.octets for rtp_stream in self.rtp_streams)

    @property
    def lost(self) -> int:
        """Number of packets that did not arrive, or only as a retransmission."""
        return sum(rtp_stream.lost for rtp_stream in self.rtp_streams)

    @property
    def last_packet_at(self) -> float | None:
        """The time of the last packet, monotonic."""
        return max(
            (at for rtp_stream in self.rtp_streams if (at := rtp_stream.last_packet_at) is not None), default=None
        )

    def has_payload_type(self, payload_type: int) -> bool:
        """Return whether a payload type is the negotiated codec's or its retransmission's."""
        codec = self.codec
        return payload_type == codec.payload.type or (codec.rtx is not None and payload_type == codec.rtx.type)

    def bind_ssrc(self, packet: rtp.RtpPacket, now: float) -> RtpStream | None:
        """Bind the unknown SSRC of a packet to the RTP stream that it belongs to, and return that stream."""
        if packet.ssrc in self._other_ssrcs:
            return None
        if not self.is_simulcast:
            (rtp_stream,) = self.rtp_streams
            return rtp_stream if rtp_stream.bind_ssrc(packet, now, has_layer_name=False) else None
        uri = RID if packet.payload_type == self.codec.payload.type else REPAIRED_RID
        extension_id = self._extension_ids.get(uri)
        name = None if extension_id is None else rtp.extension_element(packet, extension_id)
        for rtp_stream in self.rtp_streams:
            if (
                name is not None
                and rtp_stream.name.encode() == name
                and rtp_stream.bind_ssrc(packet, now, has_layer_name=True)
            ):
                return rtp_stream
        return None

    def best_stream(self, substream: int) -> RtpStream | None:
        """Return the highest layer up to ``substream`` that is being sent, else the lowest one above it."""
        if not self.is_simulcast:
            return self.rtp_streams[0]
        received = [
            (layer, rtp_stream, rtp_stream.last_packet_at)
            for layer, rtp_stream in enumerate(self.rtp_streams)
            if rtp_stream.last_packet_at is not None
        ]
        newest = max((at for _, _, at in received), default=0.0)
        sent = [(layer, rtp_stream) for layer, rtp_stream, at in received if newest - at <= LAYER_TIMEOUT]
        lower = [rtp_stream for layer, rtp_stream in sent if layer <= substream]
        if lower:
            return lower[-1]
        return sent[0][1] if sent else None

    def order_layers(self, now: float) -> None:
        """Order the layers by picture size, as far as known: the layer names in the offer may mislead."""
        ordered = _smallest_first(self.rtp_streams)
        if ordered != self.rtp_streams:
            self.rtp_streams = ordered
            for down_track in self._down_tracks:
                down_track.update_stream(now)

    def pack_extension(self, packet: rtp.RtpPacket, now: float) -> bytes:
        """Return the header extension with which a packet is forwarded."""
        elements = [self._mid_element]
        if self.kind is MediaKind.VIDEO:
            send_time = int(now * (1 << 18)) & 0xFFFFFF  # 6.18 fixed point seconds; receivers use differences only
            elements.append((EXTENSION_IDS["video"][ABS_SEND_TIME], send_time.to_bytes(3, "big")))
        if packet.profile and self._forwarded_element is not None:
            received_id, sent_id = self._forwarded_element
            value = rtp.extension_element(packet, received_id)
            if value:
                elements.append((sent_id, value[:1]))
        return rtp.pack_extension(elements)

    def request_keyframe(self, now: float) -> None:
        """Request a keyframe of each RTP stream."""
        for rtp_stream in self.rtp_streams:
            rtp_stream.request_keyframe(now)

    def tick(self, now: float) -> None:
        """Send due NACKs and adapt the forwarded layers to those being sent; to be called several times per second."""
        if self.supports_nack:
            for rtp_stream in self.rtp_streams:
                rtp_stream.send_nacks(now)
        if self.is_simulcast:
            for down_track in self._down_tracks:
                down_track.update_stream(now)

    def add_down_track(self, down_track: DownTrack) -> None:
        """Register a down track that forwards this track."""
        self._down_tracks = (*self._down_tracks, down_track)
        self.update_vp8_parsing()

    def remove_down_track(self, down_track: DownTrack) -> None:
        """Remove a down track from this track and its RTP streams."""
        self._down_tracks = tuple(other for other in self._down_tracks if other is not down_track)
        for rtp_stream in self.rtp_streams:
            rtp_stream.remove_down_track(down_track)
        self.update_vp8_parsing()


def _smallest_first(rtp_streams: tuple[RtpStream, ...]) -> tuple[RtpStream, ...]:
    """Sort the layers of known picture size by that size; the other layers keep their places."""
    measured = iter(sorted((stream for stream in rtp_streams if stream.area), key=lambda stream: stream.area))
    return tuple(next(measured) if stream.area else stream for stream in rtp_streams)
