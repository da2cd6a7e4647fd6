"""Conversations are read from files and played at a level.

A level is the way that messages take to the gateway: direct calls, a WebSocket, long polling, or a federated room
(README.md).
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gateway.tools.talk_rooms import nextcloud_session
from tests.conversations import message_forms, request_forms
from tests.gateway.edge.raw_client import WAIT_TIMEOUT
from tests.gateway.flows.media.descriptions import CANDIDATE, answer, offer

Json = Any  # opaque: any JSON value of the file

FOLDER = Path(__file__).parent
ANY_VALUE = "..."
SESSION_KEY = "sd:$"  # beginning of a key of transient data that names a session


class ConversationClient(Protocol):
    """Client on one connection."""

    async def send(self, message: Json) -> None:
        """Send an object as JSON, or a string as it is."""

    async def send_binary(self, octets: bytes) -> None:
        """Send a binary frame."""

    async def receive(self) -> Json:
        """Return the next message."""

    async def receives_nothing(self) -> bool:
        """Return whether no message has arrived and none is on its way."""

    async def lose(self) -> None:
        """Break the connection."""

    async def is_closed(self) -> bool:
        """Return whether the gateway closes the connection and sends nothing more."""


class Level(Protocol):
    """The gateway and Nextcloud with which a conversation is played, and the way to them."""

    url: str  # of the backend
    cloud_url: str  # of the Nextcloud whose users are federated users in all rooms; empty: there is none

    async def connect(self) -> ConversationClient:
        """Connect a client."""

    def ticket(self, userid: str) -> Json:
        """Return ``auth.params`` of a hello 1.0."""

    def token(self, userid: str, flaw: str) -> str:
        """Return a token of a hello 2.0; ``flaw`` is empty, ``expired``, ``early`` or ``forged``."""

    def internal_params(self) -> Json:
        """Return ``auth.params`` of an internal client."""

    def set_room_answer(self, room: str, answer: Json) -> None:
        """Set the answer to joins of a room."""

    def set_answer(self, type: str, answer: Json) -> None:
        """Set the answer to all further requests of a type: this object, or (``None``) text that is no JSON."""

    async def next_request(self) -> Json:
        """Return the next request to Nextcloud."""

    async def send(self, room: str, request: Json) -> None:
        """Send a request of the rooms API."""

    async def dial(self, room: str, call: Json) -> tuple[int, Json]:
        """Request a phone call over the rooms API; return status and body of the answer."""

    async def pass_time(self, seconds: float) -> None:
        """Let time pass."""

    async def set_sfu_away(self, away: bool) -> None:
        """Have the SFU lose all streams and become unavailable, or accept streams again."""

    async def drain(self) -> None:
        """Begin to drain the gateway."""

    async def send_as_host(self, session: str, message: Json) -> None:
        """Send a session's client a message in a form that other servers send as host, and Portunus does not."""


@dataclass(frozen=True)
class Conversation:
    """The content of one file."""

    name: str
    shows: str
    mcu: bool
    server: Json  # configuration that differs from the usual one
    levels: tuple[str, ...]
    steps: tuple[tuple[int, list[Json]], ...]  # with the number of the line
    host_users: tuple[str, ...] = ()  # at level ``federated`` they are users of the host's Nextcloud


def load() -> list[Conversation]:
    """Read every file of the folder."""
    return [_read(path) for path in sorted(FOLDER.glob("*.jsonl"))]


def _read(path: Path) -> Conversation:
    lines = [(number, line) for number, line in enumerate(path.read_text().splitlines(), 1) if line.strip()]
    head = json.loads(lines[0][1])
    steps = tuple((number, json.loads(line)) for number, line in lines[1:])
    levels = tuple(head.get("levels", ("flows", "socket", "polling")))
    return Conversation(
        path.stem,
        head["shows"],
        head.get("mcu", False),
        head.get("server", {}),
        levels,
        steps,
        tuple(head.get("host_users", ())),
    )


