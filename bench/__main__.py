"""``python -m bench``: Portunus, the incumbent and a floor side by side in one run.

Writes ``build/bench.json``, and ``build/bench.md`` for docs/performance.md, where the method stands. Arguments name
the sorts of work to be measured; none stands for all.
"""

# ruff: noqa: T201 - a command that prints its results

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

from bench import processes, report, works
from bench.client import ServerRefused
from bench.runner import Bench, WrongCount, compile_programs
from bench.servers import BenchSetup, incumbent_binary, open_janus
from bench.tokens import TokenKeys
from tests.compare.go_configuration import version


def main() -> int:
    """Run the benchmark and write the results; return 1 if a measurement is void, else 0."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n")[0])
    parser.add_argument("works", nargs="*", metavar="work", help=f"any of {', '.join(works.ALL)}")
    parser.add_argument("--quick", action="store_true", help="under a minute: costs beside the floor, no incumbent")
    parser.add_argument("--rounds", type=int, help="5, or 3 with --quick")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of each load on each server in a round")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of clients and operations")
    parser.add_argument("--into", type=Path, default=Path("build"), help="folder of bench.json and bench.md")
    options = parser.parse_args()
    if unknown := set(options.works) - set(works.ALL):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    raise_descriptor_limit()
    binary = None if options.quick else incumbent_binary()
    host = report.machine(version(binary) if binary else "")
    os.sched_setaffinity(0, {processes.LOAD_CORE})
    names = works.QUICK if options.quick else options.works or list(works.ALL)
    rows: list[report.Row] = []
    options.into.mkdir(exist_ok=True)
    rounds = options.rounds or (3 if options.quick else 5)
    with open_bench(binary, rounds, options.seconds, options.scale) as bench:
        for name in names:
            try:
                rows += works.ALL[name](bench)
            except (WrongCount, ServerRefused, RuntimeError, OSError) as error:
                traceback.print_exception(error)
                rows.append(report.Row(name, "", "", void=f"{str(error)[:200]}"))
            text = report.markdown(host, rows, os.getloadavg()[0])
            written = report.as_json(host, rows, os.getloadavg()[0])
            (options.into / "bench.json").write_text(json.dumps(written, indent=2) + "\n")
            (options.into / "bench.md").write_text(text)
    print(text, end="")
    return 1 if any(row.void for row in rows) else 0


@contextlib.contextmanager
def open_bench(binary: Path | None, rounds: int, seconds: float, scale: float = 1.0) -> Iterator[Bench]:
    """Compile the load programs and start the backend and, beside an incumbent, the SFU of both servers."""
    with tempfile.TemporaryDirectory(prefix="portunus-bench-") as name, contextlib.ExitStack() as stack:
        scratch = Path(name)
        keys = TokenKeys()
        command = [sys.executable, "-m", "bench.nextcloud", str(keys.write_published(scratch))]
        _, nextcloud = stack.enter_context(processes.listening(command, processes.LOAD_CORE))
        janus = stack.enter_context(open_janus()) if binary else ""
        yield Bench(
            BenchSetup(scratch, nextcloud, binary, janus), compile_programs(scratch), keys, rounds, seconds, scale=scale
        )


def raise_descriptor_limit() -> None:
    """Raise the limit of open files to the hard limit: thousands of clients are connected."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    sys.exit(main())
