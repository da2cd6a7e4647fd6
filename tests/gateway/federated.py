"""Two gateways with a Nextcloud each: clients of ``home`` join rooms of ``host``.

Here the gateways are in the process of the test; ``federated_processes`` runs them as processes of their own.
"""

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
from gateway.tools.talk_rooms import nextcloud_session
from mcu.inprocess.settings import InprocessSettings
from tests.gateway.cutting_proxy import CuttingProxy
from tests.gateway.running import started_gateway
from tests.ports import free_ports

Json = dict[str, Any]

SECRETS = {"home": "6f1b0c7d9ae24835b6cf01d27e9a4488", "host": "b0c76f1dd9ae248356cf01d27e9a4b88"}
PERMISSIONS = ("publish-audio", "publish-video", "publish-screen", "control", "transient-data")
INPROCESS = McuSection(type="inprocess", settings=InprocessSettings(address="127.0.0.1"))
ROOM, REMOTE_ROOM = "localroom", "remoteroom"


@dataclass(kw_only=True)
class FederatedServers:
    """Two gateways and their Nextclouds; ``host`` is reached through ``proxy``, which may cut connections."""

    home_url: str
    home_cloud: FakeNextcloud
    host_url: str
    host_cloud: FakeNextcloud
    proxy: CuttingProxy
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

    async def join(self, client: TalkClient, userid: str, room_session: str = "", **token: Any) -> Json:
        """Join the room of ``host`` as a client of ``home``."""
        federation = self.target(userid, **token)
        room = {"roomid": ROOM, "sessionid": room_session or self.session_of(userid), "federation": federation}
        return await client.request("room", room)


@dataclass(kw_only=True)
class FederatedGateways(FederatedServers):
    """Two gateways in the process of the test, which can look into them."""

    home: Gateway
    host: Gateway
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)  # of ``host``

    async def restart_host(self) -> None:
        """Stop the gateway of ``host``, and start another one at its address, which knows no session."""
        await self.host.stop()
        await self.stack.aclose()
        listen = urlsplit(self.host_url).netloc
        self.host, _ = await self.stack.enter_async_context(running_gateway("host", self.host_cloud, listen=listen))


@asynccontextmanager
async def two_nextclouds() -> AsyncIterator[tuple[FakeNextcloud, FakeNextcloud]]:
    """Run the Nextclouds of ``home`` and of ``host``; users of the other one may join the room of each."""
    async with FakeNextcloud(secret=SECRETS["home"]) as home, FakeNextcloud(secret=SECRETS["host"]) as host:
        for cloud in (home, host):
            cloud.features.append("federation-v2")
            cloud.rooms[REMOTE_ROOM] = NextcloudRoom({"name": "remote"}, list(PERMISSIONS))
        yield home, host


@asynccontextmanager
async def two_servers(*, sfu: bool = False, rules: Json | None = None, **home: Any) -> AsyncIterator[FederatedGateways]:
    """Run two gateways in the process of the test, with in-process SFUs or without (``sfu``).

    ``rules`` replace those of federation, ``home`` sections of the configuration of ``home``.
    """
    budgets: list[int] = []
    async with two_nextclouds() as (home_cloud, host_cloud), AsyncExitStack() as stack:
        host, host_url = await stack.enter_async_context(running_gateway("host", host_cloud, sfu))
        async with CuttingProxy(host_url, lambda: budgets.pop(0) if budgets else 1 << 60) as proxy:
            allowed: Json = {"allow_insecure": True, "ports": (urlsplit(proxy.url).port,), "allowed": ("127.0.0.0/8",)}
            home.setdefault("federation", FederationRules(**(allowed | (rules or {}))))
            async with running_gateway("home", home_cloud, sfu, **home) as (gateway, home_url):
                yield FederatedGateways(
                    home=gateway,
                    home_url=home_url,
                    home_cloud=home_cloud,
                    host=host,
                    host_url=host_url,
                    host_cloud=host_cloud,
                    proxy=proxy,
                    stack=stack,
                    budgets=budgets,
                )


@asynccontextmanager
async def two_clouds() -> AsyncIterator[FederatedGateways]:
    """Run one gateway that serves both Nextclouds, and is ``home`` and ``host``."""
    async with two_nextclouds() as (home_cloud, host_cloud):
        (port,) = free_ports(1)
        rules = FederationRules(allow_insecure=True, ports=(port,), allowed=("127.0.0.1/32",))
        url = f"http://127.0.0.1:{port}"
        proxy = CuttingProxy(url, lambda: 1 << 60)
        proxy.url = url  # not through the proxy
        config = Config(
            sessions=SessionsSection(secret=SECRETS["home"]),
            http=HttpSection(listen=(f"127.0.0.1:{port}",)),
            backends=(home_cloud.backend("home"), host_cloud.backend("host")),
            federation=rules,
        )
        async with started_gateway(config) as (gateway, _):
            yield FederatedGateways(
                home=gateway,
                home_url=url,
                home_cloud=home_cloud,
                host=gateway,
                host_url=url,
                host_cloud=host_cloud,
                proxy=proxy,
            )


@asynccontextmanager
async def running_gateway(
    name: str, cloud: FakeNextcloud, sfu: bool | McuSection = False, listen: str = "127.0.0.1:0", **sections: Any
) -> AsyncIterator[tuple[Gateway, str]]:
    """Run one gateway; ``sfu``: whether with the in-process SFU, or the section of another SFU."""
    mcu = sfu if isinstance(sfu, McuSection) else INPROCESS if sfu else McuSection()
    config = Config(
        sessions=SessionsSection(secret=SECRETS[name]),
        http=HttpSection(listen=(listen,)),
        backends=(cloud.backend(name),),
        mcu=mcu,
        **sections,
    )
    async with started_gateway(config) as started:
        yield started
