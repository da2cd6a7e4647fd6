"""Idle connections: the longest idle connection of a network is closed first."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from aiohttp import web

from gateway.edge.http.address import TrustedProxies
from gateway.edge.http.descriptors import DescriptorReserve, descriptor_limit
from gateway.edge.http.idle_connections import KEPT, IdleConnections
from gateway.edge.http.runner import ConnectionRules, HttpRunner
from gateway.limited_log import LimitedLog

PROXY = "2001:db8::53"  # in the network of the clients that open many connections


class ClosableConnection:
    """Connection that records whether it was aborted."""

    def __init__(self, network: str = "192.0.2.1", *, uses_reserve: bool = False) -> None:
        self.network = network
        self.uses_reserve = uses_reserve
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


def add_connections(idle: IdleConnections, *connections: ClosableConnection) -> list[bool]:
    """Add connections; return for each whether it was closed."""
    for connection in connections:
        idle.add(connection)
    return [connection.aborted for connection in connections]


def test_oldest_connection_of_a_network_is_closed_beyond_the_limit() -> None:
    met: list[str] = []
    idle = IdleConnections(lambda: 2, met.append)
    other = ClosableConnection("192.0.2.2")
    idle.add(other)
    assert add_connections(idle, *[ClosableConnection() for _ in range(4)]) == [True, True, False, False]
    assert not other.aborted
    assert met == ["idle_connections_per_address"] * 2


def test_connection_with_a_request_is_not_closed() -> None:
    idle = IdleConnections(lambda: 1, lambda limit: None)
    busy = ClosableConnection()
    idle.add(busy)
    idle.remove(busy)
    idle.remove(busy)
    assert add_connections(idle, ClosableConnection(), ClosableConnection()) == [True, False]
    assert not busy.aborted
    idle.add(busy)
    assert len(idle) == 1


def test_limit_of_0_closes_no_connection() -> None:
    idle = IdleConnections(lambda: 0, lambda limit: None)
    assert not any(add_connections(idle, *[ClosableConnection() for _ in range(1000)]))


def test_oldest_connections_of_the_network_with_most_are_closed_when_descriptors_run_out() -> None:
    met: list[str] = []
    idle = IdleConnections(lambda: 0, met.append)
    single = ClosableConnection("192.0.2.2")
    many = [ClosableConnection("192.0.2.3") for _ in range(KEPT - 1)]
    assert add_connections(idle, single, *many) == [False] * KEPT
    new = [ClosableConnection(f"192.0.2.{number}", uses_reserve=True) for number in (4, 5, 2)]
    assert add_connections(idle, *new) == [False, False, False]
    assert [connection.aborted for connection in (single, *many)] == [False, True, True, True] + [False] * (KEPT - 4)
    assert met == ["descriptors"] * 3


def test_network_with_most_connections_is_known_after_any_changes() -> None:
    random = Random(0)
    idle = IdleConnections(lambda: 0, lambda limit: None)
    left: list[ClosableConnection] = []
    for _ in range(5000):
        if left and random.random() < 0.48:
            idle.remove(left.pop(random.randrange(len(left))))
        else:
            left.append(ClosableConnection(f"192.0.2.{random.randrange(5)}", uses_reserve=random.random() < 0.1))
            counts = Counter(connection.network for connection in left)
            idle.add(left[-1])
            closed = [connection for connection in left if connection.aborted]
            assert len(closed) == (left[-1].uses_reserve and len(left) > KEPT)
            assert all(counts[connection.network] == max(counts.values()) for connection in closed)
            left = [connection for connection in left if not connection.aborted]
        assert len(idle) == len(left)


def test_a_few_connections_may_have_the_last_descriptors() -> None:
    idle = IdleConnections(lambda: 0, lambda limit: None)
    few = [ClosableConnection(uses_reserve=True) for _ in range(KEPT)]
    assert add_connections(idle, *few) == [False] * KEPT
    idle.add(ClosableConnection(uses_reserve=True))
    assert few[0].aborted


class LastSocket:
    """Socket with a file descriptor of the reserve."""

    def fileno(self) -> int:
        return descriptor_limit()


class PeerTransport(asyncio.Transport):
    """Transport of a TCP connection from an address; records whether it was aborted."""

    def __init__(self, peer: str, *, uses_reserve: bool) -> None:
        super().__init__({"peername": (peer, 50_000, 0, 0), "socket": LastSocket() if uses_reserve else None})
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        """Do nothing: the server stops."""


@asynccontextmanager
async def accepting(per_address: int) -> AsyncIterator[Callable[..., PeerTransport]]:
    """Run a server behind ``PROXY``; yield the function that opens a connection from an address."""
    rules = ConnectionRules(
        headers={},
        timeout=lambda: 0.0,
        on_timeout=lambda: None,
        idle=IdleConnections(lambda: per_address, lambda limit: None),
        reserve=DescriptorReserve(LimitedLog(logging.getLogger("portunus.http"), lambda: 0.0)),
        proxies=TrustedProxies([PROXY]),
    )
    runner = HttpRunner(web.Application(), rules, access_log=None)
    await runner.setup()
    server: Any = runner.server

    def open_connection(peer: str, *, uses_reserve: bool = False) -> PeerTransport:
        transport = PeerTransport(peer, uses_reserve=uses_reserve)
        server().connection_made(transport)
        return transport

    try:
        yield open_connection
    finally:
        await runner.cleanup()


async def test_addresses_of_one_ipv6_network_share_the_limit_and_a_proxy_in_it_has_its_own() -> None:
    async with accepting(per_address=2) as open_connection:
        proxied = [open_connection(PROXY) for _ in range(2)]
        others = [open_connection(peer) for peer in ("2001:db8:0:1::1", "192.0.2.1", "::ffff:192.0.2.2")]
        flood = [open_connection(f"2001:db8::{host:x}:1") for host in range(1, 6)]
        assert [transport.aborted for transport in flood] == [True, True, True, False, False]
        assert not any(transport.aborted for transport in (*proxied, *others))
        open_connection(PROXY)
        assert [transport.aborted for transport in proxied] == [True, False]


async def test_proxy_keeps_its_connections_when_those_of_one_ipv6_network_take_the_descriptors() -> None:
    async with accepting(per_address=0) as open_connection:
        proxied = [open_connection(PROXY) for _ in range(3)]
        flood = [open_connection(f"2001:db8::{host:x}:1", uses_reserve=True) for host in range(KEPT)]
        assert [transport.aborted for transport in flood] == [True] * 3 + [False] * (KEPT - 3)
        assert not any(transport.aborted for transport in proxied)


async def test_ipv4_addresses_that_ipv6_sockets_accept_are_counted_one_by_one() -> None:
    async with accepting(per_address=1) as open_connection:
        clients = [open_connection(f"::ffff:192.0.2.{host}") for host in range(1, 4)]
        assert not any(transport.aborted for transport in clients)
        open_connection("192.0.2.1")
        assert clients[0].aborted
