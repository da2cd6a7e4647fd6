"""Reloads of the configuration in the middle of requests disturb none of them (docs/operations.md, "Signals")."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from gateway.tools.talk_client import TalkClient
from tests.abuse.scene import PATIENCE, Scene, running

pytestmark = pytest.mark.full

RELOADS = 20
CLIENTS = 8
BACKENDS = ("", '[[backend]]\nid = "other"\nurls = ["https://other.example/"]\nsecret = "{secret}"\n')
PUBLISHERS = (2, 3)
REFUSED = "the configuration was not changed"


async def test_reloads_disturb_no_request(tmp_path: Path) -> None:
    async with running(tmp_path) as scene, scene.undisturbed(memory=64 << 20):
        file = tmp_path / "portunus.toml"
        reloading = asyncio.create_task(reload_often(scene, file, file.read_text()))
        rounds = await asyncio.gather(
            *(visit(scene, f"user {number}", reloading) for number in range(CLIENTS)), send_chat(scene, reloading)
        )
        assert min(rounds) > 2
        await reloading
    errors = [line for line in scene.lines if "Traceback" in line or "level=error" in line]
    assert not [line for line in errors if REFUSED not in line]


async def reload_often(scene: Scene, file: Path, original: str) -> None:
    """Change the configuration, and reload it; a part of the reloads finds an error and changes nothing."""
    for number in range(RELOADS):
        limits = f"[limits]\npublishers = {PUBLISHERS[number % 2]}\n"
        error = "[limits" if number % 5 == 4 else ""
        rewrite(file, f"{original}{BACKENDS[number % 2].format(secret='s' * 32)}{limits}{error}")
        before = len(scene.lines)
        scene.process.send_signal(signal.SIGHUP)
        expected = REFUSED if error else "the configuration was reloaded"
        async with asyncio.timeout(PATIENCE):
            while not any(expected in line for line in scene.lines[before:]):  # noqa: ASYNC110 - lines of a log
                await asyncio.sleep(0.01)
    rewrite(file, original)


def rewrite(file: Path, text: str) -> None:
    """Replace the configuration."""
    file.write_text(text)


async def visit(scene: Scene, name: str, until: asyncio.Task[None]) -> int:
    """Open a session, join a room, and send a message to oneself through the room, again and again."""
    rounds = 0
    while not until.done():
        async with TalkClient(scene.url, scene.cloud.url) as user:
            await user.hello(scene.cloud.ticket(name))
            await user.join("den")
            await user.request("room", {"roomid": ""})
        rounds += 1
    return rounds


async def send_chat(scene: Scene, until: asyncio.Task[None]) -> int:
    """Let Nextcloud send requests, each of which has to be accepted."""
    body = {"type": "message", "message": {"data": {"type": "chat", "chat": {"refresh": True}}}}
    rounds = 0
    while not until.done():
        status, _ = await scene.cloud.send(scene.url, "den", body)
        assert status == 200
        rounds += 1
    return rounds
