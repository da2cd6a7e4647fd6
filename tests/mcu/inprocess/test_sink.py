"""A subscriber's medium over more packets than there are sequence numbers."""

from __future__ import annotations

import pytest

from mcu.inprocess import rtp, sink
from mcu.inprocess.agreement import Accepted
from mcu.inprocess.ingress import Ingress
from mcu.inprocess.reading import read_offer
from mcu.inprocess.sink import Sink
from mcu.inprocess.upstream import Upstream
from sdp.codecs import Preference
from tests.sdp.recorded import BY_ID

SOURCE = 0xABCD
PACKETS = 150_000  # the numbers wrap twice, and reach a whole turn beyond any first number


class Wire:
    """A way that keeps the last packets."""

    def __init__(self) -> None:
        self.sent: list[rtp.Packet] = []

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
        offer = read_offer(BY_ID["chromium/camera.offer.sdp"].text, Preference())
        medium = next(it for it in offer.media if it is not None and it.kind.value == "video")
        assert medium.codec is not None
        self.type = medium.codec.payload.type
        self.wire = Wire()
        self.ingress = Ingress(medium, "0", "cname", Upstream(1, lambda packet: True))
        self.sink = Sink(self.ingress, self.wire)
        self.sink.accept(Accepted(True, self.type, None))
        self.sink.start()
        self.first = first

    def feed(self, number: int) -> rtp.Packet | None:
        """Let the packet of this number arrive; return what the subscriber gets of it."""
        sequence = self.first + number & 0xFFFF
        before = self.sink.packets
        (encoding,) = self.ingress.encodings
        source = encoding.source or SOURCE
        encoding.receive(rtp.Packet(0, 0, self.type, sequence, number * 90, source, 0, b"", b"x"), number / 1000)
        return self.wire.sent[-1] if self.sink.packets > before else None


@pytest.mark.parametrize("first", [0, 40_000])
def test_lost_and_late_packets_are_sent_at_any_time(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "MAX_REPAIRS", PACKETS)
    monkeypatch.setattr(sink, "MAX_ASKED", PACKETS)
    stream = Stream(first)
    for number in range(0, PACKETS, 10):
        for place in (0, 1, 2, 3, 4, 6, 5, 7, 8, 9):
            sent = stream.feed(number + place)
            assert sent is not None, f"packet {number + place} was not forwarded"
        asked = stream.wire.sent[-3]
        stream.wire.sent.clear()
        if number % 50 == 0:
            stream.sink.retransmit([asked.sequence])
            assert [packet.sequence for packet in stream.wire.sent] == [asked.sequence], f"at packet {number}"


def test_late_packet_of_a_time_that_the_subscriber_did_not_have_stays_away() -> None:
    stream = Stream(0)
    for number in range(50):
        stream.feed(number)
    stream.sink.mute(True)
    for number in range(50, 100):
        if number != 90:
            stream.feed(number)
    stream.sink.mute(False)
    assert stream.feed(100) is not None
    assert stream.feed(90) is None


def test_late_packet_of_before_the_mute_fills_its_place() -> None:
    stream = Stream(0)
    for number in range(50):
        if number != 40:
            stream.feed(number)
    before = stream.wire.sent[-1].sequence
    stream.sink.mute(True)
    stream.sink.mute(False)
    assert stream.feed(50) is not None
    late = stream.feed(40)
    assert late is not None
    assert before - late.sequence & 0xFFFF == 9
