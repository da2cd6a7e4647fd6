"""A real Janus for each test, the backend that uses it, and listeners that record their calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from mcu.base import (
    BackendId,
    CloseReason,
    IceCandidate,
    McuStatus,
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
from mcu.janus.backend import JanusMcu
from mcu.janus.settings import JanusServerSettings
from mcu.janus.streams.publisher import JanusPublisher
from mcu.janus.streams.subscriber import JanusSubscriber
from sdp.document import Description
from tests.janus_process import ADMIN_KEY, API_SECRET, JanusProcess, janus_version
from tests.mcu.descriptions import parse_frozen
from tests.media import PublishingPeer, SubscribingPeer
from tests.media.loopback import loopback

__all__ = ["janus_version", "loopback"]

WAIT = 30.0  # seconds for each reaction of Janus; reached only if there is none
POLL = 0.02  # seconds between two requests for a state of which Janus sends no event
INSTANCE = "of-the-tests"
CAMERA = StreamKey(BackendId("cloud"), PublisherId("anna"), StreamType.VIDEO)
SCREEN = StreamKey(BackendId("cloud"), PublisherId("anna"), StreamType.SCREEN)
PUBLISH = PublishOptions(timeout=WAIT)


class WaitableListener:
    """A listener that records its calls; a test can wait for them."""

    def __init__(self) -> None:
        self.candidates: list[IceCandidate | None] = []
        self.offers: list[str] = []
        self.media: list[tuple[MediaKind, bool]] = []
        self.transport: list[TransportState] = []
        self.closed: list[CloseReason] = []
        self._changed = asyncio.Event()

    def on_candidate(self, candidate: IceCandidate | None) -> None:
        self.candidates.append(candidate)
        self._changed.set()

    def on_offer(self, offer: Description) -> None:
        self.offers.append(str(offer))
        self._changed.set()

    def on_media(self, kind: MediaKind, flowing: bool) -> None:
        self.media.append((kind, flowing))
        self._changed.set()

    def on_transport(self, state: TransportState) -> None:
        self.transport.append(state)
        self._changed.set()

    def on_closed(self, reason: CloseReason) -> None:
        self.closed.append(reason)
        self._changed.set()

    async def until(self, condition: Callable[[], bool], limit: float = WAIT) -> None:
        """Wait until a call makes ``condition`` true."""
        async with asyncio.timeout(limit):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def close_reason(self, limit: float = WAIT) -> CloseReason:
        """Wait for ``on_closed`` and return its reason."""
        await self.until(lambda: bool(self.closed), limit)
        return self.closed[0]


class RecordedStates:
    """The states that the backend has reported."""

    def __init__(self) -> None:
        self.statuses: list[McuStatus] = []
        self._changed = asyncio.Event()

    def __call__(self, status: McuStatus) -> None:
        self.statuses.append(status)
        self._changed.set()

    async def until(self, condition: Callable[[McuStatus], bool], limit: float = WAIT) -> McuStatus:
        """Wait until the last state fulfils ``condition``, and return it."""
        async with asyncio.timeout(limit):
            while not self.statuses or not condition(self.statuses[-1]):
                self._changed.clear()
                await self._changed.wait()
        return self.statuses[-1]


class JanusCall:
    """Publishers and subscribers with real media peers, which are closed at the end of the test."""

    def __init__(self, mcu: JanusMcu, stack: AsyncExitStack) -> None:
        self.mcu = mcu
        self._stack = stack

    async def publish(
        self, number: int = 1, *, key: StreamKey = CAMERA, options: PublishOptions | None = None, **media: bool
    ) -> tuple[JanusPublisher, PublishingPeer, WaitableListener]:
        """Publish; by default a tone and data channels, no video."""
        peer = PublishingPeer(
            number,
            400.0 + 50 * number,
            audio=media.get("audio", True),
            video=media.get("video", False),
            channels=("status", "unordered") if media.get("channels", True) else (),
        )
        await self._stack.enter_async_context(peer)
        listener = WaitableListener()
        publisher, answer = await self.mcu.publish(key, parse_frozen(await peer.offer()), options or PUBLISH, listener)
        assert isinstance(publisher, JanusPublisher)
        await peer.accept(answer)
        return publisher, peer, listener

    async def subscribe(
        self, key: StreamKey = CAMERA, options: SubscribeOptions | None = None, answer: bool = True
    ) -> tuple[JanusSubscriber, SubscribingPeer, WaitableListener]:
        """Subscribe, and answer the offer unless ``answer`` is false."""
        peer = await self._stack.enter_async_context(SubscribingPeer())
        listener = WaitableListener()
        subscriber, offer = await self.mcu.subscribe(key, options or SubscribeOptions(timeout=WAIT), listener)
        assert isinstance(subscriber, JanusSubscriber)
        if answer:
            await answer_offer(subscriber, peer, offer)
        return subscriber, peer, listener


def settings_for(janus: JanusProcess) -> JanusServerSettings:
    """Return the settings for the Janus of a test."""
    return JanusServerSettings(janus.url, api_secret=API_SECRET, admin_key=ADMIN_KEY)


async def offer_of_closed_peer() -> Description:
    """Return an offer whose peer is closed already, so that it never connects."""
    async with PublishingPeer(1, 440.0, video=False) as peer:
        return parse_frozen(await peer.offer())


async def publish_unconnected(
    mcu: JanusMcu, options: PublishOptions = PUBLISH, listener: WaitableListener | None = None
) -> Publisher:
    """Publish a stream whose client never connects."""
    publisher, _ = await mcu.publish(CAMERA, await offer_of_closed_peer(), options, listener or WaitableListener())
    return publisher


async def renegotiate(publisher: JanusPublisher, peer: PublishingPeer) -> None:
    """Send a new offer of the peer's current media."""
    await peer.accept(await publisher.update(parse_frozen(await peer.offer())))


