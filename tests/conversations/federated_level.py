"""Level ``federated``: each client connects to one gateway and joins rooms of another one, the host.

A room has another id at the host. The host's Nextcloud plays the steps of ``nextcloud``; internal clients and the users
of the host's Nextcloud that a conversation names connect to the host. Names are translated as reference 12.2 says, and
nothing else: a client must receive its own session, its own users and the room under their local names, users of the
host as federated users, and sessions of others under their ids at the host. A message with a name that should have been
rewritten is an error.

Source: reference 12.1, 12.2.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import urlsplit

from gateway.app import Gateway
from gateway.config import Config
from gateway.core.limits import FederationRules
from gateway.flows.federation.seat import FederatedSeat
from gateway.tools.fake_nextcloud import RecordedRequest
from tests.conversations.levels import SocketLevel, socket_level
from tests.conversations.player import Conversation, ConversationClient, Json
from tests.conversations.renaming import mapped_actors, mapped_mentions, renamed_rooms
from tests.gateway.edge.raw_client import BINARY, CLOSE, PING, RawClient
from tests.gateway.fake_sfu import GatewayWithFakeSfu
from tests.gateway.flows.media.fake_mcu import FakeMcu

PREFIX = "7040207"  # of a room's id at the host: digits, as rooms with phone calls need them
WAIT_TIMEOUT = 30.0  # seconds
_BARRIER = "handled by the host"


class FederatedLevel:
    """Two whole gateways, the local server and the host, with a Nextcloud each."""

    def __init__(
        self, home: SocketLevel, host: SocketLevel, host_users: tuple[str, ...], fake_sfu: FakeMcu | None = None
    ) -> None:
        self.home = home
        self.host = host
        self.host_users = host_users
        self._fake_sfu = fake_sfu  # of the host
        self.url = home.url
        self.cloud_url = home.url.rstrip("/")
        self.cloud_id = urlsplit(home.url).netloc  # of the clients' Nextcloud
        self.host_cloud_id = urlsplit(host.url).netloc
        self.host_resume_ids: set[str] = set()
        self.remote: dict[str, str] = {}  # current or last remote session id, by local id
        self.local: dict[str, str] = {}  # local session id, by each remote one
        self.clients: list[RawClient] = []
        self._request_count = 0

    async def connect(self) -> ConversationClient:
        return FederatedClient(self, await self.open(self.home))

    async def open(self, server: SocketLevel) -> RawClient:
        """Return a new connection to one of the gateways."""
        parts = urlsplit(server.gateway)
        client = await RawClient.connect((parts.hostname or "", parts.port or 0), wait_timeout=WAIT_TIMEOUT)
        self.clients.append(client)
        return client

    def ticket(self, userid: str) -> Json:
        return (self.host if userid in self.host_users else self.home).ticket(userid)

    def token(self, userid: str, flaw: str) -> str:
        return self.home.token(userid, flaw)

    def internal_params(self) -> Json:
        return self.host.internal_params()

    def set_room_answer(self, room: str, answer: Json) -> None:
        self.host.set_room_answer(PREFIX + room, answer)

    def set_answer(self, type: str, answer: Json) -> None:
        (self.home if type == "auth" else self.host).set_answer(type, renamed_rooms(answer, PREFIX))

    async def next_request(self) -> Json:
        """Return the next request to one of the Nextclouds; pings for federated sessions (12.3) are not counted."""
        self._request_count += 1
        async with asyncio.timeout(WAIT_TIMEOUT):
            while len(requests := self._requests()) < self._request_count:  # noqa: ASYNC110 - either of two servers
                await asyncio.sleep(0.01)
        seen = requests[self._request_count - 1]
        return self.to_local({"type": seen.type, seen.type: seen.body})

    def _requests(self) -> list[RecordedRequest]:
        requests = [*self.home.cloud.requests, *self.host.cloud.requests]
        return sorted((it for it in requests if it.type not in ("capabilities", "ping")), key=lambda it: it.time)

    async def send(self, room: str, request: Json) -> None:
        mentions = mapped_mentions(renamed_rooms(request, PREFIX), self._remote_mention)
        await self.host.send(PREFIX + room, self.to_remote(mentions))

    async def dial(self, room: str, call: Json) -> tuple[int, Json]:
        return await self.host.dial(PREFIX + room, call)

    async def pass_time(self, seconds: float) -> None:
        raise AssertionError("time passes at the level of the flows only")

    async def set_sfu_away(self, away: bool) -> None:
        assert self._fake_sfu is not None, "only the fake SFU can be lost"
        if away:
            self._fake_sfu.lose_streams()
        else:
            await self._fake_sfu.recover()

    async def drain(self) -> None:
        raise AssertionError("the gateway is drained at the level of the flows only")

    async def send_as_host(self, session: str, message: Json) -> None:
        remote = self.host.hub.sessions[self.remote[session]]
        renamed = self.to_remote(mapped_mentions(renamed_rooms(message, PREFIX), self._remote_mention))
        self.host.delivery.send(remote, json.dumps(renamed).encode())

    # -- names

    def federation_target(self, room: str, userid: str) -> Json:
        """Return the ``federation`` object of a join of a room of the conversation."""
        cloud = self.host.cloud
        cloud.talk.room(PREFIX + room).name = room
        target = cloud.federation(self.host.gateway, PREFIX + room, userid)
        return target if userid else {**target, "token": cloud.token("")}  # a guest has no user data

    def to_remote(self, value: Json, own: str = "") -> Json:
        """Replace local ids and users by those of the host; ``own``: a session that keeps its local id."""
        text = json.dumps(mapped_actors(value, self._remote_actor))
        for local, remote in self.remote.items():
            if local != own:
                text = text.replace(local, remote)
        return json.loads(text)

    def to_local(self, value: Json) -> Json:
        """Replace the host's ids of sessions and rooms, its users and its URL by the local ones."""
        text = json.dumps(mapped_actors(value, self._local_actor)).replace(PREFIX, "")
        for remote, local in self.local.items():
            text = text.replace(remote, local)
        return json.loads(text.replace(self.host.url, self.url))

    def to_client(self, value: Json) -> Json:
        """Replace the names that users of the host have for clients of the first gateway by those of the conversation.

        Raises:
            AssertionError: such a user has the name of a user of the clients' own Nextcloud.
        """
        return mapped_mentions(mapped_actors(value, self._client_actor), self._client_mention)

    def _remote_actor(self, type: str, id: str) -> tuple[str, str]:
        federated = type == "users" and id not in self.host_users
        return ("federated_users", f"{id}@{self.cloud_id}") if federated else (type, id)

    def _local_actor(self, type: str, id: str) -> tuple[str, str]:
        suffix = f"@{self.cloud_id}"
        return ("users", id.removesuffix(suffix)) if type == "federated_users" and id.endswith(suffix) else (type, id)

    def _client_actor(self, type: str, id: str) -> tuple[str, str]:
        assert type != "users" or id not in self.host_users, f"{id} is no user of the clients' Nextcloud"
        suffix = f"@{self.host_cloud_id}"
        return ("users", id.removesuffix(suffix)) if type == "federated_users" and id.endswith(suffix) else (type, id)

    def _remote_mention(self, mention: Json) -> Json:
        """Add the server to a user of the first Nextcloud, which is another server to the host's Nextcloud."""
        return mention if mention["id"] in self.host_users else {"server": self.cloud_url, **mention}

    def _client_mention(self, mention: Json) -> Json:
        """Remove what a user of the host has in addition for clients: server, and as ``mention-id`` the user id."""
        if mention["id"] not in self.host_users:
            return mention
        named = dict(mention)
        assert named.pop("server", "") == self.host.url.rstrip("/"), f"the server is missing: {mention}"
        assert "mention-id" in named, f"the id to mention the user is missing: {mention}"
        if named["mention-id"] == named["id"]:
            del named["mention-id"]
        return named

    async def settle(self, session: str) -> None:
        """Record the remote id of a session, and wait until its earlier sessions at the host have ended."""
        open_session = self.home.hub.sessions.get(session)
        seat = None if open_session is None else open_session.seat
        current = ""
        if isinstance(seat, FederatedSeat):
            current = seat._remote.id
            self.remote[session], self.local[current] = current, session
        earlier = {remote for remote, local in self.local.items() if local == session} - {current}
        async with asyncio.timeout(WAIT_TIMEOUT):
            while earlier & set(self.host.hub.sessions):  # noqa: ASYNC110 - the end of a session has no event
                await asyncio.sleep(0.005)


