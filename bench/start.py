"""Work 9: the time from the start of a process to its first accepted hello."""

from __future__ import annotations

import time
from collections.abc import Sequence

from bench.report import Row, Targets
from bench.runner import Bench, sessions

TARGET = Targets(value=0.6)


def measure(bench: Bench, names: Sequence[str]) -> Row:
    """Measure how long a client that connects as soon as the process listens waits for its hello's reply."""
    row = Row("start to the first accepted hello", "one client", "s", TARGET)
    for _ in range(bench.rounds):
        for name in names:
            begun = time.monotonic()
            with bench.site.run(name) as server, sessions(bench, server, 1):
                row.figures.setdefault(name, []).append(time.monotonic() - begun)
    return row
