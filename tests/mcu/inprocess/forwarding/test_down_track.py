"""A subscriber's medium over more packets than there are sequence numbers."""

from __future__ import annotations

import pytest

from mcu.inprocess.forwarding import down_track, rtp
from mcu.inprocess.forwarding.down_track import DownTrack
from mcu.inprocess.forwarding.receive_track import ReceiveTrack
from mcu.inprocess.forwarding.rtcp_feedback import RtcpFeedback
from mcu.inprocess.negotiation.parameters import AcceptedSection
from mcu.inprocess.negotiation.parsing import read_offer
from sdp.codecs import CodecPreference
from tests.sdp.recorded import BY_ID

SOURCE = 0xABCD
PACKETS = 150_000  # the numbers wrap twice, and reach a whole turn beyond any first number


class Wire:
    """A way that keeps the last packets."""

    def __init__(self) -> None:
        self.sent: list[rtp.RtpPacket] = []

    def send_rtp(self, packet: bytes) -> bool:
        parsed = rtp.parse(packet)
        assert parsed is not None
        self.sent.append(parsed)
        del self.sent[:-8]
        return True

    def send_rtcp(self, packet: bytes) -> bool:
        return True


class Stream:
    """A picture with one subscriber, fed packet by packet."""

    def __init__(self, first: int) -> None:
        offer = read_offer(BY_ID["chromium/camera.offer.sdp"].text, CodecPreference())
        medium = next(it for it in offer.media if it is not None and it.kind.value == "video")
        assert medium.codec is not None
        self.type = medium.codec.payload.type
        self.wire = Wire()
        self.track = ReceiveTrack(medium, "0", "cname", RtcpFeedback(1, lambda packet: True))
        self.down_track = DownTrack(self.track, self.wire)
        self.down_track.accept(AcceptedSection(True, self.type, None))
        self.down_track.start()
        self.first = first

    def feed(self, number: int) -> rtp.RtpPacket | None:
        """Let the packet of this number arrive; return what the subscriber gets of it."""
        sequence = self.first + number & 0xFFFF
        before = self.down_track.packets
        (rtp_stream,) = self.track.rtp_streams
        source = rtp_stream.source or SOURCE
        rtp_stream.receive(rtp.RtpPacket(0, 0, self.type, sequence, number * 90, source, 0, b"", b"x"), number / 1000)
        return self.wire.sent[-1] if self.down_track.packets > before else None


@pytest.mark.parametrize("first", [0, 40_000])
def test_lost_and_late_packets_are_sent_at_any_time(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(down_track, "MAX_REPAIRS", PACKETS)
    monkeypatch.setattr(down_track, "MAX_ASKED", PACKETS)
    stream = Stream(first)
    for number in range(0, PACKETS, 10):
        for place in (0, 1, 2, 3, 4, 6, 5, 7, 8, 9):
            sent = stream.feed(number + place)
            assert sent is not None, f"packet {number + place} was not forwarded"
        asked = stream.wire.sent[-3]
        stream.wire.sent.clear()
        if number % 50 == 0:
            stream.down_track.retransmit([asked.sequence])
            assert [packet.sequence for packet in stream.wire.sent] == [asked.sequence], f"at packet {number}"


def test_late_packet_of_a_time_that_the_subscriber_did_not_have_stays_away() -> None:
    stream = Stream(0)
    for number in range(50):
        stream.feed(number)
    stream.down_track.mute(True)
    for number in range(50, 100):
        if number != 90:
            stream.feed(number)
    stream.down_track.mute(False)
    assert stream.feed(100) is not None
    assert stream.feed(90) is None


def test_late_packet_of_before_the_mute_fills_its_place() -> None:
    stream = Stream(0)
    for number in range(50):
        if number != 40:
            stream.feed(number)
    before = stream.wire.sent[-1].sequence
    stream.down_track.mute(True)
    stream.down_track.mute(False)
    assert stream.feed(50) is not None
    late = stream.feed(40)
    assert late is not None
    assert before - late.sequence & 0xFFFF == 9
