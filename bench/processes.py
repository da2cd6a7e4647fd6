"""The processes of a benchmark: the measured one on the first core, everything else on the second."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

CORES = tuple(sorted(os.sched_getaffinity(0)))  # allowed for this process
MEASURED_CORE, LOAD_CORE = CORES[0], CORES[-1]
WAIT_TIMEOUT = 30.0  # seconds for a started process to print its address


class NotStarted(Exception):
    """A process could not be started, did not listen in time, or has ended."""


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process, all its threads, to the nanosecond.

    This is the process' CPU-time clock, whose number is made of the pid as ``clock_getcpuclockid(3)`` makes it.
    """
    return time.clock_gettime(~pid << 3 | 2)


def compile_c(source: Path, target: Path) -> Path:
    """Compile one C file with ``gcc -O2`` and return the program."""
    compiler = shutil.which("gcc")
    if compiler is None:
        raise NotStarted("the benchmark needs gcc: sudo apt-get install -y gcc libc6-dev")
    subprocess.run([compiler, "-O2", "-Wall", "-o", str(target), str(source)], check=True)
    return target


@contextlib.contextmanager
def running(
    command: Sequence[str],
    core: int,
    pass_fds: Sequence[int] = (),
    stdout: IO[bytes] | int = subprocess.PIPE,
    stderr: IO[bytes] | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """Run a program pinned to a core; it is ended with the block."""
    pinned = ["taskset", "-c", str(core), *command]
    process = subprocess.Popen(pinned, stdout=stdout, stderr=stderr, text=True, pass_fds=pass_fds)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def listening(
    command: Sequence[str], core: int, stderr: IO[bytes] | None = None
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a server that prints its address, or its port alone, when it is ready; yields the port too."""
    with running(command, core, stderr=stderr) as process:
        yield process, _read_port(process)


def _read_port(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None  # it is a pipe
    deadline = time.monotonic() + WAIT_TIMEOUT
    poll = select.poll()
    poll.register(process.stdout, select.POLLIN)
    while (left := deadline - time.monotonic()) > 0:
        line = process.stdout.readline() if poll.poll(left * 1000) else ""
        if not line:
            break
        if found := re.search(r"(?:127\.0\.0\.1:|^)(\d+)", line):
            return int(found[1])
    raise NotStarted(f"{process.args!r} did not say where it listens")
