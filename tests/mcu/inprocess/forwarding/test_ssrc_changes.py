"""What is said, repaired and counted around a publisher's change of SSRC or of layers."""

from __future__ import annotations

import time
from dataclasses import replace

from mcu.base import MediaKind, MediaSelection
from mcu.inprocess.forwarding import rtcp
from mcu.inprocess.forwarding.rtp_stream import SILENCE
from mcu.inprocess.negotiation.parameters import NegotiatedCodec, OfferedStream, PublisherSection
from tests.mcu.inprocess.forwarding.test_forwarding import (
    RTX,
    RTX_SOURCE,
    SECTION,
    VP8,
    down_track,
    only,
    packet,
    track,
    video,
)
from tests.mcu.inprocess.forwarding.test_simulcast import T3, Stage

OTHER = 2000


def test_clock_of_another_ssrc_is_told_once_its_first_packet_tells_how_it_goes_on() -> None:
    source, _ = track()
    _, wire = down_track(source)
    now = time.monotonic()
    only(source).receive(packet(1, 90_000), now)
    source.update(video(OTHER, OTHER + 1))
    only(source).report(rtcp.SenderReport(OTHER, 9 << 32, 4_000_000, 1, 1), now)
    _, late = down_track(source)
    assert (wire.rtcp, late.rtcp) == ([], [])
    only(source).receive(packet(7, 4_000_900, OTHER), now + 0.1)
    only(source).report(rtcp.SenderReport(OTHER, 10 << 32, 4_000_900, 1, 1), now + 0.1)
    (report,) = wire.rtcp
    assert isinstance(report, rtcp.SenderReport)
    assert report.timestamp == wire.rtp[-1].timestamp


def test_clock_waits_for_a_packet_where_simulcast_ended() -> None:
    stage = Stage()
    stage.frames(2, 0, 1, 2, key=True)
    single = (OfferedStream("", 4000),)
    stage.track.update(PublisherSection(MediaKind.VIDEO, "v", SECTION, True, NegotiatedCodec(VP8, RTX), {}, single))
    stage.wire.rtcp.clear()
    (rtp_stream,) = stage.track.rtp_streams
    rtp_stream.report(rtcp.SenderReport(4000, 9 << 32, 5, 1, 1), stage.now)
    assert stage.wire.rtcp == []
    rtp_stream.receive(packet(5, 5, 4000), stage.now + 0.2)
    rtp_stream.report(rtcp.SenderReport(4000, 9 << 32, 5, 1, 1), stage.now + 0.2)
    (report,) = stage.wire.rtcp
    assert isinstance(report, rtcp.SenderReport)
    assert report.timestamp == stage.wire.rtp[-1].timestamp


def test_what_another_ssrc_never_sent_is_not_asked_of_it() -> None:
    source, back = track(video(None, None))
    out, wire = down_track(source)
    for number in (1, 3):
        assert source.claim(packet(number), 1.0) or number > 1
        only(source).receive(packet(number), 1.0)
    only(source).arrival.repaired(2)  # given up
    later = 2.0 + SILENCE
    assert source.claim(packet(5000, ssrc=OTHER), later)
    asked_for = wire.rtp[0].sequence + 1 & 0xFFFF
    back.rtcp.clear()
    out.retransmit([asked_for])
    only(source).receive(packet(5000, ssrc=OTHER), later)
    back.rtcp.clear()
    out.retransmit([asked_for])
    assert back.rtcp == []


def test_repaired_counts_what_came_first_as_a_retransmission() -> None:
    source, _ = track()
    for number in (1, 2, 4):
        only(source).receive(packet(number), 1.0)
    for original in (2, 3, 3):  # the first is a probe of the way, the last comes twice
        again = packet(10 + original, 0, RTX_SOURCE, original.to_bytes(2, "big") + b"x")
        only(source).receive(again._replace(payload_type=97), 1.0)
    assert (only(source).packets, only(source).lost, only(source).repaired) == (4, 1, 1)


def test_one_number_never_stands_for_two_texts() -> None:
    stage = Stage((OfferedStream(),), MediaSelection(temporal=2))
    assert stage.down_track._accepted is not None
    stage.down_track.accept(replace(stage.down_track._accepted, rtx_payload_type=None))
    stage.frames(1, 0, key=True)
    stage.frames(8, 0, tids=T3, packets=2)
    sent = {it.sequence: it for it in stage.wire.rtp}
    stage.down_track.select(MediaSelection(temporal=0))
    stage.frames(4, 0, tids=T3, packets=2)
    stage.wire.rtp.clear()
    stage.down_track.retransmit(list(sent))
    assert stage.wire.rtp
    assert all(it == sent[it.sequence] for it in stage.wire.rtp)
