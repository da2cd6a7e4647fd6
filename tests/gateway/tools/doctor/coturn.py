"""Real coturn on 127.0.0.1, with the configuration that ``portunus config init`` writes."""

from __future__ import annotations

import asyncio
import re
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.tools.configuration.init import Site, write_set
from tests.ports import PortBlock
from tests.programs import find_program, wait_until_listening

STOP_TIMEOUT = 60.0  # seconds


class Coturn:
    """Process of coturn; ``file`` is its configuration, which may be changed while it does not run."""

    def __init__(self, folder: Path, ports: PortBlock) -> None:
        self.port = ports.first
        write_set(folder / "set", Site("https://cloud.example.com", "signal.example.com", turn_port=ports.first))
        self.file = folder / "set" / "turnserver.conf"
        relayed = f"min-port={ports.first + 10}\nmax-port={ports.last}\n"
        local = f"listening-ip=127.0.0.1\nrelay-ip=127.0.0.1\nuserdb={folder}/turndb\npidfile={folder}/turn.pid\n"
        self.file.write_text(f"{self.file.read_text()}\n{relayed}{local}log-file=stdout\nsimple-log\n")
        (self.secret,) = re.findall(r"^static-auth-secret=(.*)$", self.file.read_text(), re.M)
        self._process: Process | None = None

    @property
    def uri(self) -> str:
        """Return the URI over UDP."""
        return f"turn:127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start coturn, and wait until it accepts connections."""
        program = find_program("turnserver", "coturn")
        self._process = await asyncio.create_subprocess_exec(
            program, "-c", str(self.file), stdout=DEVNULL, stderr=DEVNULL
        )
        await wait_until_listening("127.0.0.1", self.port)

    async def stop(self) -> None:
        """Stop coturn. Idempotent."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT)

    async def kill(self) -> None:
        """End coturn at once, since it takes seconds for SIGTERM. Idempotent."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await process.wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run coturn until the context ends."""
        await self.start()
        try:
            yield
        finally:
            await self.stop()
