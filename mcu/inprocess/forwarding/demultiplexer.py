"""The receive tracks of one publisher, and the assignment of its packets to their RTP streams.

Source: RFC 9143 9.2 (association of packets with media sections).
"""

from __future__ import annotations

from collections.abc import Iterable

from mcu.inprocess.forwarding import rtp
from mcu.inprocess.forwarding.receive_track import ReceiveTrack
from mcu.inprocess.forwarding.rtcp_feedback import RtcpFeedback
from mcu.inprocess.forwarding.rtp_stream import RtpStream
from mcu.inprocess.negotiation.parameters import PublisherSection


class RtpDemultiplexer:
    """The receive tracks by mid, and the RTP streams by SSRC; ``now`` is monotonic, in seconds."""

    def __init__(self, cname: str, feedback: RtcpFeedback) -> None:
        self.tracks: dict[str, ReceiveTrack] = {}  # by the publisher's mid, in the order of the offer
        self.streams_by_ssrc: dict[int, RtpStream] = {}
        self._cname = cname
        self._feedback = feedback
        self._tracks_created = 0

    def update(self, sections: Iterable[PublisherSection], now: float) -> None:
        """Create, update and remove receive tracks to match the RTP media sections of an offer."""
        by_mid = {section.mid: section for section in sections if section.codec is not None}
        for mid in [mid for mid in self.tracks if mid not in by_mid]:
            for rtp_stream in self.tracks.pop(mid).rtp_streams:
                self._feedback.forget(rtp_stream)
        for mid, section in by_mid.items():
            if mid in self.tracks:
                self.tracks[mid].update(section, now)
            else:
                self.tracks[mid] = ReceiveTrack(section, str(self._tracks_created), self._cname, self._feedback)
                self._tracks_created += 1
        self._index_streams()

    def bind_ssrc(self, packet: rtp.RtpPacket, now: float) -> RtpStream | None:
        """Bind the unknown SSRC of a packet to a stream of the track found by mid, else by payload type; return it.

        ``None`` if there is no such track, or several with the payload type, or if the track does not bind the SSRC.
        """
        mid = self._mid(packet)
        if mid is not None:
            named = self.tracks.get(mid.decode("ascii", "replace"))
            candidates = [named] if named is not None else []
        else:
            candidates = [track for track in self.tracks.values() if track.has_payload_type(packet.payload_type)]
            if len(candidates) != 1:
                return None
        for track in candidates:
            rtp_stream = track.bind_ssrc(packet, now)
            if rtp_stream is not None:
                self._index_streams()
                return rtp_stream
        return None

    def _mid(self, packet: rtp.RtpPacket) -> bytes | None:
        ids = {number for track in self.tracks.values() if (number := track.mid_extension_id) is not None}
        return next((mid for number in ids if (mid := rtp.extension_element(packet, number)) is not None), None)

    def _index_streams(self) -> None:
        self.streams_by_ssrc = {}
        for track in self.tracks.values():
            self.streams_by_ssrc |= track.streams_by_ssrc
