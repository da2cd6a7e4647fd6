"""Calls with packet loss, forwarding errors and stray datagrams, and a data channel that is added later."""

from __future__ import annotations

import asyncio
import itertools
import random
import re

import pytest

from mcu.inprocess.backend import InprocessMcu
from mcu.inprocess.publisher import InprocessPublisher
from mcu.inprocess.transport.aiortc_internals.ice import IceTransport
from mcu.inprocess.transport.peer_transport import PeerTransport
from tests.mcu.contract.clients import sender, viewer

LOSS_INTERVAL = 6  # one packet in this number is lost
PICTURES = 25
VP8, RTX = 97, 98  # payload types that aiortc offers
JUNK = (b"", b"\x00", b"\x00" * 20, b"\x14" * 30, b"\x80", b"\x80\xc8" * 20, b"\x90" * 100, b"\xff" * 9)


class VideoLoss:
    """The loss of every ``LOSS_INTERVAL``-th video packet; counts the retransmissions."""

    def __init__(self) -> None:
        self.packets = 0
        self.lost = 0
        self.retransmitted = 0

    def delivers(self, data: bytes) -> bool:
        """Return whether to deliver a datagram."""
        payload_type = data[1] & 0x7F if 127 < data[0] < 192 else 0
        if payload_type == RTX:
            self.retransmitted += 1
        if payload_type != VP8:
            return True
        self.packets += 1
        lost = self.packets % LOSS_INTERVAL == 0
        self.lost += lost
        return not lost


async def receive_pictures(mcu: InprocessMcu) -> None:
    """Publish and subscribe until some pictures are decoded."""
    async with sender(33) as alice, viewer() as carol:
        await alice.publish(mcu)
        await carol.subscribe(mcu)
        await carol.peer.until(lambda: sum(carol.peer.frames.values()) >= PICTURES, f"{PICTURES} pictures")
        await carol.peer.wait_for_picture(33)


async def test_loss_between_sfu_and_subscriber_is_repaired(mcu: InprocessMcu, monkeypatch: pytest.MonkeyPatch) -> None:
    send, loss = IceTransport.send_now, VideoLoss()

    def lossy(self: IceTransport, data: bytes) -> bool:
        return send(self, data) if loss.delivers(data) else True

    monkeypatch.setattr(IceTransport, "send_now", lossy)
    await receive_pictures(mcu)
    assert loss.lost > 1
    assert loss.retransmitted >= loss.lost - 1  # the last retransmission may not have arrived yet


async def test_loss_between_publisher_and_sfu_is_repaired(mcu: InprocessMcu, monkeypatch: pytest.MonkeyPatch) -> None:
    receive, loss = PeerTransport._receive, VideoLoss()

    def lossy(self: PeerTransport, data: bytes) -> None:
        if loss.delivers(data):
            receive(self, data)

    monkeypatch.setattr(PeerTransport, "_receive", lossy)
    await receive_pictures(mcu)
    assert loss.lost > 1
    assert loss.retransmitted >= loss.lost - 1


async def test_error_in_forwarding_a_packet_ends_no_connection(
    mcu: InprocessMcu, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive, count = InprocessPublisher.on_rtp, itertools.count()
    fault = random.Random(1)  # at fixed intervals every retransmission of one packet might meet a fault

    def faulty(self: InprocessPublisher, data: bytes) -> None:
        if next(count) == 0 or fault.random() < 1 / LOSS_INTERVAL:
            raise RuntimeError("a fault in the forwarder")
        receive(self, data)

    monkeypatch.setattr(InprocessPublisher, "on_rtp", faulty)
    await receive_pictures(mcu)
    assert next(count) > LOSS_INTERVAL


async def test_stray_datagrams_end_no_connection(mcu: InprocessMcu) -> None:
    async with sender(34) as alice, viewer() as carol:
        await alice.publish(mcu)
        await carol.subscribe(mcu)
        await carol.peer.wait_for_picture(34)
        loop = asyncio.get_running_loop()
        stranger, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
        descriptions = alice.peer.pc.remoteDescription.sdp + carol.peer.pc.remoteDescription.sdp
        ports = {int(port) for port in re.findall(r" 127\.0\.0\.1 (\d+) typ host", descriptions)}
        assert len(ports) == 2
        for port in ports:
            for junk in JUNK:
                stranger.sendto(junk, ("127.0.0.1", port))
        stranger.close()
        await carol.peer.wait_for_picture(34)
        await alice.peer.send_message("status", "still here")
        await carol.peer.wait_for_message("status", "still here")
        assert alice.closed == carol.closed == []


async def test_data_channel_added_by_renegotiation_reaches_subscribers(mcu: InprocessMcu) -> None:
    async with sender(35, video=False, channels=()) as alice, viewer() as carol:
        await alice.publish(mcu)
        await carol.subscribe(mcu)
        await carol.peer.wait_for_tone(440.0)
        alice.peer.channels["late"] = alice.peer.pc.createDataChannel("late")
        alice.peer.channels["late"].on("open", alice.peer.notify)
        await alice.renegotiate()
        await carol.until(lambda: bool(carol.offers), "an offer")
        await carol.wait_until_answered()
        await alice.peer.send_message("late", "hello")
        await carol.peer.wait_for_message("late", "hello")
