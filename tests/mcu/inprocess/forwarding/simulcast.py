"""A simulcast publisher with one subscriber, packet by packet and without a transport."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from mcu.base import MediaKind, MediaSelection
from mcu.inprocess.forwarding import rtp
from mcu.inprocess.forwarding.down_track import DownTrack
from mcu.inprocess.forwarding.payload_descriptor import parse_vp8
from mcu.inprocess.forwarding.receive_track import ReceiveTrack
from mcu.inprocess.forwarding.rtcp_feedback import RtcpFeedback
from mcu.inprocess.negotiation.parameters import (
    MID,
    REPAIRED_RID,
    RID,
    AnsweredSection,
    NegotiatedCodec,
    OfferedStream,
    PublisherSection,
)
from tests.mcu.inprocess.forwarding.tracks import RTX, SECTION, START, VP8, RecordingSender
from tests.mcu.inprocess.forwarding.vp8 import DELTA_FRAME, KEYFRAME, vp8_descriptor

RID_EXTENSION, REPAIRED_RID_EXTENSION = 10, 11
CLOCK_RATE = 90_000
FRAME_INTERVAL = 0.05  # seconds
THREE_TEMPORAL_LAYERS = (0, 2, 1, 2)  # of consecutive pictures
BEST_LAYERS = MediaSelection()


def simulcast_section(*streams: OfferedStream) -> PublisherSection:
    """Return a VP8 section of an offer with these RTP streams."""
    extensions = {MID: 4, RID: RID_EXTENSION, REPAIRED_RID: REPAIRED_RID_EXTENSION}
    return PublisherSection(MediaKind.VIDEO, "v", SECTION, True, NegotiatedCodec(VP8, RTX), extensions, streams)


@dataclass
class LayerSender:
    """A sender of one simulcast layer to a receive track, with arbitrary first sequence number, timestamp and ids."""

    track: ReceiveTrack
    name: str
    ssrc: int
    sequence: int
    timestamp: int
    picture_id: int
    tl0picidx: int

    def send(
        self,
        now: float,
        *,
        keyframe: bool = False,
        temporal_layer: int = 0,
        packets: int = 1,
        lost: tuple[int, ...] = (),
    ) -> None:
        """Send a picture of ``packets`` packets, except those at the positions ``lost``."""
        self.timestamp += CLOCK_RATE // 20
        self.picture_id = self.picture_id + 1 & 0x7FFF
        if temporal_layer == 0:
            self.tl0picidx = self.tl0picidx + 1 & 0xFF
        for position in range(packets):
            self.sequence = self.sequence + 1 & 0xFFFF
            descriptor = vp8_descriptor(
                starts_partition=position == 0,
                picture_id=self.picture_id,
                tl0picidx=self.tl0picidx,
                temporal_layer=temporal_layer,
            )
            packet = rtp.RtpPacket(
                flags=0,
                marker=0x80 if position == packets - 1 else 0,
                payload_type=96,
                sequence=self.sequence,
                timestamp=self.timestamp,
                ssrc=self.ssrc,
                profile=0xBEDE,
                extension=rtp.pack_extension([(RID_EXTENSION, (self.name or "-").encode())])[4:],
                payload=descriptor + (KEYFRAME if keyframe else DELTA_FRAME),
            )
            if position not in lost:
                self.deliver(packet, now)

    def deliver(self, packet: rtp.RtpPacket, now: float) -> None:
        """Pass a packet to its RTP stream, as the demultiplexer does."""
        rtp_stream = self.track.streams_by_ssrc.get(packet.ssrc) or self.track.bind_ssrc(packet, now)
        if rtp_stream is not None:
            rtp_stream.receive(packet, now)


class SimulcastCall:
    """A publisher with three layers (or the given RTP streams) and one subscriber."""

    def __init__(
        self,
        streams: tuple[OfferedStream, ...] = tuple(map(OfferedStream, ("q", "h", "f"))),
        selection: MediaSelection = BEST_LAYERS,
    ) -> None:
        self.now = START
        self.to_publisher = RecordingSender()
        self.to_subscriber = RecordingSender()
        self.feedback = RtcpFeedback(5, self.to_publisher.send_rtcp)
        self.track = ReceiveTrack(simulcast_section(*streams), "0", "cname", self.feedback)
        self.layers = [
            LayerSender(self.track, stream.name, 1000 * n, 65_500 + 20 * n, 77_000 * n, 32_760 + n, 250 + n)
            for n, stream in enumerate(streams, 1)
        ]
        self.down_track = DownTrack(self.track, self.to_subscriber)
        self.down_track.select(selection, self.now)
        self.down_track.apply_answer(AnsweredSection(True, 120, 121), self.now)
        self.down_track.start(self.now)

    @property
    def forwarded(self) -> list[rtp.RtpPacket]:
        """The packets sent to the subscriber."""
        return self.to_subscriber.rtp

    @property
    def forwarded_temporal_layers(self) -> list[int]:
        """The temporal layer of each packet sent to the subscriber."""
        parsed = [parse_vp8(packet.payload) for packet in self.forwarded]
        return [vp8.temporal_layer for vp8 in parsed if vp8 is not None]

    def send_frames(
        self,
        count: int,
        *layers: int,
        keyframe: bool = False,
        temporal_layers: tuple[int, ...] = (0,),
        packets: int = 1,
    ) -> None:
        """Send ``count`` pictures on each of the layers, 50 ms apart."""
        for step in range(count):
            self.now += FRAME_INTERVAL
            for layer in layers:
                self.layers[layer].send(
                    self.now,
                    keyframe=keyframe,
                    temporal_layer=temporal_layers[step % len(temporal_layers)],
                    packets=packets,
                )
            self.track.tick(self.now)
            self.feedback.tick(self.now)

    def select(self, selection: MediaSelection) -> None:
        """Select layers now."""
        self.down_track.select(selection, self.now)

    def retransmit(self, sequences: list[int]) -> None:
        """Receive a NACK of the subscriber now."""
        self.down_track.retransmit(sequences, self.now)

    def assert_contiguous(self) -> None:
        """Assert that the subscriber got one RTP stream without gaps in sequence numbers, picture ids and TL0PICIDX."""
        assert {packet.ssrc for packet in self.forwarded} == {self.track.ssrc}
        assert {after.sequence - before.sequence & 0xFFFF for before, after in pairwise(self.forwarded)} <= {1}
        for before, after in pairwise(self.forwarded):
            vp8_before, vp8_after = parse_vp8(before.payload), parse_vp8(after.payload)
            assert vp8_before is not None
            assert vp8_after is not None
            passed = after.timestamp - before.timestamp & 0xFFFFFFFF
            assert passed < CLOCK_RATE
            same_picture = passed == 0
            picture_ids = (vp8_after.picture_id or 0) - (vp8_before.picture_id or 0) & 0x7FFF
            assert picture_ids == (0 if same_picture else 1)
            tl0picidx = (vp8_after.tl0picidx or 0) - (vp8_before.tl0picidx or 0) & 0xFF
            assert tl0picidx == (0 if same_picture or vp8_after.temporal_layer else 1)
