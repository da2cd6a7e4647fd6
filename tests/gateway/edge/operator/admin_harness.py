"""Flow harness with an admin socket, and the commands that are run on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.core.limits import Backend, BackendQualityRules
from gateway.edge.operator.admin_socket import AdminSocket
from gateway.edge.operator.operator_routes import operator_routes
from gateway.edge.operator.overview import Overview
from gateway.edge.operator.snapshot import SnapshotApi
from tests.gateway.flows.harness import FlowHarness

LIMITED_CLOUD = Backend(
    "cloud",
    ("https://cloud.example/",),
    "secret of the cloud",
    quality=BackendQualityRules(room_budget=600_000, videocodecs=("h264", "*")),
)


def snapshots(harness: FlowHarness) -> SnapshotApi:
    """Return the snapshots of a harness, of a gateway of version 1.2.3."""
    return SnapshotApi(harness.services, Overview(harness.services, harness.media, harness.mcu), harness.mcu, "1.2.3")


def admin_socket(harness: FlowHarness) -> AdminSocket:
    """Return the admin socket of a harness, which does not listen yet."""
    quality, draining = harness.media.quality, harness.flows.draining
    routes = operator_routes(harness.services, quality, draining, "1.2.3", snapshots(harness))
    return AdminSocket(routes)


@asynccontextmanager
async def admin_harness(path: Path, *backends: Backend) -> AsyncIterator[FlowHarness]:
    """Run a harness whose admin socket listens at a path."""
    async with FlowHarness(*backends) as harness:
        admin = admin_socket(harness)
        await admin.start(str(path))
        try:
            yield harness
        finally:
            await admin.stop()


async def run_command(name: str, *arguments: str) -> Result:
    """Run a command of ``portunus`` in a thread, beside the gateway's loop."""
    return await asyncio.to_thread(CliRunner().invoke, main, [name, *arguments])
