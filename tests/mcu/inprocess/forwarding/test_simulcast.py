"""Simulcast and temporal layers from a track to a down track: which one, from when, and numbers without a break."""

from __future__ import annotations

import random
import struct
import time
from dataclasses import dataclass

import pytest

from mcu.base import MediaKind, MediaSelection
from mcu.inprocess.forwarding import rtcp, rtp
from mcu.inprocess.forwarding.down_track import ASK_AGAIN, DownTrack
from mcu.inprocess.forwarding.payload_descriptor import read_vp8
from mcu.inprocess.forwarding.receive_track import STOPPED, ReceiveTrack
from mcu.inprocess.forwarding.rtcp_feedback import KEYFRAME_INTERVAL, RtcpFeedback
from mcu.inprocess.negotiation.parameters import (
    MID,
    REPAIRED_RID,
    RID,
    AcceptedSection,
    NegotiatedCodec,
    OfferedStream,
    PublisherSection,
)
from tests.mcu.inprocess.forwarding.test_forwarding import RTX, SECTION, VP8, Wire, asked
from tests.mcu.inprocess.forwarding.test_payload_descriptor import DELTA, KEY, vp8

NAMES = ("q", "h", "f")
IDS = {MID: 4, RID: 10, REPAIRED_RID: 11}
CLOCK = 90_000


@dataclass
class Sender:
    """One layer of a publisher; its numbers begin anywhere."""

    track: ReceiveTrack
    name: str
    ssrc: int
    sequence: int
    timestamp: int
    picture: int
    level: int

    def send(
        self, now: float, *, key: bool = False, tid: int = 0, packets: int = 1, lose: tuple[int, ...] = ()
    ) -> None:
        """Send a picture."""
        self.timestamp += CLOCK // 20
        self.picture = self.picture + 1 & 0x7FFF
        if tid == 0:
            self.level = self.level + 1 & 0xFF
        for place in range(packets):
            self.sequence = self.sequence + 1 & 0xFFFF
            head = vp8(begins=place == 0, picture=self.picture, level=self.level, tid=tid)
            marker = 0x80 if place == packets - 1 else 0
            extension = rtp.pack_extension([(10, (self.name or "-").encode())])[4:]
            packet = rtp.RtpPacket(
                0,
                marker,
                96,
                self.sequence,
                self.timestamp,
                self.ssrc,
                0xBEDE,
                extension,
                head + (KEY if key else DELTA),
            )
            if place not in lose:
                self.receive(packet, now)

    def receive(self, packet: rtp.RtpPacket, now: float) -> None:
        """Let a packet arrive."""
        rtp_stream = self.track.routes.get(packet.ssrc) or self.track.claim(packet, now)
        if rtp_stream is not None:
            rtp_stream.receive(packet, now)


EVERYTHING = MediaSelection()


class Stage:
    """A publisher with three layers and one subscriber."""

    def __init__(
        self, sources: tuple[OfferedStream, ...] = tuple(map(OfferedStream, NAMES)), layer: MediaSelection = EVERYTHING
    ) -> None:
        medium = PublisherSection(MediaKind.VIDEO, "v", SECTION, True, NegotiatedCodec(VP8, RTX), IDS, sources)
        self.back = Wire()
        self.feedback = RtcpFeedback(5, self.back.send_rtcp)
        self.track = ReceiveTrack(medium, "0", "cname", self.feedback)
        self.layers = [
            Sender(self.track, source.name, 1000 * n, 65_500 + 20 * n, 77_000 * n, 32_760 + n, 250 + n)
            for n, source in enumerate(sources, 1)
        ]
        self.now = time.monotonic()
        self.wire = Wire()
        self.down_track = DownTrack(self.track, self.wire)
        self.down_track.select(layer)
        self.down_track.accept(AcceptedSection(True, 120, 121))
        self.down_track.start()

    def frames(
        self, count: int, *places: int, key: bool = False, tids: tuple[int, ...] = (0,), packets: int = 1
    ) -> None:
        """Send pictures of some layers, 50 ms apart."""
        for step in range(count):
            self.now += 0.05
            for place in places:
                self.layers[place].send(self.now, key=key, tid=tids[step % len(tids)], packets=packets)
            self.track.tick(self.now)
            self.feedback.tick(self.now)

    def whole(self) -> None:
        """Check that what the subscriber got is one stream without a break."""
        assert {packet.ssrc for packet in self.wire.rtp} == {self.track.ssrc}
        steps = [b.sequence - a.sequence & 0xFFFF for a, b in zip(self.wire.rtp, self.wire.rtp[1:], strict=False)]
        assert set(steps) <= {1}
        pictures = [read_vp8(packet.payload) for packet in self.wire.rtp]
        for before, after, one, other in zip(self.wire.rtp, self.wire.rtp[1:], pictures, pictures[1:], strict=False):
            assert one is not None
            assert other is not None
            forward = after.timestamp - before.timestamp & 0xFFFFFFFF
            assert forward < CLOCK
            same = forward == 0
            assert (other.picture or 0) - (one.picture or 0) & 0x7FFF == (0 if same else 1)
            level = (other.level or 0) - (one.level or 0) & 0xFF
            assert level == (0 if same or other.temporal else 1)

    def shown(self) -> list[int]:
        """Return the temporal layers of what the subscriber got."""
        found = [read_vp8(packet.payload) for packet in self.wire.rtp]
        return [picture.temporal for picture in found if picture is not None]


