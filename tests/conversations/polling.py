"""The level of the socket, with long polling in its place: over a good line, and over one that cuts answers off."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.poll_client import PollClient
from tests.conversations import stages
from tests.conversations.language import Conversation, Json, Voice
from tests.conversations.stages import SocketStage
from tests.gateway.cutting import CuttingLine

_BARRIER = "nothing but this is heard"


class PollingStage(SocketStage):
    """A whole gateway, whose clients poll."""

    def __init__(self, cloud: FakeNextcloud, gateway: str, line: str = "") -> None:
        super().__init__(cloud, gateway)
        self._line = line or gateway  # where clients connect to
        self.pollers: list[PollClient] = []

    async def connect(self) -> Voice:
        client = PollClient(self._line)
        await client.connect()
        self.pollers.append(client)
        return PollingVoice(client)


class PollingVoice:
    """A client that polls."""

    def __init__(self, client: PollClient) -> None:
        self._client = client

    async def say(self, message: Json) -> None:
        self._client.say(message)

    async def say_bytes(self, octets: bytes) -> None:
        """What is no text is no message here, either."""
        self._client.say_junk(list(octets))

    async def hear(self) -> Json:
        return await self._client.hear()

    async def silent(self) -> bool:
        """See ``SocketVoice.silent``."""
        self._client.say({"id": _BARRIER, "type": "message"})
        return bool((await self._client.hear()).get("id") == _BARRIER)

    async def lose(self) -> None:
        await self.silent()
        await self._client.close()

    async def hung_up(self) -> bool:
        return await self._client.closed() == 1000


@asynccontextmanager
async def polling(conversation: Conversation) -> AsyncIterator[PollingStage]:
    """Start a gateway on a free port, and a Nextcloud for it."""
    async with stages.socket(conversation) as under:
        stage = PollingStage(under.cloud, under.gateway)
        try:
            yield stage
        finally:
            for client in stage.pollers:
                await client.drop()


@asynccontextmanager
async def cut_polling(conversation: Conversation) -> AsyncIterator[PollingStage]:
    """The same behind a line that cuts every other connection off, after some octets of an answer."""
    chance = random.Random(conversation.name)

    def budget() -> int:
        return chance.choice((1 << 40, chance.randrange(1, 1500)))

    async with stages.socket(conversation) as under, CuttingLine(under.gateway, budget) as line:
        stage = PollingStage(under.cloud, under.gateway, line.url)
        try:
            yield stage
        finally:
            for client in stage.pollers:
                await client.drop()