class FederatedClient:
    """A client of the first gateway, or an internal client or user of the host."""

    def __init__(self, level: FederatedLevel, client: RawClient) -> None:
        self._level = level
        self._client = client
        self._at_host = False
        self._userid = ""
        self._session = ""  # local id, once the hello is answered
        self._received: deque[Json] = deque()
        self._close_code: int | None = None

    async def send(self, message: Json) -> None:
        """Send a message, and wait until the gateway to which it goes has handled it."""
        prepared = await self._prepared(message) if isinstance(message, dict) else message
        self._client.send(prepared)  # after a hello a client of the host has another connection
        await self._barrier()
        if self._session and not self._at_host:
            await self._level.settle(self._session)

    async def send_binary(self, octets: bytes) -> None:
        self._client.send(octets, opcode=BINARY)

    async def receive(self) -> Json:
        while not self._received and self._close_code is None:
            await self._read()
        assert self._received, "the connection is closed"
        return self._translated(self._received.popleft())

    async def receives_nothing(self) -> bool:
        await self._barrier()
        return not self._received

    async def lose(self) -> None:
        await self._barrier()
        self._client.writer.close()
        await self._client.wait_closed()

    async def is_closed(self) -> bool:
        while self._close_code is None:
            await self._read()
        return self._close_code == 1000 and not self._received

    # -- the connection

    async def _barrier(self) -> None:
        """Send a request that is refused by the server that has the room, and receive until the answer comes."""
        if self._close_code is not None:
            return
        refused: Json = {"id": _BARRIER, "type": "transient"}
        if not self._at_host:  # well-formed, so that the local server forwards it
            refused["transient"] = {"type": "set", "key": "sd:another", "value": 1}
        self._client.send(refused)
        while self._close_code is None:
            await self._read()
            if self._received and self._received[-1].get("id") == _BARRIER:
                assert self._received.pop()["type"] == "error"
                return

    async def _read(self) -> None:
        """Receive the next message, or the end of the connection."""
        try:
            opcode, payload = await self._client.frame()
        except (asyncio.IncompleteReadError, ConnectionError):
            self._close_code = 0
            return
        if opcode == CLOSE:
            self._close_code = int.from_bytes(payload[:2])
        elif opcode != PING:
            message = json.loads(payload)
            if message["type"] == "hello":
                self._note_session(message["hello"])
            self._received.append(message)

    def _note_session(self, reply: Json) -> None:
        self._session, self._userid = reply["sessionid"], reply["userid"]
        if self._at_host:
            self._level.host_resume_ids.add(reply["resumeid"])

    # -- names

    async def _prepared(self, message: Json) -> Json:
        """Return a message of the conversation as this client has to send it."""
        room = message.get("room")
        if message.get("type") == "hello" and isinstance(message.get("hello"), dict):
            await self._prepare_hello(message["hello"])
            return message
        if self._at_host:
            return self._level.to_remote(renamed_rooms(message, PREFIX))
        if message.get("type") == "room" and isinstance(room, dict) and room.get("roomid"):
            target = self._level.federation_target(room["roomid"], self._userid)
            return {**message, "room": {**room, "federation": target}}
        session = self._level.home.hub.sessions.get(self._session)
        seated = session is not None and session.seat is not None
        return self._level.to_remote(message, self._session) if seated else message

    async def _prepare_hello(self, hello: Json) -> None:
        """Connect internal clients and users of the host's Nextcloud to the host."""
        auth = hello.get("auth", {})
        params = auth.get("params")
        is_host_user = isinstance(params, dict) and params.get("userid") in self._level.host_users
        if is_host_user:
            auth["url"] = self._level.host.url
        if is_host_user or auth.get("type") == "internal" or hello.get("resumeid") in self._level.host_resume_ids:
            self._at_host = True
            self._client = await self._level.open(self._level.host)
            await self._client.receive()

    def _translated(self, message: Json) -> Json:
        """Return a message with the names of the conversation.

        Raises:
            AssertionError: it has a name of the host that federation rewrites.
        """
        if self._at_host:
            return self._without_mark(self._level.to_local(message))
        text = json.dumps(message)
        own = [remote for remote, local in self._level.local.items() if local == self._session]
        assert not [name for name in (PREFIX, *own) if name in text], f"a name was not rewritten: {message}"
        for remote, local in self._level.local.items():
            text = text.replace(remote, local)
        return self._without_mark(self._level.to_client(json.loads(text)))

    def _without_mark(self, message: Json) -> Json:
        """Remove ``federated`` from the entries of joins, which all federated sessions must have and no others."""
        for entry in message.get("event", {}).get("join", ()):
            federated = entry["sessionid"] in self._level.remote
            assert entry.pop("federated", None) is (True if federated else None), f"not marked properly: {message}"
        return message


@asynccontextmanager
async def federated_level(conversation: Conversation) -> AsyncIterator[FederatedLevel]:
    """Start two gateways on free ports, with a Nextcloud each; only the host has an SFU.

    It is the fake one for conversations that cannot be played with a real one.
    """
    fakes: list[FakeMcu] = []

    def gateway_with_fake_sfu(config: Config) -> Gateway:
        gateway = GatewayWithFakeSfu(config)
        fakes.append(gateway.fake)
        return gateway

    create = gateway_with_fake_sfu if conversation.mcu and "socket" not in conversation.levels else Gateway
    async with socket_level(conversation, create_gateway=create) as host:
        host.cloud.features.append("federation-v2")
        port = urlsplit(host.gateway).port or 0
        rules = FederationRules(allow_insecure=True, ports=(port,), allowed=("127.0.0.1/32",))
        async with socket_level(replace(conversation, mcu=False), federation=rules) as home:
            level = FederatedLevel(home, host, conversation.host_users, *fakes)
            try:
                yield level
            finally:
                for client in level.clients:
                    client.writer.transport.abort()
