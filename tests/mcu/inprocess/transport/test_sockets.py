"""Sockets that cannot be bound: no file descriptors, no such address, no free port."""

from __future__ import annotations

import asyncio
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mcu.base import McuStatus, PublishOptions, Rejected, SfuState, SubscribeOptions
from mcu.inprocess import InprocessSettings, backend
from mcu.inprocess.backend import InprocessMcu
from tests.mcu.contract.clients import KEY, sender
from tests.mcu.descriptions import parse_frozen
from tests.sdp.recorded import BY_ID

ELSEWHERE = "192.0.2.1"  # RFC 5737: an address of no machine
CAMERA = BY_ID["chromium/camera.offer.sdp"].text
SHORT_PAUSE = 0.05


async def publish_without_descriptors() -> None:
    """Publish, read the status and stop while the process may open no more files."""
    sfus = [
        InprocessMcu(settings) for settings in (InprocessSettings(address=("127.0.0.1", "::1")), InprocessSettings())
    ]
    for mcu in sfus:
        await mcu.start(lambda status: None)
        assert mcu.status().ready
    async with sender() as alice:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        for mcu in sfus:
            with pytest.raises(Rejected):
                await mcu.publish(KEY, parse_frozen(CAMERA), PublishOptions(), alice)
            assert mcu.status().sfus[0].publishers == 0
            await mcu.stop()
            assert mcu.status().sfus[0].state is SfuState.STOPPED
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_publishing_without_file_descriptors_is_refused_without_error_output() -> None:
    program = f"import asyncio, {__name__} as test; asyncio.run(test.publish_without_descriptors())"
    root = Path(__file__).parents[4]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


async def test_address_of_another_machine_makes_the_sfu_refused(caplog: pytest.LogCaptureFixture) -> None:
    states: list[McuStatus] = []
    mcu = InprocessMcu(InprocessSettings(address=ELSEWHERE))
    await mcu.start(states.append)
    (sfu,) = mcu.status().sfus
    assert sfu.state is SfuState.REFUSED
    assert "mcu.inprocess.address" in sfu.reason
    assert ELSEWHERE not in sfu.reason + caplog.text
    assert sfu.reason in caplog.text
    async with sender() as alice:
        with pytest.raises(Rejected, match=r"mcu\.inprocess\.address"):
            await mcu.publish(KEY, parse_frozen(CAMERA), PublishOptions(), alice)
        with pytest.raises(Rejected, match=r"mcu\.inprocess\.address"):
            await mcu.subscribe(KEY, SubscribeOptions(), alice)
        mcu.reconfigure(InprocessSettings(address="127.0.0.1"))
        assert mcu.status().ready
        await mcu.publish(KEY, parse_frozen(CAMERA), PublishOptions(), alice)
    await mcu.stop()
    assert [status.sfus[0].state for status in states] == [SfuState.REFUSED, SfuState.READY, SfuState.STOPPED]


async def test_one_bindable_address_of_several_makes_the_sfu_ready() -> None:
    mcu = InprocessMcu(InprocessSettings(address=(ELSEWHERE, "127.0.0.1")))
    await mcu.start(lambda status: None)
    assert mcu.status().ready
    await mcu.stop()


async def test_sfu_becomes_ready_when_a_port_is_free_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "BIND_RETRY", SHORT_PAUSE)
    states: asyncio.Queue[McuStatus] = asyncio.Queue()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        mcu = InprocessMcu(InprocessSettings(address="127.0.0.1", port_min=port, port_max=port))
        await mcu.start(states.put_nowait)
        (sfu,) = (await states.get()).sfus
        assert sfu.state is SfuState.REFUSED
        assert "mcu.inprocess.port_min" in sfu.reason
    async with asyncio.timeout(60.0):
        assert (await states.get()).ready
    await mcu.stop()
