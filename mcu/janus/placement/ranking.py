"""Which of several Janus takes a new stream. Pure: facts in, an order out (docs/mcu.md, "Several Janus").

    load = (2 * publishers + subscribers + megabits per second) / weight

A publisher counts twice because its subscribers follow it. What is measured counts only where every Janus of the
comparison tells it. Nearness comes before load: the client's country, then its continent, then the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MEGABIT = 1_000_000
TIMES, MORE = 2.0, 50.0  # a source is too loaded if its load is above TIMES the other's and MORE


@dataclass(frozen=True, slots=True)
class ClientLocation:
    """Where a client is, as far as that is known."""

    country: str = ""  # ISO 3166, two letters
    continent: str = ""  # "EU", "NA", …


@dataclass(frozen=True, slots=True)
class ServerLoad:
    """One Janus at the moment of the choice."""

    publishers: int = 0  # streams that come in, from clients or from another Janus
    subscribers: int = 0  # streams that go out, to clients or to another Janus
    bits_per_second: int | None = None  # both directions; None: Janus does not tell
    weight: float = 1.0  # how much it can carry compared with the others
    country: str = ""
    continents: frozenset[str] = frozenset()  # whose clients it serves
    carries: bool = False  # whether the stream in question runs there already


def loads(standings: Sequence[ServerLoad]) -> list[float]:
    """Return the load of each, comparable with each other."""
    measured = all(standing.bits_per_second is not None for standing in standings)
    return [load(standing, measured=measured) for standing in standings]


def load(standing: ServerLoad, *, measured: bool = True) -> float:
    """Return the load of one; ``measured``: whether its bandwidth counts."""
    bandwidth = (standing.bits_per_second or 0) / MEGABIT if measured else 0.0
    return (2 * standing.publishers + standing.subscribers + bandwidth) / standing.weight


def distance(standing: ServerLoad, client: ClientLocation) -> int:
    """Return 0 in the client's country, 1 on its continent, 2 elsewhere and where it is not known."""
    if client.country and client.country == standing.country:
        return 0
    return 1 if client.continent and client.continent in standing.continents else 2


def order(standings: Sequence[ServerLoad], client: ClientLocation) -> list[int]:
    """Return the places in ``standings``, best first for a new publisher; equals stay in their order."""
    load_of = loads(standings)
    return sorted(range(len(standings)), key=lambda place: (distance(standings[place], client), load_of[place]))


def elsewhere(source: ServerLoad, others: Sequence[ServerLoad], client: ClientLocation) -> int | None:
    """Return the place in ``others`` from which a subscriber is served better than from its publisher's Janus.

    That is one nearer to the client: the nearest, preferably one that has the stream already, then the least loaded.
    Where none is nearer, it is an equally near one if the source is too loaded compared with it. ``None``: the source
    serves it best.
    """
    source_load, *load_of = loads([source, *others])
    here = distance(source, client)
    found = []
    for place, other in enumerate(others):
        there = distance(other, client)
        if there < here or (there == here and source_load > TIMES * load_of[place] + MORE):
            found.append((there, not other.carries, load_of[place], place))
    return min(found)[-1] if found else None
