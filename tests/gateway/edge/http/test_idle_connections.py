"""Idle connections: the longest idle connection is closed first."""

from __future__ import annotations

from collections import Counter
from random import Random

from gateway.edge.http.idle_connections import KEPT, IdleConnections


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


def test_oldest_connections_of_the_peer_with_most_are_closed_when_descriptors_run_out() -> None:
    met: list[str] = []
    idle = IdleConnections(lambda: 0, met.append)
    single = ClosableConnection("192.0.2.2")
    many = [ClosableConnection("192.0.2.3") for _ in range(KEPT - 1)]
    assert add_connections(idle, single, *many) == [False] * KEPT
    new = [ClosableConnection(f"192.0.2.{number}", uses_reserve=True) for number in (4, 5, 2)]
    assert add_connections(idle, *new) == [False, False, False]
    assert [connection.aborted for connection in (single, *many)] == [False, True, True, True] + [False] * (KEPT - 4)
    assert met == ["descriptors"] * 3


def test_peer_with_most_connections_is_known_after_any_changes() -> None:
    random = Random(0)
    idle = IdleConnections(lambda: 0, lambda limit: None)
    left: list[ClosableConnection] = []
    for _ in range(5000):
        if left and random.random() < 0.48:
            idle.remove(left.pop(random.randrange(len(left))))
        else:
            left.append(ClosableConnection(f"192.0.2.{random.randrange(5)}", uses_reserve=random.random() < 0.1))
            counts = Counter(connection.peer for connection in left)
            idle.add(left[-1])
            closed = [connection for connection in left if connection.aborted]
            assert len(closed) == (left[-1].uses_reserve and len(left) > KEPT)
            assert all(counts[connection.peer] == max(counts.values()) for connection in closed)
            left = [connection for connection in left if not connection.aborted]
        assert len(idle) == len(left)


def test_a_few_connections_may_have_the_last_descriptors() -> None:
    idle = IdleConnections(lambda: 0, lambda limit: None)
    few = [ClosableConnection(uses_reserve=True) for _ in range(KEPT)]
    assert add_connections(idle, *few) == [False] * KEPT
    idle.add(ClosableConnection(uses_reserve=True))
    assert few[0].aborted
