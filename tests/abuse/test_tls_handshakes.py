"""Floods of TLS handshakes, from other addresses than that of the bystanders (docs/operations.md, "Limits")."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import pytest

from gateway.core.limits import Limits
from tests.abuse.scene import PATIENCE, Scene, running
from tests.gateway.certificates import make_certificate
from tests.gateway.edge.http.test_tls_handshake import client_hello

pytestmark = pytest.mark.full

DURATION = 2.0  # seconds
BURST = 400  # handshakes that begin at once
UNFINISHED = 700  # handshakes that do not end
FLOODING, SILENT = "127.0.0.2", "127.0.0.3"  # addresses of attackers
HELLO = client_hello()


async def test_floods_of_tls_handshakes_delay_no_other_client(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, rsa_key=True, rsa_bits=3072)  # whose handshakes take 2 ms each
    # Each question about the health is a handshake of its own, which waits its turn among those of the flood.
    async with running(tmp_path, certificate=certificate) as scene, scene.undisturbed(memory=96 << 20, health=False):
        flooding = asyncio.create_task(send_bursts(scene))
        silent = [await begin(scene, SILENT, HELLO[: 1 + number % len(HELLO)]) for number in range(UNFINISHED)]
        async with await scene.attacker("member", room="den"):  # over TLS
            pass
        closed = UNFINISHED - Limits().idle_connections_per_address
        assert await scene.limits_met("idle_connections_per_address") >= closed
        async with asyncio.timeout(PATIENCE):
            for reader, _ in silent[:closed]:  # the longest idle ones
                with contextlib.suppress(ConnectionError):
                    while await reader.read(65536):
                        pass
        assert await flooding >= BURST
        for _, writer in silent:
            writer.transport.abort()
    assert not [line for line in scene.lines if "Traceback" in line or "level=error" in line]


async def begin(scene: Scene, address: str, octets: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection from an address, and send the first octets of a handshake."""
    reader, writer = await asyncio.open_connection(*scene.address, local_addr=(address, 0))
    writer.write(octets)
    return reader, writer


async def send_bursts(scene: Scene) -> int:
    """Send many ClientHellos at once, again and again; return the number of answers."""
    end, answered = time.monotonic() + DURATION, 0
    while time.monotonic() < end:
        begun = [await begin(scene, FLOODING, b"") for _ in range(BURST)]
        for _, writer in begun:
            writer.write(HELLO)
        for reader, writer in begun:
            async with asyncio.timeout(PATIENCE):
                answered += await reader.read(1) != b""  # the gateway has signed its part of the handshake
            writer.transport.abort()
    return answered
