"""The results of the benchmarks: rows of figures, the machine, a Markdown table and JSON."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

LIBRARIES = ("aiohttp", "msgspec", "uvloop", "cryptography")
PORTUNUS, INCUMBENT, FLOOR = "portunus", "incumbent", "floor"


@dataclass(frozen=True)
class Targets:
    """The greatest acceptable medians; 0 = no target."""

    ratio: float = 0.0  # to the incumbent
    floor: float = 0.0  # to the floor
    value: float = 0.0  # of Portunus itself, in the row's unit


NO_TARGETS = Targets()


@dataclass
class Row:
    """One sort of work under one load: the figures of each round by server."""

    work: str
    load: str
    unit: str  # "µs" of CPU time, "ms" of time, "kB", …
    targets: Targets = NO_TARGETS
    figures: dict[str, list[float]] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)  # by server: how its messages were lost, so it has no figures
    void: str = ""  # why the measurement is void; empty: it is not

    def ratios(self, to: str) -> list[float]:
        """Return Portunus' figure as a multiple of another's, for each round; empty if the other was not measured."""
        other = self.figures.get(to, [])
        return [ours / theirs for ours, theirs in zip(self.figures.get(PORTUNUS, []), other, strict=False) if theirs]

    @property
    def missed(self) -> list[str]:
        """The names of the targets that are not reached."""
        found = []
        for name, target, values in (
            ("ratio", self.targets.ratio, self.ratios(INCUMBENT)),
            ("floor", self.targets.floor, self.ratios(FLOOR)),
            ("value", self.targets.value, self.figures.get(PORTUNUS, [])),
        ):
            if target and values and median(values) > target:
                found.append(name)
        return found


@dataclass(frozen=True)
class Machine:
    """The machine and the software versions of a measurement."""

    cpu: str
    cores: int
    kernel: str
    python: str
    portunus: str
    incumbent: str  # empty: not measured
    libraries: dict[str, str]
    compiler: str
    load_average: float  # of the last minute, before the run
    time: str  # UTC


def machine(incumbent: str) -> Machine:
    """Describe this machine; ``incumbent`` is the incumbent's version."""
    model = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return Machine(
        cpu=model[1] if model else platform.processor(),
        cores=len(os.sched_getaffinity(0)),
        kernel=platform.release(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        portunus=version("portunus"),
        incumbent=incumbent,
        libraries={name: version(name) for name in LIBRARIES},
        compiler=subprocess.run(["gcc", "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0],
        load_average=os.getloadavg()[0],
        time=f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
    )


def markdown(host: Machine, rows: Sequence[Row], load_after: float) -> str:
    """Return the results as Markdown, as they stand in docs/performance.md."""
    libraries = ", ".join(f"{name} {number}" for name, number in host.libraries.items())
    incumbent = f"nextcloud-spreed-signaling {host.incumbent}" if host.incumbent else "not measured"
    lines = [
        f"{host.time} UTC, load average {host.load_average:.1f} before and {load_after:.1f} after the run: "
        f"{host.cpu}, {host.cores} cores, Linux {host.kernel}, {host.python}, {libraries}; {host.compiler}. "
        f"Portunus {host.portunus}; incumbent: {incumbent}.",
        "",
        "| work | load | Portunus | incumbent | ratio (rounds) | target | floor | times the floor | target |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_line(row) for row in rows),
    ]
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    if row.void:
        return f"| {row.work} | {row.load} | void: {row.void} | | | | | | |"
    own = f"{_value(row, PORTUNUS)}{_target(row.targets.value, 'value' in row.missed)}"
    cells = [
        row.work,
        row.load,
        own,
        _value(row, INCUMBENT),
        _spread(row.ratios(INCUMBENT)),
        _target(row.targets.ratio, "ratio" in row.missed).strip(" ()"),
        _value(row, FLOOR),
        _spread(row.ratios(FLOOR)),
        _target(row.targets.floor, "floor" in row.missed).strip(" ()"),
    ]
    return f"| {' | '.join(cell or '-' for cell in cells)} |"


def _value(row: Row, name: str) -> str:
    figures = row.figures.get(name)
    if name in row.lost:
        return "loses messages"
    return f"{_number(median(figures))} {row.unit}" if figures else ""


def _target(target: float, missed: bool) -> str:
    return (f" (≤ {target:g}, **missed**)" if missed else f" (≤ {target:g})") if target else ""


def _spread(ratios: Sequence[float]) -> str:
    if not ratios:
        return ""
    middle = f"{median(ratios):.2f}"
    return f"{middle} ({min(ratios):.2f}-{max(ratios):.2f})" if len(ratios) > 1 else middle


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def as_json(host: Machine, rows: Sequence[Row], load_after: float) -> dict[str, object]:
    """Return the results as objects to be written as JSON."""
    return {
        "machine": asdict(host),
        "load_average_after": load_after,
        "rows": [
            asdict(row)
            | {
                "medians": {name: median(figures) for name, figures in row.figures.items() if figures},
                "ratios": {name: row.ratios(name) for name in (INCUMBENT, FLOOR)},
                "missed": row.missed,
            }
            for row in rows
        ],
    }
