"""Levels ``polling`` and ``cut``: long polling over intact connections, and over ones that break during answers."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.poll_client import PollClient
from tests.conversations import levels
from tests.conversations.levels import SocketLevel
from tests.conversations.player import Conversation, ConversationClient, Json
from tests.gateway.cutting_proxy import CuttingProxy

_BARRIER = "the only message that arrives"


class PollingLevel(SocketLevel):
    """A whole gateway; its clients use long polling."""

    def __init__(self, cloud: FakeNextcloud, gateway: str, address: str = "") -> None:
        super().__init__(cloud, gateway)
        self._address = address or gateway  # of the gateway, or of a proxy in front of it
        self.pollers: list[PollClient] = []

    async def connect(self) -> ConversationClient:
        client = PollClient(self._address)
        await client.connect()
        self.pollers.append(client)
        return LongPollingClient(client)


class LongPollingClient:
    """A client over long polling."""

    def __init__(self, client: PollClient) -> None:
        self._client = client

    async def send(self, message: Json) -> None:
        self._client.send(message)

    async def send_binary(self, octets: bytes) -> None:
        """Post a list of numbers, which is refused like a binary frame."""
        self._client.send_raw(list(octets))

    async def receive(self) -> Json:
        return await self._client.receive()

    async def receives_nothing(self) -> bool:
        """See ``SocketClient.receives_nothing``."""
        self._client.send({"id": _BARRIER, "type": "message"})
        return bool((await self._client.receive()).get("id") == _BARRIER)

    async def lose(self) -> None:
        await self.receives_nothing()
        await self._client.close()

    async def is_closed(self) -> bool:
        return await self._client.wait_closed() == 1000


@asynccontextmanager
async def polling_level(conversation: Conversation) -> AsyncIterator[PollingLevel]:
    """Start a gateway on a free port, and its Nextcloud."""
    async with levels.socket_level(conversation) as socket:
        level = PollingLevel(socket.cloud, socket.gateway)
        try:
            yield level
        finally:
            for client in level.pollers:
                await client.drop()


@asynccontextmanager
async def cut_polling_level(conversation: Conversation) -> AsyncIterator[PollingLevel]:
    """Start them behind a proxy that cuts about half of the connections after some octets of an answer."""
    rng = random.Random(conversation.name)

    def budget() -> int:
        return rng.choice((1 << 40, rng.randrange(1, 1500)))

    async with levels.socket_level(conversation) as socket, CuttingProxy(socket.gateway, budget) as proxy:
        level = PollingLevel(socket.cloud, socket.gateway, proxy.url)
        try:
            yield level
        finally:
            for client in level.pollers:
                await client.drop()
