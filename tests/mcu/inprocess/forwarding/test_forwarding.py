"""From a track to its down tracks: numbers without a break, repair, keyframe requests, clocks."""

from __future__ import annotations

import struct
import time

import pytest

from mcu.base import MediaKind
from mcu.inprocess.forwarding import rtcp, rtp
from mcu.inprocess.forwarding.down_track import DownTrack
from mcu.inprocess.forwarding.receive_track import ReceiveTrack
from mcu.inprocess.forwarding.rtcp_feedback import KEYFRAME_INTERVAL, RtcpFeedback
from mcu.inprocess.forwarding.rtp_stream import SILENCE, RtpStream
from mcu.inprocess.negotiation.generation import write_answer, write_offer
from mcu.inprocess.negotiation.parameters import (
    AUDIO_LEVEL,
    EXTENSIONS,
    MID,
    ORIENTATION,
    AcceptedSection,
    NegotiatedCodec,
    OfferedStream,
    PublisherSection,
    SubscriberSection,
)
from mcu.inprocess.negotiation.parsing import read_offer
from sdp.codecs import CodecPreference, Payload, PayloadType
from sdp.document import MediaSection
from tests.mcu.inprocess.negotiation.test_descriptions import LOCAL
from tests.sdp.recorded import BY_ID

VP8 = Payload(PayloadType(96), "vp8", 90000, 1, feedback=("nack", "nack pli", "goog-remb"))
RTX = Payload(PayloadType(97), "rtx", 90000, 1, fmtp="apt=96", apt=PayloadType(96))
OPUS = Payload(PayloadType(111), "opus", 48000, 2)
SECTION = MediaSection(["m=video 9 UDP/TLS/RTP/SAVPF 96"], 1, "sendrecv")
SOURCE, RTX_SOURCE = 1000, 1001


class Wire:
    """Keeps what is sent."""

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
        """The sequence numbers sent, the first as 0."""
        return [packet.sequence - self.rtp[0].sequence for packet in self.rtp]


def video(
    ssrc: int | None = SOURCE, rtx: int | None = RTX_SOURCE, others: frozenset[int] = frozenset()
) -> PublisherSection:
    """Return what an offer says of a picture."""
    return PublisherSection(
        MediaKind.VIDEO,
        "v",
        SECTION,
        True,
        NegotiatedCodec(VP8, RTX),
        {MID: 4},
        (OfferedStream("", ssrc, rtx),),
        (),
        others,
    )


def track(medium: PublisherSection | None = None) -> tuple[ReceiveTrack, Wire]:
    """Return a track and what it sends to the publisher."""
    back = Wire()
    return ReceiveTrack(medium or video(), "0", "cname", RtcpFeedback(5, back.send_rtcp)), back


def only(of: ReceiveTrack) -> RtpStream:
    """Return the RTP stream of a medium that has one."""
    (rtp_stream,) = of.rtp_streams
    return rtp_stream


def asked(wire: Wire) -> list[int]:
    """Return the SSRCs that keyframes were asked of."""
    return [it.media for it in wire.rtcp if isinstance(it, rtcp.FeedbackPacket) and it.format == rtcp.PLI]


def down_track(of: ReceiveTrack, rtx: int | None = 121) -> tuple[DownTrack, Wire]:
    """Return a down track that is open, whose subscriber has payload types of its own, and what it sends."""
    wire = Wire()
    made = DownTrack(of, wire)
    made.accept(AcceptedSection(True, 120, rtx))
    made.start()
    return made, wire


def packet(sequence: int, timestamp: int = 0, ssrc: int = SOURCE, payload: bytes = b"") -> rtp.RtpPacket:
    """Return a packet of the publisher; its payload tells its number."""
    return rtp.RtpPacket(0, 0x80, 96, sequence & 0xFFFF, timestamp, ssrc, 0, b"", payload or str(sequence).encode())


def test_packets_go_on_with_numbers_types_and_extensions_of_our_own() -> None:
    source, _ = track()
    _, wire = down_track(source)
    for number in (65534, 65535, 65536):
        only(source).receive(packet(number, number), 1.0)
    assert wire.sequences == [0, 1, 2]
    first = wire.rtp[0]
    assert (first.payload_type, first.marker, first.timestamp, first.payload) == (120, 0x80, 65534, b"65534")
    assert first.ssrc == source.ssrc != SOURCE
    assert rtp.extension_element(first, 1) == b"0"
    assert rtp.extension_element(first, 3) is not None


