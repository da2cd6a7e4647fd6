"""Connections that send nothing do not prevent other clients from connecting (docs/operations.md, "Limits")."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from gateway.core.limits import Limits
from tests.abuse.scene import PATIENCE, running

pytestmark = pytest.mark.full

CONNECTIONS = 2000


async def test_thousands_of_idle_connections_leave_room_for_other_clients(tmp_path: Path) -> None:
    async with running(tmp_path) as scene, scene.undisturbed(memory=48 << 20):
        silent = [await asyncio.open_connection(*scene.address) for _ in range(CONNECTIONS)]
        async with await scene.connect() as client:
            assert (await client.receive())["type"] == "welcome"
        closed = CONNECTIONS - Limits().idle_connections_per_address
        assert await scene.limits_met("idle_connections_per_address") >= closed
        async with asyncio.timeout(PATIENCE):
            for reader, _ in silent[:closed]:  # the longest idle ones
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
        for _, writer in silent:
            writer.transport.abort()
