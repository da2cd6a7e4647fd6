"""Two processes of ``portunus serve`` with a Nextcloud each: clients of ``home`` join rooms of ``host``.

The test sees of them what an operator sees: statistics, and the requests to their Nextclouds.
"""

from __future__ import annotations

import asyncio
import signal
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_client import TalkClient
from tests.gateway.cutting_proxy import CuttingProxy
from tests.gateway.federated import SECRETS, FederatedServers, Json, two_nextclouds
from tests.gateway.served import PORTUNUS, START_TIMEOUT
from tests.ports import free_ports

INPROCESS_SFU = '[mcu]\ntype = "inprocess"\n[mcu.inprocess]\naddress = "127.0.0.1"\n'
STATS_TIMEOUT = 30.0  # seconds


class PortunusProcess:
    """A process of ``portunus serve`` at a fixed port, so that it can be started again; its log is in ``folder``."""

    def __init__(self, folder: Path, name: str, cloud: FakeNextcloud) -> None:
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self._file, self._log = folder / f"{name}.toml", folder / f"{name}.log"
        self._configuration = (
            f'[http]\nlisten = ["127.0.0.1:{port}"]\n[sessions]\nsecret = "{SECRETS[name]}"\n'
            f'[[backend]]\nid = "{name}"\nurls = ["{cloud.url}"]\nsecret = "{cloud.secret}"\n'
        )
        self._process: asyncio.subprocess.Process | None = None

    @property
    def running(self) -> bool:
        """Whether it was started, and not ended since."""
        return self._process is not None

    def configure(self, sections: str) -> None:
        """Write the configuration, with further sections, for the next start."""
        self._file.write_text(self._configuration + sections)

    async def start(self) -> None:
        """Start it, and wait until it listens. Idempotent."""
        if self.running:
            return
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                PORTUNUS, "serve", "-c", str(self._file), stdout=PIPE, stderr=log
            )
        assert self._process.stdout is not None
        async with asyncio.timeout(START_TIMEOUT):
            assert b"listens" in await self._process.stdout.readline(), self._log.read_text()

    async def kill(self) -> None:
        """Kill it, so that it closes nothing. Idempotent."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """Stop it, as Ctrl-C does. Idempotent."""
        await self._end(signal.SIGINT)

    async def stats(self) -> Json:
        """Return its statistics."""
        return await read_stats(self.url)

    def logged_errors(self) -> list[str]:
        """Return the errors in its log."""
        lines = self._log.read_text().splitlines()
        return [line for line in lines if "level=error" in line or "Traceback" in line]

    async def wait_for_sessions(self, count: int) -> None:
        """Wait until it has this number of sessions."""
        await wait_for_stats(self.url, lambda stats: stats["sessions"] == count)

    async def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            await process.wait()


async def read_stats(url: str) -> Json:
    """Return the statistics of a gateway."""
    async with aiohttp.ClientSession() as http, http.get(f"{url}/api/v1/stats") as answer:
        stats: Json = await answer.json()
        return stats


async def wait_for_stats(url: str, wanted: Callable[[Json], bool]) -> None:
    """Wait until ``wanted`` is true for the statistics of a gateway."""
    async with asyncio.timeout(STATS_TIMEOUT):
        while not wanted(await read_stats(url)):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)


@dataclass(kw_only=True)
class FederatedProcesses(FederatedServers):
    """Two processes; the clients that it yields say ``bye`` in the end, so that the next test finds no session."""

    home: PortunusProcess
    host: PortunusProcess
    closed_url: str = ""  # nothing listens there; ``home`` may connect to it

    @asynccontextmanager
    async def at_home(self, userid: str, *features: str) -> AsyncIterator[TalkClient]:
        """See ``FederatedServers.at_home``."""
        async with super().at_home(userid, *features) as client:
            try:
                yield client
            finally:
                await end_session(client)

    @asynccontextmanager
    async def at_host(self, userid: str, *features: str) -> AsyncIterator[TalkClient]:
        """See ``FederatedServers.at_host``."""
        async with super().at_host(userid, *features) as client:
            try:
                yield client
            finally:
                await end_session(client)

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[FederatedProcesses]:
        """Lend the processes to one test of several, which leaves no session there; start those that one has ended."""
        await asyncio.gather(self.home.start(), self.host.start())
        for cloud in (self.home_cloud, self.host_cloud):
            cloud.requests.clear()
        self.budgets.clear()
        self.proxy.cuts = 0
        yield self
        for process in (self.home, self.host):
            if process.running:
                await process.wait_for_sessions(0)

    def swapped(self) -> FederatedProcesses:
        """Return the same processes in exchanged roles: clients of ``host`` join rooms of ``home``, without a proxy."""
        proxy = CuttingProxy(self.home_url, lambda: 1 << 60)
        proxy.url = self.home_url
        return FederatedProcesses(
            home=self.host,
            home_url=self.host_url,
            home_cloud=self.host_cloud,
            host=self.home,
            host_url=self.home_url,
            host_cloud=self.home_cloud,
            proxy=proxy,
        )


async def end_session(client: TalkClient) -> None:
    """End the session of a client with ``bye`` unless it has ended."""
    if client.close_code is None and not any(message["type"] == "bye" for message in client.messages):
        await client.bye()


def federation(*urls: str) -> str:
    """Return the section ``federation`` of a server that may connect to others."""
    ports = [urlsplit(url).port for url in urls]
    return f'[federation]\nallow_insecure = true\nports = {ports}\nallowed = ["127.0.0.1/32"]\n'


@asynccontextmanager
async def two_processes(
    folder: Path, *, home: str = "", host: str = "", rules: str = ""
) -> AsyncIterator[FederatedProcesses]:
    """Run both gateways in processes of their own.

    ``home`` and ``host`` are further sections of their configurations, ``rules`` further keys of ``home``'s section
    ``federation``.
    """
    budgets: list[int] = []
    closed_url = f"http://127.0.0.1:{free_ports(1)[0]}"
    async with two_nextclouds() as (home_cloud, host_cloud):
        home_process = PortunusProcess(folder, "home", home_cloud)
        host_process = PortunusProcess(folder, "host", host_cloud)
        async with CuttingProxy(host_process.url, lambda: budgets.pop(0) if budgets else 1 << 60) as proxy:
            home_process.configure(federation(proxy.url, closed_url) + rules + home)
            host_process.configure(federation(home_process.url) + host)
            try:
                await asyncio.gather(home_process.start(), host_process.start())
                yield FederatedProcesses(
                    home=home_process,
                    home_url=home_process.url,
                    home_cloud=home_cloud,
                    host=host_process,
                    closed_url=closed_url,
                    host_url=host_process.url,
                    host_cloud=host_cloud,
                    proxy=proxy,
                    budgets=budgets,
                )
            finally:
                await asyncio.gather(home_process.stop(), host_process.stop())
            assert home_process.logged_errors() + host_process.logged_errors() == []
