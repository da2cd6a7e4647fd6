"""The checks of the bystanders: they pass without an attack, and detect a gateway that stands still."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.abuse.scene import LATE, running

pytestmark = pytest.mark.soak


async def test_bystanders_without_an_attack(tmp_path: Path) -> None:
    async with running(tmp_path) as scene, scene.undisturbed(memory=16 << 20):
        await asyncio.sleep(1)


async def test_gateway_that_stands_still_is_detected(tmp_path: Path) -> None:
    async with running(tmp_path) as scene, scene.watched(memory=16 << 20):
        await asyncio.sleep(0.5)
        scene.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(0.5)
        scene.process.send_signal(signal.SIGCONT)
    assert scene.experience.worst > LATE
    assert scene.experience.lost == 0
