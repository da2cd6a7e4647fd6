"""Freeze a process with SIGSTOP, so that its connections stay open and it answers nothing."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

STOP_TIMEOUT = 60.0  # seconds until all threads have stopped; measured 0.001


def freeze(process: int) -> None:
    """Stop a process with SIGSTOP, and return when all its threads have stopped.

    ``os.kill`` returns before that: on a busy machine a thread that waits for a processor may still answer a request
    that is sent later. Resume the process with SIGCONT.

    Raises:
        TimeoutError: a thread still runs.
        FileNotFoundError, ProcessLookupError: the process has ended.
    """
    os.kill(process, signal.SIGSTOP)
    deadline = time.monotonic() + STOP_TIMEOUT
    while thread_states(process) != {"T"}:
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {process} does not stop")
        time.sleep(0.001)


def thread_states(process: int) -> set[str]:
    """Return the states of a process' threads: letters of proc_pid_stat(5), for example ``T`` for stopped."""
    threads = Path(f"/proc/{process}/task")
    return {(thread / "stat").read_text().rpartition(")")[2].split()[0] for thread in threads.iterdir()}
