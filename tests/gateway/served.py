"""A process of ``portunus serve`` for tests."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.tools.fake_nextcloud import FakeNextcloud

START_TIMEOUT = 60.0  # seconds
PORTUNUS = str(Path(sys.executable).with_name("portunus"))  # the command
FILE = "portunus.toml"
LOG = "portunus.log"
INTERNAL_SECRET = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
WITH_INTERNAL_CLIENTS = """\
[http]
listen = ["127.0.0.1:0"]
[sessions]
secret = "c41f2be6b0d94a6c8f3f7a52e1d06b98"
[internal]
secret = "{internal}"
[[backend]]
id = "cloud"
urls = ["{url}"]
secret = "{secret}"
"""
NO_RATE_LIMITS = "[limits]\nmessages_per_second = 0\nbytes_per_second = 0\nrelayed_bytes_per_second = 0\n"


def configuration_for(cloud: FakeNextcloud, more: str = "", *, sessions: str = "") -> str:
    """Return the configuration of a gateway at a free port for a Nextcloud; ``more`` has further sections.

    ``sessions`` has further keys of the section ``sessions``.
    """
    return (
        f'[http]\nlisten = ["127.0.0.1:0"]\n[sessions]\nsecret = "{cloud.secret}"\n{sessions}'
        f'[[backend]]\nid = "cloud"\nurls = ["{cloud.url}"]\nsecret = "{cloud.secret}"\n{more}\n'
    )


@asynccontextmanager
async def served_gateway(folder: Path, cloud: FakeNextcloud, configuration: str = "") -> AsyncIterator[str]:
    """Run ``portunus serve`` and yield its URL; ``configuration`` has further sections of its file."""
    async with serve(folder, configuration_for(cloud, configuration)) as url:
        yield url


@asynccontextmanager
async def serve(folder: Path, text: str) -> AsyncIterator[str]:
    """Run ``portunus serve`` with a configuration and yield its URL; its log is written to the folder, as JSON."""
    async with served_process(folder, text) as gateway:
        yield gateway.url


@dataclass
class ServedGateway:
    """A process of ``portunus serve``, whose configuration and log are in ``folder``."""

    process: asyncio.subprocess.Process
    folder: Path
    url: str

    async def reload(self, text: str) -> str:
        """Have the process reload a configuration; return what it logs about the result."""
        log, results = self.folder / LOG, ("the configuration was reloaded", "the configuration was not changed")
        start = len(log.read_text())
        (self.folder / FILE).write_text(text)
        self.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(START_TIMEOUT):
            while True:  # until another process has written the line
                lines = log.read_text()[start:].splitlines()
                if found := [line for line in lines if any(result in line for result in results)]:
                    return found[0]
                await asyncio.sleep(0.01)


@asynccontextmanager
async def served_process(folder: Path, text: str) -> AsyncIterator[ServedGateway]:
    """Run ``portunus serve`` with a configuration; its log is written to the folder, as JSON."""
    file = folder / FILE
    file.write_text(text)
    command = (PORTUNUS, "serve", "-c", str(file), "--log-format", "json")
    with (folder / LOG).open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=log)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(START_TIMEOUT):
            line = (await process.stdout.readline()).decode()
        yield ServedGateway(process, folder, line.removeprefix("portunus listens on ").strip())
    finally:
        process.send_signal(signal.SIGINT)  # SIGTERM would wait for clients that are in a call
        await process.wait()
