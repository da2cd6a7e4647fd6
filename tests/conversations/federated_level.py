"""The level of federation: every client is at one gateway, and the rooms that it joins are at another one.

Each join of a room becomes a join of a room of the host, which has another id there; Nextcloud's part of a conversation
is played by the host's Nextcloud. Internal clients connect to the host. Names are translated as reference 12.2 says,
and nothing else: a client must receive its own session, its own users and the room under their local names, and
sessions of others under those of the host. A message with a name that should have been rewritten is an error.

Source: reference 12.1, 12.2.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import urlsplit

from gateway.core.limits import FederationRules
from gateway.flows.federation.seat import FederatedSeat
from gateway.tools.fake_nextcloud import RecordedRequest
from tests.conversations.levels import SocketLevel, socket_level
from tests.conversations.player import Conversation, ConversationClient, Json
from tests.gateway.edge.raw_client import BINARY, CLOSE, PING, RawClient

PREFIX = "7040207"  # of a room's id at the host: digits, as rooms with phone calls need them
PATIENCE = 30.0  # seconds until a wait times out
_BARRIER = "handled by the host"


class FederatedLevel:
    """Two whole gateways with a Nextcloud each."""

    def __init__(self, home: SocketLevel, host: SocketLevel) -> None:
        self.home = home
        self.host = host
        self.url = home.url
        self.cloud_url = home.url.rstrip("/")
        self.cloud_id = urlsplit(home.url).netloc  # of the clients' Nextcloud
        self.remote: dict[str, str] = {}  # present or last session id at the host, by local id
        self.local: dict[str, str] = {}  # local id, by each session id at the host
        self.clients: list[RawClient] = []
        self._asked = 0

    async def connect(self) -> ConversationClient:
        return FederatedClient(self, await self.open(self.home))

    async def open(self, server: SocketLevel) -> RawClient:
        """Return a new connection to one of the gateways."""
        parts = urlsplit(server.gateway)
        client = await RawClient.connect((parts.hostname or "", parts.port or 0), wait_timeout=PATIENCE)
        self.clients.append(client)
        return client

    def ticket(self, userid: str) -> Json:
        return self.home.ticket(userid)

    def token(self, userid: str, flaw: str) -> str:
        return self.home.token(userid, flaw)

    def internal(self) -> Json:
        return self.host.internal()

    def room(self, room: str, answer: Json) -> None:
        self.host.room(PREFIX + room, answer)

    def answer(self, type: str, answer: Json) -> None:
        (self.home if type == "auth" else self.host).answer(type, renamed_rooms(answer))

    async def asked(self) -> Json:
        """Return the next request to one of the Nextclouds; pings for federated sessions (12.3) are not counted."""
        self._asked += 1
        async with asyncio.timeout(PATIENCE):
            while len(requests := self._requests()) < self._asked:  # noqa: ASYNC110 - either of two servers
                await asyncio.sleep(0.01)
        seen = requests[self._asked - 1]
        return self.named_here({"type": seen.type, seen.type: seen.body})

    def _requests(self) -> list[RecordedRequest]:
        requests = [*self.home.cloud.requests, *self.host.cloud.requests]
        return sorted((it for it in requests if it.type not in ("capabilities", "ping")), key=lambda it: it.time)

    async def send(self, room: str, request: Json) -> None:
        mentions = mentioned_there(renamed_rooms(request), self.cloud_url)
        await self.host.send(PREFIX + room, self.named_there(mentions))

    async def dial(self, room: str, call: Json) -> tuple[int, Json]:
        return await self.host.dial(PREFIX + room, call)

    async def pass_time(self, seconds: float) -> None:
        raise AssertionError("time passes at the level of the flows only")

    async def sfu(self, away: bool) -> None:
        raise AssertionError("the SFU is lost at the level of the flows only")

    async def drain(self) -> None:
        raise AssertionError("the gateway is drained at the level of the flows only")

    # -- names

    def target(self, room: str, userid: str) -> Json:
        """Return the ``federation`` object of a join; the room has the name of that in the conversation."""
        cloud = self.host.cloud
        cloud.talk.room(PREFIX + room).name = room
        target = cloud.federation(self.host.gateway, PREFIX + room, userid)
        return target if userid else {**target, "token": cloud.token("")}  # a guest has no user data

    def named_there(self, value: Json, own: str = "") -> Json:
        """Return a value with the host's names of sessions and users; ``own``: a session that keeps its local id."""
        text = json.dumps(mapped_actors(value, self._actor_there))
        for local, remote in self.remote.items():
            if local != own:
                text = text.replace(local, remote)
        return json.loads(text)

    def named_here(self, value: Json) -> Json:
        """Return a value of the host with the local names of sessions, rooms, users and the server."""
        text = json.dumps(mapped_actors(value, self._actor_here)).replace(PREFIX, "")
        for remote, local in self.local.items():
            text = text.replace(remote, local)
        return json.loads(text.replace(self.host.url, self.url))

    def _actor_there(self, type: str, id: str) -> tuple[str, str]:
        return ("federated_users", f"{id}@{self.cloud_id}") if type == "users" else (type, id)

    def _actor_here(self, type: str, id: str) -> tuple[str, str]:
        suffix = f"@{self.cloud_id}"
        return ("users", id.removesuffix(suffix)) if type == "federated_users" and id.endswith(suffix) else (type, id)

    async def settle(self, session: str) -> None:
        """Note the session's id at the host, and wait until its earlier sessions there have ended."""
        open_session = self.home.hub.sessions.get(session)
        seat = None if open_session is None else open_session.seat
        present = ""
        if isinstance(seat, FederatedSeat):
            present = seat._remote.id
            self.remote[session], self.local[present] = present, session
        earlier = {remote for remote, local in self.local.items() if local == session} - {present}
        async with asyncio.timeout(PATIENCE):
            while earlier & set(self.host.hub.sessions):  # noqa: ASYNC110 - the host tells nobody
                await asyncio.sleep(0.005)