def test_what_comes_twice_or_of_another_type_is_not_forwarded() -> None:
    source, _ = track()
    _, wire = down_track(source)
    only(source).receive(packet(5), 1.0)
    only(source).receive(packet(5), 1.0)
    only(source).receive(packet(6)._replace(payload_type=13), 1.0)
    assert wire.sequences == [0]


def test_mute_leaves_no_gap_and_ends_with_a_keyframe_request() -> None:
    source, back = track()
    out, wire = down_track(source)
    only(source).receive(packet(1), 1.0)
    out.mute(True)
    only(source).receive(packet(2), 1.0)
    back.rtcp.clear()
    source.feedback._asked_at = -KEYFRAME_INTERVAL
    out.mute(False)
    only(source).receive(packet(3), 1.0)
    only(source).receive(packet(2), 1.0)  # late: from before, its number is taken
    assert wire.sequences == [0, 1]
    assert [item.format for item in back.rtcp if isinstance(item, rtcp.FeedbackPacket)] == [rtcp.PLI]


def test_another_ssrc_goes_on_where_the_first_ended() -> None:
    source, _ = track(video(None, None))
    _, wire = down_track(source)
    assert source.claim(packet(1, 90000), 1.0)
    only(source).receive(packet(1, 90000), 1.0)
    assert not source.claim(packet(900, 5, ssrc=2000), 1.5)
    later = 1.0 + SILENCE + 1.0
    assert source.claim(packet(900, 5, ssrc=2000), later)
    only(source).receive(packet(900, 5, ssrc=2000), later)
    only(source).receive(packet(901, 95, ssrc=2000), later)
    assert wire.sequences == [0, 1, 2]
    assert [p.timestamp for p in wire.rtp] == [90000, 90000 + 180000, 90000 + 180090]


def test_further_layers_are_not_forwarded() -> None:
    source, _ = track(video(others=frozenset({3000})))
    assert not source.claim(packet(1, ssrc=3000), 100.0)


def test_loss_is_asked_for_and_a_retransmission_forwarded_in_its_place() -> None:
    source, back = track()
    _, wire = down_track(source)
    only(source).receive(packet(1), 1.0)
    only(source).receive(packet(3), 1.0)
    (nack,) = [item for item in back.rtcp if isinstance(item, rtcp.FeedbackPacket) and item.type == rtcp.RTPFB]
    assert (nack.media, list(rtcp.lost_sequences(nack.detail))) == (SOURCE, [2])
    repair = packet(77, 0, RTX_SOURCE, struct.pack("!H", 2) + b"2")._replace(payload_type=97)
    only(source).receive(repair, 1.1)
    assert [(number, p.payload) for number, p in zip(wire.sequences, wire.rtp, strict=True)] == [
        (0, b"1"),
        (2, b"3"),
        (1, b"2"),
    ]
    assert only(source).arrival.due(9.0) == []


def test_empty_retransmission_is_only_a_probe() -> None:
    source, _ = track()
    _, wire = down_track(source)
    only(source).receive(packet(1, 0, RTX_SOURCE, b"\x00")._replace(payload_type=97), 1.0)
    padding = packet(2, 0, RTX_SOURCE, bytes(10) + b"\x0b")._replace(payload_type=97, flags=rtp.PADDING_BIT)
    only(source).receive(padding, 1.0)
    assert wire.rtp == []


def test_subscribers_loss_is_repaired_from_what_we_keep() -> None:
    source, back = track()
    out, wire = down_track(source)
    for number in range(1, 5):
        only(source).receive(packet(number), 1.0)
    lost = wire.rtp[1].sequence
    back.rtcp.clear()
    out.retransmit([lost])
    repair = wire.rtp[-1]
    assert (repair.ssrc, repair.payload_type) == (source.rtx_ssrc, 121)
    assert repair.payload == struct.pack("!H", lost) + b"2"
    assert back.rtcp == []
    plain, other_wire = down_track(source, rtx=None)
    only(source).receive(packet(5), 1.0)
    plain.retransmit([other_wire.rtp[0].sequence])
    assert other_wire.rtp[0] == other_wire.rtp[1]


