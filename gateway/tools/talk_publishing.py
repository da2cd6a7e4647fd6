"""Publishing with the shipped Talk client: camera and screen, offered again after a ``republish`` message.

Source: signaling API, "Start publishing"; docs/protocol.md, "Offering again". The caller supplies the media:
``connect`` returns a new PeerConnection for each new publication.
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

REPUBLISH = "republish"  # feature id that the client must announce
ATTEMPTS = 5  # at republishing one stream
PAUSE = 1.0  # seconds between two attempts


class PublisherPeer(Protocol):
    """A PeerConnection that sends media."""

    async def offer(self) -> str:
        """Return an offer that contains all candidates."""

    async def accept(self, answer: str) -> None:
        """Apply the answer."""

    async def close(self) -> None:
        """Close the PeerConnection. Idempotent."""


@dataclass(slots=True)
class TalkPublication:
    """One published stream: its PeerConnection, and the function ``connect`` that creates a new one."""

    connect: Callable[[], PublisherPeer]
    connection: PublisherPeer
    sid: str
    task: asyncio.Task[None] | None = None


@dataclass
class TalkPublisher:
    """The published streams of one session; call ``close`` when done.

    ``before_offer`` is called with the room type and PeerConnection of each offer. The gateway requests new offers only
    from a client with the feature ``republish``.
    """

    client: TalkClient
    before_offer: Callable[[str, PublisherPeer], None] = lambda room_type, connection: None
    publications: dict[str, TalkPublication] = field(default_factory=dict)  # by room type
    _sids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.client.on_republish = self._republish

    async def publish(self, room_type: str, connect: Callable[[], PublisherPeer]) -> PublisherPeer:
        """Publish from a new PeerConnection, replacing the previous one; return it once the answer is applied.

        Raises:
            RequestRefused: the gateway answers with an error.
            TimeoutError: the gateway does not answer.
        """
        await self.stop(room_type)
        publication = self.publications[room_type] = TalkPublication(connect, connect(), self._new_sid())
        await self._offer(room_type, publication)
        return publication.connection

    async def stop(self, room_type: str) -> None:
        """Close the PeerConnection of a room type without a message to the gateway. Idempotent."""
        publication = self.publications.pop(room_type, None)
        if publication is None:
            return
        if publication.task is not None:
            publication.task.cancel()
            await asyncio.wait([publication.task])
        await publication.connection.close()

    async def close(self) -> None:
        """Close all PeerConnections. Idempotent."""
        for room_type in list(self.publications):
            await self.stop(room_type)

    def _new_sid(self) -> str:
        return f"{self.client.session_id[:8]}-{next(self._sids)}"

    def _republish(self, room_type: str, sid: str) -> None:
        """Offer a lost stream again, unless it was replaced meanwhile."""
        publication = self.publications.get(room_type)
        if publication is None or (sid and sid != publication.sid):
            return
        if publication.task is not None:
            publication.task.cancel()
        publication.sid = self._new_sid()
        publication.task = asyncio.create_task(
            self._offer_repeatedly(room_type, publication), name=f"republish {room_type}"
        )

    async def _offer_repeatedly(self, room_type: str, publication: TalkPublication) -> None:
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(PAUSE)
                publication.sid = self._new_sid()
            await publication.connection.close()
            publication.connection = publication.connect()
            try:
                await self._offer(room_type, publication)
            except (RequestRefused, TimeoutError) as error:
                log.warning("a %s stream was not republished: %s", room_type, error)
            else:
                return

    async def _offer(self, room_type: str, publication: TalkPublication) -> None:
        client, connection, sid = self.client, publication.connection, publication.sid
        self.before_offer(room_type, connection)
        payload = {"type": "offer", "sdp": await connection.offer()}
        start, request_id = len(client.messages), f"offer {sid}"
        data = {"type": "offer", "roomType": room_type, "sid": sid, "to": client.session_id, "payload": payload}
        await client.send_message(client.session_id, data, request_id)
        message = await client.wait_for(
            lambda received: received.get("id") == request_id or _is_answer(received, room_type, sid), since=start
        )
        if message["type"] == "error":
            raise RequestRefused(message["error"])
        await connection.accept(message["message"]["data"]["payload"]["sdp"])


def _is_answer(message: Json, room_type: str, sid: str) -> bool:
    data = message["message"]["data"] if message["type"] == "message" else None
    if not isinstance(data, dict):
        return False
    return (data.get("type"), data.get("roomType"), data.get("sid")) == ("answer", room_type, sid)
