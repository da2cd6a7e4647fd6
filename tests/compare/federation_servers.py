"""Two servers with a Nextcloud each, for the comparison of federation: each of them is the Go server or Portunus."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.config.sections import InternalSection, McuSection
from gateway.core.limits import FederationRules
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_answers import NextcloudRoom
from gateway.tools.talk_client import TalkClient
from mcu.janus.settings import JanusServerSettings
from tests.compare.go_configuration import ENDPOINT
from tests.compare.go_server import go_server
from tests.conversations.player import Conversation, Json
from tests.gateway.cutting_proxy import CuttingProxy
from tests.gateway.federated import PERMISSIONS, REMOTE_ROOM, ROOM, SECRETS, running_gateway
from tests.gateway.flows.harness import INTERNAL_SECRET, internal_params

QUIET_TIME = 0.7  # seconds without a message after which a step has had its effect
MAX_QUIET_TIMES = 12  # times that, at most
WITH_SFU = Conversation("federation", "", mcu=True, server={}, levels=(), steps=())
VARYING_MEMBERS = {"lastPing", "server", "bandwidth", "candidate", "sdp", "sid"}
IGNORED = {"welcome", "hello"}  # types of messages: connections are compared elsewhere


@dataclass
class FederatedServer:
    """Signaling server and its Nextcloud; ``restart`` kills the server and starts it again at its address."""

    url: str
    cloud: FakeNextcloud
    restart: Callable[[], Awaitable[None]]


@dataclass
class ServerPair:
    """Two servers with their clients; ``home`` connects to ``host`` through ``proxy``, which a step may cut."""

    home: FederatedServer
    host: FederatedServer
    proxy: CuttingProxy
    home_is_go: bool
    stack: AsyncExitStack  # of the clients
    clients: dict[str, TalkClient] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)  # by id
    seen: dict[str, int] = field(default_factory=dict)  # messages or requests that belong to earlier steps

    async def enter(self, name: str, server: FederatedServer, *features: str, userid: str = "") -> TalkClient:
        """Open a session at a server, of the user ``name`` if no other is given."""
        client = TalkClient(server.url, server.cloud.url + ENDPOINT, features=features)
        await self.stack.enter_async_context(client)
        await client.hello(server.cloud.ticket(userid or name))
        return self._add_client(name, client)

    async def enter_internal(self, name: str) -> TalkClient:
        """Open the session of an internal client at ``host``."""
        client = TalkClient(self.host.url, self.host.cloud.url)
        await self.stack.enter_async_context(client)
        await client.hello_internal(internal_params(self.host.cloud.url))
        return self._add_client(name, client)

    def _add_client(self, name: str, client: TalkClient) -> TalkClient:
        self.clients[name] = client
        self.names |= {client.session_id: f"${name}", client.resume_id: f"${name}.resume"}
        return client

    def target(self, userid: str, room: str = REMOTE_ROOM, **token: Any) -> Json:
        """Return the ``federation`` object of a join, as a user of ``home``."""
        actor = {"actorType": "federated_users", "actorId": f"{userid}@{urlsplit(self.home.cloud.url).netloc}"}
        return {
            "signaling": self.proxy.url + "/",
            "url": self.host.cloud.url + ENDPOINT,
            "roomid": room,
            "token": self.host.cloud.token(userid, {"displayname": userid.title()} | actor, **token),
        }

    async def join(self, name: str, room: str = ROOM, room_session: str = "", **federation: Any) -> Json:
        """Join a room of ``host`` as a client of ``home``; members of ``federation`` replace those of ``target``."""
        body = {"roomid": room, "sessionid": room_session or f"nc-{name}", "federation": self.target(name) | federation}
        return await self.clients[name].request("room", body)

    @property
    def remote_id(self) -> str:
        """Return the latest remote id of alice, from the join event that bob received."""
        ids = [id for id, name in self.names.items() if name == "$alice@host"]
        return ids[-1]

    async def results(self) -> dict[str, Counter[str]]:
        """Wait until no message arrives; return the messages since the last call, with names in place of ids."""
        total = -1
        for _ in range(MAX_QUIET_TIMES):
            if total == (total := sum(len(received) for received in self._received().values())):
                break
            await asyncio.sleep(QUIET_TIME)
        found = {}
        for received in self._received().values():
            for message in received:
                self._name_sessions(message)
        for recipient, received in self._received().items():
            new = received[self.seen.get(recipient, 0) :]
            self.seen[recipient] = len(received)
            found[recipient] = Counter(self._with_names(it) for it in new if it.get("type") not in IGNORED)
        return found

    def _received(self) -> dict[str, list[Json]]:
        requests = {
            f"the Nextcloud of the {role}": [
                {"type": it.type, "body": it.body}
                for it in list(server.cloud.requests)
                if it.type not in ("capabilities", "ping", "auth")
            ]
            for role, server in (("local server", self.home), ("host", self.host))
        }
        return {name: list(client.messages) for name, client in self.clients.items()} | requests

    def _name_sessions(self, message: Json) -> None:
        for entry in message.get("event", {}).get("join", ()) if message.get("type") == "event" else ():
            federated = bool(entry.get("federated"))
            self.names.setdefault(entry["sessionid"], f"${entry['userid']}@host" if federated else "$virtual")

    def _with_names(self, message: Json) -> str:
        kept = _without_varying_members(message) | ({"id": "…"} if "id" in message else {})
        text = json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        for id, name in self.names.items():
            text = text.replace(id, name)
        for server, name in ((self.home, "home"), (self.host, "host")):
            text = text.replace(urlsplit(server.cloud.url).netloc, f"{name}.example")
        return text


def _without_varying_members(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _without_varying_members(member) for key, member in value.items() if key not in VARYING_MEMBERS}
    if isinstance(value, list):
        return sorted((_without_varying_members(it) for it in value), key=lambda it: json.dumps(it, sort_keys=True))
    return value


@asynccontextmanager
async def server_pair(binary: Path, janus: str, roles: tuple[bool, bool]) -> AsyncIterator[ServerPair]:
    """Start the two servers; ``roles``: whether the local server and the host are the Go server."""
    local_is_go, host_is_go = roles
    async with AsyncExitStack() as stack:
        open_host = (
            _go(binary, janus) if host_is_go else _portunus("host", janus, internal=InternalSection(INTERNAL_SECRET))
        )
        host = await stack.enter_async_context(open_host)
        host.cloud.features.append("federation-v2")
        host.cloud.rooms[REMOTE_ROOM] = NextcloudRoom({"name": "remote"}, list(PERMISSIONS))
        proxy = await stack.enter_async_context(CuttingProxy(host.url, lambda: 1 << 60))
        ports = tuple(urlsplit(url).port or 0 for url in (proxy.url, host.cloud.url))
        rules = FederationRules(allow_insecure=True, ports=ports, allowed=("127.0.0.0/8",))
        open_home = _go(binary, janus) if local_is_go else _portunus("home", janus, federation=rules)
        home = await stack.enter_async_context(open_home)
        clients = await stack.enter_async_context(AsyncExitStack())
        yield ServerPair(home, host, proxy, local_is_go, clients)


@asynccontextmanager
async def _go(binary: Path, janus: str) -> AsyncIterator[FederatedServer]:
    async with go_server(binary, WITH_SFU, janus) as level:

        async def restart() -> None:
            level.process.kill()
            await level.process.start()

        yield FederatedServer(level.gateway, level.cloud, restart)


@asynccontextmanager
async def _portunus(name: str, janus: str, **sections: Any) -> AsyncIterator[FederatedServer]:
    sfu = McuSection(type="janus", settings=(JanusServerSettings(janus),))
    async with FakeNextcloud(secret=SECRETS[name]) as cloud, AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(running_gateway(name, cloud, sfu, **sections))]

        async def restart() -> None:
            gateway, url = servers[-1]
            await gateway.stop()
            servers.append(
                await stack.enter_async_context(running_gateway(name, cloud, sfu, urlsplit(url).netloc, **sections))
            )

        yield FederatedServer(servers[0][1], cloud, restart)
