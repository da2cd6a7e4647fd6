"""The choice among several Janus for a stream. Pure: computed from loads and locations (docs/mcu.md, "Several Janus").

    load = (2 * publishers + subscribers + megabits per second) / weight

A publisher counts twice because its subscribers will be on the same Janus. The measured bit rate counts only where
every Janus of the comparison reports one. Location comes before load: the client's country, then its continent, then
the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MEGABIT = 1_000_000
# The publisher's Janus is overloaded if its load is above OVERLOAD_FACTOR times the other's plus OVERLOAD_MARGIN.
OVERLOAD_FACTOR, OVERLOAD_MARGIN = 2.0, 50.0


@dataclass(frozen=True, slots=True)
class ClientLocation:
    """The location of a client, as far as it is known."""

    country: str = ""  # ISO 3166, two letters
    continent: str = ""  # "EU", "NA", …


@dataclass(frozen=True, slots=True)
class ServerLoad:
    """The load and the location of one Janus."""

    publishers: int = 0  # incoming streams, from clients or from another Janus
    subscribers: int = 0  # outgoing streams, to clients or to another Janus
    bits_per_second: int | None = None  # both directions; None: Janus reports none
    weight: float = 1.0  # capacity compared with the others
    country: str = ""
    continents: frozenset[str] = frozenset()  # continents of the clients that it serves
    has_stream: bool = False  # whether the stream in question is forwarded to it already


def loads(servers: Sequence[ServerLoad]) -> list[float]:
    """Return the loads, which are comparable with each other."""
    measured = all(server.bits_per_second is not None for server in servers)
    return [load(server, measured=measured) for server in servers]


def load(server: ServerLoad, *, measured: bool = True) -> float:
    """Return the load of one Janus; ``measured``: whether its bit rate counts."""
    megabits = (server.bits_per_second or 0) / MEGABIT if measured else 0.0
    return (2 * server.publishers + server.subscribers + megabits) / server.weight


def distance(server: ServerLoad, client: ClientLocation) -> int:
    """Return 0 in the client's country, 1 on its continent, 2 elsewhere and where either location is unknown."""
    if client.country and client.country == server.country:
        return 0
    return 1 if client.continent and client.continent in server.continents else 2


def rank_for_publisher(servers: Sequence[ServerLoad], client: ClientLocation) -> list[int]:
    """Return the indexes of ``servers``, best first for a new publisher; ties keep their order."""
    load_of = loads(servers)
    return sorted(range(len(servers)), key=lambda index: (distance(servers[index], client), load_of[index]))


def better_for_subscriber(source: ServerLoad, others: Sequence[ServerLoad], client: ClientLocation) -> int | None:
    """Return the index in ``others`` of a Janus that serves a subscriber better than ``source``, the publisher's Janus.

    A Janus is better if it is nearer to the client, or equally near and the source is overloaded compared with it. Of
    several, the nearest is returned; ties are decided by having the stream already, then by load. ``None``: none is
    better.
    """
    source_load, *load_of = loads([source, *others])
    source_distance = distance(source, client)
    better = []
    for index, other in enumerate(others):
        other_distance = distance(other, client)
        overloaded = source_load > OVERLOAD_FACTOR * load_of[index] + OVERLOAD_MARGIN
        if other_distance < source_distance or (other_distance == source_distance and overloaded):
            better.append((other_distance, not other.has_stream, load_of[index], index))
    return min(better)[-1] if better else None
