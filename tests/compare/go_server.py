"""The Go server as a black box: its binary, its configuration, and its sockets."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.tools.fake_nextcloud import FakeNextcloud
from tests.conversations.levels import SocketLevel
from tests.conversations.player import Conversation, Json
from tests.gateway.flows.harness import INTERNAL_SECRET, internal_params
from tests.janus_process import free_ports, listens

ENDPOINT = "ocs/v2.php/apps/spreed/api/v1/signaling/backend"
START = 20.0  # seconds; it waits for Janus before it listens


def version(binary: Path) -> str:
    """Return the version that the binary prints."""
    printed = subprocess.run([binary, "-version"], capture_output=True, text=True, check=True).stdout
    return printed.strip().removeprefix("nextcloud-spreed-signaling version ").split("/go")[0]


def configuration(port: int, cloud: FakeNextcloud, conversation: Conversation, janus: str) -> str:
    """Return its ``server.conf``; keys that only this gateway has are left out."""
    server = conversation.server
    lines = [
        "[http]",
        f"listen = 127.0.0.1:{port}",
        "[sessions]",
        "hashkey = 0123456789abcdef0123456789abcdef",
        "[clients]",
        f"internalsecret = {INTERNAL_SECRET}" if server.get("internal", True) else "",
        "[backend]",
        "backendtype = static",
        "backends = cloud",
        "[cloud]",
        f"url = {cloud.url}",
        f"urls = {cloud.url}",
        f"secret = {cloud.secret}",
        f"sessionlimit = {server.get('session_limit', 0)}",
        "[nats]",
        "url = nats://loopback",
        "[stats]",
        "allowed_ips = 127.0.0.1",
        *(["[mcu]", "type = janus", f"url = {janus}"] if conversation.mcu else []),
    ]
    return "\n".join(lines) + "\n"


class GoServerLevel(SocketLevel):
    """The Go server; clients name Nextcloud's full endpoint, because version 2.0 sends requests to exactly that URL."""

    def __init__(self, cloud: FakeNextcloud, gateway: str) -> None:
        super().__init__(cloud, gateway)
        self.url = f"{cloud.url}{ENDPOINT}"

    def internal(self) -> Json:
        return internal_params(self.cloud.url)


@asynccontextmanager
async def go_server(binary: Path, conversation: Conversation, janus: str) -> AsyncIterator[SocketLevel]:
    """Start the Go server as a conversation needs it, with its own Nextcloud; ``janus`` is the URL of its SFU."""
    async with FakeNextcloud() as cloud:
        (port,) = free_ports(1)
        with tempfile.TemporaryDirectory(prefix="portunus-compare-") as folder:
            file = Path(folder) / "server.conf"
            file.write_text(configuration(port, cloud, conversation, janus))
            log = Path(folder) / "log"
            process = _launch(binary, file, log)
            try:
                await _wait(port, process, log)
                level = GoServerLevel(cloud, f"http://127.0.0.1:{port}")
                yield level
                for client in level.clients:
                    client.writer.transport.abort()
            finally:
                process.kill()
                process.wait()


def _launch(binary: Path, file: Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen([binary, "-config", file], stdout=output, stderr=output)


async def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    async with asyncio.timeout(START):
        while not await listens(port):
            if process.poll() is not None:
                raise RuntimeError(f"the Go server ended at once; see {log}")
            await asyncio.sleep(0.02)
