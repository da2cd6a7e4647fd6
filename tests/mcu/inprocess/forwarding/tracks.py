"""Receive tracks and down tracks without a transport: their packets are recorded."""

from __future__ import annotations

from mcu.base import MediaKind
from mcu.inprocess.forwarding import rtcp, rtp
from mcu.inprocess.forwarding.down_track import DownTrack
from mcu.inprocess.forwarding.receive_track import ReceiveTrack
from mcu.inprocess.forwarding.rtcp_feedback import RtcpFeedback
from mcu.inprocess.forwarding.rtp_stream import RtpStream
from mcu.inprocess.negotiation.parameters import (
    MID,
    AnsweredSection,
    NegotiatedCodec,
    OfferedStream,
    PublisherSection,
)
from sdp.codecs import Payload, PayloadType
from sdp.document import MediaSection

VP8 = Payload(PayloadType(96), "vp8", 90000, 1, feedback=("nack", "nack pli", "goog-remb"))
RTX = Payload(PayloadType(97), "rtx", 90000, 1, fmtp="apt=96", apt=PayloadType(96))
SECTION = MediaSection(["m=video 9 UDP/TLS/RTP/SAVPF 96"], 1, "sendrecv")
SSRC, RTX_SSRC = 1000, 1001
START = 1.0  # monotonic, seconds


class RecordingSender:
    """A ``PacketSender`` that records the parsed packets."""

    def __init__(self) -> None:
        self.rtp: list[rtp.RtpPacket] = []
        self.rtcp: list[rtcp.SenderReport | rtcp.ReportBlock | rtcp.FeedbackPacket] = []

    def send_rtp(self, packet: bytes) -> bool:
        parsed = rtp.parse(packet)
        assert parsed is not None
        self.rtp.append(parsed)
        return True

    def send_rtcp(self, packet: bytes) -> bool:
        self.rtcp += rtcp.parse(packet)
        return True

    @property
    def sequences(self) -> list[int]:
        """The sequence numbers sent, relative to the first."""
        return [packet.sequence - self.rtp[0].sequence & 0xFFFF for packet in self.rtp]

    @property
    def keyframe_requests(self) -> list[int]:
        """The SSRCs of the PLIs sent."""
        return [
            item.media_ssrc
            for item in self.rtcp
            if isinstance(item, rtcp.FeedbackPacket) and (item.type, item.format) == (rtcp.PSFB, rtcp.PLI)
        ]

    @property
    def nacks(self) -> list[tuple[int, list[int]]]:
        """SSRC and sequence numbers of the NACKs sent."""
        return [
            (item.media_ssrc, list(rtcp.nacked_sequences(item.control_information)))
            for item in self.rtcp
            if isinstance(item, rtcp.FeedbackPacket) and (item.type, item.format) == (rtcp.RTPFB, rtcp.NACK)
        ]

    @property
    def sender_reports(self) -> list[rtcp.SenderReport]:
        """The sender infos of the SRs sent."""
        return [item for item in self.rtcp if isinstance(item, rtcp.SenderReport)]


def video_section(
    ssrc: int | None = SSRC, rtx_ssrc: int | None = RTX_SSRC, other_ssrcs: frozenset[int] = frozenset()
) -> PublisherSection:
    """Return a VP8 section of an offer, without simulcast."""
    return PublisherSection(
        kind=MediaKind.VIDEO,
        mid="v",
        section=SECTION,
        sends=True,
        codec=NegotiatedCodec(VP8, RTX),
        extensions={MID: 4},
        streams=(OfferedStream("", ssrc, rtx_ssrc),),
        other_ssrcs=other_ssrcs,
    )


def make_receive_track(section: PublisherSection | None = None) -> tuple[ReceiveTrack, RecordingSender]:
    """Return a receive track, and the recorder of its feedback to the publisher."""
    feedback = RecordingSender()
    return ReceiveTrack(section or video_section(), "0", "cname", RtcpFeedback(5, feedback.send_rtcp)), feedback


def only_stream(track: ReceiveTrack) -> RtpStream:
    """Return the RTP stream of a track without simulcast."""
    (rtp_stream,) = track.rtp_streams
    return rtp_stream


def make_down_track(track: ReceiveTrack, rtx: int | None = 121) -> tuple[DownTrack, RecordingSender]:
    """Return a forwarding down track with the subscriber's payload types 120 and ``rtx``, and its recorder."""
    sender = RecordingSender()
    down_track = DownTrack(track, sender)
    down_track.apply_answer(AnsweredSection(True, 120, rtx), START)
    down_track.start(START)
    return down_track, sender


def packet(sequence: int, timestamp: int = 0, ssrc: int = SSRC, payload: bytes = b"") -> rtp.RtpPacket:
    """Return a packet of the publisher; its payload is its sequence number in decimal, if none is given."""
    return rtp.RtpPacket(0, 0x80, 96, sequence & 0xFFFF, timestamp, ssrc, 0, b"", payload or str(sequence).encode())


def retransmission(sequence: int, original: int, payload: bytes = b"x") -> rtp.RtpPacket:
    """Return a retransmission of the publisher's packet ``original`` (RFC 4588)."""
    return packet(sequence, 0, RTX_SSRC, original.to_bytes(2, "big") + payload)._replace(payload_type=97)
