"""Clients that replace their transport by another one, at any time: the SFU continues with the newest one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from aioice.ice import CandidatePair

from mcu.base import CloseReason
from mcu.inprocess.negotiation.parameters import LocalTransportDescription
from mcu.inprocess.transport import peer_transport
from mcu.inprocess.transport.aiortc_internals.dtls import DtlsTransport
from mcu.inprocess.transport.aiortc_internals.ice import COMPONENT, IceTransport
from mcu.inprocess.transport.peer_transport import PeerTransport
from tests.mcu.inprocess.transport.test_peer_transport import (
    SETTINGS,
    WAIT,
    RecordingTransportListener,
    packet,
    remote_description,
)

FATAL_ALERT = bytes([21, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 99, 0, 2, 2, 40])  # handshake_failure (RFC 5246, 7.2)
OTHER_EPOCH = bytes([22, 0xFE, 0xFD, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 0])  # a record that DTLS ignores
CREDENTIALS = pytest.mark.parametrize("same_credentials", [True, False], ids=["same", "other"])


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a state of the SFU's transport."""
    async with asyncio.timeout(WAIT):
        while not condition():  # noqa: ASYNC110 - a transport has no event for it
            await asyncio.sleep(0.01)


class LossListener(RecordingTransportListener):
    """A listener that records how often its transport was connected and lost."""

    def __init__(self) -> None:
        super().__init__()
        self.connections = 0
        self.losses = 0

    def on_connected(self) -> None:
        self.connections += 1
        super().on_connected()

    def on_lost(self, reason: CloseReason) -> None:
        self.losses += 1
        self._changed.set()


class ClientTransport:
    """One transport of a client: ICE controlling and DTLS server, as browsers are towards the SFU."""

    def __init__(self) -> None:
        self.listener = LossListener()
        self.peer = PeerTransport(SETTINGS, self.listener, controlling=True)

    @property
    def ice(self) -> IceTransport:
        return self.peer._ice


class SfuPeerConnection:
    """A PeerConnection at the SFU: the SFU's transport, and the transports that the client begins one after another."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._clients: list[ClientTransport] = []
        self.listener = LossListener()
        self.sfu = PeerTransport(SETTINGS, self.listener, controlling=False)
        self.local: LocalTransportDescription

    async def offer(self, *, same_credentials: bool = True) -> ClientTransport:
        """Describe another transport of the client to the SFU, a renewal but for the first; it does not connect yet."""
        client = ClientTransport()
        if same_credentials and self._clients:
            first = self._clients[0].ice
            client.ice._local_username, client.ice._local_password = first.local_username, first.local_password
        description = remote_description(await client.peer.open(), "actpass")
        self._stack.push_async_callback(client.peer.close)
        self.sfu.connect(description, dtls_client=True, renewed=bool(self._clients))
        self._clients.append(client)
        return client

    async def connect(self, client: ClientTransport) -> None:
        """Connect a transport of the client, and wait until packets of the SFU arrive there."""
        client.peer.connect(remote_description(self.local, "active"), dtls_client=False)
        await client.listener.until(lambda: client.listener.connected)
        await self.wait_for_packet(client)

    async def wait_for_packet(self, client: ClientTransport) -> None:
        """Send packets from the SFU until one arrives at the transport."""
        before = len(client.listener.packets)
        async with asyncio.timeout(WAIT):
            while len(client.listener.packets) == before:  # the SFU may still lack the end of the handshake
                self.sfu.send_rtp(packet(before, 100))
                await asyncio.sleep(0.01)

    async def connect_ice_only(self, client: ClientTransport) -> None:
        """Nominate a transport of the client, and wait for the SFU's first record; nothing answers it."""
        remote = remote_description(self.local, "active")
        client.ice.set_remote(remote.ufrag, remote.password, lite=False)
        for candidate in remote.candidates:
            client.peer._add_candidate(candidate)
        async with asyncio.timeout(WAIT):
            await client.ice.connect()
            await client.ice.recv()


@pytest_asyncio.fixture
async def pc() -> AsyncIterator[SfuPeerConnection]:
    """Yield a PeerConnection whose transport at the SFU is open."""
    async with AsyncExitStack() as stack:
        opened = SfuPeerConnection(stack)
        opened.local = await opened.sfu.open()
        stack.push_async_callback(opened.sfu.close)
        yield opened


@CREDENTIALS
async def test_transport_that_replaces_a_connected_one_is_followed(
    pc: SfuPeerConnection, same_credentials: bool
) -> None:
    await pc.connect(await pc.offer())
    for connections in (2, 3):
        await pc.connect(await pc.offer(same_credentials=same_credentials))
        assert (pc.listener.connections, pc.listener.losses) == (connections, 0)


@CREDENTIALS
async def test_transport_that_replaces_one_during_its_handshake_is_followed(
    pc: SfuPeerConnection, same_credentials: bool
) -> None:
    first = await pc.offer()
    await pc.connect(first)
    second = await pc.offer(same_credentials=same_credentials)
    await pc.connect_ice_only(second)
    third = await pc.offer(same_credentials=same_credentials)
    third.peer.connect(remote_description(pc.local, "active"), dtls_client=False)
    for _ in range(100):  # of the second transport, before and after the third one is nominated
        await second.ice.send(FATAL_ALERT)
        await asyncio.sleep(0.001)
    await pc.connect(third)
    assert (pc.listener.connections, pc.listener.losses) == (2, 0)


