"""File descriptors that run out: new clients are refused, all others are served (docs/operations.md, "Limits")."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

import pytest

from gateway.edge.http.descriptors import usable_descriptors
from tests.abuse.scene import PATIENCE, Scene, running
from tests.gateway.edge.raw_client import RawClient

pytestmark = pytest.mark.full

DESCRIPTORS = 512  # hard limit of the gateway's process
BYSTANDERS = 20  # descriptors that their connections may take
BURST = 400  # connections without a request that are opened at once
PERIOD = 0.05  # seconds between two bursts
DURATION = 2.0  # seconds
FLOODING = "127.0.0.2"  # the address of the bursts


async def test_clients_beyond_the_last_descriptors_are_refused_and_delay_no_other_client(tmp_path: Path) -> None:
    async with running(tmp_path, descriptors=DESCRIPTORS) as scene:
        usable = usable_descriptors(DESCRIPTORS)
        attackers = [
            await scene.attacker(f"mallory {number}") for number in range(usable - open_descriptors(scene) - BYSTANDERS)
        ]
        async with scene.undisturbed(memory=32 << 20):
            await fill(scene, attackers)
            most = await open_bursts(scene)
        assert usable <= most < DESCRIPTORS
        assert await scene.limits_met("descriptors") > BURST
        await fill(scene, attackers)  # the bystanders have gone
        await check_service(scene)
        for client in attackers:
            client.writer.transport.abort()
        async with asyncio.timeout(PATIENCE):
            while " 503 " in (await scene.connect()).head:  # until the gateway has closed the connections
                pass
        assert not [line for line in scene.lines if "Traceback" in line or "level=error" in line]
        assert len([line for line in scene.lines if "clients are refused" in line]) == 1


def open_descriptors(scene: Scene) -> int:
    """Return how many file descriptors the gateway has open."""
    return len(list(Path(f"/proc/{scene.process.pid}/fd").iterdir()))


async def fill(scene: Scene, attackers: list[RawClient]) -> None:
    """Open WebSockets of the attackers until one is refused."""
    accepted = True
    while accepted:
        assert len(attackers) < usable_descriptors(DESCRIPTORS)
        try:
            attackers.append(await scene.connect())
            accepted = " 503 " not in attackers[-1].head
        except (asyncio.IncompleteReadError, ConnectionError):
            accepted = False


async def open_bursts(scene: Scene) -> int:
    """Open many connections without a request at once, again and again; return the greatest number of descriptors."""
    end, most = time.monotonic() + DURATION, 0
    while time.monotonic() < end:
        burst = [socket.socket() for _ in range(BURST)]
        for client in burst:
            client.setblocking(False)
            client.bind((FLOODING, 0))
            client.connect_ex(scene.address)
        for _ in range(10):
            most = max(most, open_descriptors(scene))
            await asyncio.sleep(PERIOD / 10)
        for client in burst:
            client.close()
    return most


async def check_service(scene: Scene) -> None:
    """Check that only new clients are refused: the health, the metrics and Nextcloud's requests are served."""
    await scene.healthy()
    assert await scene.limits_met("descriptors") > 0
    body = {"type": "message", "message": {"data": {"type": "chat", "chat": {"refresh": True}}}}
    assert (await scene.cloud.send(scene.url, "pair", body))[0] == 200
