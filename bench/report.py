"""The machine of a benchmark, and its results as a table."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

LIBRARIES = ("aiohttp", "msgspec", "uvloop", "aiortc", "cryptography")


@dataclass(frozen=True)
class Machine:
    """The machine and the software versions of a measurement."""

    cpu: str
    cores: int
    kernel: str
    python: str
    portunus: str
    libraries: dict[str, str]
    compiler: str
    load_average: float  # before the run; the results are reliable only near 0


def machine() -> Machine:
    """Describe this machine."""
    model = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return Machine(
        cpu=model[1] if model else platform.processor(),
        cores=len(os.sched_getaffinity(0)),
        kernel=platform.release(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        portunus=version("portunus"),
        libraries={name: version(name) for name in LIBRARIES},
        compiler=subprocess.run(["gcc", "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0],
        load_average=os.getloadavg()[0],
    )


@dataclass(frozen=True)
class Row:
    """One measured phase: CPU microseconds of each round, and of the floor in the same round."""

    name: str
    gateway: list[float]
    floor: list[float]
    target: float = 0.0  # at most this many times the floor; 0 = none set

    @property
    def times(self) -> float:
        """The multiple of the floor: the median of the rounds' ratios."""
        return median(ours / theirs for ours, theirs in zip(self.gateway, self.floor, strict=True))


def table(rows: list[Row]) -> str:
    """Return the rows as a readable table."""
    lines = [f"{'':<18}{'gateway µs':>12}{'floor µs':>11}{'times':>8}{'target':>9}   rounds, gateway / floor"]
    for row in rows:
        target = f"≤ {row.target:.1f}" if row.target else "-"
        rounds = "  ".join(f"{ours:.1f}/{theirs:.1f}" for ours, theirs in zip(row.gateway, row.floor, strict=True))
        figures = f"{median(row.gateway):>12.2f}{median(row.floor):>11.2f}{row.times:>8.2f}{target:>9}"
        lines.append(f"{row.name:<18}{figures}   {rounds}")
    return "\n".join(lines)


def as_json(where: Machine, rows: list[Row]) -> dict[str, object]:
    """Return the rows as JSON."""
    figures = [
        {
            **asdict(row),
            "gateway_median": median(row.gateway),
            "floor_median": median(row.floor),
            "times_floor": row.times,
        }
        for row in rows
    ]
    return {"machine": asdict(where), "unit": "CPU microseconds", "rows": figures}
