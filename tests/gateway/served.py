"""A process of ``portunus serve`` for tests."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.tools.fake_nextcloud import FakeNextcloud

START_TIMEOUT = 60.0  # seconds
FILE = "portunus.toml"
LOG = "portunus.log"


@asynccontextmanager
async def served_gateway(folder: Path, cloud: FakeNextcloud, configuration: str = "") -> AsyncIterator[str]:
    """Run ``portunus serve`` and yield its URL; ``configuration`` has further sections of its file."""
    text = (
        f'[http]\nlisten = ["127.0.0.1:0"]\n[sessions]\nsecret = "{cloud.secret}"\n'
        f'[[backend]]\nid = "cloud"\nurls = ["{cloud.url}"]\nsecret = "{cloud.secret}"\n{configuration}\n'
    )
    async with serve(folder, text) as url:
        yield url


@asynccontextmanager
async def serve(folder: Path, text: str) -> AsyncIterator[str]:
    """Run ``portunus serve`` with a configuration and yield its URL; in the folder it writes its log, in JSON."""
    file = folder / FILE
    file.write_text(text)
    command = (str(Path(sys.executable).with_name("portunus")), "serve", "-c", str(file), "--log-format", "json")
    with (folder / LOG).open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=log)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(START_TIMEOUT):
            line = (await process.stdout.readline()).decode()
        yield line.removeprefix("portunus listens on ").strip()
    finally:
        process.send_signal(signal.SIGINT)  # SIGTERM would wait for clients that are in a call
        await process.wait()
