"""Clients whose address changes while they may begin another transport: the SFU stays with the transport in use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from mcu.inprocess.negotiation.parameters import RemoteTransportDescription
from mcu.inprocess.transport.aiortc_internals import ice
from mcu.inprocess.transport.aiortc_internals.ice import COMPONENT
from sdp.candidates import Candidate, parse
from tests.mcu.inprocess.transport.test_peer_transport import WAIT, packet, remote_description
from tests.mcu.inprocess.transport.test_renewal import CREDENTIALS, ClientTransport, SfuPeerConnection, until

Address = tuple[str, int]


class NatSocket(asyncio.DatagramProtocol):
    """One socket of a NAT; forwards datagrams from outside to the client, and the client's to the SFU."""

    def __init__(self, nat: Nat, *, outside: bool) -> None:
        self._nat = nat
        self._outside = outside

    def datagram_received(self, data: bytes, address: Any) -> None:
        if self._outside:
            self._nat.inside.sendto(data, self._nat.client)
        else:
            self._nat.client = address[:2]
            self._nat.outside.sendto(data, self._nat.sfu)


class Nat:
    """A NAT between a client and the SFU, which can give the client another address."""

    inside: asyncio.DatagramTransport
    outside: asyncio.DatagramTransport

    def __init__(self, stack: AsyncExitStack, sfu: Address) -> None:
        self._stack = stack
        self.sfu = sfu
        self.client: Address = ("127.0.0.1", 9)

    async def open(self) -> None:
        """Open both sockets."""
        self.inside = await self._socket(outside=False)
        await self.rebind()

    async def rebind(self) -> None:
        """Give the client another address; the previous one stops working."""
        before = getattr(self, "outside", None)
        self.outside = await self._socket(outside=True)
        if before is not None:
            before.close()

    @property
    def address(self) -> Address:
        """The client's address as the SFU sees it."""
        host, port = self.outside.get_extra_info("sockname")[:2]
        return host, port

    def as_candidate(self) -> Candidate:
        """Return the candidate of the SFU that the client uses."""
        host, port = self.inside.get_extra_info("sockname")[:2]
        return parse(f"candidate:1 1 udp 2130706431 {host} {port} typ host")

    async def _socket(self, *, outside: bool) -> asyncio.DatagramTransport:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: NatSocket(self, outside=outside), local_addr=("127.0.0.1", 0)
        )
        self._stack.callback(transport.close)
        return transport


class MovingClient:
    """A client behind a NAT, connected to the SFU, and the transports that it begins."""

    def __init__(self, pc: SfuPeerConnection, nat: Nat, transport: ClientTransport) -> None:
        self.pc = pc
        self.nat = nat
        self.transport = transport

    @classmethod
    async def connect(cls, stack: AsyncExitStack) -> MovingClient:
        """Connect the first transport of a client."""
        pc = SfuPeerConnection(stack)
        pc.local = await pc.sfu.open()
        stack.push_async_callback(pc.sfu.close)
        transport = await pc.offer()
        remote = remote_description(pc.local, "active")
        nat = Nat(stack, (remote.candidates[0].address, remote.candidates[0].port))
        await nat.open()
        through_nat = RemoteTransportDescription(
            remote.ufrag, remote.password, remote.fingerprints, remote.setup, (nat.as_candidate(),)
        )
        transport.peer.connect(through_nat, dtls_client=False)
        await transport.listener.until(lambda: transport.listener.connected)
        client = cls(pc, nat, transport)
        await pc.wait_for_packet(transport)
        return client

    async def move(self) -> None:
        """Change the client's address, and nominate the new one."""
        await self.nat.rebind()
        (nominated,) = self.transport.ice._nominated.values()
        async with asyncio.timeout(WAIT):
            await self.transport.ice.check_start(nominated)  # with USE-CANDIDATE; returns when the SFU has answered
        await until(lambda: self._nominated() == self.nat.address)

    def _nominated(self) -> Address | None:
        pair = self.pc.sfu._ice._nominated.get(COMPONENT)
        return None if pair is None else (pair.remote_addr[0], pair.remote_addr[1])

    async def send_until_received(self) -> None:
        """Send packets until the SFU has received one."""
        listener = self.pc.listener
        before = len(listener.packets)
        async with asyncio.timeout(WAIT):
            while len(listener.packets) == before:
                self.transport.peer.send_rtp(packet(before, 100))
                await asyncio.sleep(0.01)