async def answer_offer(subscriber: Subscriber, peer: SubscribingPeer, offer: str | Description) -> None:
    """Answer an offer of Janus."""
    await subscriber.accept(parse_frozen(await peer.answer(offer)))


async def handle_ids(janus: JanusProcess) -> set[int]:
    """Return the ids of the handles on Janus, the control handle included."""
    return {handle["handle_id"] for handle in await janus.handles()}


async def counts(janus: JanusProcess) -> tuple[int, int]:
    """Return the numbers of rooms, and of handles other than the control handle, on Janus."""
    return len(await janus.rooms()), len(await janus.handles()) - 1


async def until_counts(janus: JanusProcess, *, rooms: int, handles: int) -> None:
    """Poll Janus until it has these numbers of rooms, and of handles other than the control handle."""
    async with asyncio.timeout(WAIT):
        while await counts(janus) != (rooms, handles):  # noqa: ASYNC110 - Janus sends no event of it
            await asyncio.sleep(POLL)


async def until_room_count(janus: JanusProcess, count: int) -> None:
    """Poll Janus until it has ``count`` rooms."""
    async with asyncio.timeout(WAIT):
        while len(await janus.rooms()) != count:  # noqa: ASYNC110 - Janus sends no event of it
            await asyncio.sleep(POLL)


@pytest.fixture
async def janus(janus_version: str) -> AsyncIterator[JanusProcess]:
    async with JanusProcess() as process:
        yield process


@pytest.fixture
def states() -> RecordedStates:
    return RecordedStates()


@pytest.fixture
async def mcu(janus: JanusProcess, states: RecordedStates) -> AsyncIterator[JanusMcu]:
    backend = JanusMcu((settings_for(janus),), timeout=WAIT, instance=INSTANCE)
    await backend.start(states)
    await states.until(lambda status: status.ready)
    yield backend
    await backend.stop()


@pytest.fixture
async def call(mcu: JanusMcu, loopback: None) -> AsyncIterator[JanusCall]:
    async with AsyncExitStack() as stack:
        yield JanusCall(mcu, stack)
