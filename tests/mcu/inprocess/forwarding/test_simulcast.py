"""Simulcast and temporal layers from a receive track to a down track: selection, switches, contiguous numbers."""

from __future__ import annotations

import random
import struct

import pytest

from mcu.base import MediaSelection
from mcu.inprocess.forwarding import rtcp, rtp
from mcu.inprocess.forwarding.down_track import KEYFRAME_RETRY
from mcu.inprocess.forwarding.receive_track import LAYER_TIMEOUT
from mcu.inprocess.forwarding.rtcp_feedback import KEYFRAME_INTERVAL
from mcu.inprocess.negotiation.parameters import OfferedStream
from tests.mcu.inprocess.forwarding.simulcast import (
    CLOCK_RATE,
    FRAME_INTERVAL,
    REPAIRED_RID_EXTENSION,
    THREE_TEMPORAL_LAYERS,
    SimulcastCall,
    simulcast_section,
)
from tests.mcu.inprocess.forwarding.vp8 import DELTA_FRAME, KEYFRAME, vp8_descriptor


def test_layer_is_forwarded_from_its_keyframe_on() -> None:
    call = SimulcastCall()
    call.send_frames(3, 0, 1, 2)
    assert call.forwarded == []
    assert 3000 in call.to_publisher.keyframe_requests
    call.send_frames(1, 2, keyframe=True)
    call.send_frames(3, 0, 1, 2)
    assert call.down_track.substream == 2
    assert len(call.forwarded) == 4
    call.assert_contiguous()


def test_layers_switch_at_keyframes_under_one_ssrc_with_contiguous_numbers() -> None:
    call = SimulcastCall()
    call.send_frames(2, 0, 1, 2, keyframe=True, packets=3)
    for substream in (0, 2, 1, 0, 2):
        call.select(MediaSelection(substream=substream))
        before = call.down_track.substream
        call.send_frames(4, 0, 1, 2, packets=2)
        assert call.down_track.substream == before
        call.send_frames(1, substream, keyframe=True, packets=3)
        assert call.down_track.substream == substream
        call.send_frames(4, 0, 1, 2, packets=2)
    call.assert_contiguous()


def test_keyframe_of_the_selected_layer_is_requested_again_while_none_arrives() -> None:
    call = SimulcastCall()
    call.send_frames(2, 0, 1, 2, keyframe=True)
    call.send_frames(round(KEYFRAME_INTERVAL / FRAME_INTERVAL) + 1, 0, 1, 2)
    call.to_publisher.rtcp.clear()
    call.select(MediaSelection(substream=0))
    call.send_frames(round((KEYFRAME_RETRY + KEYFRAME_INTERVAL) / FRAME_INTERVAL) + 2, 0, 1, 2)
    assert call.to_publisher.keyframe_requests == [1000, 1000]


def test_layer_that_stops_is_replaced_by_the_best_lower_one_until_it_resumes() -> None:
    call = SimulcastCall()
    call.send_frames(2, 0, 1, 2, keyframe=True)
    assert call.down_track.substream == 2
    call.send_frames(round(LAYER_TIMEOUT / FRAME_INTERVAL) + 2, 0, 1)
    call.send_frames(1, 0, 1, keyframe=True)
    assert call.down_track.substream == 1
    call.send_frames(3, 0, 1, 2)
    call.send_frames(1, 0, 1, 2, keyframe=True)
    assert call.down_track.substream == 2
    call.assert_contiguous()


def test_lowest_higher_layer_replaces_a_selected_one_that_is_not_sent() -> None:
    call = SimulcastCall(selection=MediaSelection(substream=0))
    call.send_frames(2, 1, 2, keyframe=True)
    assert call.down_track.substream == 1


def test_pause_of_all_layers_causes_no_switch() -> None:
    call = SimulcastCall()
    call.send_frames(2, 0, 1, 2, keyframe=True)
    call.now += 10 * LAYER_TIMEOUT
    call.track.tick(call.now)
    call.send_frames(1, 0, 1, 2)
    assert call.down_track.substream == 2
    assert call.down_track._next_stream is None


def test_packet_lost_before_a_switch_is_retransmitted_after_it() -> None:
    call = SimulcastCall()
    call.send_frames(2, 0, 1, 2, keyframe=True)
    lost = call.forwarded[-1]
    call.select(MediaSelection(substream=0))
    call.send_frames(1, 0, keyframe=True)
    call.send_frames(2, 0, 1, 2)
    call.retransmit([lost.sequence, call.forwarded[-1].sequence])
    first, second = call.forwarded[-2:]
    assert first.ssrc == second.ssrc == call.track.rtx_ssrc
    assert first.payload == struct.pack("!H", lost.sequence) + lost.payload
    assert first.timestamp == lost.timestamp
    assert second.payload[2:] == call.forwarded[-3].payload


