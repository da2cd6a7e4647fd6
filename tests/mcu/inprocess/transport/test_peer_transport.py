"""Two connected transports: large packets, and a listener that raises."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiortc import RTCDataChannel

from mcu.base import CloseReason
from mcu.inprocess import InprocessSettings
from mcu.inprocess.forwarding import rtcp, rtp
from mcu.inprocess.negotiation.parameters import LocalTransportDescription, RemoteTransportDescription
from mcu.inprocess.transport.aiortc_internals.dtls import no_turn
from mcu.inprocess.transport.peer_transport import PeerTransport
from sdp.candidates import parse

SETTINGS = InprocessSettings(address="127.0.0.1")
WAIT = 60.0


class RecordingTransportListener:
    """A listener that records the events of a transport; ``faulty`` makes it raise at each packet."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []
        self.faulty = False
        self.connected = False
        self._changed = asyncio.Event()

    def on_ice_connected(self) -> None:
        """Ignore it: DTLS follows."""

    def on_connected(self) -> None:
        self.connected = True
        self._changed.set()

    def on_lost(self, reason: CloseReason) -> None:
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
        """Wait until the recorded events fulfil a condition."""
        async with asyncio.timeout(WAIT):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


def remote_description(local: LocalTransportDescription, setup: str) -> RemoteTransportDescription:
    """Return a transport's description as the other side parses it."""
    algorithm, _, digits = local.fingerprint.partition(" ")
    candidates = tuple(parse(candidate) for candidate in local.candidates)
    return RemoteTransportDescription(local.ufrag, local.password, ((algorithm, digits),), setup, candidates)


@asynccontextmanager
async def connection(
    take_turn: Callable[[], Awaitable[None]] = no_turn,
) -> AsyncIterator[tuple[PeerTransport, RecordingTransportListener]]:
    """Connect two transports, which await ``take_turn``; yield the first, and the listener of the second."""
    listener, remote_listener = RecordingTransportListener(), RecordingTransportListener()
    transport = PeerTransport(SETTINGS, listener, take_turn, controlling=True)
    remote = PeerTransport(SETTINGS, remote_listener, take_turn, controlling=False)
    try:
        local, remote_local = await transport.open(), await remote.open()
        transport.connect(remote_description(remote_local, "active"), dtls_client=False)
        remote.connect(remote_description(local, "passive"), dtls_client=True)
        await listener.until(lambda: listener.connected)
        await remote_listener.until(lambda: remote_listener.connected)
        yield transport, remote_listener
    finally:
        await transport.close()
        await remote.close()


def packet(sequence: int, size: int) -> bytes:
    """Return an RTP packet of ``size`` bytes."""
    return rtp.HEADER.pack(rtp.VERSION_BITS, 96, sequence, 0, 7).ljust(size, b"x")


async def test_packets_up_to_the_size_of_a_datagram_arrive() -> None:
    async with connection() as (transport, listener):
        sizes = [100, 1356, 1357, 1400, 1472, 1500, 9000, 60_000]
        for sequence, size in enumerate(sizes):
            assert transport.send_rtp(packet(sequence, size))
        await listener.until(lambda: len(listener.packets) == len(sizes))
        assert [len(data) for data in listener.packets] == sizes
        assert not transport.send_rtp(packet(100, 65_500))
        assert transport.send_rtcp(rtcp.pack_pli(1, 2))
        await listener.until(lambda: len(listener.packets) == len(sizes) + 1)


async def test_listener_that_raises_at_each_packet_is_logged_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    async with connection() as (transport, listener):
        listener.faulty = True
        for sequence in range(20):
            transport.send_rtp(packet(sequence, 100))
        await listener.until(lambda: len(listener.packets) == 20)
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [bool(record.exc_info) for record in errors] == [True, False]
    assert "20 packets" in errors[1].getMessage()
