"""Peers of aiortc: they create the offers and answers of a conversation, and send the media that an SFU waits for."""

from __future__ import annotations

import json
import re
from types import TracebackType
from typing import Self

from tests.conversations.player import Conversation, Json
from tests.media.peers import PublishingPeer, SubscribingPeer


class Peers:
    """Peers, one for each name of a description; a context manager that closes them."""

    def __init__(self) -> None:
        self._publishers: dict[str, PublishingPeer] = {}
        self._subscribers: list[SubscribingPeer] = []
        self._offered: dict[str, str] = {}  # name of the last offer, by the client that sent it
        self._received: dict[str, str] = {}  # the last offer, by the client that received it

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        for peer in (*self._publishers.values(), *self._subscribers):
            await peer.close()

    async def offers(self, conversation: Conversation) -> dict[str, str]:
        """Return an offer of a peer for each name of an offer."""
        names = re.findall(r"\$offer:\w+", json.dumps([step for _, step in conversation.steps]))
        for number, name in enumerate(dict.fromkeys(names)):
            self._publishers[name] = PublishingPeer(number + 1, 440.0, channels=())
        return {name: await peer.offer() for name, peer in self._publishers.items()}

    async def answers(self, client: str, message: Json, known: dict[str, Json]) -> dict[str, str]:
        """Record the offers in a message to send, and return an answer of a peer for each new name of an answer."""
        text = json.dumps(message)
        for name in re.findall(r"\$offer:\w+", text):
            self._offered[client] = name
        made: dict[str, str] = {}
        for name in re.findall(r"\$answer:\w+", text):
            if name not in known and client in self._received:
                self._subscribers.append(SubscribingPeer())
                made[name] = await self._subscribers[-1].answer(self._received[client])
        return made

    async def receive(self, client: str, message: Json) -> None:
        """Pass the description in a received message to the client's peer."""
        data = _data(message)
        if data.get("type") == "offer":
            self._received[client] = data["payload"]["sdp"]
        elif data.get("type") == "answer" and client in self._offered:
            peer = self._publishers[self._offered[client]]
            if peer.pc.signalingState == "have-local-offer":
                await peer.accept(data["payload"]["sdp"])
                await peer.wait_until_connected()


def is_candidate(message: Json) -> bool:
    """Return whether a message is a trickled candidate of the SFU; conversations do not contain these."""
    return bool(_data(message).get("type") == "candidate" and _data(message).get("from"))


def _data(message: Json) -> Json:
    data = message["message"]["data"] if message.get("type") == "message" else {}
    return data if isinstance(data, dict) else {}