def test_retransmission_ssrc_is_bound_by_the_repaired_rid() -> None:
    call = SimulcastCall(selection=MediaSelection(substream=1))
    call.send_frames(2, 0, 1, 2, keyframe=True)
    layer = call.layers[1]
    call.now += FRAME_INTERVAL
    layer.send(call.now, packets=3, lost=(1,))
    original = vp8_descriptor(
        starts_partition=False, picture_id=layer.picture_id, tl0picidx=layer.tl0picidx, temporal_layer=0
    )
    repaired_rid = rtp.pack_extension([(REPAIRED_RID_EXTENSION, b"h")])[4:]
    payload = struct.pack("!H", layer.sequence - 1) + original + DELTA_FRAME
    repair = rtp.RtpPacket(0, 0, 97, 7, layer.timestamp, 2001, 0xBEDE, repaired_rid, payload)
    layer.deliver(repair, call.now)
    assert call.track.rtp_streams[1].recovered == 1
    assert call.to_subscriber.sequences == [0, 1, 3, 2]
    unknown = repair._replace(ssrc=2002, extension=rtp.pack_extension([(REPAIRED_RID_EXTENSION, b"x")])[4:])
    assert call.track.bind_ssrc(unknown, call.now) is None
    without_rid = repair._replace(ssrc=2003, profile=0, extension=b"")
    assert call.track.bind_ssrc(without_rid, call.now) is None


def test_layers_of_an_ssrc_group_are_demultiplexed_by_ssrc() -> None:
    call = SimulcastCall(
        (OfferedStream("#0", 1000, 1001), OfferedStream("#1", 2000, 2001), OfferedStream("#2", 3000, 3001))
    )
    call.send_frames(2, 0, 1, 2, keyframe=True)
    call.select(MediaSelection(substream=0))
    call.send_frames(1, 0, keyframe=True)
    call.send_frames(1, 0, 1, 2)
    assert call.down_track.substream == 0
    call.assert_contiguous()


def test_layer_that_changes_its_ssrc_is_forwarded_on() -> None:
    call = SimulcastCall()
    call.send_frames(2, 0, 1, 2, keyframe=True)
    call.layers[2].ssrc = 3333
    call.send_frames(1, 2, keyframe=True)
    call.send_frames(2, 0, 1, 2)
    assert call.to_subscriber.sequences == list(range(4))


def test_unmuted_layer_resumes_at_a_keyframe() -> None:
    call = SimulcastCall()
    call.send_frames(2, 0, 1, 2, keyframe=True)
    call.down_track.mute(True, call.now)
    call.send_frames(2, 0, 1, 2)
    call.down_track.mute(False, call.now)
    call.send_frames(2, 0, 1, 2)
    before = len(call.forwarded)
    call.send_frames(1, 0, 1, 2, keyframe=True)
    assert len(call.forwarded) == before + 1
    call.assert_contiguous()


def test_sender_reports_are_those_of_the_forwarded_layer() -> None:
    call = SimulcastCall()
    call.send_frames(2, 0, 1, 2, keyframe=True)
    call.select(MediaSelection(substream=0))
    timestamp = call.layers[0].timestamp
    call.track.rtp_streams[0].forward_sender_report(rtcp.SenderReport(1000, 9 << 32, timestamp, 1, 1), call.now)
    call.send_frames(1, 0, keyframe=True)
    report = call.to_subscriber.sender_reports[-1]
    ahead = call.forwarded[-1].timestamp - report.timestamp & 0xFFFFFFFF
    assert ahead in (0, 1, 0xFFFFFFFF)  # the report is extrapolated to the keyframe's arrival
    call.track.rtp_streams[2].forward_sender_report(rtcp.SenderReport(3000, 9 << 32, 0, 1, 1), call.now)
    assert call.to_subscriber.sender_reports[-1] == report


def test_renegotiation_without_simulcast_continues_with_the_single_stream() -> None:
    call = SimulcastCall()
    call.send_frames(2, 0, 1, 2, keyframe=True)
    call.track.update(simulcast_section(OfferedStream()), call.now)
    payload = vp8_descriptor(picture_id=3, tl0picidx=4, temporal_layer=0) + KEYFRAME
    call.layers[0].deliver(rtp.RtpPacket(0, 0x80, 96, 5, 5, 4000, 0, b"", payload), call.now)
    assert call.to_subscriber.sequences == [0, 1]
    assert call.forwarded[-1].timestamp - call.forwarded[-2].timestamp & 0xFFFFFFFF < CLOCK_RATE


