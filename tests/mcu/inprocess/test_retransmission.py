"""Calls over lines that lose packets, and changes of a stream that the contract leaves open."""

from __future__ import annotations

import asyncio
import itertools
import re

import pytest

from mcu.inprocess import InprocessSettings
from mcu.inprocess.backend import InprocessMcu
from mcu.inprocess.publisher import InprocessPublisher
from mcu.inprocess.transport.aiortc_internals import IceTransport
from mcu.inprocess.transport.peer_transport import PeerTransport
from tests.mcu.contract.clients import sender, viewer

EVERY = 6  # one of so many packets is lost
PICTURES = 25
VP8, RTX = 97, 98  # payload types that aiortc offers
JUNK = (b"", b"\x00", b"\x00" * 20, b"\x14" * 30, b"\x80", b"\x80\xc8" * 20, b"\x90" * 100, b"\xff" * 9)


class Line:
    """Loses packets of the picture, and counts those that are sent again."""

    def __init__(self) -> None:
        self.packets = 0
        self.lost = 0
        self.repaired = 0

    def passes(self, data: bytes) -> bool:
        """Whether a datagram arrives."""
        kind = data[1] & 0x7F if 127 < data[0] < 192 else 0
        if kind == RTX:
            self.repaired += 1
        if kind != VP8:
            return True
        self.packets += 1
        lost = self.packets % EVERY == 0
        self.lost += lost
        return not lost


async def watch() -> None:
    """Publish and watch for some seconds."""
    mcu = InprocessMcu(InprocessSettings(address="127.0.0.1"))
    await mcu.start(lambda status: None)
    async with sender(33) as alice, viewer() as carol:
        await alice.publish(mcu)
        await carol.subscribe(mcu)
        await carol.peer.until(lambda: sum(carol.peer.frames.values()) >= PICTURES, f"{PICTURES} pictures", 10.0)
        await carol.peer.wait_for_picture(33)
    await mcu.stop()


async def test_loss_on_the_way_to_the_subscriber_is_repaired(loopback: None, monkeypatch: pytest.MonkeyPatch) -> None:
    send, line = IceTransport.send_now, Line()

    def lossy(self: IceTransport, data: bytes) -> bool:
        return send(self, data) if line.passes(data) else True

    monkeypatch.setattr(IceTransport, "send_now", lossy)
    await watch()
    assert line.lost > 1
    assert line.repaired >= line.lost - 1  # the last may be on its way


async def test_loss_on_the_way_from_the_publisher_is_repaired(loopback: None, monkeypatch: pytest.MonkeyPatch) -> None:
    receive, line = PeerTransport._receive, Line()

    def lossy(self: PeerTransport, data: bytes) -> None:
        if line.passes(data):
            receive(self, data)

    monkeypatch.setattr(PeerTransport, "_receive", lossy)
    await watch()
    assert line.lost > 1
    assert line.repaired >= line.lost - 1


async def test_packet_that_cannot_be_handled_ends_nothing(loopback: None, monkeypatch: pytest.MonkeyPatch) -> None:
    receive, count = InprocessPublisher.on_rtp, itertools.count()

    def faulty(self: InprocessPublisher, data: bytes) -> None:
        if next(count) % EVERY == 0:
            raise RuntimeError("a fault in the forwarder")
        receive(self, data)

    monkeypatch.setattr(InprocessPublisher, "on_rtp", faulty)
    await watch()
    assert next(count) > EVERY


async def test_datagrams_of_strangers_end_nothing(loopback: None) -> None:
    mcu = InprocessMcu(InprocessSettings(address="127.0.0.1"))
    await mcu.start(lambda status: None)
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
    await mcu.stop()


async def test_data_channel_that_comes_later_reaches_subscribers(loopback: None) -> None:
    mcu = InprocessMcu(InprocessSettings(address="127.0.0.1"))
    await mcu.start(lambda status: None)
    async with sender(35, video=False, channels=()) as alice, viewer() as carol:
        await alice.publish(mcu)
        await carol.subscribe(mcu)
        await carol.peer.wait_for_tone(440.0)
        alice.peer.channels["late"] = alice.peer.pc.createDataChannel("late")
        alice.peer.channels["late"].on("open", alice.peer.notify)
        await alice.renegotiate()
        await carol.until(lambda: bool(carol.offers), "an offer")
        await carol.answered()
        await alice.peer.send_message("late", "hello")
        await carol.peer.wait_for_message("late", "hello")
    await mcu.stop()
