"""Packets that the in-process SFU forwards in one loop iteration: a limited number, shared by publishers."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from mcu.base import PublisherId, PublishOptions
from mcu.inprocess import InprocessSettings
from mcu.inprocess.backend import InprocessMcu
from mcu.inprocess.forwarding.rtp import RtpPacket
from mcu.inprocess.forwarding_turns import MAX_WAITING, PACKETS_PER_ITERATION, ForwardingQueue, ForwardingTurns
from mcu.inprocess.publisher import InprocessPublisher
from tests.mcu.contract.clients import KEY, sender
from tests.mcu.descriptions import parse_frozen
from tests.mcu.inprocess.forwarding.tracks import (
    RecordingSender,
    make_down_track,
    make_receive_track,
    only_stream,
    packet,
)
from tests.sdp.recorded import BY_ID

KEYFRAME = 24  # packets
SUBSCRIBERS = 50


class QueuedPublisher:
    """A receive track with subscribers, whose packets take turns with those of other publishers."""

    def __init__(self, turns: ForwardingTurns, subscribers: int) -> None:
        track, _ = make_receive_track()
        self._stream = only_stream(track)
        self.subscribers: list[RecordingSender] = [make_down_track(track)[1] for _ in range(subscribers)]
        self.queue = ForwardingQueue(turns, self._forward)

    def _forward(self, packet: RtpPacket, now: float) -> int:
        self._stream.receive(packet, now)
        return self._stream.down_track_count

    def receive(self, *sequences: int) -> None:
        """Receive packets, all at the same time."""
        for sequence in sequences:
            self.queue.receive(packet(sequence), 2.0)

    @property
    def sent(self) -> int:
        """Number of packets sent to all subscribers."""
        return sum(len(subscriber.rtp) for subscriber in self.subscribers)


async def growth_by_turn(count: Callable[[], int], until: int) -> list[int]:
    """Return the growth of a count in each loop iteration, until it has reached ``until``."""
    growth = [count()]
    for _ in range(10_000):
        if sum(growth) >= until:
            return growth
        await asyncio.sleep(0)
        growth.append(count() - sum(growth))
    raise AssertionError(growth)


async def test_keyframe_for_many_subscribers_is_forwarded_in_many_turns_and_in_order() -> None:
    publisher = QueuedPublisher(ForwardingTurns(), SUBSCRIBERS)
    publisher.receive(*range(KEYFRAME))
    by_turn = await growth_by_turn(lambda: publisher.sent, KEYFRAME * SUBSCRIBERS)
    assert max(by_turn) < PACKETS_PER_ITERATION + SUBSCRIBERS
    # no turn passes without packets, and each forwards as many as it may
    assert all(packets > PACKETS_PER_ITERATION - SUBSCRIBERS for packets in by_turn[:-1])
    assert [subscriber.sequences for subscriber in publisher.subscribers] == [list(range(KEYFRAME))] * SUBSCRIBERS


async def test_packets_that_fit_into_a_turn_are_forwarded_at_once() -> None:
    publisher = QueuedPublisher(ForwardingTurns(), 3)
    for number in range(100):
        publisher.receive(number)
        assert publisher.sent == 3 * (number + 1)
        if number % 10 == 0:
            await asyncio.sleep(0)


async def test_turn_is_shared_by_packets_that_wait_and_packets_that_arrive() -> None:
    turns = ForwardingTurns()
    waiting, arriving = QueuedPublisher(turns, SUBSCRIBERS), QueuedPublisher(turns, SUBSCRIBERS)
    waiting.receive(*range(KEYFRAME))
    before = 0
    for number in range(KEYFRAME):
        arriving.receive(number)
        assert waiting.sent + arriving.sent - before < PACKETS_PER_ITERATION + SUBSCRIBERS
        before = waiting.sent + arriving.sent
        await asyncio.sleep(0)
    await growth_by_turn(lambda: arriving.sent, KEYFRAME * SUBSCRIBERS)
    assert [subscriber.sequences for subscriber in arriving.subscribers] == [list(range(KEYFRAME))] * SUBSCRIBERS


async def test_publishers_that_wait_take_turns() -> None:
    turns = ForwardingTurns()
    flooding, other = QueuedPublisher(turns, 1), QueuedPublisher(turns, 1)
    flooding.receive(*range(MAX_WAITING))
    other.receive(0, 1, 2)
    assert other.sent == 0
    await asyncio.sleep(0)
    assert other.sent == 3
    assert flooding.sent < MAX_WAITING


async def test_packets_beyond_the_limit_of_waiting_ones_are_dropped() -> None:
    publisher = QueuedPublisher(ForwardingTurns(), 1)
    publisher.receive(*range(PACKETS_PER_ITERATION + 2 * MAX_WAITING))
    at_once = publisher.sent
    await growth_by_turn(lambda: publisher.sent, at_once + MAX_WAITING)
    await asyncio.sleep(0)
    assert publisher.subscribers[0].sequences == list(range(at_once + MAX_WAITING))


async def test_packets_of_an_ended_publisher_are_dropped() -> None:
    turns = ForwardingTurns()
    ended, other = QueuedPublisher(turns, SUBSCRIBERS), QueuedPublisher(turns, 1)
    ended.receive(*range(KEYFRAME))
    ended.queue.clear()
    sent = ended.sent
    other.receive(0)
    await growth_by_turn(lambda: other.sent, 1)
    assert ended.sent == sent


async def test_packet_that_cannot_be_forwarded_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    turns, forwarded = ForwardingTurns(), []

    def forward(packet: RtpPacket, now: float) -> int:
        if packet.sequence in (1, 2):
            raise ValueError(packet.sequence)
        forwarded.append((packet.sequence, now))
        return PACKETS_PER_ITERATION

    queue = ForwardingQueue(turns, forward)
    for number in range(5):
        queue.receive(packet(number), float(number))
    await growth_by_turn(lambda: len(forwarded), 3)
    assert forwarded == [(0, 0.0), (3, 3.0), (4, 4.0)]
    assert caplog.text.count("a packet could not be forwarded") == 1


async def test_publishers_of_an_sfu_share_its_turns(loopback: None) -> None:
    mcu = InprocessMcu(InprocessSettings(address="127.0.0.1"))
    await mcu.start(lambda status: None)
    publishers = []
    async with sender() as alice:
        for name in ("one", "two"):
            offer = parse_frozen(BY_ID["chromium/ice-restarted-before.offer.sdp"].text)
            key = replace(KEY, publisher=PublisherId(name))
            published, _ = await mcu.publish(key, offer, PublishOptions(), alice)
            assert isinstance(published, InprocessPublisher)
            publishers.append(published)
        for publisher in publishers:
            for octets in audio_packets(publisher, MAX_WAITING):
                publisher.on_rtp(octets)
        by_turn = await growth_by_turn(lambda: forwarded_packets(publishers), 2 * MAX_WAITING)
    assert max(by_turn) == PACKETS_PER_ITERATION
    await mcu.stop()


def audio_packets(publisher: InprocessPublisher, count: int) -> list[bytes]:
    """Return the RTP packets of a publisher's first medium."""
    track = next(iter(publisher.tracks.values()))
    type, ssrc = track.codec.payload.type, track.rtp_streams[0].ssrc
    return [struct.pack("!BBHII", 0x80, type, number, number, ssrc) + b"x" for number in range(count)]


def forwarded_packets(publishers: Sequence[InprocessPublisher]) -> int:
    """Return the number of packets that publishers have forwarded."""
    return sum(
        stream.packets
        for publisher in publishers
        for track in publisher.tracks.values()
        for stream in track.rtp_streams
    )