@pytest_asyncio.fixture
async def client(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MovingClient]:
    """Yield a connected client; no time limit but only a packet settles a doubtful address."""
    monkeypatch.setattr(ice, "SETTLING_TIME", 10 * WAIT)
    async with AsyncExitStack() as stack:
        yield await MovingClient.connect(stack)


@CREDENTIALS
@pytest.mark.parametrize("moves", [1, 3])
async def test_client_that_moves_keeps_its_transport(client: MovingClient, same_credentials: bool, moves: int) -> None:
    pc = client.pc
    await pc.offer(same_credentials=same_credentials)
    for _ in range(moves):
        await client.move()
        assert (pc.sfu._ice.doubtful_address is not None) is same_credentials
        await client.send_until_received()
        assert pc.sfu._ice.doubtful_address is None
        await pc.wait_for_packet(client.transport)
    assert pc.sfu._ice.renewing
    assert (pc.listener.connections, pc.listener.losses) == (1, 0)


@CREDENTIALS
async def test_next_transport_is_followed_after_a_move(
    client: MovingClient, same_credentials: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pc = client.pc
    following = await pc.offer(same_credentials=same_credentials)
    await client.move()
    await client.send_until_received()
    monkeypatch.setattr(ice, "SETTLING_TIME", 0.0)
    await pc.connect(following)
    assert (pc.listener.connections, pc.listener.losses) == (2, 0)
    assert not pc.sfu._ice.is_source(client.nat.address)


async def test_end_of_the_old_transport_settles_a_doubt(client: MovingClient) -> None:
    pc = client.pc
    following = await pc.offer()
    following.peer.connect(remote_description(pc.local, "active"), dtls_client=False)
    await until(lambda: pc.sfu._ice.doubtful_address is not None)
    await client.transport.peer.close()
    await pc.wait_for_packet(following)
    assert (pc.listener.connections, pc.listener.losses) == (2, 0)


async def test_next_transport_is_followed_though_another_one_may_begin_before_the_doubt_is_settled(
    client: MovingClient,
) -> None:
    pc = client.pc
    following = await pc.offer()
    following.peer.connect(remote_description(pc.local, "active"), dtls_client=False)
    await until(lambda: pc.sfu._ice.doubtful_address is not None)
    sfu = pc.sfu._ice
    sfu.renew(sfu.remote_username or "", sfu.remote_password or "")
    await pc.wait_for_packet(following)
    assert (pc.listener.connections, pc.listener.losses) == (2, 0)


async def test_doubt_ends_with_the_renewal(client: MovingClient) -> None:
    pc = client.pc
    await pc.offer()
    await client.move()
    pc.sfu._ice.end_renewal()
    assert pc.sfu._ice.doubtful_address is None
    await pc.wait_for_packet(client.transport)
    assert (pc.listener.connections, pc.listener.losses) == (1, 0)


async def test_ufrags_of_the_transport_in_use_and_of_the_next_one_are_accepted(client: MovingClient) -> None:
    pc, first = client.pc, client.transport.ice.local_username

    def accepted(*ufrags: str) -> list[bool]:
        return [pc.sfu._ice._valid_username(f"{pc.local.ufrag}:{ufrag}") for ufrag in ufrags]

    skipped = (await pc.offer(same_credentials=False)).ice.local_username
    following = await pc.offer(same_credentials=False)
    second = following.ice.local_username
    assert accepted(first, skipped, second, "another", "") == [True, False, True, False, False]
    await pc.connect(following)
    assert accepted(first, skipped, second, "another", "") == [False, False, True, False, False]
