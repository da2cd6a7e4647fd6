"""``python -m bench.sfu_lag``: the delay of relayed messages in a gateway that forwards 0, 50 and 250 streams.

Each number of streams is measured with the machine as it is, and beside a process that always wants the gateway's core.
The streams are those of ``bench.sfu``: a keyframe for 250 subscribers is about 6,000 packets.
"""

# ruff: noqa: T201 - a command that prints its results

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

import uvloop

from bench import processes
from bench.measured_sfus import inprocess
from bench.processes import LOAD_CORE, MEASURED_CORE
from bench.sfu import SETTLE, cpu_model, message_delays, percentile, running_stream, versions
from bench.sfu_load import encoded_frames

STREAMS = (0, 50, 250)
BUSY = "while True: pass"  # a program


async def main(backend_url: str) -> None:
    """Measure, and print the figures."""
    frames = encoded_frames()
    print(f"{cpu_model()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}; {versions()}")
    print(f"{'relayed message, milliseconds':32}{'median':>10}{'90 %':>10}{'99 %':>10}{'worst':>10}")
    for busy in (False, True):
        for count in STREAMS:
            async with contextlib.AsyncExitStack() as stack:
                sfu = await stack.enter_async_context(inprocess())
                if count:
                    await stack.enter_async_context(running_stream(sfu, frames, count))
                if busy:
                    stack.enter_context(processes.running([sys.executable, "-c", BUSY], MEASURED_CORE))
                await asyncio.sleep(SETTLE)
                delays = await message_delays(sfu, backend_url)
            figures = "".join(f"{percentile(delays, percent):10.2f}" for percent in (50, 90, 99, 100))
            print(f"{count:3} streams{', beside a busy process' if busy else '':21}{figures}", flush=True)


if __name__ == "__main__":
    os.sched_setaffinity(0, {LOAD_CORE})
    with (
        processes.listening([sys.executable, "-m", "bench.nextcloud"], LOAD_CORE) as (_, nextcloud),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(main(f"http://127.0.0.1:{nextcloud}/"))