def test_layer_is_forwarded_from_its_keyframe_on() -> None:
    stage = Stage()
    stage.frames(3, 0, 1, 2)
    assert stage.wire.rtp == []
    assert 3000 in asked(stage.back)
    stage.frames(1, 2, key=True)
    stage.frames(3, 0, 1, 2)
    assert stage.down_track.substream == 2
    assert len(stage.wire.rtp) == 4
    stage.whole()


def test_layers_are_switched_at_keyframes_under_one_ssrc_with_numbers_that_go_on() -> None:
    stage = Stage()
    stage.frames(2, 0, 1, 2, key=True, packets=3)
    for substream in (0, 2, 1, 0, 2):
        stage.down_track.select(MediaSelection(substream=substream))
        before = stage.down_track.substream
        stage.frames(4, 0, 1, 2, packets=2)
        assert stage.down_track.substream == before
        stage.frames(1, substream, key=True, packets=3)
        assert stage.down_track.substream == substream
        stage.frames(4, 0, 1, 2, packets=2)
    stage.whole()


def test_keyframe_is_asked_of_the_wanted_layer_and_again_when_none_comes() -> None:
    stage = Stage()
    stage.frames(2, 0, 1, 2, key=True)
    stage.frames(round(KEYFRAME_INTERVAL / 0.05) + 1, 0, 1, 2)
    stage.back.rtcp.clear()
    stage.down_track.select(MediaSelection(substream=0))
    stage.down_track._asked_at = stage.now  # the down_track has asked by the real clock
    stage.frames(round((ASK_AGAIN + KEYFRAME_INTERVAL) / 0.05) + 2, 0, 1, 2)
    assert asked(stage.back) == [1000, 1000]


def test_layer_that_stops_gives_way_to_the_best_below_and_comes_back() -> None:
    stage = Stage()
    stage.frames(2, 0, 1, 2, key=True)
    assert stage.down_track.substream == 2
    stage.frames(round(STOPPED / 0.05) + 2, 0, 1)
    stage.frames(1, 0, 1, key=True)
    assert stage.down_track.substream == 1
    stage.frames(3, 0, 1, 2)
    stage.frames(1, 0, 1, 2, key=True)
    assert stage.down_track.substream == 2
    stage.whole()


def test_layer_above_serves_where_the_wanted_one_is_not_sent() -> None:
    stage = Stage(layer=MediaSelection(substream=0))
    stage.frames(2, 1, 2, key=True)
    assert stage.down_track.substream == 1


def test_picture_that_stands_still_is_no_stop() -> None:
    stage = Stage()
    stage.frames(2, 0, 1, 2, key=True)
    stage.now += 10 * STOPPED
    stage.track.tick(stage.now)
    stage.frames(1, 0, 1, 2)
    assert stage.down_track.substream == 2
    assert stage.down_track._next_source is None


def test_loss_before_a_switch_is_repaired_after_it() -> None:
    stage = Stage()
    stage.frames(2, 0, 1, 2, key=True)
    asked_for = stage.wire.rtp[-1]
    stage.down_track.select(MediaSelection(substream=0))
    stage.frames(1, 0, key=True)
    stage.frames(2, 0, 1, 2)
    stage.down_track.retransmit([asked_for.sequence, stage.wire.rtp[-1].sequence])
    first, second = stage.wire.rtp[-2:]
    assert first.ssrc == second.ssrc == stage.track.rtx_ssrc
    assert first.payload == struct.pack("!H", asked_for.sequence) + asked_for.payload
    assert first.timestamp == asked_for.timestamp
    assert second.payload[2:] == stage.wire.rtp[-3].payload


