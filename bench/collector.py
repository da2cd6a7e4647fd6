"""``portunus`` with measured garbage collections: ``python -m bench.collector REPORT serve -c FILE``.

At its end the process writes the longest collection of each generation to REPORT, in seconds of CPU time: other load of
the machine does not count.
"""

from __future__ import annotations

import atexit
import gc
import json
import sys
import time
from pathlib import Path

from gateway.cli import main


class Pauses:
    """The longest garbage collections by generation, once ``portunus serve`` has frozen the objects of its start."""

    def __init__(self, report: Path) -> None:
        self._report = report
        self._longest = {0: 0.0, 1: 0.0, 2: 0.0}
        self._begun = 0.0

    def observe(self, phase: str, details: dict[str, int]) -> None:
        """Record the start or the end of a collection: a callback of ``gc``."""
        if phase == "start":
            self._begun = time.thread_time()
        elif gc.get_freeze_count():  # the collections before are a part of the start
            generation = details["generation"]
            self._longest[generation] = max(self._longest[generation], time.thread_time() - self._begun)

    def write(self) -> None:
        """Write the report."""
        self._report.write_text(json.dumps(self._longest))


def command(report: Path) -> list[str]:
    """Return the command that runs this module, without the arguments of ``portunus``."""
    return [sys.executable, "-m", "bench.collector", str(report)]


def longest(report: Path) -> list[float]:
    """Return the longest pause of each generation in seconds, the youngest first."""
    pauses: dict[str, float] = json.loads(report.read_text())
    return [pauses[generation] for generation in sorted(pauses)]


if __name__ == "__main__":
    pauses = Pauses(Path(sys.argv.pop(1)))
    atexit.register(pauses.write)
    gc.callbacks.append(pauses.observe)
    main(prog_name="portunus")
