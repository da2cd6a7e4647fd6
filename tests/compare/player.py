"""Conversations are played to their end, and the differences from their text recorded."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass

from tests.compare.media import Peers, is_candidate
from tests.conversations.levels import SocketClient
from tests.conversations.player import Conversation, ConversationClient, ConversationPlayer, Json, Level

PACE = 0.05  # seconds before a message is sent, so that earlier messages of other clients have arrived
SILENCE = 0.4  # seconds without a message that count as silence
MAX_WAIT = 60  # seconds; the steps after a longer wait are not played
MISSING_AFTER = 2.0  # seconds until a message counts as missing; time limits may be one second late


@dataclass(frozen=True)
class Difference:
    """Step whose result differs, with a text for the table."""

    conversation: str
    line: int
    text: str


class BufferedClient:
    """Client that keeps messages for later steps, which may expect them in another order."""

    def __init__(self, client: ConversationClient) -> None:
        self._client = client
        self.buffer: list[Json] = []

    async def send(self, message: Json) -> None:
        await asyncio.sleep(PACE)
        await self._client.send(message)

    async def send_binary(self, octets: bytes) -> None:
        await asyncio.sleep(PACE)
        await self._client.send_binary(octets)

    async def receive(self) -> Json:
        return self.buffer.pop(0) if self.buffer else await self._client.receive()

    async def next(self, limit: float) -> Json:
        """Return the next message from the connection; ``None`` if none arrives in ``limit`` seconds."""
        try:
            async with asyncio.timeout(limit):
                while is_candidate(received := await self._client.receive()):
                    pass
                return received
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError, AssertionError):
            return None

    async def receives_nothing(self) -> bool:
        raise NotImplementedError("the player waits by itself")

    async def lose(self) -> None:
        await asyncio.sleep(PACE)
        await self._client.lose()

    async def is_closed(self) -> bool:
        raise NotImplementedError("the player checks the close code by itself")

    async def wait_closed(self) -> int | None:
        """Return the code of the close frame; ``None`` without one, or if the connection stays open."""
        assert isinstance(self._client, SocketClient)
        return await self._client.client.wait_closed()


class ComparingPlayer(ConversationPlayer):
    """Player that records each step whose result differs, and continues."""

    def __init__(self, conversation: Conversation, level: Level, peers: Peers | None = None) -> None:
        super().__init__(conversation, level)
        self._peers = peers  # None: no client has media
        self._played = conversation
        self._line = 0
        self.differences: list[Difference] = []

    def _record(self, text: str) -> None:
        self.differences.append(Difference(self._played.name, self._line, text))

    async def play(self) -> None:
        """Play each step; ``differences`` has those whose result differs."""
        if self._peers is not None:
            self.names |= await self._peers.offers(self._played)
        for line, (actor, action, *rest) in self._played.steps:
            self._line = line
            if actor == "time" and rest[0] > MAX_WAIT:
                return
            try:
                await self._step(actor, action, rest)
            except (AssertionError, TimeoutError, asyncio.IncompleteReadError, ConnectionError) as error:
                self._record(f"{actor} {action}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
            except (ValueError, KeyError) as error:  # a name without a value
                self._record(f"{actor} {action}: the rest cannot be played, {error}")
                return

    async def _step(self, actor: str, action: str, rest: list[Json]) -> None:
        if action in ("receives", "receives nothing"):
            client = self._clients[actor]
            assert isinstance(client, BufferedClient)
            patterns = [] if action == "receives nothing" else rest[0] if isinstance(rest[0], list) else [rest[0]]
            if patterns:
                await self._expect(actor, client, patterns)
            else:
                await self._expect_nothing(actor, client)
        elif action == "is disconnected":
            client = self._clients[actor]
            assert isinstance(client, BufferedClient)
            if (code := await client.wait_closed()) != 1000:
                self._record(
                    f"{actor} is disconnected with close code {code}" if code else f"{actor} is not disconnected"
                )
        elif actor == "nextcloud":
            await asyncio.sleep(PACE)
            await self._nextcloud_step(action, rest)
        elif actor == "time":
            await asyncio.sleep(rest[0])
        else:
            if self._peers is not None:
                self.names |= await self._peers.answers(actor, rest, self.names)
            await self._client_step(actor, action, rest)
            if not isinstance(self._clients[actor], BufferedClient):
                self._clients[actor] = BufferedClient(self._clients[actor])

    async def _expect(self, actor: str, client: BufferedClient, patterns: list[Json]) -> None:
        """Find the messages that match; messages before them are kept for the next steps."""
        left = list(patterns)
        until = time.monotonic() + MISSING_AFTER
        early: list[Json] = []
        while left:
            received = client.buffer.pop(0) if client.buffer else await client.next(max(until - time.monotonic(), 0.0))
            if received is None:
                break
            if self._peers is not None:
                await self._peers.receive(actor, received)
            matching = next((pattern for pattern in left if self.matches(pattern, received)), None)
            if matching is None:
                early.append(received)
            else:
                left.remove(matching)
                self._check_order(actor, received, early)
        for pattern in left:
            other = next((it for it in early if _is_variant(pattern, it)), None)
            if other is None:
                self._record(f"{actor} does not receive {short(pattern)}")
            else:
                early.remove(other)
                self._bind_names(pattern, other)
                self._record(f"{actor} receives {short(self._with_names(other))} for {short(pattern)}")
        client.buffer[:0] = early

    def _check_order(self, actor: str, received: Json, before: list[Json]) -> None:
        """Record the messages that arrived before a message that should precede them on the same delivery path.

        The Go server sends a client's own join event after all others; docs/protocol.md explains this once.
        """
        joined = received.get("event", {}).get("join", ())
        if [entry.get("sessionid") for entry in joined] == [self.names.get(f"${actor}")]:
            return
        for earlier in before:
            if _delivery_path(earlier) == _delivery_path(received):
                self._record(
                    f"{actor} receives {short(self._with_names(earlier))} before {short(self._with_names(received))}"
                )

    async def _expect_nothing(self, actor: str, client: BufferedClient) -> None:
        more = [*client.buffer]
        client.buffer.clear()
        while (received := await client.next(SILENCE)) is not None:
            more.append(received)
        for received in more:
            self._record(f"{actor} receives {short(self._with_names(received))}")

    def _bind_names(self, pattern: Json, value: Json) -> None:
        """Bind the names that a message gives although the rest of it does not match."""
        if isinstance(pattern, str) and pattern.startswith("$"):
            self.names.setdefault(pattern, value)
        elif isinstance(pattern, dict) and isinstance(value, dict):
            for key in pattern.keys() & value.keys():
                self._bind_names(pattern[key], value[key])
        elif isinstance(pattern, list) and isinstance(value, list):
            for one, other in zip(pattern, value, strict=False):
                self._bind_names(one, other)

    def _with_names(self, value: Json) -> Json:
        """Replace the values of names by the names, for a readable table."""
        text = json.dumps(value)
        for name, bound in self.names.items():
            if isinstance(bound, str) and len(bound) > 15:
                text = text.replace(json.dumps(bound), json.dumps(name))
        return json.loads(text)


def _delivery_path(message: Json) -> str:
    """Return the Go server's delivery path of a message; order holds only within each of the two (4.3)."""
    type, body = message.get("type"), message.get(message.get("type", ""), {})
    if type == "event":
        is_direct = body.get("type") == "delete" or body.get("update", {}).get("all")
        return "direct" if is_direct else "bus"
    if type in ("message", "control"):
        sender = body.get("sender") or {}
        return "direct" if sender.get("type", "session") == "session" else "bus"
    return "bus" if type == "room" and "id" not in message and body.get("roomid") else "direct"


def _is_variant(pattern: Json, received: Json) -> bool:
    """Return whether a message is a variant of the expected one."""
    if not isinstance(pattern, dict) or pattern.get("type") != received.get("type"):
        return False
    if "id" in pattern and pattern["id"] == received.get("id"):
        return True
    if pattern["type"] == "event":
        one, other = pattern["event"], received["event"]
        return bool((one.get("target"), one.get("type")) == (other.get("target"), other.get("type")))
    return "id" not in received


def short(value: Json) -> str:
    """Return a message as one line for a table, shortened."""
    text = json.dumps(value, separators=(",", ":"))
    return text if len(text) < 300 else text[:297] + "…"
