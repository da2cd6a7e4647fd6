"""The checks of the bystanders: they detect a gateway that stands still, and do not count a busy machine's delays."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from gateway.tools.talk_client import TalkClient
from tests.abuse.bystanders import PULSE, HealthChecks, MachineDelay, Pulse, Receiver
from tests.abuse.scene import LATE, PATIENCE, running
from tests.frozen_process import freeze

pytestmark = pytest.mark.full


async def test_bystanders_without_an_attack_are_undisturbed(tmp_path: Path) -> None:
    async with running(tmp_path) as scene, scene.undisturbed(memory=16 << 20):
        await asyncio.sleep(1)


async def test_gateway_that_stands_still_is_detected(tmp_path: Path) -> None:
    async with running(tmp_path) as scene, scene.watched(memory=16 << 20) as machine:
        await asyncio.sleep(0.5)
        freeze(scene.process.pid)
        frozen_at, withheld_before = time.monotonic(), machine.withheld()
        async with asyncio.timeout(PATIENCE):  # a busy machine excuses a part of the time
            while time.monotonic() - frozen_at - (machine.withheld() - withheld_before) < 2 * LATE:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        scene.process.send_signal(signal.SIGCONT)
    assert scene.experience.own > LATE
    assert scene.experience.room_own > LATE
    assert scene.experience.health_own > LATE
    assert (scene.experience.lost, scene.experience.unhealthy) == (0, 0)


async def test_waits_of_the_bystanders_do_not_excuse_a_gateway_that_stands_still(tmp_path: Path) -> None:
    async with running(tmp_path) as scene, scene.watched(memory=16 << 20) as machine, AsyncExitStack() as stack:
        processor = min(os.sched_getaffinity(0))
        os.sched_setaffinity(scene.bystanders, {processor})
        os.setpriority(os.PRIO_PROCESS, scene.bystanders, 10)
        for process in [await stack.enter_async_context(busy()) for _ in range(2)]:
            os.sched_setaffinity(process, {processor})
        waits = MachineDelay(scene.bystanders)
        freeze(scene.process.pid)
        frozen_at, waited, withheld = time.monotonic(), waits.withheld(), machine.withheld()
        async with asyncio.timeout(PATIENCE):
            while time.monotonic() - frozen_at - (machine.withheld() - withheld) < 6 * LATE:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert waits.withheld() - waited > LATE
        scene.process.send_signal(signal.SIGCONT)
    assert scene.experience.own > LATE


async def test_time_for_which_a_busy_machine_does_not_run_the_gateway_is_counted(tmp_path: Path) -> None:
    async with running(tmp_path) as scene, AsyncExitStack() as stack:
        machine = MachineDelay(scene.process.pid)
        processor = min(os.sched_getaffinity(0))
        os.sched_setaffinity(scene.process.pid, {processor})
        os.setpriority(os.PRIO_PROCESS, scene.process.pid, 19)
        for process in [await stack.enter_async_context(busy()) for _ in range(5)]:
            os.sched_setaffinity(process, {processor})
        before = machine.withheld()
        async with asyncio.timeout(PATIENCE):
            while machine.withheld() - before < LATE:
                await scene.healthy()  # which needs the processor


class ScriptedMachine(MachineDelay):
    """A machine that has withheld a given number of seconds."""

    def __init__(self, withheld: float) -> None:
        self._withheld = withheld

    def withheld(self) -> float:
        return self._withheld


class ScriptedPulse(Pulse):
    """The pulse of a process that has handled nothing for a given number of seconds."""

    def __init__(self, late: float) -> None:
        self._late = late

    def late(self) -> float:
        return self._late

    def missed(self) -> float:
        return self._late


def test_time_that_the_machine_withheld_is_not_counted_as_delay_of_the_gateway() -> None:
    client = TalkClient("http://gateway.example", "http://cloud.example")
    receiver = Receiver(client, ScriptedMachine(withheld=1007.0), ScriptedPulse(late=1.0))
    for number, withheld in enumerate((1000.0, 1004.0, 1002.0)):
        data = {"number": number, "at": time.monotonic() - 10.0, "withheld": withheld}
        client.on_message({"type": "message", "message": {"data": data}})
    assert receiver.worst >= 10.0
    assert 6.0 <= receiver.own < 7.0
    assert receiver.lost(3) == 0
    assert receiver.lost(4) == 1


async def test_checks_that_are_not_answered_or_not_with_success_are_counted_as_failed() -> None:
    answers = [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 503 Service Unavailable\r\n", b"", b"HTTP/1.1 200 OK\r\n"]
    until = asyncio.get_running_loop().create_future()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answers.pop(0))
        writer.close()
        if not answers:
            until.set_result(None)

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()
        checks = HealthChecks(address, ScriptedMachine(withheld=1.0), ScriptedPulse(late=0.0))
        await checks.run(until)
    assert (checks.count, checks.failed) == (4, 2)


async def test_process_that_was_busy_is_late_until_its_next_beat() -> None:
    pulse = Pulse()
    beating = asyncio.create_task(pulse.beat())
    await asyncio.sleep(0)
    assert pulse.late() < LATE
    missed = pulse.missed()
    end = time.monotonic() + PULSE + 2 * LATE
    while time.monotonic() < end:  # the event loop handles nothing
        pass
    assert pulse.late() >= 2 * LATE
    assert pulse.missed() - missed >= 2 * LATE
    await asyncio.sleep(2 * PULSE)
    assert pulse.late() < LATE
    assert pulse.missed() - missed >= 2 * LATE
    beating.cancel()


@asynccontextmanager
async def busy() -> AsyncIterator[int]:
    """Run a process that never sleeps, and yield its id."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "while True: pass")
    try:
        yield process.pid
    finally:
        process.kill()
        await process.wait()
