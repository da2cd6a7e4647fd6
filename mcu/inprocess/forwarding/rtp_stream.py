"""One received RTP stream of a track: NACK, retransmission, history, and the fan-out to the down tracks.

A track has one RTP stream, with simulcast one per layer. The parts of a packet that are equal for all subscribers are
computed once; only the header is made per subscriber. Packets get extended sequence numbers, which do not wrap and stay
contiguous when the publisher changes its SSRC.

Source: RFC 3550 A.1, A.3 and A.8 (statistics), RFC 4585 (feedback), RFC 4588 (retransmission).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mcu.base import MediaKind
from mcu.inprocess.forwarding import rtcp, rtp
from mcu.inprocess.forwarding.payload_descriptor import Vp8Descriptor, parse_vp8, starts_keyframe
from mcu.inprocess.forwarding.picture_size import picture_area
from mcu.inprocess.forwarding.reception_statistics import ReceptionStatistics
from mcu.inprocess.negotiation.parameters import OfferedStream

if TYPE_CHECKING:
    from mcu.inprocess.forwarding.down_track import DownTrack
    from mcu.inprocess.forwarding.receive_track import ReceiveTrack

HISTORY = 1024  # packets kept for retransmission, a power of two: 8 s of 1 Mbit/s video, 20 s of audio
MAX_HISTORY_OCTETS = 2 << 20  # payload bytes of the history: enough for packets as long as a link's MTU
REPORT_INTERVAL = 0.1  # seconds between two forwarded SRs: a compound packet may hold dozens of SRs
SSRC_TIMEOUT = 1.0  # seconds without a packet after which another SSRC may take over


class StoredPacket(NamedTuple):
    """A received packet as stored for all down tracks, whose headers are made of its fields."""

    number: int  # extended sequence number
    timestamp: int
    flags: int
    marker: int
    extension: bytes
    payload: bytes
    received_at: float  # monotonic
    vp8: Vp8Descriptor | None  # None where the track does not parse payloads, or the packet has no picture data


class RtpStream:
    """The packets of an SSRC, its retransmission SSRC, and their successors; ``now`` is monotonic, in seconds."""

    def __init__(self, track: ReceiveTrack, offered: OfferedStream) -> None:
        self.track = track
        self.kind = track.kind
        self.name = offered.name
        self.ssrc: int | None = None  # the publisher's
        self.rtx_ssrc: int | None = None
        self.packets = 0
        self.octets = 0  # of payloads
        self.recovered = 0  # packets that arrived first as a retransmission
        self.keyframe_requests = 0
        self.area = 0  # pixels of a picture; 0 = not known
        self.last_packet_at: float | None = None  # monotonic
        self.reception = ReceptionStatistics(track.codec.payload.clock_rate)
        self._lost_before = 0  # packets of the earlier SSRCs
        self._down_tracks: tuple[DownTrack, ...] = ()
        self._awaiting_keyframe: tuple[DownTrack, ...] = ()
        self._history: list[StoredPacket | None] = [None] * HISTORY
        self._history_octets = 0  # of payloads
        self._ssrc_changed = False  # the next packet is the first of another SSRC
        self._first_number = 0  # first extended sequence number of the current SSRC; 0 for the first SSRC
        self._sequence_offset = 0  # added to the publisher's sequence numbers
        self._timestamp_offset = 0  # added to the publisher's timestamps
        self._newest: StoredPacket | None = None
        self._sender_clock: tuple[int, int, float] | None = None  # NTP time, timestamp and arrival of the last SR
        self._report_forwarded_at = -REPORT_INTERVAL  # monotonic
        self.update(offered)

    @property
    def lost(self) -> int:
        """Number of packets that did not arrive, or only as a retransmission."""
        return self._lost_before + self.reception.lost

    @property
    def down_track_count(self) -> int:
        """Number of down tracks to which packets are forwarded."""
        return len(self._down_tracks)

    def update(self, offered: OfferedStream) -> None:
        """Apply the SSRCs of an offer, if it has any."""
        if offered.ssrc is None:
            return
        if self.ssrc is not None and offered.ssrc != self.ssrc:
            self._change_ssrc(offered.ssrc)
        self.ssrc = offered.ssrc
        self.rtx_ssrc = offered.rtx_ssrc

    def bind_ssrc(self, packet: rtp.RtpPacket, now: float, *, has_layer_name: bool) -> bool:
        """Bind the unknown SSRC of a packet to this stream if it fits; return whether it was bound.

        ``has_layer_name``: the packet carries the name of this stream's simulcast layer.
        """
        codec = self.track.codec
        if packet.payload_type == codec.payload.type:
            timed_out = self.last_packet_at is None or now - self.last_packet_at > SSRC_TIMEOUT
            if self.ssrc is not None and not (timed_out or has_layer_name):
                return False
            if self.ssrc is not None:
                self._change_ssrc(packet.ssrc)
            self.ssrc = packet.ssrc
            return True
        if (
            codec.rtx is not None
            and packet.payload_type == codec.rtx.type
            and (has_layer_name or self.rtx_ssrc is None)
        ):
            self.rtx_ssrc = packet.ssrc
            return True
        return False

    def receive(self, packet: rtp.RtpPacket, now: float) -> None:
        """Store a packet of a bound SSRC and forward it to the down tracks."""
        track = self.track
        retransmitted = packet.ssrc == self.rtx_ssrc
        if retransmitted:
            if self._ssrc_changed:
                return
            original = self._unwrap_retransmission(packet)
            if original is None:
                return
            packet = original
        elif packet.payload_type != track.codec.payload.type:
            return
        else:
            if self._ssrc_changed:
                self._begin_ssrc(packet, now)
            self.reception.count(packet.sequence, packet.timestamp, now)
        number = packet.sequence + self._sequence_offset
        newest = self._newest
        if newest is not None:
            ahead = number - newest.number & 0xFFFF
            number = newest.number + (ahead if ahead < 0x8000 else ahead - 0x10000)
        occupant = self._history[number & HISTORY - 1]
        if occupant is not None and occupant.number >= number:
            return  # a duplicate, or older than the history
        self.last_packet_at = now
        self.packets += 1
        size = len(packet.payload)
        self.octets += size
        self._history_octets += size if occupant is None else size - len(occupant.payload)
        if retransmitted:
            self.recovered += 1
        stored = StoredPacket(
            number,
            packet.timestamp + self._timestamp_offset & 0xFFFFFFFF,
            packet.flags,
            packet.marker,
            track.pack_extension(packet, now),
            packet.payload,
            now,
            parse_vp8(packet.payload) if track.parses_vp8 else None,
        )
        self._history[number & HISTORY - 1] = stored
        starts = (track.is_simulcast or self._awaiting_keyframe) and starts_keyframe(
            track.codec.payload.codec, packet.payload
        )
        if starts and track.is_simulcast:
            self._measure(packet.payload, now)
        if self._history_octets > MAX_HISTORY_OCTETS:
            self._clear_history(stored)
        if newest is None or number > newest.number:
            self._newest = stored
        if starts:
            for down_track in self._awaiting_keyframe:
                down_track.switch_to(self, stored)
        for down_track in self._down_tracks:
            down_track.forward(stored)
        if track.supports_nack:
            self.send_nacks(now)

    def _measure(self, keyframe: bytes, now: float) -> None:
        """Record the picture size, by which the track orders its layers."""
        area = picture_area(self.track.codec.payload.codec, keyframe)
        if area and area != self.area:
            self.area = area
            self.track.order_layers(now)

    def _clear_history(self, received: StoredPacket) -> None:
        """Drop all packets but the one just received; with its number in each slot, older ones count as duplicates."""
        self._history = [received._replace(payload=b"")] * HISTORY
        self._history[received.number & HISTORY - 1] = received
        self._history_octets = len(received.payload)

    def _unwrap_retransmission(self, packet: rtp.RtpPacket) -> rtp.RtpPacket | None:
        """Return the original packet of a retransmission (RFC 4588 4); ``None`` for padding that probes bandwidth."""
        if self.ssrc is None or len(packet.payload) < 2 + bool(packet.flags):
            return None
        sequence = int.from_bytes(packet.payload[:2], "big")
        payload = packet.payload[2:]
        if packet.flags and payload[-1] >= len(payload):
            return None
        self.reception.remove_missing(sequence)
        return packet._replace(
            payload_type=self.track.codec.payload.type, sequence=sequence, ssrc=self.ssrc, payload=payload
        )

    def send_nacks(self, now: float) -> None:
        """Send the NACKs that are due, and request a keyframe after a gap too wide for NACKs."""
        if self.reception.interrupted:
            self.reception.clear_interruption()
            self.request_keyframe(now)
        missing = self.reception.due_nacks(now)
        if missing and self.ssrc is not None:
            self.track.feedback.nack(self.ssrc, missing)

    def _change_ssrc(self, ssrc: int) -> None:
        """Expect the packets of another SSRC from now on."""
        self.ssrc, self.rtx_ssrc = ssrc, None
        self._lost_before += self.reception.lost
        self.reception = ReceptionStatistics(self.track.codec.payload.clock_rate)
        self._sender_clock = None
        self._ssrc_changed = self._newest is not None

    def _begin_ssrc(self, packet: rtp.RtpPacket, now: float) -> None:
        """Set the offsets of another SSRC, so that number and timestamp of its first packet follow the newest."""
        self._ssrc_changed = False
        if self._newest is None or self.last_packet_at is None:
            return
        passed = max(1, int((now - self.last_packet_at) * self.track.codec.payload.clock_rate))
        self._first_number = self._newest.number + 1
        self._sequence_offset = self._first_number - packet.sequence
        self._timestamp_offset = self._newest.timestamp + passed - packet.timestamp
        self.request_keyframe(now)

    def find_or_nack(self, number: int, now: float) -> StoredPacket | None:
        """Return a packet of the history; send a NACK for a packet that never arrived."""
        stored = self._history[number & HISTORY - 1]
        if stored is not None and stored.number == number:
            return stored
        if number < self._first_number or self._ssrc_changed:
            return None  # of an SSRC that ended
        sequence = number - self._sequence_offset & 0xFFFF
        if self.track.supports_nack and self.ssrc is not None and self.reception.add_missing(sequence, now):
            self.track.feedback.nack(self.ssrc, [sequence])
        return None

    def request_keyframe(self, now: float) -> None:
        """Send the publisher a PLI, at once or when the next PLI may be sent."""
        if self.kind is MediaKind.VIDEO:
            self.track.feedback.request_keyframe(self, now)

    def count_keyframe_request(self) -> None:
        """Count a PLI that was sent."""
        self.keyframe_requests += 1

    def forward_sender_report(self, report: rtcp.SenderReport, now: float) -> None:
        """Forward the publisher's clock to every subscriber, at most once per ``REPORT_INTERVAL``."""
        if report.ssrc != self.ssrc:
            return
        self._sender_clock = report.ntp, report.timestamp, now
        if self._ssrc_changed or now - self._report_forwarded_at < REPORT_INTERVAL:
            return  # the timestamp offset of another SSRC is unknown before its first packet
        self._report_forwarded_at = now
        for down_track in self._down_tracks:
            down_track.send_sender_report(report.ntp, report.timestamp + self._timestamp_offset, now)

    def send_sender_report(self, down_track: DownTrack, now: float) -> None:
        """Send one subscriber the publisher's clock, extrapolated from its last SR to ``now``."""
        if self._sender_clock is not None and not self._ssrc_changed:
            ntp, timestamp, received_at = self._sender_clock
            passed = now - received_at
            ahead = timestamp + self._timestamp_offset + int(passed * self.track.codec.payload.clock_rate)
            ntp = ntp + int(passed * (1 << 32)) & 0xFFFFFFFFFFFFFFFF  # NTP's era ends in 2036
            down_track.send_sender_report(ntp, ahead, now)

    def report_block(self, now: float) -> rtcp.ReportBlock | None:
        """Return the report block for the publisher; its fraction lost includes the subscribers' losses.

        For audio the greatest loss counts, so that the publisher's error correction suffices for each subscriber. For
        video the median counts, so that one lossy subscriber does not lower the quality for all.
        """
        if self.ssrc is None:
            return None
        fractions = sorted(down_track.fraction_lost for down_track in self._down_tracks)
        subscribers_fraction = 0
        if fractions:
            greatest, median = fractions[-1], fractions[(len(fractions) - 1) // 2]
            subscribers_fraction = greatest if self.kind is MediaKind.AUDIO else median
        last_report, delay = 0, 0
        if self._sender_clock is not None:
            last_report = self._sender_clock[0] >> 16 & 0xFFFFFFFF
            delay = min(int((now - self._sender_clock[2]) * 65536), 0xFFFFFFFF)
        return self.reception.report_block(self.ssrc, last_report, delay, subscribers_fraction)

    def add_down_track(self, down_track: DownTrack) -> None:
        """Forward packets to ``down_track``."""
        if down_track not in self._down_tracks:
            self._down_tracks = (*self._down_tracks, down_track)

    def switch_at_keyframe(self, down_track: DownTrack) -> None:
        """Call ``down_track.switch_to`` when the next keyframe starts."""
        if down_track not in self._awaiting_keyframe:
            self._awaiting_keyframe = (*self._awaiting_keyframe, down_track)

    def remove_down_track(self, down_track: DownTrack) -> None:
        """Stop forwarding to ``down_track``, and forget a pending switch."""
        self._down_tracks = tuple(other for other in self._down_tracks if other is not down_track)
        self._awaiting_keyframe = tuple(other for other in self._awaiting_keyframe if other is not down_track)