@CREDENTIALS
async def test_transport_that_replaces_one_without_any_check_is_followed(
    pc: SfuPeerConnection, same_credentials: bool
) -> None:
    await pc.offer()
    await pc.offer(same_credentials=same_credentials)
    await pc.connect(await pc.offer(same_credentials=same_credentials))
    assert (pc.listener.connections, pc.listener.losses) == (1, 0)


async def test_transport_is_followed_though_the_old_one_is_nominated_first(pc: SfuPeerConnection) -> None:
    first, second = await pc.offer(), await pc.offer()
    second.peer.silence(True)
    await pc.connect_ice_only(first)  # aioice ends its other checks then
    second.peer.silence(False)
    await pc.connect(second)
    assert (pc.listener.connections, pc.listener.losses) == (1, 0)


async def test_nothing_of_the_old_transport_enters_the_next_association(
    pc: SfuPeerConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await pc.offer()
    await pc.connect(first)
    ice, follow, attached = pc.sfu._ice, pc.sfu._ice._on_renewed, []

    def record_and_follow() -> None:
        association = pc.sfu._dtls
        follow()
        attached.append(association._adapter.attached)

    complete = ice.check_complete

    def complete_after_alerts(checked: CandidatePair) -> None:
        for _ in range(20 * ice.renewing):  # more than the old association reads before it ends
            ice.data_received(FATAL_ALERT, COMPONENT)
        complete(checked)

    monkeypatch.setattr(ice, "_on_renewed", record_and_follow)
    monkeypatch.setattr(ice, "check_complete", complete_after_alerts)
    await pc.connect(await pc.offer())
    assert attached == [False]
    assert (pc.listener.connections, pc.listener.losses) == (2, 0)


async def test_late_check_of_an_old_transport_is_not_followed(pc: SfuPeerConnection) -> None:
    first = await pc.offer()
    await pc.connect(first)
    second = await pc.offer()
    await pc.connect(second)
    (nominated,) = first.ice._nominated.values()
    async with asyncio.timeout(WAIT):
        await first.ice.check_start(nominated)  # with USE-CANDIDATE; returns when the SFU has answered
    before = len(second.listener.packets)
    assert pc.sfu.send_rtp(packet(1000, 100))
    await second.listener.until(lambda: len(second.listener.packets) > before)
    assert not pc.sfu._ice.is_source(nominated.local_addr)


async def test_client_that_keeps_its_transport_stays_connected(
    pc: SfuPeerConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await pc.offer()
    await pc.connect(client)
    monkeypatch.setattr(peer_transport, "CONNECT_TIMEOUT", 0.5)
    await pc.offer()
    (nominated,) = client.ice._nominated.values()
    async with asyncio.timeout(WAIT):
        await client.ice.check_start(nominated)  # with USE-CANDIDATE
    await until(lambda: not pc.sfu._ice.renewing)
    await pc.wait_for_packet(client)
    assert (pc.listener.connections, pc.listener.losses) == (1, 0)
    await client.peer.close()
    await pc.listener.until(lambda: pc.listener.losses == 1)


async def test_client_that_ends_its_transport_and_begins_no_other_is_lost(
    pc: SfuPeerConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await pc.offer()
    await pc.connect(client)
    monkeypatch.setattr(peer_transport, "CONNECT_TIMEOUT", 1.0)
    await pc.offer()
    await client.peer.close()
    await until(lambda: not pc.sfu.connected)
    assert pc.listener.losses == 0
    await pc.listener.until(lambda: pc.listener.losses == 1)


class RecordQueue(IceTransport):
    """ICE without a network: DTLS reads the records that the test queues."""

    async def recv(self) -> bytes:
        item = await self._queue.get()
        assert item is not None
        return item[0]

    async def send(self, data: bytes) -> None:
        """Send nothing."""


@pytest.mark.parametrize("iterations", range(8))
async def test_detached_handshake_ends_though_a_record_arrives_with_the_cancellation(iterations: int) -> None:
    ice = RecordQueue(SETTINGS, lambda data: None, controlling=False)
    dtls = DtlsTransport(ice)
    handshake = asyncio.create_task(dtls.handshake((("sha-256", "00"),), client=True))
    await asyncio.sleep(0.05)
    ice.data_received(OTHER_EPOCH, COMPONENT)
    for _ in range(iterations):
        await asyncio.sleep(0)
    dtls.detach()
    handshake.cancel()
    done, _ = await asyncio.wait([handshake], timeout=WAIT)
    assert done


async def test_transport_closes_though_a_task_swallows_its_cancellation(pc: SfuPeerConnection) -> None:
    async def swallow_once() -> None:
        try:
            await asyncio.sleep(WAIT)
        except asyncio.CancelledError:
            await asyncio.sleep(WAIT)

    task = pc.sfu._handshaking = asyncio.create_task(swallow_once())
    await asyncio.sleep(0)
    await pc.sfu.close()
    assert task.cancelled()