def test_retransmission_is_known_by_the_repaired_layers_name() -> None:
    stage = Stage(layer=MediaSelection(substream=1))
    stage.frames(2, 0, 1, 2, key=True)
    lost = stage.layers[1]
    stage.now += 0.05
    lost.send(stage.now, packets=3, lose=(1,))
    original = vp8(begins=False, picture=lost.picture, level=lost.level, tid=0) + DELTA
    extension = rtp.pack_extension([(11, b"h")])[4:]
    repair = rtp.RtpPacket(
        0, 0, 97, 7, lost.timestamp, 2001, 0xBEDE, extension, struct.pack("!H", lost.sequence - 1) + original
    )
    lost.receive(repair, stage.now)
    assert stage.track.rtp_streams[1].repaired == 1
    numbers = [packet.sequence - stage.wire.rtp[0].sequence & 0xFFFF for packet in stage.wire.rtp]
    assert numbers == [0, 1, 3, 2]
    stranger = repair._replace(ssrc=2002, extension=rtp.pack_extension([(11, b"x")])[4:])
    assert stage.track.claim(stranger, stage.now) is None
    nameless = repair._replace(ssrc=2003, profile=0, extension=b"")
    assert stage.track.claim(nameless, stage.now) is None


def test_layers_of_a_group_of_ssrcs_are_known_by_these() -> None:
    stage = Stage((OfferedStream("#0", 1000, 1001), OfferedStream("#1", 2000, 2001), OfferedStream("#2", 3000, 3001)))
    stage.frames(2, 0, 1, 2, key=True)
    stage.down_track.select(MediaSelection(substream=0))
    stage.frames(1, 0, key=True)
    stage.frames(1, 0, 1, 2)
    assert stage.down_track.substream == 0
    stage.whole()


def test_layer_that_begins_another_ssrc_goes_on() -> None:
    stage = Stage()
    stage.frames(2, 0, 1, 2, key=True)
    stage.layers[2].ssrc = 3333
    stage.frames(1, 2, key=True)
    stage.frames(2, 0, 1, 2)
    numbers = [packet.sequence - stage.wire.rtp[0].sequence & 0xFFFF for packet in stage.wire.rtp]
    assert numbers == list(range(4))


def test_mute_and_back_begins_with_a_keyframe_of_the_layer() -> None:
    stage = Stage()
    stage.frames(2, 0, 1, 2, key=True)
    stage.down_track.mute(True)
    stage.frames(2, 0, 1, 2)
    stage.down_track.mute(False)
    stage.frames(2, 0, 1, 2)
    before = len(stage.wire.rtp)
    stage.frames(1, 0, 1, 2, key=True)
    assert len(stage.wire.rtp) == before + 1
    stage.whole()


def test_clock_of_the_layer_that_is_forwarded_goes_on() -> None:
    stage = Stage()
    stage.frames(2, 0, 1, 2, key=True)
    stage.down_track.select(MediaSelection(substream=0))
    low = stage.layers[0]
    stage.track.rtp_streams[0].report(rtcp.SenderReport(1000, 9 << 32, low.timestamp, 1, 1), stage.now)
    stage.frames(1, 0, key=True)
    report = next(it for it in reversed(stage.wire.rtcp) if isinstance(it, rtcp.SenderReport))
    ahead = stage.wire.rtp[-1].timestamp - report.timestamp & 0xFFFFFFFF
    assert ahead in (0, 1, 0xFFFFFFFF)  # a picture later, and the report is of now
    stage.track.rtp_streams[2].report(rtcp.SenderReport(3000, 9 << 32, 0, 1, 1), stage.now)
    assert next(it for it in reversed(stage.wire.rtcp) if isinstance(it, rtcp.SenderReport)) == report


def test_layers_that_a_renegotiation_takes_away_give_way() -> None:
    stage = Stage()
    stage.frames(2, 0, 1, 2, key=True)
    stage.track.update(
        PublisherSection(MediaKind.VIDEO, "v", SECTION, True, NegotiatedCodec(VP8, RTX), IDS, (OfferedStream(),))
    )
    plain = rtp.RtpPacket(0, 0x80, 96, 5, 5, 4000, 0, b"", vp8(picture=3, level=4, tid=0) + KEY)
    stage.layers[0].receive(plain, stage.now)
    numbers = [packet.sequence - stage.wire.rtp[0].sequence & 0xFFFF for packet in stage.wire.rtp]
    assert numbers == [0, 1]
    assert stage.wire.rtp[-1].timestamp - stage.wire.rtp[-2].timestamp & 0xFFFFFFFF < CLOCK


T3 = (0, 2, 1, 2)


