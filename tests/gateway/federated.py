"""Two gateways with a Nextcloud each: clients of ``home`` join rooms of ``host``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from gateway.app import Gateway
from gateway.config import Config, HttpSection, SessionsSection
from gateway.config.sections import McuSection
from gateway.core.limits import FederationRules
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_answers import NextcloudRoom
from gateway.tools.talk_client import TalkClient
from mcu.inprocess.settings import InprocessSettings
from tests.gateway.cutting_proxy import CuttingProxy

Json = dict[str, Any]

SECRETS = {"home": "6f1b0c7d9ae24835b6cf01d27e9a4488", "host": "b0c76f1dd9ae248356cf01d27e9a4b88"}
PERMISSIONS = ("publish-audio", "publish-video", "publish-screen", "control", "transient-data")
ROOM, REMOTE_ROOM = "localroom", "remoteroom"


@dataclass
class Servers:
    """Two gateways and their Nextclouds; ``host`` is reached through ``line``, which a test may cut."""

    home: Gateway
    home_url: str
    home_cloud: FakeNextcloud
    host: Gateway
    host_url: str
    host_cloud: FakeNextcloud
    line: CuttingProxy
    sfu: bool
    stack: AsyncExitStack  # of the gateway of ``host``
    budgets: list[int] = field(default_factory=list)  # bytes of the host to forward, by connection; then no limit

    def target(self, userid: str, room: str = REMOTE_ROOM, **token: Any) -> Json:
        """Return the ``federation`` object of a join, as a user of ``home``."""
        actor = {"actorType": "federated_users", "actorId": f"{userid}@{urlsplit(self.home_cloud.url).netloc}"}
        return {
            "signaling": self.line.url,
            "url": self.host_cloud.url + "ocs/v2.php/apps/spreed/api/v3/signaling/backend",
            "roomid": room,
            "token": self.host_cloud.token(userid, {"displayname": userid.title()} | actor, **token),
        }

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
            await client.join(REMOTE_ROOM, f"nc-{userid}")
            yield client

    async def restart_host(self) -> None:
        """Stop the gateway of ``host``, and start another one at its address, which knows no session."""
        await self.host.stop()
        await self.stack.aclose()
        listen = urlsplit(self.host_url).netloc
        self.host, _ = await self.stack.enter_async_context(running("host", self.host_cloud, self.sfu, listen))

    async def join(self, client: TalkClient, userid: str, **token: Any) -> Json:
        """Join the room of ``host`` as a client of ``home``."""
        federation = self.target(userid, **token)
        return await client.request("room", {"roomid": ROOM, "sessionid": f"nc-{userid}", "federation": federation})


@asynccontextmanager
async def two_servers(*, sfu: bool = False, rules: Json | None = None, **home: Any) -> AsyncIterator[Servers]:
    """Run two gateways; ``rules`` replace those of federation, ``home`` sections of the configuration of ``home``."""
    budgets: list[int] = []
    async with FakeNextcloud(secret=SECRETS["home"]) as home_cloud, FakeNextcloud(secret=SECRETS["host"]) as host_cloud:
        host_cloud.features.append("federation-v2")
        host_cloud.rooms[REMOTE_ROOM] = NextcloudRoom({"name": "remote"}, list(PERMISSIONS))
        async with AsyncExitStack() as stack:
            host, host_url = await stack.enter_async_context(running("host", host_cloud, sfu))
            line = CuttingProxy(host_url, lambda: budgets.pop(0) if budgets else 1 << 60)
            async with line:
                port = urlsplit(line.url).port
                allowed: Json = {"allow_insecure": True, "ports": (port,), "allowed": ("127.0.0.0/8",)}
                home.setdefault("federation", FederationRules(**(allowed | (rules or {}))))
                async with running("home", home_cloud, sfu, **home) as (gateway, home_url):
                    yield Servers(gateway, home_url, home_cloud, host, host_url, host_cloud, line, sfu, stack, budgets)


@asynccontextmanager
async def running(
    name: str, cloud: FakeNextcloud, sfu: bool, listen: str = "127.0.0.1:0", **sections: Any
) -> AsyncIterator[tuple[Gateway, str]]:
    """Run one gateway."""
    mcu = McuSection(type="inprocess", settings=InprocessSettings(address="127.0.0.1")) if sfu else McuSection()
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
