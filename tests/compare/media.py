"""Peers whose media flow, behind the offers and answers of a conversation: a real SFU offers nothing else."""

from __future__ import annotations

import json
import re
from types import TracebackType
from typing import Self

from tests.conversations.player import Conversation, Json
from tests.media.peers import PublishingPeer, WatchingPeer


class Peers:
    """An aiortc peer for each name of a description; they are closed when the ``async with`` block ends."""

    def __init__(self) -> None:
        self._cameras: dict[str, PublishingPeer] = {}
        self._watchers: list[WatchingPeer] = []
        self._offered: dict[str, str] = {}  # name of the last offer, by who said it
        self._heard: dict[str, str] = {}  # the last offer that was heard, by who heard it

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        for peer in (*self._cameras.values(), *self._watchers):
            await peer.close()

    async def offers(self, conversation: Conversation) -> dict[str, str]:
        """Return a real offer for each name of one."""
        names = re.findall(r"\$offer:\w+", json.dumps([step for _, step in conversation.steps]))
        for number, name in enumerate(dict.fromkeys(names)):
            self._cameras[name] = PublishingPeer(number + 1, 440.0, channels=())
        return {name: await peer.offer() for name, peer in self._cameras.items()}

    async def answers(self, who: str, message: Json, known: dict[str, Json]) -> dict[str, str]:
        """Note what somebody is about to say, and return a real answer for each new name of one in it."""
        text = json.dumps(message)
        for name in re.findall(r"\$offer:\w+", text):
            self._offered[who] = name
        made: dict[str, str] = {}
        for name in re.findall(r"\$answer:\w+", text):
            if name not in known and who in self._heard:
                self._watchers.append(WatchingPeer())
                made[name] = await self._watchers[-1].answer(self._heard[who])
        return made

    async def hear(self, who: str, message: Json) -> None:
        """Let the peer behind somebody take the description that was heard."""
        data = _data(message)
        if data.get("type") == "offer":
            self._heard[who] = data["payload"]["sdp"]
        elif data.get("type") == "answer" and who in self._offered:
            peer = self._cameras[self._offered[who]]
            if peer.pc.signalingState == "have-local-offer":
                await peer.accept(data["payload"]["sdp"])
                await peer.connected()


def is_candidate(message: Json) -> bool:
    """Whether the SFU trickles a candidate; when it does is no part of a conversation, its descriptions have them."""
    return bool(_data(message).get("type") == "candidate" and _data(message).get("from"))


def _data(message: Json) -> Json:
    data = message["message"]["data"] if message.get("type") == "message" else {}
    return data if isinstance(data, dict) else {}
