"""Plays a conversation to its end and notes what is not as it says."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass

from tests.compare.media import Peers, is_candidate
from tests.conversations.levels import SocketClient
from tests.conversations.player import Conversation, ConversationClient, ConversationPlayer, Json, Level

PACE = 0.05  # seconds before anything is said, so that what was said before by others has arrived
SILENCE = 0.4  # seconds without a message that count as silence
LONG = 60  # seconds; what comes behind more than that is not played
MISSING = 2.0  # seconds until a message counts as missing; time limits may be one second late


@dataclass(frozen=True)
class Difference:
    """One step at which something else happened."""

    conversation: str
    line: int
    what: str


class Listener:
    """A client whose messages can be looked through in another order."""

    def __init__(self, client: ConversationClient) -> None:
        self._client = client
        self.kept: list[Json] = []

    async def send(self, message: Json) -> None:
        await asyncio.sleep(PACE)
        await self._client.send(message)

    async def send_binary(self, octets: bytes) -> None:
        await asyncio.sleep(PACE)
        await self._client.send_binary(octets)

    async def receive(self) -> Json:
        return self.kept.pop(0) if self.kept else await self._client.receive()

    async def next(self, patience: float) -> Json:
        """Return the next message that is not kept, or ``None``."""
        try:
            async with asyncio.timeout(patience):
                while is_candidate(heard := await self._client.receive()):
                    pass
                return heard
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError, AssertionError):
            return None

    async def receives_nothing(self) -> bool:
        raise NotImplementedError("the player listens itself")

    async def lose(self) -> None:
        await asyncio.sleep(PACE)
        await self._client.lose()

    async def is_closed(self) -> bool:
        raise NotImplementedError("the player looks itself")

    async def closed(self) -> int | None:
        """Return the code of the close frame; ``None`` without one, or when the connection goes on."""
        assert isinstance(self._client, SocketClient)
        return await self._client.client.closed()


class ComparingPlayer(ConversationPlayer):
    """Goes on where the other would give up."""

    def __init__(self, conversation: Conversation, level: Level, peers: Peers | None = None) -> None:
        super().__init__(conversation, level)
        self._peers = peers  # None: nobody has media
        self._played = conversation
        self._line = 0
        self.differences: list[Difference] = []

    def _note(self, what: str) -> None:
        self.differences.append(Difference(self._played.name, self._line, what))

    async def play(self) -> None:
        """Carry out each step; ``differences`` has what did not fit."""
        if self._peers is not None:
            self.names |= await self._peers.offers(self._played)
        for line, (who, what, *rest) in self._played.steps:
            self._line = line
            if who == "time" and rest[0] > LONG:
                return
            try:
                await self._step(who, what, rest)
            except (AssertionError, TimeoutError, asyncio.IncompleteReadError, ConnectionError) as error:
                self._note(f"{who} {what}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
            except (ValueError, KeyError) as error:  # a name that no message gave
                self._note(f"{who} {what}: the rest cannot be played, {error}")
                return

    async def _step(self, who: str, what: str, rest: list[Json]) -> None:
        if what in ("receives", "receives nothing"):
            listener = self._clients[who]
            assert isinstance(listener, Listener)
            patterns = [] if what == "receives nothing" else rest[0] if isinstance(rest[0], list) else [rest[0]]
            if patterns:
                await self._expect(who, listener, patterns)
            else:
                await self._expect_nothing(who, listener)
        elif what == "is disconnected":
            listener = self._clients[who]
            assert isinstance(listener, Listener)
            if (code := await listener.closed()) != 1000:
                self._note(f"{who} is hung up on with close code {code}" if code else f"{who} is not hung up on")
        elif who == "nextcloud":
            await asyncio.sleep(PACE)
            await self._nextcloud(what, rest)
        elif who == "time":
            await asyncio.sleep(rest[0])
        else:
            if self._peers is not None:
                self.names |= await self._peers.answers(who, rest, self.names)
            await self._client(who, what, rest)
            if not isinstance(self._clients[who], Listener):
                self._clients[who] = Listener(self._clients[who])

    async def _expect(self, who: str, listener: Listener, patterns: list[Json]) -> None:
        """Find what fits in what comes; what comes before that is kept for the next steps."""
        left = list(patterns)
        until = time.monotonic() + MISSING
        passed: list[Json] = []
        while left:
            heard = listener.kept.pop(0) if listener.kept else await listener.next(max(until - time.monotonic(), 0.0))
            if heard is None:
                break
            if self._peers is not None:
                await self._peers.hear(who, heard)
            fitting = next((pattern for pattern in left if self.matches(pattern, heard)), None)
            if fitting is None:
                passed.append(heard)
            else:
                left.remove(fitting)
                self._check_order(who, heard, passed)
        for pattern in left:
            other = next((it for it in passed if _alike(pattern, it)), None)
            if other is None:
                self._note(f"{who} does not hear {short(pattern)}")
            else:
                passed.remove(other)
                self._learn(pattern, other)
                self._note(f"{who} hears {short(self._unnamed(other))} for {short(pattern)}")
        listener.kept[:0] = passed

    def _check_order(self, who: str, heard: Json, before: list[Json]) -> None:
        """Note what came too early: it was promised behind this message, for it comes the same way.

        One's own join event comes behind all others there; that is said once, for all conversations.
        """
        joined = heard.get("event", {}).get("join", ())
        if [entry.get("sessionid") for entry in joined] == [self.names.get(f"${who}")]:
            return
        for early in before:
            if _way(early) == _way(heard):
                self._note(f"{who} hears {short(self._unnamed(early))} before {short(self._unnamed(heard))}")

    async def _expect_nothing(self, who: str, listener: Listener) -> None:
        more = [*listener.kept]
        listener.kept.clear()
        while (heard := await listener.next(SILENCE)) is not None:
            more.append(heard)
        for heard in more:
            self._note(f"{who} hears {short(self._unnamed(heard))}")

    def _learn(self, pattern: Json, value: Json) -> None:
        """Take the names that a message gives although the rest of it does not fit."""
        if isinstance(pattern, str) and pattern.startswith("$"):
            self.names.setdefault(pattern, value)
        elif isinstance(pattern, dict) and isinstance(value, dict):
            for key in pattern.keys() & value.keys():
                self._learn(pattern[key], value[key])
        elif isinstance(pattern, list) and isinstance(value, list):
            for one, other in zip(pattern, value, strict=False):
                self._learn(one, other)

    def _unnamed(self, value: Json) -> Json:
        """Write names for what has one, so that a table can be read."""
        text = json.dumps(value)
        for name, stands_for in self.names.items():
            if isinstance(stands_for, str) and len(stands_for) > 15:
                text = text.replace(json.dumps(stands_for), json.dumps(name))
        return json.loads(text)


def _way(message: Json) -> str:
    """Return by which of the two ways a message reaches a client; only on each of them order is promised (4.3)."""
    kind, body = message.get("type"), message.get(message.get("type", ""), {})
    if kind == "event":
        by_itself = body.get("type") == "delete" or body.get("update", {}).get("all")
        return "direct" if by_itself else "bus"
    if kind in ("message", "control"):
        sender = body.get("sender") or {}
        return "direct" if sender.get("type", "session") == "session" else "bus"
    return "bus" if kind == "room" and "id" not in message and body.get("roomid") else "direct"


def _alike(pattern: Json, heard: Json) -> bool:
    """Whether a message is another form of what was expected."""
    if not isinstance(pattern, dict) or pattern.get("type") != heard.get("type"):
        return False
    if "id" in pattern and pattern["id"] == heard.get("id"):
        return True
    if pattern["type"] == "event":
        one, other = pattern["event"], heard["event"]
        return bool((one.get("target"), one.get("type")) == (other.get("target"), other.get("type")))
    return "id" not in heard


def short(value: Json) -> str:
    """Write a message in one line that fits into a table."""
    text = json.dumps(value, separators=(",", ":"))
    return text if len(text) < 300 else text[:297] + "…"
