"""One medium sent to one subscriber: layer selection, rewritten sequence numbers, retransmission, mute.

SSRC and header extensions are the receive track's, so that packets are equal for all subscribers except for the RTP
header. With simulcast one RTP stream at a time is forwarded; a switch happens where a keyframe of the other stream
starts. VP8's temporal layers above the selected one are dropped.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from mcu.base import MediaSelection
from mcu.inprocess.forwarding import rtcp, rtp
from mcu.inprocess.forwarding.payload_descriptor import shift_vp8_ids
from mcu.inprocess.forwarding.rtp_rewriter import FIRST_SEQUENCE_BOUND, OffsetSegment, RtpRewriter
from mcu.inprocess.forwarding.temporal_layers import TemporalLayerFilter
from mcu.inprocess.negotiation.parameters import AnsweredSection

if TYPE_CHECKING:
    from mcu.inprocess.forwarding.receive_track import ReceiveTrack
    from mcu.inprocess.forwarding.rtp_stream import RtpStream, StoredPacket

MAX_RETRANSMISSIONS = 500  # per second: more NACKs are not caused by loss but by a hostile client
MAX_NACKED = 4 * MAX_RETRANSMISSIONS  # sequence numbers looked up per second, for the same reason
HIGHEST_SUBSTREAM = 1 << 16  # selects the best available layer
KEYFRAME_RETRY = 1.0  # seconds after which the keyframe for a pending layer switch is requested again
_FIRST_OCTET = rtp.VERSION_BITS | rtp.EXTENSION_BIT


class PacketSender(Protocol):
    """The sending half of a transport; ``False`` where a packet could not be sent."""

    def send_rtp(self, packet: bytes) -> bool:
        """Encrypt and send an RTP packet."""

    def send_rtcp(self, packet: bytes) -> bool:
        """Encrypt and send a compound RTCP packet."""


class DownTrack:
    """One subscriber's copy of a receive track; it is forwarded once ``apply_answer`` and ``start`` were called.

    ``now`` is monotonic, in seconds.
    """

    def __init__(self, track: ReceiveTrack, sender: PacketSender) -> None:
        self.track = track
        self._sender = sender
        self._answered: AnsweredSection | None = None
        self._answered_format: tuple[str, int, str] | None = None
        self._started = False
        self._registered = False  # with the track
        self._muted = False
        self._selected_substream = HIGHEST_SUBSTREAM
        self._temporal_layers = TemporalLayerFilter()
        self._stream: RtpStream | None = None  # forwarded now
        self._next_stream: RtpStream | None = None  # forwarded from its next keyframe on
        self._keyframe_requested_at = 0.0
        self._rewriter = RtpRewriter()
        self._segment: OffsetSegment | None = None
        self._newest: StoredPacket | None = None  # the newest forwarded packet
        self._highest_number = -1  # of the RTP stream's packets that were forwarded or dropped
        self._next_rtx_sequence = self._rewriter.next_sequence ^ FIRST_SEQUENCE_BOUND >> 1
        self._second_began_at = 0.0  # of the two limits per second
        self._retransmissions_in_second = 0
        self._nacked_in_second = 0
        self._report_sent = (0, 0.0)  # middle 32 bit of the last SR's NTP time, and when it was sent
        self.packets = 0
        self.octets = 0  # of payloads
        self.retransmissions = 0
        self.keyframe_requests = 0  # received
        self.lost: int | None = None  # packets, as of the subscriber's last report
        self.fraction_lost = 0  # since the report before, in 1/256
        self.round_trip: float | None = None  # seconds
        self.estimate: int | None = None  # bit/s, the subscriber's last REMB

    @property
    def drops_temporal_layers(self) -> bool:
        """Whether temporal layers are to be dropped."""
        return self._temporal_layers.dropping

    @property
    def substream(self) -> int | None:
        """The simulcast layer that is forwarded, 0 = lowest; ``None`` while nothing is forwarded."""
        rtp_streams = self.track.rtp_streams
        return rtp_streams.index(self._stream) if self._stream in rtp_streams else None

    def apply_answer(self, answered: AnsweredSection, now: float) -> None:
        """Apply the media section of the subscriber's answer."""
        self._answered = answered
        self._answered_format = self.track.codec.format
        self.update_forwarding(now)

    def start(self, now: float) -> None:
        """Start forwarding: the connection is up."""
        self._started = True
        self.update_forwarding(now)

    def mute(self, muted: bool, now: float) -> None:
        """Stop or resume forwarding at the subscriber's request."""
        self._muted = muted
        self.update_forwarding(now)

    def select(self, selection: MediaSelection, now: float) -> None:
        """Select simulcast and temporal layer; while the simulcast layer is not sent, the nearest one is forwarded."""
        if selection.substream is not None:
            self._selected_substream = max(0, selection.substream)
        if selection.temporal is not None:
            self._temporal_layers.select(selection.temporal)
        if self._registered:
            self.track.update_vp8_parsing()
            self.update_stream(now)

    def close(self) -> None:
        """Stop forwarding for good."""
        self._started = False
        self._stop_forwarding()

    def update_forwarding(self, now: float) -> None:
        """Begin or stop forwarding, depending on answer, connection, mute and the publisher's codec."""
        receivable = (
            self._answered is not None and self._answered.receives and self._answered_format == self.track.codec.format
        )
        if not (self._started and receivable and not self._muted):
            self._stop_forwarding()
        elif not self._registered:
            self._registered = True
            self.track.add_down_track(self)
            self.update_stream(now)
        elif self._stream is None:
            self.update_stream(now)

    def _stop_forwarding(self) -> None:
        self.drop_streams()
        if self._registered:
            self._registered = False
            self.track.remove_down_track(self)

    def drop_streams(self) -> None:
        """Forward nothing until an RTP stream is selected anew; the sent sequence numbers stay contiguous."""
        for rtp_stream in filter(None, (self._stream, self._next_stream)):
            rtp_stream.remove_down_track(self)
        self._stream = self._next_stream = self._segment = None

    def update_stream(self, now: float) -> None:
        """Switch to the best RTP stream for the selection: at once if it is the only one, else at its next keyframe."""
        best = self.track.best_stream(self._selected_substream)
        if best is self._stream:
            best = None
        if best is None or not self.track.is_simulcast:
            self._set_next_stream(None)
            if best is not None:
                self._stream = best
                best.add_down_track(self)
                best.send_sender_report(self, now)
                best.request_keyframe(now)
        elif best is not self._next_stream or now - self._keyframe_requested_at >= KEYFRAME_RETRY:
            self._set_next_stream(best)
            self._keyframe_requested_at = now
            best.request_keyframe(now)

    def _set_next_stream(self, rtp_stream: RtpStream | None) -> None:
        if self._next_stream is not None and self._next_stream is not rtp_stream:
            self._next_stream.remove_down_track(self)
        self._next_stream = rtp_stream
        if rtp_stream is not None:
            rtp_stream.switch_at_keyframe(self)

    def switch_to(self, rtp_stream: RtpStream, packet: StoredPacket) -> None:
        """Forward another RTP stream, a keyframe of which starts with ``packet``."""
        if self._stream is not None:
            self._stream.remove_down_track(self)
        rtp_stream.remove_down_track(self)
        rtp_stream.add_down_track(self)
        self._stream, self._next_stream = rtp_stream, None
        self._segment = self._begin_switched_segment(rtp_stream, packet)
        rtp_stream.send_sender_report(self, packet.received_at)

    def _begin_switched_segment(self, rtp_stream: RtpStream, packet: StoredPacket) -> OffsetSegment:
        """Begin a segment of another RTP stream: numbers and picture ids go on, timestamps advance by elapsed time."""
        self._highest_number = packet.number - 1
        last, newest = self._rewriter.newest_segment, self._newest
        if last is None or newest is None:
            return self._rewriter.begin_segment(rtp_stream, packet.number)
        passed = max(1, int((packet.received_at - newest.received_at) * self.track.codec.payload.clock_rate))
        timestamp_offset = newest.timestamp + last.timestamp_offset + passed - packet.timestamp
        picture_id_offset = tl0picidx_offset = 0
        before, after = newest.vp8, packet.vp8
        if before is not None and after is not None:
            picture_id_offset = last.picture_id_offset + 1 + (before.picture_id or 0) - (after.picture_id or 0)
            tl0picidx_offset = last.tl0picidx_offset + 1 + (before.tl0picidx or 0) - (after.tl0picidx or 0)
        return self._rewriter.begin_segment(
            rtp_stream, packet.number, timestamp_offset, picture_id_offset, tl0picidx_offset
        )

    def _begin_resumed_segment(self, packet: StoredPacket) -> OffsetSegment:
        """Begin a segment of the only RTP stream after a pause; its timestamps keep their offset."""
        self._highest_number = packet.number - 1
        rtp_stream, last = self._stream, self._rewriter.newest_segment
        if rtp_stream is None:
            raise RuntimeError("a packet arrived without an RTP stream")
        if last is None or last.stream is not rtp_stream:
            return self._begin_switched_segment(rtp_stream, packet)
        return self._rewriter.begin_segment(
            rtp_stream, packet.number, last.timestamp_offset, last.picture_id_offset, last.tl0picidx_offset
        )

    def forward(self, packet: StoredPacket) -> None:
        """Send a packet of the forwarded RTP stream, unless its temporal layer is dropped or it is too late."""
        segment = self._segment
        if segment is None:
            segment = self._segment = self._begin_resumed_segment(packet)
        number = packet.number
        if number > self._highest_number:
            self._highest_number = number
            if packet.vp8 is not None:
                dropped_pictures = self._temporal_layers.drop(packet.vp8, packet.timestamp)
                if dropped_pictures is not None:
                    self._segment = self._rewriter.skip(number, dropped_pictures)
                    return
            self._newest = packet
            self._rewriter.next_sequence = number + segment.sequence_offset + 1
        elif number < segment.first_number:
            earlier = self._rewriter.find_late(number)
            if earlier is None:
                return  # from before the subscription, or from while it was muted
            segment = earlier
            self._rewriter.next_sequence = max(self._rewriter.next_sequence, number + segment.sequence_offset + 1)
        answered = self._answered
        if answered is None:
            return
        payload = packet.payload if packet.vp8 is None else self._rewrite_payload(packet, segment)
        header = rtp.HEADER.pack(
            _FIRST_OCTET | packet.flags if payload else _FIRST_OCTET,
            packet.marker | answered.payload_type,
            number + segment.sequence_offset & 0xFFFF,
            packet.timestamp + segment.timestamp_offset & 0xFFFFFFFF,
            self.track.ssrc,
        )
        if self._sender.send_rtp(header + packet.extension + payload):
            self.packets += 1
            self.octets += len(payload)

    def _rewrite_payload(self, packet: StoredPacket, segment: OffsetSegment) -> bytes:
        """Return the payload for this subscriber; empty if the packet only fills its sequence number."""
        vp8 = packet.vp8
        if vp8 is None:
            return packet.payload
        if vp8.temporal_layer > self._temporal_layers.forwarded:
            return b""
        if segment.picture_id_offset == segment.tl0picidx_offset == 0:
            return packet.payload
        return shift_vp8_ids(packet.payload, vp8, segment.picture_id_offset, segment.tl0picidx_offset)

    def retransmit(self, sequences: Iterable[int], now: float) -> None:
        """Answer a NACK: retransmit the packets in the history, and request the others from the publisher."""
        answered = self._answered
        if self._segment is None or answered is None:
            return
        if now - self._second_began_at >= 1.0:
            self._second_began_at, self._retransmissions_in_second, self._nacked_in_second = now, 0, 0
        for sequence in sequences:
            if self._retransmissions_in_second >= MAX_RETRANSMISSIONS or self._nacked_in_second >= MAX_NACKED:
                return
            self._nacked_in_second += 1
            found = self._rewriter.find_sent(sequence)
            if found is None:
                continue
            segment, number = found
            packet = segment.stream.find_or_nack(number, now)
            if packet is not None:
                self._retransmissions_in_second += 1
                self._retransmit_packet(packet, segment, answered)

    def _retransmit_packet(self, packet: StoredPacket, segment: OffsetSegment, answered: AnsweredSection) -> None:
        if (
            answered.rtx_payload_type is None
            and self._temporal_layers.ever_dropping
            and packet.vp8
            and packet.vp8.temporal_layer
        ):
            return  # the payload may have changed, and SRTP must not encrypt two plaintexts under one number
        self.retransmissions += 1
        sequence = packet.number + segment.sequence_offset & 0xFFFF
        timestamp = packet.timestamp + segment.timestamp_offset & 0xFFFFFFFF
        payload = self._rewrite_payload(packet, segment)
        first = _FIRST_OCTET | packet.flags if payload else _FIRST_OCTET
        if answered.rtx_payload_type is None:
            second = packet.marker | answered.payload_type
            header = rtp.HEADER.pack(first, second, sequence, timestamp, self.track.ssrc)
            self._sender.send_rtp(header + packet.extension + payload)
            return
        second = packet.marker | answered.rtx_payload_type
        header = rtp.HEADER.pack(first, second, self._next_rtx_sequence, timestamp, self.track.rtx_ssrc)
        self._next_rtx_sequence = self._next_rtx_sequence + 1 & 0xFFFF
        self._sender.send_rtp(header + packet.extension + sequence.to_bytes(2, "big") + payload)

    def send_sender_report(self, ntp: int, timestamp: int, now: float) -> None:
        """Send an SR with the publisher's clock, by which the subscriber synchronises audio and video."""
        ssrc = self.track.ssrc
        last = self._rewriter.newest_segment
        if last is not None and last.stream is not self._stream:
            return  # the timestamp offset is unknown before the RTP stream's first packet
        sent_timestamp = timestamp if last is None else timestamp + last.timestamp_offset
        counters = self.packets & 0xFFFFFFFF, self.octets & 0xFFFFFFFF
        report = rtcp.pack_sender_report(rtcp.SenderReport(ssrc, ntp, sent_timestamp & 0xFFFFFFFF, *counters))
        self._sender.send_rtcp(report + rtcp.pack_source_description(ssrc, self.track.cname))
        self._report_sent = ntp >> 16 & 0xFFFFFFFF, now

    def handle_report_block(self, block: rtcp.ReportBlock, now: float) -> None:
        """Record loss and round-trip time from the subscriber's receiver report."""
        self.lost = block.lost
        self.fraction_lost = block.fraction_lost
        last_report, sent_at = self._report_sent
        if block.last_report and block.last_report == last_report:
            self.round_trip = max(0.0, now - sent_at - block.delay / 65536)

    def handle_remb(self, bits_per_second: int | None) -> None:
        """Record the bitrate that the subscriber estimates it can receive; ``None`` for a malformed REMB."""
        self.estimate = bits_per_second

    def request_keyframe(self, now: float) -> None:
        """Forward the subscriber's keyframe request to the publisher."""
        self.keyframe_requests += 1
        rtp_stream = self._stream or self._next_stream
        if rtp_stream is not None:
            rtp_stream.request_keyframe(now)
