"""What a client can make us keep, send and look for, whatever it sends."""

from __future__ import annotations

from mcu.inprocess.forwarding import rtcp
from mcu.inprocess.forwarding.down_track import MAX_ASKED, MAX_REPAIRS
from mcu.inprocess.forwarding.rtp_stream import CLOCK_INTERVAL, MAX_KEPT
from tests.mcu.inprocess.forwarding.test_forwarding import SOURCE, down_track, only, packet, track


def test_subscriber_cannot_make_us_send_without_end() -> None:
    source, _ = track()
    out, wire = down_track(source)
    only(source).receive(packet(1), 1.0)
    out.retransmit([wire.rtp[0].sequence] * 10 * MAX_REPAIRS)
    assert len(wire.rtp) == 1 + MAX_REPAIRS


def test_subscriber_cannot_make_us_look_without_end() -> None:
    source, _ = track()
    out, wire = down_track(source)
    only(source).receive(packet(1), 1.0)
    number = wire.rtp[0].sequence
    out.retransmit([number - 1 & 0xFFFF] * MAX_ASKED + [number])
    assert len(wire.rtp) == 1


def test_publisher_of_huge_packets_cannot_make_us_keep_them_all() -> None:
    source, _ = track()
    out, wire = down_track(source)
    huge = 60_000
    for number in range(1, 200):
        only(source).receive(packet(number, payload=bytes(huge)), 1.0)
        kept = {id(it): len(it.payload) for it in only(source)._history if it is not None}
        assert sum(kept.values()) == only(source)._kept <= MAX_KEPT
    only(source).receive(packet(150), 1.0)
    assert wire.sequences == list(range(199))
    out.retransmit([wire.rtp[-1].sequence])
    assert len(wire.rtp[-1].payload) == huge + 2


def test_reports_of_a_publisher_do_not_multiply() -> None:
    source, _ = track()
    _, wire = down_track(source)
    only(source).receive(packet(1, 500), 5.0)
    for number in range(1000):
        only(source).report(rtcp.SenderReport(SOURCE, number << 32, 500, 1, 1), 5.0)
    only(source).report(rtcp.SenderReport(SOURCE, 7 << 32, 500, 1, 1), 5.0 + 2 * CLOCK_INTERVAL)
    assert [it.ntp >> 32 for it in wire.rtcp if isinstance(it, rtcp.SenderReport)] == [0, 7]
