"""Members of a call that recover from the loss of their SFU (docs/mcu.md, "When streams are lost").

Group (a) offers again at the gateway's request, group (b) knows the protocol document only. Both request a received
stream again when its connection has failed, but leave the gateway time to offer it unrequested.
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
from tests.interop.member import Member, ReceivedStream
from tests.media import PublishingPeer

ANSWER_TIMEOUT = 60.0  # seconds; the gateway waits for its SFU
GRACE = 12.0  # seconds after a connection failed in which the client leaves the recovery to the gateway
REQUEST_INTERVAL = 10.0  # seconds between two requests, as in Talk's clients


class _ReconnectingMember(Member):
    """A member that requests a stream again ``GRACE`` seconds after its connection has failed."""

    requests_sent = 0

    def __init__(self, gateway: str, nextcloud: FakeNextcloud, name: str, number: int) -> None:
        super().__init__(gateway, nextcloud, name, number)
        self._background: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        """Cancel the background work. Idempotent."""
        for task in self._background:
            task.cancel()
        if self._background:
            await asyncio.wait(self._background)

    def run_in_background(self, work: Coroutine[None, None, None]) -> None:
        """Run a coroutine until ``stop``."""
        self._background.add(asyncio.create_task(work, name=f"{self.name} background"))

    async def _answer_offer(self, data: Json) -> None:
        key = (data["from"], data["roomType"])
        before = self.received.get(key)
        with contextlib.suppress(InvalidStateError):  # the connection may end during the negotiation
            await super()._answer_offer(data)
        if self.received[key] is not before:
            self.run_in_background(self._request_when_failed(key, self.received[key]))

    async def _request_when_failed(self, key: tuple[str, str], received: ReceivedStream) -> None:
        await received.peer.wait_until_ended(limit=3600)
        await asyncio.sleep(GRACE)
        while self.received[key] is received:
            self.requests_sent += 1
            await self.client.send_message(key[0], {"type": "requestoffer", "roomType": key[1]}, request_id="again")
            await asyncio.sleep(REQUEST_INTERVAL)


class RepublishingMember(_ReconnectingMember):
    """Group (a): offers again at the gateway's request, with the shipped publishing client."""

    def __init__(self, gateway: str, nextcloud: FakeNextcloud, name: str, number: int) -> None:
        super().__init__(gateway, nextcloud, name, number)
        self.client = TalkClient(gateway, nextcloud.url, features=(REPUBLISH,))
        self.publishing = TalkPublisher(self.client)
        self.offered_at = 0.0  # time of the last offer, monotonic

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()
        await super().__aexit__(error_type, error, traceback)

    async def stop(self) -> None:
        """Close the connection without offering another. Idempotent."""
        await super().stop()
        await self.publishing.close()

    @property
    def connection(self) -> PublisherPeer:
        """The publishing connection."""
        return self.publishing.publications["video"].connection

    @property
    def connected(self) -> bool:
        """Whether the publishing connection is connected."""
        return isinstance(self.connection, PublishingPeer) and self.connection.pc.connectionState == "connected"

    async def begin(self) -> None:
        """Publish, and again at the gateway's request."""
        await self.publishing.publish("video", self._connect)
        self.run_in_background(self._republish_after_failures())

    async def _republish_after_failures(self) -> None:
        while True:
            peer = self.connection
            assert isinstance(peer, PublishingPeer)
            await peer.wait_until_ended(limit=3600)
            await asyncio.sleep(GRACE)
            if self.connection is peer:
                with contextlib.suppress(RequestRefused, TimeoutError):
                    await self.publishing.publish("video", self._connect)

    def _connect(self) -> PublisherPeer:
        self.offered_at = time.monotonic()
        return PublishingPeer(self.number, self.frequency, audio=False, channels=())


class ProtocolOnlyMember(_ReconnectingMember):
    """Group (b): offers again, from another PeerConnection, when its own has failed."""

    def __init__(self, gateway: str, nextcloud: FakeNextcloud, name: str, number: int) -> None:
        super().__init__(gateway, nextcloud, name, number)
        self.offered_at = 0.0  # time of the last offer, monotonic
        self._peer: PublishingPeer | None = None
        self._sids = itertools.cycle(("same", "same", "", "another"))

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()
        await super().__aexit__(error_type, error, traceback)

    async def begin(self) -> None:
        """Publish, and again whenever the connection has failed."""
        await self._offer()
        self.run_in_background(self._republish_after_failures())

    async def stop(self) -> None:
        """Close the connection without offering another. Idempotent."""
        await super().stop()
        if self._peer is not None:
            await self._peer.close()

    async def _republish_after_failures(self) -> None:
        while True:
            assert self._peer is not None
            await self._peer.wait_until_ended(limit=3600)
            while not await self._offer():
                pass  # the gateway waited for its SFU before it refused

    async def _offer(self) -> bool:
        """Offer from a new PeerConnection, and return whether the offer was answered."""
        if self._peer is not None:
            await self._peer.close()
        peer = self._peer = PublishingPeer(self.number, self.frequency, audio=False, channels=())
        sid, start = next(self._sids), len(self.client.messages)
        sdp = await peer.offer()
        self.offered_at = time.monotonic()
        data = {"type": "offer", "roomType": "video", "payload": {"type": "offer", "sdp": sdp}}
        await self.client.send_message(self.id, data | ({"sid": sid} if sid else {}), request_id="offer")
        message = await self.client.wait_for(
            lambda message: message.get("id") == "offer" or _is_answer(message), since=start, limit=ANSWER_TIMEOUT
        )
        if message["type"] == "error":
            return False
        await peer.accept(message["message"]["data"]["payload"]["sdp"])
        return True


def _is_answer(message: Json) -> bool:
    return bool(message["type"] == "message" and message["message"]["data"].get("type") == "answer")


RecoveringMember = RepublishingMember | ProtocolOnlyMember
