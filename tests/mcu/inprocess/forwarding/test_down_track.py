"""A down track over more packets than there are sequence numbers, and late packets around a mute."""

from __future__ import annotations

import pytest

from mcu.inprocess.forwarding import down_track as down_track_module
from mcu.inprocess.forwarding import rtp
from tests.mcu.inprocess.forwarding.tracks import make_down_track, make_receive_track, only_stream, packet

PACKETS = 150_000  # so that the sequence numbers wrap at least twice


class DownTrackCall:
    """A track without simulcast and one down track, packet by packet a millisecond apart."""

    def __init__(self, first_sequence: int = 0) -> None:
        self._first_sequence = first_sequence
        self._track, _ = make_receive_track()
        self.down_track, self._sent = make_down_track(self._track, rtx=None)
        self.now = 0.0

    def receive(self, number: int) -> rtp.RtpPacket | None:
        """Receive the packet of this number; return the packet sent to the subscriber."""
        self._sent.rtp.clear()
        self.now = max(self.now, number / 1000)
        sequence = self._first_sequence + number & 0xFFFF
        only_stream(self._track).receive(packet(sequence, number * 90, payload=b"x"), number / 1000)
        return self._sent.rtp[0] if self._sent.rtp else None

    def retransmit(self, sequence: int) -> list[int]:
        """Receive a NACK of the subscriber; return the sequence numbers retransmitted."""
        self._sent.rtp.clear()
        self.down_track.retransmit([sequence], self.now)
        return [sent.sequence for sent in self._sent.rtp]


@pytest.mark.parametrize("first_sequence", [0, 40_000])
def test_late_and_nacked_packets_are_sent_after_any_number_of_packets(
    first_sequence: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(down_track_module, "MAX_RETRANSMISSIONS", PACKETS)
    monkeypatch.setattr(down_track_module, "MAX_NACKED", PACKETS)
    call = DownTrackCall(first_sequence)
    for number in range(0, PACKETS, 10):
        for step in (0, 1, 2, 3, 4, 6, 5, 7, 8, 9):
            sent = call.receive(number + step)
            assert sent is not None, f"packet {number + step} was not forwarded"
            if step == 7:
                lost = sent.sequence
        if number % 50 == 0:
            assert call.retransmit(lost) == [lost], f"at packet {number}"


def test_late_packet_of_the_muted_time_is_not_forwarded() -> None:
    call = DownTrackCall()
    for number in range(50):
        call.receive(number)
    call.down_track.mute(True, call.now)
    for number in range(50, 100):
        if number != 90:
            call.receive(number)
    call.down_track.mute(False, call.now)
    assert call.receive(100) is not None
    assert call.receive(90) is None


def test_late_packet_from_before_the_mute_is_forwarded_in_its_place() -> None:
    call = DownTrackCall()
    newest = None
    for number in range(50):
        if number != 40:
            newest = call.receive(number)
    call.down_track.mute(True, call.now)
    call.down_track.mute(False, call.now)
    assert call.receive(50) is not None
    late = call.receive(40)
    assert newest is not None
    assert late is not None
    assert newest.sequence - late.sequence & 0xFFFF == 9