def test_what_never_came_is_asked_of_the_publisher_for_the_subscriber() -> None:
    source, back = track()
    out, wire = down_track(source)
    only(source).receive(packet(1), 1.0)
    only(source).receive(packet(3), 1.0)
    only(source).arrival.repaired(2)  # given up
    back.rtcp.clear()
    out.retransmit([wire.rtp[0].sequence + 1 & 0xFFFF])
    (nack,) = back.rtcp
    assert isinstance(nack, rtcp.FeedbackPacket)
    assert list(rtcp.lost_sequences(nack.detail)) == [2]


def test_requests_for_what_was_never_sent_are_ignored() -> None:
    source, back = track()
    out, wire = down_track(source)
    only(source).receive(packet(1), 1.0)
    back.rtcp.clear()
    out.retransmit([wire.rtp[0].sequence - 1 & 0xFFFF, wire.rtp[0].sequence + 1 & 0xFFFF])
    assert len(wire.rtp) == 1
    assert back.rtcp == []


def test_keyframe_requests_are_put_together() -> None:
    source, back = track()
    now = time.monotonic()
    for step in range(5):
        source.request_keyframe(now + step * KEYFRAME_INTERVAL / 10)
    assert len(back.rtcp) == 1
    source.feedback.tick(now + KEYFRAME_INTERVAL / 2)
    assert len(back.rtcp) == 1
    source.feedback.tick(now + KEYFRAME_INTERVAL)
    source.feedback.tick(now + 5 * KEYFRAME_INTERVAL)
    assert asked(back) == [SOURCE, SOURCE]
    assert only(source).keyframe_requests == 2


def test_keyframe_requests_for_all_media_of_a_publisher_are_put_together() -> None:
    back = Wire()
    feedback = RtcpFeedback(5, back.send_rtcp)
    camera = ReceiveTrack(video(10, 11), "0", "cname", feedback)
    second = ReceiveTrack(video(20, 21), "1", "cname", feedback)
    third = ReceiveTrack(video(None, None), "2", "cname", feedback)
    now = time.monotonic()
    for step in range(3):
        for source in (camera, second, third):
            source.request_keyframe(now + step * KEYFRAME_INTERVAL / 4)
    assert asked(back) == [10]
    feedback.tick(now + KEYFRAME_INTERVAL)
    assert asked(back) == [10, 20, 10]
    assert third.claim(packet(1, ssrc=30), now)
    feedback.tick(now + 2 * KEYFRAME_INTERVAL)
    assert asked(back) == [10, 20, 10, 30]
    feedback.tick(now + 9 * KEYFRAME_INTERVAL)
    assert len(back.rtcp) == 4


def test_publishers_clock_reaches_subscribers_also_late_ones() -> None:
    source, _ = track()
    _, wire = down_track(source)
    now = time.monotonic()
    only(source).receive(packet(1, 500), now)
    only(source).report(rtcp.SenderReport(SOURCE, 1 << 32, 500, 1, 1), now)
    report = wire.rtcp[-1]
    assert isinstance(report, rtcp.SenderReport)
    assert (report.ssrc, report.ntp, report.timestamp, report.packets) == (source.ssrc, 1 << 32, 500, 1)
    _, late = down_track(source)
    report = late.rtcp[-1]
    assert isinstance(report, rtcp.SenderReport)
    assert report.ntp >= 1 << 32


def test_publishers_clock_may_wrap_before_a_late_subscriber_hears_of_it() -> None:
    source, _ = track()
    now = time.monotonic()
    only(source).receive(packet(1, 500), now - 1.0)
    only(source).report(rtcp.SenderReport(SOURCE, (1 << 64) - 1, 0xFFFFFFFF, 1, 1), now - 1.0)
    _, late = down_track(source)
    report = late.rtcp[-1]
    assert isinstance(report, rtcp.SenderReport)
    assert report.ntp < 60 << 32
    assert report.timestamp < 60 * 90_000


