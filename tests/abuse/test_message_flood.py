"""Floods of messages end the connection that sends them (docs/protocol.md, "Limits")."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from tests.abuse.scene import Scene, running
from tests.gateway.edge.raw_client import masked

pytestmark = pytest.mark.full


@pytest.mark.parametrize("attackers", [20])
async def test_flood_of_invalid_messages_ends_its_connection(tmp_path: Path, attackers: int) -> None:
    async with running(tmp_path) as scene, scene.undisturbed(memory=48 << 20):
        await asyncio.gather(*(flood(scene) for _ in range(attackers)))
        assert await scene.limits_met("messages_per_second") == attackers


async def flood(scene: Scene) -> None:
    """Send invalid messages until the gateway closes the connection."""
    async with await scene.attacker("mallory") as client:
        closed = asyncio.create_task(client.wait_closed())
        with contextlib.suppress(ConnectionError):
            while not closed.done():
                client.writer.write(masked("{") * 1000)
                await client.writer.drain()
                await asyncio.sleep(0)
        await closed