class FederatedClient:
    """A client of the first gateway, or an internal client of the host."""

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
        self._client.send(prepared)  # an internal client has another connection by now
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
                self._greeted(message["hello"])
            self._received.append(message)

    def _greeted(self, reply: Json) -> None:
        self._session, self._userid = reply["sessionid"], reply["userid"]

    # -- names

    async def _prepared(self, message: Json) -> Json:
        """Return the message as this client has to send it."""
        room = message.get("room")
        if message.get("type") == "hello" and isinstance(message.get("hello"), dict):
            await self._prepare_hello(message["hello"])
            return message
        if self._at_host:
            return self._level.named_there(renamed_rooms(message))
        if message.get("type") == "room" and isinstance(room, dict) and room.get("roomid"):
            target = self._level.target(room["roomid"], self._userid)
            return {**message, "room": {**room, "federation": target}}
        session = self._level.home.hub.sessions.get(self._session)
        seated = session is not None and session.seat is not None
        return self._level.named_there(message, self._session) if seated else message

    async def _prepare_hello(self, hello: Json) -> None:
        """Let an internal client say hello to the host."""
        auth = hello.get("auth", {})
        if auth.get("type") == "internal":
            self._at_host = True
            self._client = await self._level.open(self._level.host)
            await self._client.receive()

    def _translated(self, message: Json) -> Json:
        """Return a message with the names of the conversation.

        Raises:
            AssertionError: it has a name of the host that federation rewrites.
        """
        if self._at_host:
            return self._without_mark(self._level.named_here(message))
        text = json.dumps(message)
        own = [remote for remote, local in self._level.local.items() if local == self._session]
        assert not [name for name in (PREFIX, *own) if name in text], f"a name was not rewritten: {message}"
        for remote, local in self._level.local.items():
            text = text.replace(remote, local)
        return self._without_mark(json.loads(text))

    def _without_mark(self, message: Json) -> Json:
        """Remove ``federated`` from the entries of joins, which all federated sessions must have and no others."""
        for entry in message.get("event", {}).get("join", ()):
            federated = entry["sessionid"] in self._level.remote
            assert entry.pop("federated", None) is (True if federated else None), f"not marked properly: {message}"
        return message


def renamed_rooms(value: Json) -> Json:
    """Return a value with the host's id of each room that it names, also in comments and as a mention."""
    if isinstance(value, dict):
        names = ("roomid", "token", "id") if value.get("type") == "call" else ("roomid", "token")
        return {
            key: PREFIX + item if key in names and isinstance(item, str) and item else renamed_rooms(item)
            for key, item in value.items()
        }
    return [renamed_rooms(item) for item in value] if isinstance(value, list) else value


def mapped_actors(value: Json, rule: Callable[[str, str], tuple[str, str]]) -> Json:
    """Return a value with another name for each actor in it."""
    if isinstance(value, list):
        return [mapped_actors(item, rule) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {key: mapped_actors(item, rule) for key, item in value.items()}
    for type, id in (("actorType", "actorId"), ("lastEditActorType", "lastEditActorId")):
        if isinstance(value.get(type), str) and isinstance(value.get(id), str):
            changed[type], changed[id] = rule(value[type], value[id])
    return changed


def mentioned_there(value: Json, server: str) -> Json:
    """Return a value in which the host's Nextcloud mentions users as those of another server."""
    if isinstance(value, list):
        return [mentioned_there(item, server) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {key: mentioned_there(item, server) for key, item in value.items()}
    for key, item in changed.items():
        if key.startswith("mention-") and isinstance(item, dict) and item.get("type") == "user":
            item.setdefault("server", server)
    return changed


@asynccontextmanager
async def federated_level(conversation: Conversation) -> AsyncIterator[FederatedLevel]:
    """Start two gateways on free ports, with a Nextcloud each; only the host has an SFU."""
    async with socket_level(conversation) as host:
        host.cloud.features.append("federation-v2")
        port = urlsplit(host.gateway).port or 0
        rules = FederationRules(allow_insecure=True, ports=(port,), allowed=("127.0.0.1/32",))
        async with socket_level(replace(conversation, mcu=False), federation=rules) as home:
            level = FederatedLevel(home, host)
            try:
                yield level
            finally:
                for client in level.clients:
                    client.writer.transport.abort()
