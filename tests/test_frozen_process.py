"""A frozen process: after ``freeze`` none of its threads runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from tests.frozen_process import freeze, thread_states

BUSY_THREADS = """
import hashlib, threading
def work():
    while True:
        hashlib.sha256(bytes(1 << 20))  # without the interpreter's lock
for _ in range(4):
    threading.Thread(target=work).start()
print("ready", flush=True)
"""


def test_all_threads_of_a_frozen_process_have_stopped() -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY_THREADS], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"ready\n"
            for _ in range(20):
                freeze(process.pid)
                assert thread_states(process.pid) == {"T"}
                os.kill(process.pid, signal.SIGCONT)
        finally:
            process.kill()
