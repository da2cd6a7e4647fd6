"""The compared servers: Portunus and the incumbent, each a process on the first core with the same backends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.processes import MEASURED_CORE, WAIT_TIMEOUT, NotStarted, cpu_seconds, listening, running
from bench.report import INCUMBENT, PORTUNUS
from tests.compare.go_configuration import ENDPOINT, GoBackend, server_conf
from tests.janus_process import JanusProcess

BACKENDS = ("plain", "es256", "rs256", "eddsa")  # ids, and first path segments of the URLs
SECRET = "bench-6a1d4e8f2b7c49039d5e0f8a3c6b1274"


@dataclass(frozen=True)
class RunningServer:
    """A running server."""

    name: str  # PORTUNUS, INCUMBENT or FLOOR
    pid: int
    port: int

    def cpu(self) -> float:
        """Return the CPU seconds that the server has used, user and system, all threads."""
        return cpu_seconds(self.pid)

    def resident(self) -> int:
        """Return the server's resident memory in bytes."""
        return self._memory("VmRSS:")

    def private(self) -> int:
        """Return the server's own memory in bytes: anonymous pages, resident or swapped out, without mapped files."""
        return self._memory("RssAnon:") + self._memory("VmSwap:")

    def _memory(self, name: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
        raise NotStarted(f"{self.name} has ended")


@dataclass(frozen=True)
class BenchSetup:
    """The configuration of the compared servers: the folder of their files, their Nextcloud, binary and SFU."""

    scratch: Path
    nextcloud: int  # port
    incumbent: Path | None  # its binary
    janus: str = ""  # URL; empty: Portunus runs with its own SFU, the incumbent without one
    sfu: bool = True  # false: neither has one

    def backend(self, name: str = "plain") -> str:
        """Return a backend's URL as clients of both servers name it in a hello."""
        return self.base(name) + ENDPOINT

    def base(self, name: str = "plain") -> str:
        """Return a backend's base URL."""
        return f"http://127.0.0.1:{self.nextcloud}/{name}/"

    @property
    def names(self) -> Sequence[str]:
        """The names of the servers that can be measured."""
        return (PORTUNUS, INCUMBENT) if self.incumbent else (PORTUNUS,)

    @contextlib.contextmanager
    def run(self, name: str) -> Iterator[RunningServer]:
        """Start a server and end it with the block."""
        with self._portunus() if name == PORTUNUS else self._incumbent() as server:
            yield server

    @contextlib.contextmanager
    def run_all(self) -> Iterator[list[RunningServer]]:
        """Start all servers that can be measured, and end them with the block."""
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(self.run(name)) for name in self.names]

    def command(self, *program: str) -> list[str]:
        """Write Portunus' configuration; return the command that serves it, run by ``program`` if given."""
        config = self.scratch / "bench.toml"
        backends = (f'[[backend]]\nid = "{it}"\nurls = ["{self.base(it)}"]\nsecret = "{SECRET}"\n' for it in BACKENDS)
        sfu = '[mcu]\ntype = "inprocess"\n' if self.sfu else ""
        if self.sfu and self.janus:
            sfu = f'[mcu]\ntype = "janus"\n[[mcu.janus]]\nurl = "{self.janus}"\n'
        config.write_text(f"{CONFIG}\n{''.join(backends)}\n{sfu}")
        own = program or (str(Path(sys.executable).with_name("portunus")),)
        return [*own, "serve", "-c", str(config)]

    @contextlib.contextmanager
    def _portunus(self) -> Iterator[RunningServer]:
        with (
            (self.scratch / "portunus.log").open("ab") as log,
            listening(self.command(), MEASURED_CORE, stderr=log) as (process, port),
        ):
            yield RunningServer(PORTUNUS, process.pid, port)

    @contextlib.contextmanager
    def _incumbent(self) -> Iterator[RunningServer]:
        port = free_port()
        config = self.scratch / "server.conf"
        backends = [GoBackend(it, self.base(it), SECRET) for it in BACKENDS]
        config.write_text(server_conf(port, backends, janus=self.janus if self.sfu else ""))
        with (self.scratch / "incumbent.log").open("ab") as log:
            command = [str(self.incumbent), "-config", str(config)]
            with running(command, MEASURED_CORE, stdout=log, stderr=log) as process:
                wait_until_it_listens(process, port)
                yield RunningServer(INCUMBENT, process.pid, port)


@contextlib.contextmanager
def open_janus() -> Iterator[str]:
    """Run a Janus that both servers use; yields its URL. The incumbent sends it no API secret."""
    janus = JanusProcess(API_SECRET="", ADMIN_KEY="")
    asyncio.run(janus.start())
    try:
        yield janus.url
    finally:
        asyncio.run(janus.stop())


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_it_listens(process: subprocess.Popen[str], port: int) -> None:
    """Wait until a process accepts connections.

    Raises:
        NotStarted: it has ended, or does not in time.
    """
    deadline = time.monotonic() + WAIT_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.002)
    raise NotStarted(f"{process.args!r} does not listen")


def incumbent_binary() -> Path | None:
    """Return the incumbent's binary, which ``PORTUNUS_COMPARE_SERVER`` names."""
    named = os.environ.get("PORTUNUS_COMPARE_SERVER", "")
    return Path(named) if named else None


CONFIG = """\
[http]
listen = ["127.0.0.1:0"]

[sessions]
secret = "bench-0f3b9c1e5d7a48268e4b1c6d9a2f7053"

[drain]
deadline = 0

[limits] # few clients, of one address, send as much as thousands do otherwise; the limits are still counted
connections_per_address = 100000
idle_connections_per_address = 100000
hellos_per_address = 100000
sessions_per_address = 100000
messages_per_second = 100000000
messages_burst = 1000000000
bytes_per_second = 100000000000
bytes_burst = 1000000000000
relayed_bytes_per_second = 100000000000
relayed_bytes_burst = 1000000000000
"""
