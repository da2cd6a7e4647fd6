"""Two transports that talk to each other: large packets, and faults of whoever takes them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiortc import RTCDataChannel

from mcu.inprocess import InprocessSettings
from mcu.inprocess.forwarding import rtcp, rtp
from mcu.inprocess.negotiation.parameters import LocalTransportDescription, RemoteTransportDescription
from mcu.inprocess.transport.peer_transport import PeerTransport
from sdp.candidates import parse

SETTINGS = InprocessSettings(address="127.0.0.1")
WAIT = 10.0


class Ear:
    """Keeps what a transport tells; ``faulty`` makes it fail at each packet."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []
        self.faulty = False
        self.connected = False
        self._changed = asyncio.Event()

    def on_connected(self) -> None:
        self.connected = True
        self._changed.set()

    def on_lost(self) -> None:
        raise AssertionError("the connection was lost")

    def on_rtp(self, data: bytes) -> None:
        self.packets.append(data)
        self._changed.set()
        if self.faulty:
            raise RuntimeError("a fault in the forwarder")

    def on_rtcp(self, data: bytes) -> None:
        self.on_rtp(data)

    def on_channel(self, channel: RTCDataChannel) -> None:
        raise AssertionError("no channel was opened")

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what the transport tells."""
        async with asyncio.timeout(WAIT):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


def remote(local: LocalTransportDescription, setup: str) -> RemoteTransportDescription:
    """Return what the other side reads of a transport."""
    algorithm, _, digits = local.fingerprint.partition(" ")
    candidates = tuple(parse(candidate) for candidate in local.candidates)
    return RemoteTransportDescription(local.ufrag, local.password, ((algorithm, digits),), setup, candidates)


@asynccontextmanager
async def connection() -> AsyncIterator[tuple[PeerTransport, Ear]]:
    """Connect two transports; return one, and who hears what it sends."""
    here, there = Ear(), Ear()
    one, other = PeerTransport(SETTINGS, here, controlling=True), PeerTransport(SETTINGS, there, controlling=False)
    try:
        ours, theirs = await one.open(), await other.open()
        one.connect(remote(theirs, "active"), client=False)
        other.connect(remote(ours, "passive"), client=True)
        await here.until(lambda: here.connected)
        await there.until(lambda: there.connected)
        yield one, there
    finally:
        await one.close()
        await other.close()


def packet(sequence: int, size: int) -> bytes:
    """Return an RTP packet of that size in all."""
    return rtp.HEADER.pack(rtp.VERSION_BITS, 96, sequence, 0, 7).ljust(size, b"x")


async def test_packets_of_any_size_that_a_datagram_has_arrive() -> None:
    async with connection() as (transport, ear):
        sizes = [100, 1356, 1357, 1400, 1472, 1500, 9000, 60_000]
        for sequence, size in enumerate(sizes):
            assert transport.send_rtp(packet(sequence, size))
        await ear.until(lambda: len(ear.packets) == len(sizes))
        assert [len(data) for data in ear.packets] == sizes
        assert not transport.send_rtp(packet(100, 65_500))
        assert transport.send_rtcp(rtcp.pack_pli(1, 2))
        await ear.until(lambda: len(ear.packets) == len(sizes) + 1)


async def test_fault_at_each_packet_is_told_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    async with connection() as (transport, ear):
        ear.faulty = True
        for sequence in range(20):
            transport.send_rtp(packet(sequence, 100))
        await ear.until(lambda: len(ear.packets) == 20)
    told = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [bool(record.exc_info) for record in told] == [True, False]
    assert "20 packets" in told[1].getMessage()
