"""A gateway in a process of its own, with a pair and a room of ten as bystanders of an attack.

    async with running(tmp_path) as scene:
        async with scene.undisturbed(memory=32 << 20):
            ... attack scene.url ...

``undisturbed`` fails when a message of the bystanders was lost, when the gateway delayed one or an answer about its
health, or when its memory grew beyond the bound. All traffic stays on 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import ssl
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from gateway.tools.fake_nextcloud import FakeNextcloud
from tests.abuse.bystanders import PAIR, TEN, Experience, MachineDelay
from tests.gateway.edge.raw_client import RawClient

LATE = 0.25  # seconds by which the gateway may delay a message of the bystanders, or an answer about its health
PATIENCE = 60.0  # seconds that an attacker waits for the gateway
SAMPLE_PERIOD = 0.02  # seconds between two samples of the gateway's memory
FOLDER = Path(__file__).parents[2]


class Scene:
    """A running gateway and its Nextcloud; ``lines`` are the lines of the gateway's log.

    ``certificate``: the path of the gateway's certificate, if it is reached over TLS.
    """

    def __init__(
        self, url: str, cloud: FakeNextcloud, process: Process, lines: list[str], certificate: str = ""
    ) -> None:
        self.url = url
        self.cloud = cloud
        self.process = process
        self.lines = lines
        self.certificate = certificate
        self.tls = ssl.create_default_context(cafile=certificate) if certificate else None
        self.experience = Experience()
        self.bystanders = 0  # the process id of the bystanders during ``watched``
        self.growth = 0  # bytes by which the resident memory grew at most during the last ``undisturbed``
        self._base = 0
        self._most = 0

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the gateway."""
        host, port = self.url.partition("://")[2].split(":")
        return host, int(port)

    @asynccontextmanager
    async def undisturbed(self, memory: int, *, health: bool = True) -> AsyncIterator[MachineDelay]:
        """Run the bystanders, and check at the end that none was disturbed; ``memory``: the allowed growth in bytes.

        ``health``: check the answers about its health, too. Yields the counter of the time for which the machine did
        not run the gateway.
        """
        async with self.watched(memory) as machine:
            yield machine
        seen = self.experience
        assert (seen.lost, seen.room_lost, seen.closed) == (0, 0, 0), seen
        assert seen.sent > 0, seen
        assert seen.room_sent > 0, seen
        assert max(seen.own, seen.room_own) < LATE, seen
        if health:
            assert seen.health_checks > 0, seen
            assert seen.unhealthy == 0, seen
            assert seen.health_own < LATE, seen
        assert self.growth < memory, f"the memory grew by {self.growth >> 10} KiB"

    @asynccontextmanager
    async def watched(self, memory: int) -> AsyncIterator[MachineDelay]:
        """Run the bystanders as ``undisturbed`` does; store their ``experience`` and the ``growth``; check nothing."""
        arguments = ("-m", "tests.abuse.bystanders", self.url, str(self.process.pid), self.cloud.url, self.certificate)
        bystanders = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, stdin=PIPE, stdout=PIPE, cwd=FOLDER
        )
        self.bystanders = bystanders.pid
        assert bystanders.stdin is not None
        assert bystanders.stdout is not None
        try:
            tickets = {name: self.cloud.ticket(name) for name in (*PAIR, *TEN)}
            bystanders.stdin.write(json.dumps(tickets).encode() + b"\n")
            async with asyncio.timeout(60):
                assert await bystanders.stdout.readline() == b"ready\n"
            self._base = self._most = self.resident()
            sampling = asyncio.create_task(self._sample())
            try:
                yield MachineDelay(self.process.pid)
            finally:
                sampling.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await sampling
            self._most = max(self._most, self.resident())
            self.growth = self._most - self._base
            bystanders.stdin.write(b"\n")
            async with asyncio.timeout(60):
                self.experience = Experience(**json.loads(await bystanders.stdout.readline()))
        finally:
            if bystanders.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    bystanders.kill()
            await bystanders.wait()
        print(f"\n{self.experience} growth={self.growth >> 10} KiB of {memory >> 10}")  # noqa: T201 - shown by pytest -s

    def resident(self) -> int:
        """Return the resident memory of the gateway in bytes."""
        rows = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(row.split()[1]) << 10 for row in rows if row.startswith("VmRSS:"))

    async def healthy(self) -> None:
        """Check that the gateway still answers."""
        async with aiohttp.ClientSession() as http, http.get(self.url + "/healthz", ssl=self.tls or True) as answer:
            assert answer.status == 200

    async def limits_met(self, limit: str) -> int:
        """Return how often a limit was reached, according to the metrics."""
        return await self.metric(f'signaling_limits_met_total{{limit="{limit}"}}')

    async def metric(self, beginning: str) -> int:
        """Return the sum of all metrics whose name and labels begin with a text."""
        async with aiohttp.ClientSession() as http, http.get(self.url + "/metrics", ssl=self.tls or True) as metrics:
            rows = [line for line in (await metrics.text()).splitlines() if line.startswith(beginning)]
        return sum(int(float(row.rpartition(" ")[2])) for row in rows)

    async def _sample(self) -> None:
        while True:
            self._most = max(self._most, self.resident())
            await asyncio.sleep(SAMPLE_PERIOD)

    # -- attackers

    async def connect(self, *, receive_buffer: int = 0, address: str = "") -> RawClient:
        """Open a connection without a session, whose waits end late, since the machine may be busy.

        ``address`` is that of the client behind a trusted proxy.
        """
        headers: dict[str, Any] = {"X_Real_IP": address} if address else {}
        return await RawClient.connect(
            self.address, receive_buffer=receive_buffer, wait_timeout=PATIENCE, tls=self.tls, **headers
        )

    async def attacker(
        self, name: str = "", *, room: str = "", receive_buffer: int = 0, address: str = "", **hello: Any
    ) -> RawClient:
        """Open a session, a guest's if ``name`` is empty, and join the room, if given; ``hello``: further members."""
        client = await self.connect(receive_buffer=receive_buffer, address=address)
        await client.receive()  # welcome
        auth = {"url": self.cloud.url, "params": self.cloud.ticket(name)}
        client.send({"id": "h", "type": "hello", "hello": {"version": "1.0", "auth": auth, **hello}})
        reply = await client.receive()
        assert reply["type"] == "hello", reply
        client.session_id, client.resume_id = reply["hello"]["sessionid"], reply["hello"]["resumeid"]
        if room:
            client.send({"id": "j", "type": "room", "room": {"roomid": room}})
            reply = await client.receive()
            assert reply["type"] == "room", reply
        return client


