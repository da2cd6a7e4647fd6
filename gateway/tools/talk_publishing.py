"""Publishing with the shipped Talk client: camera and screen, offered again when the gateway asks for them.

Source: signaling API, "Start publishing"; docs/protocol.md, "Offering again". The media are yours: ``connect`` makes
a PeerConnection for each offer from a new connection.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from gateway.tools.talk_client import Json, RequestRefused, TalkClient

log = logging.getLogger("portunus.tools")

REPUBLISH = "republish"  # feature id that the client announces
ATTEMPTS = 5  # at one stream that was asked for
PAUSE = 1.0  # seconds between two of them


class PublisherPeer(Protocol):
    """A PeerConnection that sends."""

    async def offer(self) -> str:
        """Return a description with all candidates in it."""

    async def accept(self, answer: str) -> None:
        """Take the answer."""

    async def close(self) -> None:
        """End it. Idempotent."""


@dataclass(slots=True)
class PublishedStream:
    """One stream: the connection that carries it, and how to make the next."""

    connect: Callable[[], PublisherPeer]
    connection: PublisherPeer
    sid: str
    task: asyncio.Task[None] | None = None


@dataclass
class TalkPublisher:
    """What one session publishes; end it with ``close``.

    The client must have been made with the feature ``republish``, or it will not be asked.
    """

    client: TalkClient
    on_offered: Callable[[str, PublisherPeer], None] = lambda room_type, connection: None  # before each offer
    publications: dict[str, PublishedStream] = field(default_factory=dict)  # by room type
    _sids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.client.on_republish = self._asked

    async def publish(self, room_type: str, connect: Callable[[], PublisherPeer]) -> PublisherPeer:
        """Publish from a new connection, in place of what is published there; returns it when it was answered.

        Raises:
            RequestRefused: with the protocol's code.
            TimeoutError: no answer came.
        """
        await self.stop(room_type)
        publication = self.publications[room_type] = PublishedStream(connect, connect(), self._new_sid())
        await self._offer(room_type, publication)
        return publication.connection

    async def stop(self, room_type: str) -> None:
        """Close the connection of a room type; the gateway is not told. Idempotent."""
        publication = self.publications.pop(room_type, None)
        if publication is None:
            return
        if publication.task is not None:
            publication.task.cancel()
            await asyncio.wait([publication.task])
        await publication.connection.close()

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        for room_type in list(self.publications):
            await self.stop(room_type)

    def _new_sid(self) -> str:
        return f"{self.client.session_id[:8]}-{next(self._sids)}"

    def _asked(self, room_type: str, sid: str) -> None:
        """Offer again what was lost, unless another connection took its place already."""
        publication = self.publications.get(room_type)
        if publication is None or (sid and sid != publication.sid):
            return
        if publication.task is not None:
            publication.task.cancel()
        publication.sid = self._new_sid()
        publication.task = asyncio.create_task(self._again(room_type, publication), name=f"republish {room_type}")

    async def _again(self, room_type: str, publication: PublishedStream) -> None:
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(PAUSE)
                publication.sid = self._new_sid()
            await publication.connection.close()
            publication.connection = publication.connect()
            try:
                await self._offer(room_type, publication)
            except (RequestRefused, TimeoutError) as error:
                log.warning("a %s stream was not taken again: %s", room_type, error)
            else:
                return

    async def _offer(self, room_type: str, publication: PublishedStream) -> None:
        client, connection, sid = self.client, publication.connection, publication.sid
        self.on_offered(room_type, connection)
        payload = {"type": "offer", "sdp": await connection.offer()}
        start, request = len(client.messages), f"offer {sid}"
        data = {"type": "offer", "roomType": room_type, "sid": sid, "to": client.session_id, "payload": payload}
        await client.send_message(client.session_id, data, request)
        message = await client.wait_for(lambda it: it.get("id") == request or _answers(it, room_type, sid), since=start)
        if message["type"] == "error":
            raise RequestRefused(message["error"])
        await connection.accept(message["message"]["data"]["payload"]["sdp"])


def _answers(message: Json, room_type: str, sid: str) -> bool:
    data = message["message"]["data"] if message["type"] == "message" else None
    if not isinstance(data, dict):
        return False
    return (data.get("type"), data.get("roomType"), data.get("sid")) == ("answer", room_type, sid)
