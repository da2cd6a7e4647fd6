"""Calls over lines that lose packets, and changes of a stream that the contract leaves open."""

from __future__ import annotations

import asyncio
import itertools
import re

import pytest

from mcu.base import Kind
from mcu.inprocess import Settings
from mcu.inprocess.backend import InprocessMcu
from mcu.inprocess.internals import Ice
from mcu.inprocess.publisher import Publisher
from mcu.inprocess.transport import Transport
from tests.mcu.contract.clients import sender, viewer

EVERY = 20  # one of so many packets is lost
PICTURES = 25
JUNK = (b"", b"\x00", b"\x00" * 20, b"\x14" * 30, b"\x80", b"\x80\xc8" * 20, b"\x90" * 100, b"\xff" * 9)


def is_media(data: bytes) -> bool:
    """Whether a datagram is SRTP and not SRTCP."""
    return 127 < data[0] < 192 and not 192 <= data[1] <= 208


async def watch(mcu: InprocessMcu) -> int:
    """Publish, watch some seconds, and return the packets that the subscriber says it lost for good."""
    async with sender(33) as alice, viewer() as carol:
        await alice.publish(mcu)
        await carol.subscribe(mcu)
        await carol.peer.sees(33)
        await carol.peer.until(lambda: sum(carol.peer.frames.values()) >= PICTURES, f"{PICTURES} pictures", 10.0)
        await carol.peer.sees(33)
        lost = [report.lost or 0 for report in mcu.streams() if report.kind is Kind.VIDEO and not report.subscriber]
        await alice.publisher.close()
        return sum(lost)


async def test_loss_on_the_way_to_the_subscriber_is_repaired(loopback: None, monkeypatch: pytest.MonkeyPatch) -> None:
    send, count = Ice.send_now, itertools.count()

    def lossy(self: Ice, data: bytes) -> bool:
        return True if is_media(data) and next(count) % EVERY == 7 else send(self, data)

    monkeypatch.setattr(Ice, "send_now", lossy)
    mcu = InprocessMcu(Settings(address="127.0.0.1"))
    await mcu.start(lambda status: None)
    await watch(mcu)
    await mcu.stop()


async def test_loss_on_the_way_from_the_publisher_is_repaired(loopback: None, monkeypatch: pytest.MonkeyPatch) -> None:
    receive, count = Transport._receive, itertools.count()

    def lossy(self: Transport, data: bytes) -> None:
        if not (is_media(data) and next(count) % EVERY == 7):
            receive(self, data)

    monkeypatch.setattr(Transport, "_receive", lossy)
    mcu = InprocessMcu(Settings(address="127.0.0.1"))
    await mcu.start(lambda status: None)
    await watch(mcu)
    await mcu.stop()


async def test_packet_that_cannot_be_handled_ends_nothing(loopback: None, monkeypatch: pytest.MonkeyPatch) -> None:
    receive, count = Publisher.on_rtp, itertools.count()

    def faulty(self: Publisher, data: bytes) -> None:
        if next(count) % EVERY == 7:
            raise RuntimeError("a fault in the forwarder")
        receive(self, data)

    monkeypatch.setattr(Publisher, "on_rtp", faulty)
    mcu = InprocessMcu(Settings(address="127.0.0.1"))
    await mcu.start(lambda status: None)
    await watch(mcu)
    await mcu.stop()


async def test_datagrams_of_strangers_end_nothing(loopback: None) -> None:
    mcu = InprocessMcu(Settings(address="127.0.0.1"))
    await mcu.start(lambda status: None)
    async with sender(34) as alice, viewer() as carol:
        await alice.publish(mcu)
        await carol.subscribe(mcu)
        await carol.peer.sees(34)
        loop = asyncio.get_running_loop()
        stranger, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
        descriptions = alice.peer.pc.remoteDescription.sdp + carol.peer.pc.remoteDescription.sdp
        ports = {int(port) for port in re.findall(r" 127\.0\.0\.1 (\d+) typ host", descriptions)}
        assert len(ports) == 2
        for port in ports:
            for junk in JUNK:
                stranger.sendto(junk, ("127.0.0.1", port))
        stranger.close()
        await carol.peer.sees(34)
        await alice.peer.say("status", "still here")
        await carol.peer.reads("status", "still here")
        assert alice.closed == carol.closed == []
    await mcu.stop()


async def test_data_channel_that_comes_later_reaches_subscribers(loopback: None) -> None:
    mcu = InprocessMcu(Settings(address="127.0.0.1"))
    await mcu.start(lambda status: None)
    async with sender(35, video=False, channels=()) as alice, viewer() as carol:
        await alice.publish(mcu)
        await carol.subscribe(mcu)
        await carol.peer.hears(440.0)
        alice.peer.channels["late"] = alice.peer.pc.createDataChannel("late")
        alice.peer.channels["late"].on("open", alice.peer.notice)
        await alice.renegotiate()
        await carol.until(lambda: bool(carol.offers), "an offer")
        await carol.answered()
        await alice.peer.say("late", "hello")
        await carol.peer.reads("late", "hello")
    await mcu.stop()
