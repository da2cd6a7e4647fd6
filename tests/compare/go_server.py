"""The Go server as a black box: its process and its sockets."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.tools.fake_nextcloud import FakeNextcloud
from tests.compare.go_configuration import ENDPOINT, GoBackend, server_conf
from tests.conversations.levels import SocketLevel
from tests.conversations.player import Conversation, Json
from tests.gateway.flows.harness import INTERNAL_SECRET, internal_params
from tests.janus_process import listens
from tests.ports import free_ports

START_TIMEOUT = 20.0  # seconds; it waits for Janus before it listens


def configuration(port: int, cloud: FakeNextcloud, conversation: Conversation, janus: str) -> str:
    """Return the ``server.conf`` for a conversation, without settings that only Portunus has."""
    server = conversation.server
    return server_conf(
        port,
        [GoBackend("cloud", cloud.url, cloud.secret, server.get("session_limit", 0))],
        janus=janus if conversation.mcu else "",
        internal_secret=INTERNAL_SECRET if server.get("internal", True) else "",
    )


class GoProcess:
    """Process of the Go server, which listens on a fixed port."""

    def __init__(self, binary: Path, folder: Path, port: int) -> None:
        self._command: list[str | Path] = [binary, "-config", folder / "server.conf"]
        self._log = folder / "log"
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start the Go server, and wait until it listens."""
        process = self._process = self._launch()
        async with asyncio.timeout(START_TIMEOUT):
            while not await listens(self._port):
                if process.poll() is not None:
                    raise RuntimeError(f"the Go server ended at once: {self._log.read_text()[-500:]}")
                await asyncio.sleep(0.02)

    def _launch(self) -> subprocess.Popen[bytes]:
        with self._log.open("wb") as output:
            return subprocess.Popen(self._command, stdout=output, stderr=output)

    def kill(self) -> None:
        """Kill the Go server, which closes no connection properly. Idempotent."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()


class GoServerLevel(SocketLevel):
    """The Go server; clients name Nextcloud's full endpoint, because version 2.0 sends requests to exactly that URL."""

    def __init__(self, cloud: FakeNextcloud, gateway: str, process: GoProcess) -> None:
        super().__init__(cloud, gateway)
        self.url = f"{cloud.url}{ENDPOINT}"
        self.process = process

    def internal_params(self) -> Json:
        return internal_params(self.cloud.url)


@asynccontextmanager
async def go_server(binary: Path, conversation: Conversation, janus: str) -> AsyncIterator[GoServerLevel]:
    """Start the Go server as a conversation needs it, and its Nextcloud; ``janus`` is the URL of the SFU."""
    async with FakeNextcloud() as cloud:
        (port,) = free_ports(1)
        with tempfile.TemporaryDirectory(prefix="portunus-compare-") as folder:
            (Path(folder) / "server.conf").write_text(configuration(port, cloud, conversation, janus))
            process = GoProcess(binary, Path(folder), port)
            try:
                await process.start()
                level = GoServerLevel(cloud, f"http://127.0.0.1:{port}", process)
                yield level
                for client in level.clients:
                    client.writer.transport.abort()
            finally:
                process.kill()
