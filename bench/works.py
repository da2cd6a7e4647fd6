"""The sorts of work by the name that ``python -m bench`` takes, in the order in which they are measured."""

from __future__ import annotations

from collections.abc import Callable

from bench import absent, hellos, memory, messages, offers, publish_descriptions, rooms, start
from bench.report import Row
from bench.runner import Bench

RELAY_RATE = 2000.0  # messages a second between 32 pairs, for the latencies
ROOM_RATE = 50.0  # messages a second to a room of 100


def _messages(bench: Bench) -> list[Row]:
    with bench.site.run_all() as servers:
        rows = [messages.measure(bench, servers, load) for load in messages.LOADS]
        return [
            *rows,
            *messages.latency(bench, servers, messages.PAIRS, RELAY_RATE),
            *messages.latency(bench, servers, messages.ROOM, ROOM_RATE),
        ]


def _hellos(bench: Bench) -> list[Row]:
    with bench.site.run_all() as servers:
        rows = [hellos.measure(bench, servers, load) for load in hellos.LOADS]
        return [*rows, hellos.measure_resume(bench, servers), *hellos.latency(bench, servers)]


def _joins(bench: Bench) -> list[Row]:
    with bench.site.run_all() as servers:
        return [rooms.measure_joins(bench, servers, count, targets) for count, targets in rooms.JOINS]


def _updates(bench: Bench) -> list[Row]:
    with bench.site.run_all() as servers:
        return rooms.measure_updates(bench, servers)


def _memory(bench: Bench) -> list[Row]:
    names = bench.site.names
    return [memory.measure_empty(bench, names), memory.measure_idle(bench, names)]


def _quick(bench: Bench) -> list[Row]:
    with bench.site.run_all() as servers:
        return [
            *(messages.measure(bench, servers, load) for load in (messages.PAIRS, messages.ROOM)),
            hellos.measure(bench, servers, hellos.PLAIN),
        ]


ALL: dict[str, Callable[[Bench], list[Row]]] = {
    "messages": _messages,
    "hellos": _hellos,
    "joins": _joins,
    "updates": _updates,
    "memory": _memory,
    "pauses": memory.measure_pauses,
    "absent": lambda bench: absent.measure(bench, bench.site.names),
    "start": lambda bench: [start.measure(bench, bench.site.names)],
    "descriptions": publish_descriptions.measure,
    "offers": offers.measure,
    "quick": _quick,
}
QUICK = ["quick"]
