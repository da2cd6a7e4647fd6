"""The sorts of work by the name that ``python -m bench`` takes, in the order of the table in docs/performance.md."""

from __future__ import annotations

from collections.abc import Callable

from bench import hellos, messages
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


def _quick(bench: Bench) -> list[Row]:
    with bench.site.run_all() as servers:
        return [
            *(messages.measure(bench, servers, load) for load in (messages.PAIRS, messages.ROOM)),
            hellos.measure(bench, servers, hellos.PLAIN),
        ]


ALL: dict[str, Callable[[Bench], list[Row]]] = {
    "messages": _messages,
    "hellos": _hellos,
    "quick": _quick,
}
QUICK = ["quick"]