@pytest.mark.parametrize(("limit", "kept"), [(0, {0}), (1, {0, 1}), (2, {0, 1, 2}), (9, {0, 1, 2}), (-1, {0})])
def test_temporal_layers_above_the_wanted_one_are_left_out(limit: int, kept: set[int]) -> None:
    stage = Stage((OfferedStream(),), MediaSelection(temporal=limit))
    stage.frames(1, 0, key=True)
    stage.frames(200, 0, tids=T3, packets=3)
    assert set(stage.shown()) == kept
    stage.whole()


def test_temporal_layer_changes_with_a_whole_picture() -> None:
    stage = Stage((OfferedStream(),))
    stage.frames(1, 0, key=True)
    for temporal in (0, 2, 1, 0, 2):
        stage.down_track.select(MediaSelection(temporal=temporal))
        before = len(stage.wire.rtp)
        stage.frames(8, 0, tids=T3, packets=2)
        assert set(stage.shown()[before:]) == set(range(temporal + 1))
    packets = [(packet.timestamp, packet.marker) for packet in stage.wire.rtp]
    for first, last in zip(packets[1::2], packets[2::2], strict=True):
        assert first == (last[0], 0)
        assert last[1] == 0x80
    stage.whole()


def test_late_packet_of_a_layer_that_is_left_out_fills_its_place_with_nothing() -> None:
    stage = Stage((OfferedStream("", 1000, 1001),), MediaSelection(temporal=0))
    stage.frames(1, 0, key=True)
    sender = stage.layers[0]
    sender.send(stage.now + 0.05, tid=2, packets=2, lose=(1,))
    lost = sender.sequence
    stage.frames(2, 0)
    payload = struct.pack("!H", lost) + vp8(begins=False, picture=sender.picture - 2, tid=2) + DELTA
    sender.receive(rtp.RtpPacket(0, 0, 97, 9, sender.timestamp - 9000, 1001, 0, b"", payload), stage.now)
    numbers = [packet.sequence - stage.wire.rtp[0].sequence & 0xFFFF for packet in stage.wire.rtp]
    assert sorted(numbers) == list(range(len(numbers)))
    assert stage.wire.rtp[-1].payload == b""
    stage.down_track.retransmit([stage.wire.rtp[-1].sequence])
    assert stage.wire.rtp[-1].payload == struct.pack("!H", stage.wire.rtp[-2].sequence)


def test_what_is_asked_for_again_has_the_numbers_it_had_with_layers_left_out() -> None:
    stage = Stage((OfferedStream(),), MediaSelection(temporal=1))
    stage.frames(1, 0, key=True)
    stage.frames(300, 0, tids=T3, packets=2)
    sent = stage.wire.rtp[-100:]
    stage.down_track.retransmit([packet.sequence for packet in sent])
    repairs = stage.wire.rtp[-100:]
    assert [packet.payload for packet in repairs] == [
        struct.pack("!H", packet.sequence) + packet.payload for packet in sent
    ]


@pytest.mark.parametrize("seed", range(8))
def test_whatever_comes_no_number_is_used_twice_and_nothing_breaks(seed: int) -> None:
    chance = random.Random(seed)
    stage = Stage()
    for _ in range(3000):
        stage.now += 0.01
        layer = chance.choice(stage.layers)
        match chance.randrange(12):
            case 0:
                stage.down_track.select(
                    MediaSelection(chance.choice((None, 0, 1, 2, 9, -1)), chance.choice((None, 0, 1, 2, 9, -1)))
                )
            case 1:
                stage.down_track.mute(chance.random() < 0.5)
            case 2:
                stage.down_track.retransmit([chance.randrange(1 << 16) for _ in range(3)])
            case 3:
                layer.sequence = layer.sequence + chance.choice((1, 5, 400, 30_000)) & 0xFFFF
            case 4:
                payload = chance.randbytes(chance.randrange(6))
                stranger = chance.choice((layer.ssrc, 5000, 5001))
                packet = rtp.RtpPacket(
                    0, 0, chance.choice((96, 97)), chance.randrange(1 << 16), 5, stranger, 0, b"", payload
                )
                layer.receive(packet, stage.now)
            case 5:
                stage.track.tick(stage.now)
                stage.feedback.tick(stage.now)
            case _:
                lose = tuple(place for place in range(3) if chance.random() < 0.1)
                key = chance.random() < 0.1
                layer.send(stage.now, key=key, tid=0 if key else chance.randrange(3), packets=3, lose=lose)
    first_time = [packet.sequence for packet in stage.wire.rtp if packet.ssrc == stage.track.ssrc]
    assert len(first_time) > 100
    assert len(set(first_time)) == len(first_time)
