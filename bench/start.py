"""The time from the start of a process to its first accepted hello."""

from __future__ import annotations

import time
from collections.abc import Sequence

from bench.report import Row, Targets
from bench.runner import Bench, sessions

TARGETS = Targets(value=0.6)


def measure(bench: Bench, names: Sequence[str]) -> Row:
    """Measure the time from the start of the process to the reply to the hello of a client that connects at once."""
    row = Row("start to the first accepted hello", "one client", "s", TARGETS)
    for _ in range(bench.rounds):
        for name in names:
            begun = time.monotonic()
            with bench.site.run(name) as server, sessions(bench, server, 1):
                row.figures.setdefault(name, []).append(time.monotonic() - begun)
    return row
