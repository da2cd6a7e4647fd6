"""Joins of many clients of one room at once, and updates of the list of its participants."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from bench import rooms_api
from bench.client import BenchClient
from bench.report import PORTUNUS, Row, Targets
from bench.rooms_api import RoomsApiClient
from bench.runner import Bench, finish, sessions, unique_room, wait_until_ready
from bench.servers import RunningServer

JOINS = ((300, Targets(ratio=0.20)), (1000, Targets(ratio=0.30)))
MEMBERS = 1000  # of the room whose participants are updated
FLAGS = (3, 7, 3, 7)  # of the call, in the requests of a round
EVENT = '"target":"participants"'  # in each participants update
UPDATE_TARGETS = Targets(ratio=0.20)


def measure_joins(bench: Bench, servers: Sequence[RunningServer], count: int, targets: Targets) -> Row:
    """Measure the CPU time of all joins together; every member must learn of every member."""
    members = bench.count(count, 2)
    row = Row("joins of one room", f"{members:,} at once", "ms", targets)

    def one_round(server: RunningServer, _: bool) -> float:
        with sessions(bench, server, members) as clients:
            before = server.cpu()
            bench.join_all(clients, unique_room("joins"))
            return (server.cpu() - before) * 1000

    return bench.alternate(row, servers, one_round)


def measure_updates(bench: Bench, servers: Sequence[RunningServer]) -> list[Row]:
    """Measure the CPU time of an ``incall`` request about one member of a call, and of the update to all members.

    "Full" has the whole list, too. "Changed only" is the request of Nextcloud to servers that announce
    ``changed-users``, as Portunus does; the incumbent, which does not, gets the whole list again.
    """
    members = bench.count(MEMBERS, 3)
    with contextlib.ExitStack() as stack:
        rooms = {server.name: stack.enter_context(_call(bench, server, members)) for server in servers}

        def one_round(server: RunningServer, names_all: bool) -> float:
            clients, room, api = rooms[server.name]
            bodies = [rooms_api.incall(room, range(1), members * names_all, flags) for flags in FLAGS]
            before = server.cpu()
            _update(bench, clients, room, api, bodies)
            return (server.cpu() - before) / len(bodies) * 1000

        full = Row("participants update", f"room of {members:,}, full", "ms", UPDATE_TARGETS)
        changed = Row("participants update", f"room of {members:,}, changed only", "ms", UPDATE_TARGETS)
        return [
            bench.alternate(full, servers, lambda server, _: one_round(server, True)),
            bench.alternate(changed, servers, lambda server, _: one_round(server, server.name != PORTUNUS)),
        ]


@contextlib.contextmanager
def _call(bench: Bench, server: RunningServer, members: int) -> Iterator[tuple[list[BenchClient], str, RoomsApiClient]]:
    """Open a room, and put its members into the call by one request.

    It lists all members as ``users`` but one as ``changed``: with both lists in full it would exceed the incumbent's
    limit of a request.
    """
    room = unique_room("call")
    api = RoomsApiClient(bench, server)
    with sessions(bench, server, members) as clients:
        bench.join_in_turn(clients, room)
        _update(bench, clients, room, api, [rooms_api.incall(room, range(1), members)])
        yield clients, room, api


def _update(
    bench: Bench, clients: Sequence[BenchClient], room: str, api: RoomsApiClient, bodies: Sequence[bytes]
) -> None:
    """Send requests one after another, and wait until each member has as many updates."""
    arguments = (bench.patience, "events", len(bodies), EVENT, "-")
    with bench.start("receive", *arguments, clients=clients) as process:
        wait_until_ready(process)
        for body in bodies:
            api.post(room, body)
        finish(process)
