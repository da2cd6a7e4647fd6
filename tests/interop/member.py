"""A person in a call: a Talk client with real media, which does what clients do with offers, answers and candidates."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_client import PATIENCE, Json, TalkClient
from tests.media import PublishingPeer, WatchingPeer

ROOM = "4711"  # rooms that phones are called for have numbers


@dataclass
class Watched:
    """One connection by which a member receives another one's stream."""

    peer: WatchingPeer
    sid: str
    offers: int = 1


class Member:
    """Joins the room and the call; publishes when told to, and answers every offer unless ``deaf``."""

    def __init__(self, gateway: str, nextcloud: FakeNextcloud, name: str, number: int) -> None:
        self.name = name
        self.number = number  # of the picture
        self.frequency = 400.0 + 100 * number  # of the tone
        self.client = TalkClient(gateway, nextcloud.url)
        self.published: dict[str, PublishingPeer] = {}
        self.sids: dict[str, str] = {}
        self.watched: dict[tuple[str, str], Watched] = {}
        self.deaf = False
        self._gateway = gateway
        self._nextcloud = nextcloud
        self._inbox: asyncio.Queue[Json] = asyncio.Queue()
        self._stack = AsyncExitStack()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.failure: BaseException | None = None

    @property
    def id(self) -> str:
        """The public session id."""
        return self.client.session_id

    @property
    def room_session(self) -> str:
        """Nextcloud's session id."""
        return f"nc-{self.name}"

    async def __aenter__(self) -> Self:
        self.client.on_message = self._hear
        await self._stack.enter_async_context(self.client)
        await self.client.hello(self._nextcloud.ticket(self.name))
        await self.client.join(ROOM, self.room_session)
        self._task = asyncio.create_task(self._work(), name=f"member {self.name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        for watched in self.watched.values():
            await watched.peer.close()
        await self._stack.aclose()
        if self.failure is not None and error is None:
            raise self.failure

    # -- what it does

    async def in_call(self, flags: int = 7) -> None:
        """Have Nextcloud say that the member is in the call, or with 0 that it left."""
        entry = {"sessionId": self.room_session, "inCall": flags}
        body = {"type": "incall", "incall": {"incall": flags, "changed": [entry], "users": [entry]}}
        start = len(self.client.messages)
        status, _ = await self._nextcloud.send(self._gateway, ROOM, body)
        assert status == 200
        await self.client.wait_for(lambda message: message["type"] == "event", since=start)

    async def publish(
        self, kind: str = "video", sid: str = "first", fields: Json | None = None, **media: Any
    ) -> PublishingPeer:
        """Publish from a new PeerConnection, and wait until media can flow."""
        peer = await self.offer_anew(kind, sid, fields, **media)
        await peer.connected()
        return peer

    async def offer_anew(
        self, kind: str = "video", sid: str = "first", fields: Json | None = None, **media: Any
    ) -> PublishingPeer:
        """Offer from a new PeerConnection, as clients do when the old one failed, and take the answer."""
        peer = await self._stack.enter_async_context(PublishingPeer(self.number, self.frequency, **media))
        self.published[kind], self.sids[kind] = peer, sid
        await self._negotiate(kind, peer, sid, fields)
        return peer

    async def renegotiate(self, kind: str = "video", fields: Json | None = None) -> None:
        """Offer what the PeerConnection has now, and take the answer."""
        await self._negotiate(kind, self.published[kind], self.sids[kind], fields)

    async def _negotiate(self, kind: str, peer: PublishingPeer, sid: str, fields: Json | None) -> None:
        sdp = await peer.offer()
        start = len(self.client.messages)
        await self.send_offer(kind, sdp, fields, sid)
        message = await self.client.wait_for(
            lambda message: _is_answer(message, kind, sid) or message["type"] == "error", since=start
        )
        if message["type"] == "error":
            raise AssertionError(message["error"])
        await peer.accept(message["message"]["data"]["payload"]["sdp"])

    async def send_offer(self, kind: str, sdp: str, fields: Json | None = None, sid: str = "") -> None:
        """Send an offer and no more."""
        data = {"type": "offer", "roomType": kind, "sid": sid or self.sids[kind], "to": self.id}
        payload = {"type": "offer", "sdp": sdp, "nick": self.name}
        await self.client.send_message(self.id, data | {"payload": payload} | (fields or {}), request=f"offer-{kind}")

    async def ask(self, publisher: Member, kind: str = "video", sid: str = "") -> None:
        """Request a stream."""
        data = {"type": "requestoffer", "roomType": kind} | ({"sid": sid} if sid else {})
        await self.client.send_message(publisher.id, data, request="ask")

    async def offer_to(self, other: Member, kind: str = "screen") -> None:
        """Have the gateway offer our stream to another member."""
        await self.client.send_message(other.id, {"type": "sendoffer", "roomType": kind}, request="sendoffer")

    # -- what it sees

    async def watching(self, publisher: Member, kind: str = "video", *, other_than: str = "") -> Watched:
        """Wait for a connection that carries the stream; ``other_than``: with another sid than this one."""
        key = (publisher.id, kind)
        await self.until(lambda: key in self.watched and self.watched[key].sid != other_than)
        return self.watched[key]

    async def wait_for_picture(self, publisher: Member, kind: str = "video", *, other_than: str = "") -> Watched:
        """Wait until the publisher's picture is decoded."""
        watched = await self.watching(publisher, kind, other_than=other_than)
        await watched.peer.wait_for_picture(publisher.number)
        return watched

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that was heard makes the condition true."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                if self.failure is not None:
                    raise self.failure
                self._changed.clear()
                await self._changed.wait()

    # -- what comes in

    def _hear(self, message: Json) -> None:
        if message["type"] == "message" and isinstance(message["message"]["data"], dict):
            self._inbox.put_nowait(message["message"]["data"])

    async def _work(self) -> None:
        try:
            while True:
                data = await self._inbox.get()
                if data["type"] == "offer" and not self.deaf:
                    await self._take_offer(data)
                elif data["type"] == "candidate":
                    await self._take_candidate(data)
                self._changed.set()
        except Exception as error:
            self.failure = error
            self._changed.set()

    async def _take_offer(self, data: Json) -> None:
        key = (data["from"], data["roomType"])
        watched = self.watched.get(key)
        if watched is None or watched.sid != data["sid"]:
            if watched is not None:
                await watched.peer.close()
            watched = self.watched[key] = Watched(WatchingPeer(), data["sid"], 0)
        watched.offers += 1
        answer = await watched.peer.answer(data["payload"]["sdp"])
        reply = {"type": "answer", "roomType": data["roomType"], "sid": data["sid"], "to": data["from"]}
        await self.client.send_message(
            data["from"], reply | {"payload": {"type": "answer", "sdp": answer}}, request="answer"
        )

    async def _take_candidate(self, data: Json) -> None:
        candidate = data["payload"]["candidate"]
        place = (candidate["candidate"], candidate.get("sdpMid"), candidate.get("sdpMLineIndex"))
        if data["from"] == self.id:
            peer = self.published.get(data["roomType"])
            if peer is not None and data["sid"] == self.sids[data["roomType"]]:
                await peer.add_candidate(*place)
            return
        watched = self.watched.get((data["from"], data["roomType"]))
        if watched is not None and watched.sid == data["sid"]:
            await watched.peer.add_candidate(*place)


def _is_answer(message: Json, kind: str, sid: str) -> bool:
    if message["type"] != "message" or not isinstance(message["message"]["data"], dict):
        return False
    data = message["message"]["data"]
    return data.get("type") == "answer" and data.get("roomType") == kind and data.get("sid") == sid
