"""A participant of a call: a Talk client with real media that handles offers, answers and candidates."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_client import WAIT_TIMEOUT, Json, TalkClient
from gateway.tools.talk_rooms import nextcloud_session
from tests.media import PublishingPeer, SubscribingPeer

ROOM = "4711"  # numeric, as dialouts require it


@dataclass
class ReceivedStream:
    """The connection on which a member receives another member's stream."""

    peer: SubscribingPeer
    sid: str
    offers: int = 1


class Member:
    """A client in the room; it answers every offer unless ``ignores_offers`` is set, and publishes on request."""

    def __init__(self, gateway: str, nextcloud: FakeNextcloud, name: str, number: int) -> None:
        self.name = name
        self.number = number  # shown by the pictures
        self.frequency = 400.0 + 100 * number  # of the tone, Hz
        self.client = TalkClient(gateway, nextcloud.url)
        self.published: dict[str, PublishingPeer] = {}
        self.sids: dict[str, str] = {}
        self.received: dict[tuple[str, str], ReceivedStream] = {}
        self.ignores_offers = False
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
        return nextcloud_session(self.name)

    async def __aenter__(self) -> Self:
        self.client.on_message = self._on_message
        await self._stack.enter_async_context(self.client)
        await self.client.hello(self._nextcloud.ticket(self.name))
        await self.join()
        self._task = asyncio.create_task(self._handle_messages(), name=f"member {self.name}")
        return self

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        for received in self.received.values():
            await received.peer.close()
        await self._stack.aclose()
        if self.failure is not None and error is None:
            raise self.failure

    # -- actions

    async def join(self) -> None:
        """Join the room."""
        await self.client.join(ROOM, self.room_session)

    async def set_in_call(self, flags: int = 7) -> None:
        """Have Nextcloud notify the gateway that the member joined the call, or with 0 that it left."""
        start = len(self.client.messages)
        self._nextcloud.gateway = self._gateway
        await self._nextcloud.talk.set_in_call(ROOM, self.room_session, flags)
        await self.client.wait_for(lambda message: message["type"] == "event", since=start)

    async def publish(
        self, room_type: str = "video", sid: str = "first", fields: Json | None = None, **media: Any
    ) -> PublishingPeer:
        """Publish from a new PeerConnection, and wait until media can flow."""
        peer = await self.offer_new_connection(room_type, sid, fields, **media)
        await peer.wait_until_connected()
        return peer

    async def offer_new_connection(
        self, room_type: str = "video", sid: str = "first", fields: Json | None = None, **media: Any
    ) -> PublishingPeer:
        """Offer from a new PeerConnection, as clients do when the old one failed, and apply the answer."""
        peer = await self._stack.enter_async_context(PublishingPeer(self.number, self.frequency, **media))
        self.published[room_type], self.sids[room_type] = peer, sid
        await self._negotiate(room_type, peer, sid, fields)
        return peer

    async def renegotiate(self, room_type: str = "video", fields: Json | None = None) -> None:
        """Offer again from the same PeerConnection, and apply the answer."""
        await self._negotiate(room_type, self.published[room_type], self.sids[room_type], fields)

    async def _negotiate(self, room_type: str, peer: PublishingPeer, sid: str, fields: Json | None) -> None:
        sdp = await peer.offer()
        start = len(self.client.messages)
        await self.send_offer(room_type, sdp, fields, sid)
        message = await self.client.wait_for(
            lambda message: _is_answer(message, room_type, sid) or message["type"] == "error", since=start
        )
        if message["type"] == "error":
            raise AssertionError(message["error"])
        await peer.accept(message["message"]["data"]["payload"]["sdp"])

    async def send_offer(self, room_type: str, sdp: str, fields: Json | None = None, sid: str = "") -> None:
        """Send an offer without waiting for the answer."""
        data = {"type": "offer", "roomType": room_type, "sid": sid or self.sids[room_type], "to": self.id}
        payload = {"type": "offer", "sdp": sdp, "nick": self.name}
        await self.client.send_message(
            self.id, data | {"payload": payload} | (fields or {}), request_id=f"offer-{room_type}"
        )

    async def request_offer(self, publisher: Member, room_type: str = "video", sid: str = "") -> None:
        """Send a ``requestoffer`` for a stream."""
        data = {"type": "requestoffer", "roomType": room_type} | ({"sid": sid} if sid else {})
        await self.client.send_message(publisher.id, data, request_id="request")

    async def offer_stream_to(self, other: Member, room_type: str = "screen") -> None:
        """Have the gateway offer this member's stream to another one (``sendoffer``)."""
        await self.client.send_message(other.id, {"type": "sendoffer", "roomType": room_type}, request_id="sendoffer")

    # -- waits

    async def wait_for_stream(
        self, publisher: Member, room_type: str = "video", *, other_than: str = ""
    ) -> ReceivedStream:
        """Wait for a connection that receives the stream; ``other_than`` is a sid to ignore."""
        key = (publisher.id, room_type)
        await self.until(lambda: key in self.received and self.received[key].sid != other_than)
        return self.received[key]

    async def wait_for_picture(
        self, publisher: Member, room_type: str = "video", *, other_than: str = ""
    ) -> ReceivedStream:
        """Wait until a picture of the publisher is decoded."""
        received = await self.wait_for_stream(publisher, room_type, other_than=other_than)
        await received.peer.wait_for_picture(publisher.number)
        return received

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds; it is checked after each handled message."""
        async with asyncio.timeout(WAIT_TIMEOUT):
            while not condition():
                if self.failure is not None:
                    raise self.failure
                self._changed.clear()
                await self._changed.wait()

    # -- received messages

    def _on_message(self, message: Json) -> None:
        if message["type"] == "message" and isinstance(message["message"]["data"], dict):
            self._inbox.put_nowait(message["message"]["data"])

    async def _handle_messages(self) -> None:
        try:
            while True:
                data = await self._inbox.get()
                if data["type"] == "offer" and not self.ignores_offers:
                    await self._answer_offer(data)
                elif data["type"] == "candidate":
                    await self._add_candidate(data)
                self._changed.set()
        except Exception as error:
            self.failure = error
            self._changed.set()

    async def _answer_offer(self, data: Json) -> None:
        key = (data["from"], data["roomType"])
        received = self.received.get(key)
        if received is None or received.sid != data["sid"]:
            if received is not None:
                await received.peer.close()
            received = self.received[key] = ReceivedStream(SubscribingPeer(), data["sid"], 0)
        received.offers += 1
        answer = await received.peer.answer(data["payload"]["sdp"])
        reply = {"type": "answer", "roomType": data["roomType"], "sid": data["sid"], "to": data["from"]}
        await self.client.send_message(
            data["from"], reply | {"payload": {"type": "answer", "sdp": answer}}, request_id="answer"
        )

    async def _add_candidate(self, data: Json) -> None:
        candidate = data["payload"]["candidate"]
        parameters = (candidate["candidate"], candidate.get("sdpMid"), candidate.get("sdpMLineIndex"))
        if data["from"] == self.id:
            peer = self.published.get(data["roomType"])
            if peer is not None and data["sid"] == self.sids[data["roomType"]]:
                await peer.add_candidate(*parameters)
            return
        received = self.received.get((data["from"], data["roomType"]))
        if received is not None and received.sid == data["sid"]:
            await received.peer.add_candidate(*parameters)


def _is_answer(message: Json, room_type: str, sid: str) -> bool:
    if message["type"] != "message" or not isinstance(message["message"]["data"], dict):
        return False
    data = message["message"]["data"]
    return data.get("type") == "answer" and data.get("roomType") == room_type and data.get("sid") == sid