class ConversationPlayer:
    """Plays one conversation; ``names`` has the values of its names."""

    def __init__(self, conversation: Conversation, level: Level) -> None:
        self._conversation = conversation
        self._level = level
        self._clients: dict[str, ConversationClient] = {}
        self.names: dict[str, Json] = {}
        self._call: asyncio.Future[tuple[int, Json]] | None = None

    async def play(self) -> None:
        """Play each step.

        Raises:
            AssertionError: another message arrived, or none; the text names the line.
        """
        for number, (actor, action, *rest) in self._conversation.steps:
            try:
                if actor == "nextcloud":
                    await self._nextcloud_step(action, rest)
                elif actor == "time":
                    await self._level.pass_time(*rest)
                elif actor == "sfu":
                    await self._level.set_sfu_away({"is lost": True, "is back": False}[action])
                elif (actor, action) == ("operator", "drains"):
                    await self._level.drain()
                elif (actor, action) == ("host", "sends to"):
                    await self._level.send_as_host(self.names[f"${rest[0]}"], self.fill(rest[1]))
                else:
                    await self._client_step(actor, action, rest)
            except (AssertionError, TimeoutError) as error:
                raise AssertionError(
                    f"{self._conversation.name}, line {number}: {actor} {action}: {error!r}"
                ) from error

    async def _receive(self, client: ConversationClient) -> Json:
        """Return the next message after a check of its form."""
        received = await client.receive()
        message_forms.check_message(received, mcu=self._conversation.mcu)
        return received

    async def _client_step(self, actor: str, action: str, rest: list[Json]) -> None:
        if action == "connects":
            self._clients[actor] = await self._level.connect()
            return
        if action == "enters as":
            auth = {"url": self._level.url, "params": self.fill(f"$ticket:{rest[0]}")}
            await self._enter(actor, auth, rest[1] if len(rest) > 1 else [])
            return
        if action == "enters as internal client":
            await self._enter(actor, {"type": "internal", "params": self._value("$internal")}, rest[0])
            return
        client = self._clients[actor]
        match action:
            case "sends":
                await client.send(self.fill(rest[0]))
            case "sends binary":
                await client.send_binary(bytes.fromhex(rest[0]))
            case "receives" if isinstance(rest[0], list):
                await self._receive_all(client, rest[0])
            case "receives":
                received = await self._receive(client)
                assert self.matches(rest[0], received), f"received {received}"
            case "receives from the host":  # its form is not checked: another server sends it
                received = await client.receive()
                assert self.matches(rest[0], received), f"received {received}"
            case "receives nothing":
                assert await client.receives_nothing(), "a message arrived"
            case "loses the connection":
                await client.lose()
            case "is disconnected":
                assert await client.is_closed(), "the connection is open"
            case _:
                raise ValueError(f"no such step: {action}")

    async def _enter(self, actor: str, auth: Json, features: Json) -> None:
        client = self._clients[actor] = await self._level.connect()
        await self._receive(client)
        await client.send({"type": "hello", "hello": {"version": "1.0", "auth": auth, "features": features}})
        reply = await self._receive(client)
        assert reply["type"] == "hello", f"received {reply}"
        self.names[f"${actor}"] = reply["hello"]["sessionid"]
        self.names[f"${actor}.resume"] = reply["hello"]["resumeid"]

    async def _receive_all(self, client: ConversationClient, patterns: list[Json]) -> None:
        left = list(patterns)
        while left:
            received = await self._receive(client)
            matching = next((pattern for pattern in left if self.matches(pattern, received)), None)
            assert matching is not None, f"received {received}"
            left.remove(matching)

    async def _nextcloud_step(self, action: str, rest: list[Json]) -> None:
        match action:
            case "has":
                self._level.set_room_answer(rest[0], self.fill(rest[1]))
            case "answers":
                self._level.set_answer(rest[0], rest[1])
            case "sends":
                await self._level.send(rest[0], self.fill(rest[1]))
            case "dials":
                self._call = asyncio.ensure_future(self._level.dial(rest[0], self.fill(rest[1])))
            case "is answered":
                assert self._call is not None, "no phone call was requested"
                status, body = await asyncio.wait_for(self._call, WAIT_TIMEOUT)
                request_forms.check_answer(status, body)
                assert status == rest[0], f"was answered {status} {body}"
                assert self.matches(rest[1], body), f"was answered {body}"
            case "was asked":
                request = await self._level.next_request()
                request_forms.check_request(request)
                assert self.matches(rest[0], request), f"was asked {request}"
            case _:
                raise ValueError(f"no such step: {action}")

    # -- names

    def fill(self, value: Json) -> Json:
        """Replace names by their values."""
        if isinstance(value, dict):
            return {self.fill(key): self.fill(member) for key, member in value.items()}
        if isinstance(value, list):
            return [self.fill(member) for member in value]
        if isinstance(value, str) and value.startswith("{"):  # JSON as text: only names are replaced
            for name, bound in sorted(self.names.items(), reverse=True):
                value = value.replace(f'"{name}"', json.dumps(bound))
            return value
        if isinstance(value, str) and value.startswith(SESSION_KEY):
            return "sd:" + self._value(value.removeprefix("sd:"))
        return self._value(value) if isinstance(value, str) and value.startswith("$") else value

    def _value(self, name: str) -> Json:
        prefix, _, rest = name[1:].partition(":")
        if name not in self.names:
            self.names[name] = self._built_in(prefix, rest)
        return self.names[name]

    def _built_in(self, prefix: str, rest: str) -> Json:
        match prefix:
            case "url":
                return self._level.url
            case "nc":
                cloud = "" if rest in self._conversation.host_users else self._level.cloud_url
                return nextcloud_session(rest, f"{rest}@{cloud}" if cloud else "")
            case "ticket":
                return self._level.ticket(rest)
            case "internal":
                return self._level.internal_params()
            case "internal-forged":
                return {**self._level.internal_params(), "token": "forged"}
            case "token" | "token-expired" | "token-early" | "token-forged":
                return self._level.token(rest, prefix.partition("-")[2])
            case "offer":
                return offer(rest)
            case "audio-offer":
                return offer(rest, ("audio",))
            case "bad-candidate-offer":
                return offer(rest, candidates=("candidate:junk",))
            case "empty-offer":
                return offer(rest, ())
            case "answer":
                return answer(rest)
            case "candidate":
                return CANDIDATE
        raise ValueError(f"the name ${prefix} has no value yet")

    def matches(self, pattern: Json, value: Json) -> bool:
        """Return whether a value matches a pattern; new names are bound only if it does."""
        before = dict(self.names)
        if self._matches(pattern, value):
            return True
        self.names = before
        return False

    def _matches(self, pattern: Json, value: Json) -> bool:
        if pattern == ANY_VALUE:
            return True
        if isinstance(pattern, str) and pattern.startswith("$nc:"):
            return bool(self._value(pattern) == value)
        if isinstance(pattern, str) and pattern.startswith(SESSION_KEY):
            return bool(self.fill(pattern) == value)
        if isinstance(pattern, str) and pattern.startswith("$"):
            return bool(self.names.setdefault(pattern, value) == value)
        if isinstance(pattern, dict):
            pattern = {self.fill(key) if key.startswith(SESSION_KEY) else key: item for key, item in pattern.items()}
            keys = set(pattern) - {ANY_VALUE}
            return (
                isinstance(value, dict)
                and keys <= set(value)
                and (ANY_VALUE in pattern or keys == set(value))
                and all(self._matches(pattern[key], value[key]) for key in sorted(keys))
            )
        if isinstance(pattern, list):
            return isinstance(value, list) and len(pattern) == len(value) and all(map(self._matches, pattern, value))
        return type(pattern) is type(value) and bool(pattern == value)
