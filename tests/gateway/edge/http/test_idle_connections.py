"""Idle connections: the longest idle connection is closed first."""

from __future__ import annotations

from gateway.edge.http.idle_connections import IdleConnections


class ClosableConnection:
    """Connection that records whether it was aborted."""

    def __init__(self, peer: str = "192.0.2.1", *, uses_reserve: bool = False) -> None:
        self.peer = peer
        self.uses_reserve = uses_reserve
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


def add_connections(idle: IdleConnections, *connections: ClosableConnection) -> list[bool]:
    """Add connections; return for each whether it was closed."""
    for connection in connections:
        idle.add(connection)
    return [connection.aborted for connection in connections]


def test_oldest_connection_of_a_peer_is_closed_beyond_the_limit() -> None:
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


def test_oldest_connection_of_all_is_closed_when_descriptors_run_out() -> None:
    met: list[str] = []
    idle = IdleConnections(lambda: 10, met.append)
    old, young = ClosableConnection("192.0.2.2"), ClosableConnection("192.0.2.3")
    assert add_connections(idle, old, young, ClosableConnection(uses_reserve=True)) == [True, False, False]
    assert met == ["descriptors"]


def test_only_connection_may_have_the_last_descriptor() -> None:
    idle = IdleConnections(lambda: 10, lambda limit: None)
    assert add_connections(idle, ClosableConnection(uses_reserve=True)) == [False]
