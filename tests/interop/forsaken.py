"""Callers who are left alone by their SFU, of the two kinds that publish (docs/mcu.md, "When streams are lost").

(a) can be asked to offer again, (b) know the protocol document only. Both ask again for what they receive when their
own connection has failed, but leave the gateway time to offer it unasked.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Coroutine
from types import TracebackType

from aiortc.exceptions import InvalidStateError

from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_client import Json, RequestRefused, TalkClient
from gateway.tools.talk_publishing import REPUBLISH, PublisherPeer, TalkPublisher
from tests.interop.member import Member, Watched
from tests.media import PublishingPeer

PATIENCE = 60.0  # seconds for an answer; the gateway waits for its SFU
GRACE = 5.0  # seconds before a client does something about a failed connection that it could be helped with
REPEAT = 10.0  # seconds between its requests, as Talk's clients have it


class _Patient(Member):
    """Asks for a stream again when its own connection has failed, as clients do, but not at once."""

    requests = 0  # of its own

    def __init__(self, gateway: str, nextcloud: FakeNextcloud, name: str, number: int) -> None:
        super().__init__(gateway, nextcloud, name, number)
        self._minding: set[asyncio.Task[None]] = set()

    async def rest(self) -> None:
        """Do nothing more by itself. Idempotent."""
        for task in self._minding:
            task.cancel()
        if self._minding:
            await asyncio.wait(self._minding)

    def mind(self, work: Coroutine[None, None, None]) -> None:
        """Do something until ``rest``."""
        self._minding.add(asyncio.create_task(work, name=f"{self.name} minds"))

    async def _take_offer(self, data: Json) -> None:
        key = (data["from"], data["roomType"])
        before = self.watched.get(key)
        with contextlib.suppress(InvalidStateError):  # the connection may end under an offer
            await super()._take_offer(data)
        if self.watched[key] is not before:
            self.mind(self._request_when_failed(key, self.watched[key]))

    async def _request_when_failed(self, key: tuple[str, str], watched: Watched) -> None:
        await watched.peer.ended(limit=3600)
        await asyncio.sleep(GRACE)
        while self.watched[key] is watched:
            self.requests += 1
            await self.client.send_message(key[0], {"type": "requestoffer", "roomType": key[1]}, request="again")
            await asyncio.sleep(REPEAT)


class Asked(_Patient):
    """Kind (a): can be asked to offer again, and does so by the shipped client."""

    kind = "a"

    def __init__(self, gateway: str, nextcloud: FakeNextcloud, name: str, number: int) -> None:
        super().__init__(gateway, nextcloud, name, number)
        self.client = TalkClient(gateway, nextcloud.url, features=(REPUBLISH,))
        self.publishing = TalkPublisher(self.client)
        self.offered = 0.0  # when, by time.monotonic

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.rest()
        await super().__aexit__(kind, error, at)

    async def rest(self) -> None:
        """Close the connection, and offer no other. Idempotent."""
        await super().rest()
        await self.publishing.close()

    @property
    def connection(self) -> PublisherPeer:
        """The connection that it publishes by."""
        return self.publishing.publications["video"].connection

    @property
    def connected(self) -> bool:
        """Whether media can flow by it."""
        return isinstance(self.connection, PublishingPeer) and self.connection.pc.connectionState == "connected"

    async def begin(self) -> None:
        """Publish, now and whenever it is asked for."""
        await self.publishing.publish("video", self._connect)
        self.mind(self._heal())

    async def _heal(self) -> None:
        while True:
            peer = self.connection
            assert isinstance(peer, PublishingPeer)
            await peer.ended(limit=3600)
            await asyncio.sleep(GRACE)
            if self.connection is peer:
                with contextlib.suppress(RequestRefused, TimeoutError):
                    await self.publishing.publish("video", self._connect)

    def _connect(self) -> PublisherPeer:
        self.offered = time.monotonic()
        return PublishingPeer(self.number, self.frequency, audio=False, channels=())


class Unasked(_Patient):
    """Kind (b): offers again, from another PeerConnection, when its own has failed."""

    kind = "b"

    def __init__(self, gateway: str, nextcloud: FakeNextcloud, name: str, number: int) -> None:
        super().__init__(gateway, nextcloud, name, number)
        self.offered = 0.0
        self._peer: PublishingPeer | None = None
        self._sids = itertools.cycle(("same", "same", "", "another"))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.rest()
        await super().__aexit__(kind, error, at)

    async def begin(self) -> None:
        """Publish, now and whenever the connection failed."""
        await self._offer()
        self.mind(self._heal())

    async def rest(self) -> None:
        """Close the connection, and offer no other. Idempotent."""
        await super().rest()
        if self._peer is not None:
            await self._peer.close()

    async def _heal(self) -> None:
        while True:
            assert self._peer is not None
            await self._peer.ended(limit=3600)
            while not await self._offer():
                pass  # the gateway has waited for its SFU before it said no

    async def _offer(self) -> bool:
        """Offer from a new PeerConnection; returns whether it was answered."""
        if self._peer is not None:
            await self._peer.close()
        peer = self._peer = PublishingPeer(self.number, self.frequency, audio=False, channels=())
        sid, start = next(self._sids), len(self.client.messages)
        sdp = await peer.offer()
        self.offered = time.monotonic()
        data = {"type": "offer", "roomType": "video", "payload": {"type": "offer", "sdp": sdp}}
        await self.client.send_message(self.id, data | ({"sid": sid} if sid else {}), request="offer")
        message = await self.client.wait_for(
            lambda it: it.get("id") == "offer" or _is_answer(it), since=start, patience=PATIENCE
        )
        if message["type"] == "error":
            return False
        await peer.accept(message["message"]["data"]["payload"]["sdp"])
        return True


def _is_answer(message: Json) -> bool:
    return bool(message["type"] == "message" and message["message"]["data"].get("type") == "answer")


Caller = Asked | Unasked
