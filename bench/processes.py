"""The processes of a benchmark: the measured one on the first core, everything else on the second."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

CORES = tuple(sorted(os.sched_getaffinity(0)))  # allowed for this process
MEASURED, REST = CORES[0], CORES[-1]
WAIT_TIMEOUT = 30.0  # seconds for a started process to print its address


class NotStarted(Exception):
    """A process did not print its address in time."""


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
def running(command: Sequence[str], core: int, pass_fds: Sequence[int] = ()) -> Iterator[subprocess.Popen[str]]:
    """Run a program pinned to a core; it is ended with the block."""
    pinned = ["taskset", "-c", str(core), *command]
    process = subprocess.Popen(pinned, stdout=subprocess.PIPE, text=True, pass_fds=pass_fds)
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
def listening(command: Sequence[str], core: int) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a server that prints its address, or its port alone, when it is ready; yields the port too."""
    with running(command, core) as process:
        yield process, _read_port(process)


def _read_port(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None  # it is a pipe
    deadline = time.monotonic() + WAIT_TIMEOUT
    while (left := deadline - time.monotonic()) > 0:
        ready, _, _ = select.select([process.stdout], [], [], left)
        line = process.stdout.readline() if ready else ""
        if not line:
            break
        if found := re.search(r"(?:127\.0\.0\.1:|^)(\d+)", line):
            return int(found[1])
    raise NotStarted(f"{process.args!r} did not say where it listens")


@contextlib.contextmanager
def gateway(directory: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run ``portunus serve`` with an SFU configured and any backend URL allowed."""
    config = directory / "bench.toml"
    config.write_text(CONFIG)
    program = str(Path(sys.executable).with_name("portunus"))
    with listening([program, "serve", "-c", str(config)], MEASURED) as started:
        yield started


CONFIG = """\
[http]
listen = ["127.0.0.1:0"]

[sessions]
secret = "bench-0f3b9c1e5d7a48268e4b1c6d9a2f7053"

[nextcloud]
allow_any = true
secret = "bench-6a1d4e8f2b7c49039d5e0f8a3c6b1274"

[drain]
deadline = 0

[mcu]
type = "inprocess"

[limits] # few clients send as much as thousands do otherwise; the limits are still counted
messages_per_second = 100000000
messages_burst = 1000000000
bytes_per_second = 100000000000
bytes_burst = 1000000000000
relayed_bytes_per_second = 100000000000
relayed_bytes_burst = 1000000000000
"""
