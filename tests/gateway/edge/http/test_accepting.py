"""Listening sockets: several connections are accepted in each iteration of the event loop, and none after the end."""

from __future__ import annotations

import asyncio
import socket

import pytest
import uvloop

from gateway.edge.http.accepting import ACCEPTS, FurtherAcceptors

CLIENTS = 8 * ACCEPTS


class CountedConnection(asyncio.Protocol):
    """Connection that records the iteration of the event loop in which it was accepted."""

    def __init__(self, iteration: list[int], accepted: list[int]) -> None:
        accepted.append(iteration[0])


async def accept(*, further: bool) -> int:
    """Let many clients connect at once; return in how many iterations the event loop accepted them."""
    iteration, accepted = [0], list[int]()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: CountedConnection(iteration, accepted), "127.0.0.1", 0)
    acceptors = FurtherAcceptors()
    if further:
        await acceptors.start(lambda: CountedConnection(iteration, accepted), server.sockets)
    address = server.sockets[0].getsockname()
    clients = [socket.create_connection(address) for _ in range(CLIENTS)]
    while len(accepted) < CLIENTS:
        iteration[0] += 1
        await asyncio.sleep(0)
    server.close()
    acceptors.close()
    await asyncio.sleep(0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    for client in clients:
        client.close()
    return accepted[-1] - accepted[0] + 1


def test_several_connections_are_accepted_in_an_iteration() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(accept(further=False)) >= CLIENTS // 2
        assert runner.run(accept(further=True)) <= CLIENTS // ACCEPTS + 2