@pytest.mark.parametrize(("selected", "forwarded"), [(0, {0}), (1, {0, 1}), (2, {0, 1, 2}), (9, {0, 1, 2}), (-1, {0})])
def test_temporal_layers_above_the_selected_one_are_dropped(selected: int, forwarded: set[int]) -> None:
    call = SimulcastCall((OfferedStream(),), MediaSelection(temporal=selected))
    call.send_frames(1, 0, keyframe=True)
    call.send_frames(200, 0, temporal_layers=THREE_TEMPORAL_LAYERS, packets=3)
    assert set(call.forwarded_temporal_layers) == forwarded
    call.assert_contiguous()


def test_temporal_layer_changes_with_a_whole_picture() -> None:
    call = SimulcastCall((OfferedStream(),))
    call.send_frames(1, 0, keyframe=True)
    for temporal in (0, 2, 1, 0, 2):
        call.select(MediaSelection(temporal=temporal))
        before = len(call.forwarded)
        call.send_frames(8, 0, temporal_layers=THREE_TEMPORAL_LAYERS, packets=2)
        assert set(call.forwarded_temporal_layers[before:]) == set(range(temporal + 1))
    packets = [(packet.timestamp, packet.marker) for packet in call.forwarded]
    for first, last in zip(packets[1::2], packets[2::2], strict=True):
        assert first == (last[0], 0)
        assert last[1] == 0x80
    call.assert_contiguous()


def test_late_packet_of_a_dropped_temporal_layer_is_forwarded_without_payload() -> None:
    call = SimulcastCall((OfferedStream("", 1000, 1001),), MediaSelection(temporal=0))
    call.send_frames(1, 0, keyframe=True)
    layer = call.layers[0]
    layer.send(call.now + FRAME_INTERVAL, temporal_layer=2, packets=2, lost=(1,))
    lost = layer.sequence
    call.send_frames(2, 0)
    descriptor = vp8_descriptor(starts_partition=False, picture_id=layer.picture_id - 2, temporal_layer=2)
    payload = struct.pack("!H", lost) + descriptor + DELTA_FRAME
    layer.deliver(rtp.RtpPacket(0, 0, 97, 9, layer.timestamp - 9000, 1001, 0, b"", payload), call.now)
    assert sorted(call.to_subscriber.sequences) == list(range(len(call.forwarded)))
    assert call.forwarded[-1].payload == b""
    call.retransmit([call.forwarded[-1].sequence])
    assert call.forwarded[-1].payload == struct.pack("!H", call.forwarded[-2].sequence)


def test_retransmission_has_the_original_sequence_number_where_layers_are_dropped() -> None:
    call = SimulcastCall((OfferedStream(),), MediaSelection(temporal=1))
    call.send_frames(1, 0, keyframe=True)
    call.send_frames(300, 0, temporal_layers=THREE_TEMPORAL_LAYERS, packets=2)
    lost = call.forwarded[-100:]
    call.retransmit([packet.sequence for packet in lost])
    assert [packet.payload for packet in call.forwarded[-100:]] == [
        struct.pack("!H", packet.sequence) + packet.payload for packet in lost
    ]


@pytest.mark.parametrize("seed", range(8))
def test_random_input_raises_nothing_and_uses_no_sequence_number_twice(seed: int) -> None:
    rng = random.Random(seed)
    call = SimulcastCall()
    for _ in range(3000):
        call.now += 0.01
        layer = rng.choice(call.layers)
        match rng.randrange(12):
            case 0:
                call.select(MediaSelection(rng.choice((None, 0, 1, 2, 9, -1)), rng.choice((None, 0, 1, 2, 9, -1))))
            case 1:
                call.down_track.mute(rng.random() < 0.5, call.now)
            case 2:
                call.retransmit([rng.randrange(1 << 16) for _ in range(3)])
            case 3:
                layer.sequence = layer.sequence + rng.choice((1, 5, 400, 30_000)) & 0xFFFF
            case 4:
                payload, ssrc = rng.randbytes(rng.randrange(6)), rng.choice((layer.ssrc, 5000, 5001))
                payload_type, sequence = rng.choice((96, 97)), rng.randrange(1 << 16)
                layer.deliver(rtp.RtpPacket(0, 0, payload_type, sequence, 5, ssrc, 0, b"", payload), call.now)
            case 5:
                call.track.tick(call.now)
                call.feedback.tick(call.now)
            case _:
                lost = tuple(position for position in range(3) if rng.random() < 0.1)
                keyframe = rng.random() < 0.1
                temporal_layer = 0 if keyframe else rng.randrange(3)
                layer.send(call.now, keyframe=keyframe, temporal_layer=temporal_layer, packets=3, lost=lost)
    sequences = [packet.sequence for packet in call.forwarded if packet.ssrc == call.track.ssrc]
    assert len(sequences) > 50
    assert len(set(sequences)) == len(sequences)
