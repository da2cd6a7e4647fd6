"""Two gateways with a Nextcloud each: clients of ``home`` join rooms of ``host``."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.app import Gateway
from gateway.config import Config, HttpSection, SessionsSection
from gateway.config.sections import McuSection
from gateway.core.limits import FederationRules
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_answers import NextcloudRoom
from gateway.tools.talk_client import TalkClient
from gateway.tools.talk_rooms import nextcloud_session
from mcu.inprocess.settings import InprocessSettings
from tests.gateway.cutting_proxy import CuttingProxy
from tests.gateway.served import PORTUNUS
from tests.ports import free_ports

Json = dict[str, Any]

SECRETS = {"home": "6f1b0c7d9ae24835b6cf01d27e9a4488", "host": "b0c76f1dd9ae248356cf01d27e9a4b88"}
PERMISSIONS = ("publish-audio", "publish-video", "publish-screen", "control", "transient-data")
INPROCESS = McuSection(type="inprocess", settings=InprocessSettings(address="127.0.0.1"))
ROOM, REMOTE_ROOM = "localroom", "remoteroom"


@dataclass
class FederatedServers:
    """Two gateways and their Nextclouds; ``host`` is reached through ``proxy``, which may cut connections."""

    home: Gateway
    home_url: str
    home_cloud: FakeNextcloud
    host: Gateway
    host_url: str
    host_cloud: FakeNextcloud
    proxy: CuttingProxy
    sfu: bool
    stack: AsyncExitStack  # of the gateway of ``host``
    budgets: list[int] = field(default_factory=list)  # bytes of the host to forward on the next connections

    def target(self, userid: str, room: str = REMOTE_ROOM, **token: Any) -> Json:
        """Return the ``federation`` object of a join, as a user of ``home``; ``token`` replaces claims of the token."""
        target = self.host_cloud.federation(self.proxy.url, room, userid)
        return target | {"token": self.host_cloud.token(userid, {"displayname": userid.title()}, **token)}

    def session_of(self, userid: str) -> str:
        """Return the Nextcloud session id with which a user of ``home`` joins the room of ``host``."""
        return nextcloud_session(userid, f"{userid}@{self.home_cloud.url.rstrip('/')}")

    @asynccontextmanager
    async def at_home(self, userid: str, *features: str) -> AsyncIterator[TalkClient]:
        """Yield a client of ``home`` with a session."""
        async with TalkClient(self.home_url, self.home_cloud.url, features=features) as client:
            await client.hello(self.home_cloud.ticket(userid))
            yield client

    @asynccontextmanager
    async def federated(self, userid: str, *features: str) -> AsyncIterator[TalkClient]:
        """Yield a client of ``home`` in the room of ``host``."""
        async with self.at_home(userid, *features) as client:
            await self.join(client, userid)
            yield client

    @asynccontextmanager
    async def at_host(self, userid: str, *features: str) -> AsyncIterator[TalkClient]:
        """Yield a client of ``host`` in its room."""
        async with TalkClient(self.host_url, self.host_cloud.url, features=features) as client:
            await client.hello(self.host_cloud.ticket(userid))
            await client.join(REMOTE_ROOM, nextcloud_session(userid))
            yield client

    async def restart_host(self) -> None:
        """Stop the gateway of ``host``, and start another one at its address, which knows no session."""
        await self.host.stop()
        await self.stack.aclose()
        listen = urlsplit(self.host_url).netloc
        self.host, _ = await self.stack.enter_async_context(running_gateway("host", self.host_cloud, self.sfu, listen))

    async def join(self, client: TalkClient, userid: str, room_session: str = "", **token: Any) -> Json:
        """Join the room of ``host`` as a client of ``home``."""
        federation = self.target(userid, **token)
        room = {"roomid": ROOM, "sessionid": room_session or self.session_of(userid), "federation": federation}
        return await client.request("room", room)


@asynccontextmanager
async def two_servers(
    *, sfu: bool = False, host_sfu: McuSection | None = None, rules: Json | None = None, **home: Any
) -> AsyncIterator[FederatedServers]:
    """Run two gateways, both with the in-process SFU (``sfu``), or the host with another one.

    ``rules`` replace those of federation, ``home`` sections of the configuration of ``home``.
    """
    budgets: list[int] = []
    async with FakeNextcloud(secret=SECRETS["home"]) as home_cloud, FakeNextcloud(secret=SECRETS["host"]) as host_cloud:
        host_cloud.features.append("federation-v2")
        host_cloud.rooms[REMOTE_ROOM] = NextcloudRoom({"name": "remote"}, list(PERMISSIONS))
        async with AsyncExitStack() as stack:
            host, host_url = await stack.enter_async_context(running_gateway("host", host_cloud, host_sfu or sfu))
            proxy = CuttingProxy(host_url, lambda: budgets.pop(0) if budgets else 1 << 60)
            async with proxy:
                port = urlsplit(proxy.url).port
                allowed: Json = {"allow_insecure": True, "ports": (port,), "allowed": ("127.0.0.0/8",)}
                home.setdefault("federation", FederationRules(**(allowed | (rules or {}))))
                async with running_gateway("home", home_cloud, sfu, **home) as (gateway, home_url):
                    yield FederatedServers(
                        gateway, home_url, home_cloud, host, host_url, host_cloud, proxy, sfu, stack, budgets
                    )


class HostProcess:
    """A process of ``portunus serve`` for ``host``, at a fixed port, so that it can be started again."""

    def __init__(self, folder: Path, cloud: FakeNextcloud) -> None:
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self._file = folder / "host.toml"
        self._file.write_text(
            f'[http]\nlisten = ["127.0.0.1:{port}"]\n[sessions]\nsecret = "{SECRETS["host"]}"\n'
            f'[[backend]]\nid = "host"\nurls = ["{cloud.url}"]\nsecret = "{cloud.secret}"\n'
        )
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and wait until it listens."""
        self._process = await asyncio.create_subprocess_exec(
            PORTUNUS, "serve", "-c", str(self._file), stdout=PIPE, stderr=DEVNULL
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(60.0):
            assert b"listens" in await self._process.stdout.readline()

    async def kill(self) -> None:
        """Kill it, so that it closes nothing. Idempotent."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def with_host_process(folder: Path) -> AsyncIterator[tuple[FederatedServers, HostProcess]]:
    """Run ``home`` here and ``host`` in a process of its own; ``FederatedServers.host`` is not that of ``host``."""
    async with FakeNextcloud(secret=SECRETS["home"]) as home_cloud, FakeNextcloud(secret=SECRETS["host"]) as host_cloud:
        host_cloud.features.append("federation-v2")
        process = HostProcess(folder, host_cloud)
        await process.start()
        proxy = CuttingProxy(process.url, lambda: 1 << 60)
        proxy.url = process.url  # not through the proxy
        rules = FederationRules(
            allow_insecure=True, ports=(urlsplit(process.url).port or 0,), allowed=("127.0.0.1/32",)
        )
        try:
            async with running_gateway("home", home_cloud, False, federation=rules) as (home, url):
                stack = AsyncExitStack()
                yield (
                    FederatedServers(home, url, home_cloud, home, process.url, host_cloud, proxy, False, stack),
                    process,
                )
        finally:
            await process.kill()


@asynccontextmanager
async def two_clouds() -> AsyncIterator[FederatedServers]:
    """Run one gateway that serves both Nextclouds, and is ``home`` and ``host``."""
    async with FakeNextcloud(secret=SECRETS["home"]) as home_cloud, FakeNextcloud(secret=SECRETS["host"]) as host_cloud:
        host_cloud.features.append("federation-v2")
        (port,) = free_ports(1)
        rules = FederationRules(allow_insecure=True, ports=(port,), allowed=("127.0.0.1/32",))
        url = f"http://127.0.0.1:{port}"
        proxy = CuttingProxy(url, lambda: 1 << 60)
        proxy.url = url  # not through the proxy
        backends = (home_cloud.backend("home"), host_cloud.backend("host"))
        gateway = Gateway(
            Config(
                sessions=SessionsSection(secret=SECRETS["home"]),
                http=HttpSection(listen=(f"127.0.0.1:{port}",)),
                backends=backends,
                federation=rules,
            )
        )
        await gateway.start()
        try:
            stack = AsyncExitStack()
            yield FederatedServers(gateway, url, home_cloud, gateway, url, host_cloud, proxy, False, stack)
        finally:
            await gateway.stop()


@asynccontextmanager
async def running_gateway(
    name: str, cloud: FakeNextcloud, sfu: bool | McuSection, listen: str = "127.0.0.1:0", **sections: Any
) -> AsyncIterator[tuple[Gateway, str]]:
    """Run one gateway; ``sfu``: whether with the in-process SFU, or the section of another SFU."""
    mcu = sfu if isinstance(sfu, McuSection) else INPROCESS if sfu else McuSection()
    gateway = Gateway(
        Config(
            sessions=SessionsSection(secret=SECRETS[name]),
            http=HttpSection(listen=(listen,)),
            backends=(cloud.backend(name),),
            mcu=mcu,
            **sections,
        )
    )
    (url,) = await gateway.start()
    try:
        yield gateway, url
    finally:
        await gateway.stop()