def test_round_trip_and_loss_come_from_the_subscribers_report() -> None:
    source, _ = track()
    out, _ = down_track(source)
    now = time.monotonic()
    only(source).receive(packet(1, 500), now)
    only(source).report(rtcp.SenderReport(SOURCE, 7 << 32, 500, 1, 1), now)
    out.heard(rtcp.ReportBlock(source.ssrc, 128, 3, 1, 0, 7 << 16, 0))
    assert out.lost == 3
    assert out.round_trip is not None
    assert out.round_trip < 1.0
    block = only(source).receiver_block(now)
    assert block is not None
    assert block.fraction == 128


def test_one_bad_line_does_not_spoil_the_picture_of_the_others() -> None:
    source, _ = track()
    down_tracks = [down_track(source)[0] for _ in range(3)]
    only(source).receive(packet(1), 1.0)
    down_tracks[0].heard(rtcp.ReportBlock(source.ssrc, 200, 3, 1, 0, 0, 0))
    block = only(source).receiver_block(1.0)
    assert block is not None
    assert block.fraction == 0


def test_audio_level_goes_on_under_our_number() -> None:
    medium = PublisherSection(
        MediaKind.AUDIO, "a", SECTION, True, NegotiatedCodec(OPUS), {AUDIO_LEVEL: 6}, (OfferedStream("", SOURCE),)
    )
    source, _ = track(medium)
    wire = Wire()
    out = DownTrack(source, wire)
    out.accept(AcceptedSection(True, 111))
    out.start()
    block = rtp.pack_extension([(6, b"\x91")])
    voice = packet(1)._replace(payload_type=111, profile=0xBEDE, extension=block[4:])
    only(source).receive(voice, 1.0)
    assert rtp.extension_element(wire.rtp[0], 2) == b"\x91"


def test_orientation_goes_on_under_our_number_and_only_where_it_is_told() -> None:
    medium = PublisherSection(
        MediaKind.VIDEO,
        "v",
        SECTION,
        True,
        NegotiatedCodec(VP8, RTX),
        {MID: 4, ORIENTATION: 13},
        (OfferedStream("", SOURCE),),
    )
    source, _ = track(medium)
    _, wire = down_track(source)
    turned = rtp.pack_extension([(4, b"0"), (13, b"\x01")])
    only(source).receive(packet(1)._replace(profile=0xBEDE, extension=turned[4:]), 1.0)
    only(source).receive(packet(2), 1.0)
    assert [rtp.extension_element(it, EXTENSIONS["video"][ORIENTATION]) for it in wire.rtp] == [b"\x01", None]


@pytest.mark.parametrize(("recorded", "offered"), [("chromium/camera", True), ("firefox/camera", False)])
def test_orientation_is_agreed_with_whoever_offers_it(recorded: str, offered: bool) -> None:
    read = read_offer(BY_ID[f"{recorded}.offer.sdp"].text, CodecPreference())
    medium = next(it for it in read.media if it is not None and it.kind is MediaKind.VIDEO)
    assert (ORIENTATION in medium.extensions) == offered
    answer = write_answer(read, LOCAL, client=True, version=1)
    assert (f" {ORIENTATION}" in answer) == offered
    section = SubscriberSection(MediaKind.VIDEO, "0", codec=medium.codec)
    again = read_offer(write_offer([section], LOCAL, setup="actpass", version=1), CodecPreference()).media[0]
    assert again is not None
    assert again.extensions == EXTENSIONS["video"]


def test_codec_that_changed_waits_for_the_subscribers_answer() -> None:
    source, _ = track()
    out, wire = down_track(source)
    only(source).receive(packet(1), 1.0)
    changed = video()
    codec = NegotiatedCodec(Payload(PayloadType(98), "h264", 90000, 1, fmtp="packetization-mode=1"))
    source.update(PublisherSection(MediaKind.VIDEO, "v", SECTION, True, codec, {}, changed.sources))
    only(source).receive(packet(2)._replace(payload_type=98), 1.0)
    assert len(wire.rtp) == 1
    out.accept(AcceptedSection(True, 126))
    only(source).receive(packet(3)._replace(payload_type=98), 1.0)
    assert wire.rtp[-1].payload_type == 126
