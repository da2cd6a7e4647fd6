"""The memory that clients which do not read cost the process (invariant 6; docs/protocol.md, "Limits")."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_client import TalkClient
from gateway.tools.talk_rooms import nextcloud_session
from tests.gateway.served import NO_RATE_LIMITS, PORTUNUS, configuration_for
from tests.gateway.stalled_member import stalled_member

pytestmark = pytest.mark.full

OUTBOX = 2 << 20  # bytes
PADDING = "x" * 16_000
MESSAGES = 4000  # 64 MB in all
STALLED_CLIENTS = 3  # clients that do not read
SLACK = 16 << 20  # bytes for buffers of sockets and transports, and for garbage


@asynccontextmanager
async def served_process(folder: Path, cloud: FakeNextcloud) -> AsyncIterator[tuple[Process, str]]:
    """Run ``portunus serve`` and yield its process and URL."""
    file = folder / "portunus.toml"
    file.write_text(configuration_for(cloud, NO_RATE_LIMITS, sessions=f"outbox_bytes = {OUTBOX}\n"))
    process = await asyncio.create_subprocess_exec(PORTUNUS, "serve", "-c", str(file), stdout=PIPE)
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        yield process, line.removeprefix("portunus listens on ").strip()
    finally:
        process.terminate()
        await process.wait()


def resident(process: Process) -> int:
    """Return the resident memory of a process in bytes."""
    rows = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(row.split()[1]) << 10 for row in rows if row.startswith("VmRSS:"))


async def test_client_that_does_not_read_costs_at_most_its_outbox(tmp_path: Path) -> None:
    async with FakeNextcloud() as cloud, served_process(tmp_path, cloud) as (process, url):
        async with TalkClient(url, cloud.url) as anna, TalkClient(url, cloud.url) as ben:
            for client, name in ((anna, "anna"), (ben, "ben")):
                await client.hello(cloud.ticket(name))
                await client.join("busy", nextcloud_session(name))
            stalled = [
                await stalled_member(url, cloud, "busy", f"stalled{number}") for number in range(STALLED_CLIENTS)
            ]
            before = most = resident(process)
            for number in range(MESSAGES):
                data = {"number": number, "padding": PADDING}
                await anna.send({"type": "message", "message": {"recipient": {"type": "room"}, "data": data}})
                if number % 50 == 49:
                    await ben.wait_for(lambda it, n=number: it.get("message", {}).get("data", {}).get("number") == n)  # type: ignore[misc]
                    most = max(most, resident(process))
            numbers = [it["message"]["data"]["number"] for it in ben.messages if it["type"] == "message"]
            assert numbers == list(range(MESSAGES))
            for raw, _ in stalled:
                raw.writer.transport.abort()
        assert most - before < STALLED_CLIENTS * OUTBOX + SLACK < MESSAGES * len(PADDING)