@asynccontextmanager
async def running(
    folder: Path,
    configuration: str = "",
    cloud: FakeNextcloud | None = None,
    mcu: str = "",
    descriptors: int = 0,
    certificate: tuple[Path, Path] | None = None,
) -> AsyncIterator[Scene]:
    """Run ``portunus serve``; ``configuration`` and ``mcu`` are further sections of its file.

    ``descriptors``: the hard limit of its open file descriptors; 0: that of the tests. ``certificate``: certificate and
    key, with which it is reached over TLS.
    """
    async with cloud or FakeNextcloud() as nextcloud:
        file = folder / "portunus.toml"
        tls = "" if certificate is None else f'certificate = "{certificate[0]}"\nkey = "{certificate[1]}"\n'
        file.write_text(
            f'[http]\nlisten = ["127.0.0.1:0"]\n{tls}[sessions]\nsecret = "{nextcloud.secret}"\n'
            f'[[backend]]\nid = "cloud"\nurls = ["{nextcloud.url}"]\nsecret = "{nextcloud.secret}"\n'
            f"{configuration}\n{mcu}\n"
        )
        command = [str(Path(sys.executable).with_name("portunus")), "serve", "-c", str(file)]
        if descriptors:
            command = ["sh", "-c", f'ulimit -n {descriptors} && exec "$@"', "sh", *command]
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        lines: list[str] = []
        reading = asyncio.create_task(_collect(process.stderr, lines))
        try:
            line = (await process.stdout.readline()).decode()
            url = line.removeprefix("portunus listens on ").strip()
            scene = Scene(url, nextcloud, process, lines, "" if certificate is None else str(certificate[0]))
            yield scene
            await scene.healthy()
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGINT)  # SIGTERM would wait for clients that are in a call
                try:
                    async with asyncio.timeout(10):
                        await process.wait()
                except TimeoutError:
                    process.kill()
            await process.wait()
            await reading


async def _collect(stream: asyncio.StreamReader, lines: list[str]) -> None:
    while line := await stream.readline():
        lines.append(line.decode(errors="replace").rstrip())
