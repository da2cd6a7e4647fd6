"""Clients of an SFU for the contract tests: a media peer, its stream on the SFU, and the events of that stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from mcu.base import (
    BackendId,
    CloseReason,
    IceCandidate,
    Mcu,
    MediaKind,
    Publisher,
    PublisherId,
    PublishOptions,
    StreamKey,
    StreamType,
    SubscribeOptions,
    Subscriber,
    TransportState,
)
from sdp.document import Description
from tests.mcu.descriptions import parse_frozen
from tests.media import MediaPeer, PublishingPeer, SubscribingPeer
from tests.media.peers import WAIT

KEY = StreamKey(BackendId("cloud"), PublisherId("alice"), StreamType.VIDEO)
PUBLISH = PublishOptions()
SUBSCRIBE = SubscribeOptions()


class MediaClient:
    """A listener that records events, passes candidates to its peer, and answers offers while ``answers`` is set."""

    def __init__(self, peer: MediaPeer) -> None:
        self.peer = peer
        self.offers: list[Description] = []
        self.media: list[tuple[MediaKind, bool]] = []
        self.transport: list[TransportState] = []
        self.closed: list[CloseReason] = []
        self.answers = True
        self.subscriber: Subscriber | None = None
        self._changed = asyncio.Event()
        self._jobs: asyncio.Queue[IceCandidate | Description | None] = asyncio.Queue()
        self._worker = asyncio.create_task(self._work())

    def on_candidate(self, candidate: IceCandidate | None) -> None:
        """Pass the candidate to the peer."""
        self._jobs.put_nowait(candidate)

    def on_offer(self, offer: Description) -> None:
        """Record the offer and answer it."""
        self.offers.append(offer)
        self._changed.set()
        if self.answers:
            self._jobs.put_nowait(offer)

    def on_media(self, kind: MediaKind, flowing: bool) -> None:
        """Record whether media flow."""
        self.media.append((kind, flowing))
        self._changed.set()

    def on_transport(self, state: TransportState) -> None:
        """Record the state."""
        self.transport.append(state)
        self._changed.set()

    def on_closed(self, reason: CloseReason) -> None:
        """Record the reason."""
        self.closed.append(reason)
        self._changed.set()

    async def until(self, condition: Callable[[], bool], description: str, limit: float = WAIT) -> None:
        """Wait until ``condition`` holds; it is evaluated after each event."""
        try:
            async with asyncio.timeout(limit):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(
                f"not within {limit} s: {description}; received {self.media} and {self.closed}"
            ) from None

    async def wait_for_close(self, reason: CloseReason, limit: float = WAIT) -> None:
        """Wait until the SFU closes the stream, and require ``reason``."""
        await self.until(lambda: bool(self.closed), f"an end of the stream ({reason})", limit)
        assert self.closed == [reason]

    async def answer(self, offer: str | Description) -> None:
        """Answer an offer of the SFU."""
        assert isinstance(self.peer, SubscribingPeer)
        assert self.subscriber is not None
        await self.subscriber.accept(parse_frozen(await self.peer.answer(offer)))

    async def wait_until_answered(self, limit: float = WAIT) -> None:
        """Wait until every received offer is answered."""
        async with asyncio.timeout(limit):
            await self._jobs.join()

    async def leave(self) -> None:
        """Close the peer."""
        self._worker.cancel()
        await asyncio.wait([self._worker])
        await self.peer.close()

    async def _work(self) -> None:
        while True:
            job = await self._jobs.get()
            if isinstance(job, Description):
                await self.answer(job)
            elif job is None:
                await self.peer.add_candidate("", None, None)
            else:
                await self.peer.add_candidate(job.candidate, job.sdp_mid, job.sdp_mline_index)
            self._jobs.task_done()


class PublishingClient(MediaClient):
    """A client that publishes."""

    peer: PublishingPeer
    publisher: Publisher

    async def publish(self, mcu: Mcu, key: StreamKey = KEY, options: PublishOptions = PUBLISH) -> None:
        """Publish; peer and SFU then connect."""
        self.publisher, answer = await mcu.publish(key, parse_frozen(await self.peer.offer()), options, self)
        await self.peer.accept(answer)

    async def publish_again(self, mcu: Mcu, key: StreamKey = KEY) -> None:
        """Publish from another PeerConnection, which replaces the first."""
        old, self.peer = self.peer, PublishingPeer(self.peer.number, self.peer.frequency)
        await self.publish(mcu, key)
        await old.close()

    async def renegotiate(self) -> None:
        """Send a new offer of the peer's current media."""
        await self.peer.accept(await self.publisher.update(parse_frozen(await self.peer.offer())))


class SubscribingClient(MediaClient):
    """A client that subscribes."""

    peer: SubscribingPeer

    async def subscribe(self, mcu: Mcu, key: StreamKey = KEY, options: SubscribeOptions = SUBSCRIBE) -> Subscriber:
        """Subscribe and answer; peer and SFU then connect."""
        self.subscriber, offer = await mcu.subscribe(key, options, self)
        await self.answer(offer)
        return self.subscriber


@asynccontextmanager
async def sender(
    number: int = 21,
    frequency: float = 440.0,
    *,
    audio: bool = True,
    video: bool = True,
    channels: tuple[str, ...] = ("status",),
    video_codec: str = "",
) -> AsyncIterator[PublishingClient]:
    """Open a publishing client."""
    peer = PublishingPeer(number, frequency, audio=audio, video=video, channels=channels, video_codec=video_codec)
    client = PublishingClient(peer)
    try:
        yield client
    finally:
        await client.leave()


@asynccontextmanager
async def viewer() -> AsyncIterator[SubscribingClient]:
    """Open a subscribing client."""
    client = SubscribingClient(SubscribingPeer())
    try:
        yield client
    finally:
        await client.leave()
