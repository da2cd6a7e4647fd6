"""A fake SFU without media that keeps the promises of ``mcu.base``; gates hold back its answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mcu.base import (
    Candidate,
    CloseReason,
    McuError,
    McuLost,
    McuStatus,
    MediaSelection,
    Metric,
    NewPeerConnection,
    NoSuchStream,
    PublishOptions,
    SfuState,
    SfuStatus,
    StreamKey,
    StreamListener,
    StreamReport,
    SubscribeOptions,
)
from sdp import document
from tests.gateway.flows.media.descriptions import ANSWER, subscriber_offer


@dataclass(eq=False, slots=True)
class FakePublisher:
    """A published stream; ``gate`` holds back updates."""

    mcu: FakeMcu
    key: StreamKey
    offer: str
    options: PublishOptions
    listener: StreamListener
    candidates: list[Candidate | None] = field(default_factory=list)
    updates: list[str] = field(default_factory=list)
    limits: list[int] = field(default_factory=list)
    limit_error: McuError | None = None
    limit_gate: asyncio.Event | None = None
    error: McuError | None = None
    gate: asyncio.Event | None = None
    closed: bool = False

    async def update(self, offer: str) -> str:
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        if self.closed:
            raise NoSuchStream("the publisher is closed")
        theirs, ours = document.identity(document.parse(offer)), document.identity(document.parse(self.offer))
        if not theirs.same_peer_connection(ours):
            raise NewPeerConnection("another ufrag and fingerprint")
        self.updates.append(offer)
        return ANSWER

    async def limit(self, bits_per_second: int) -> None:
        gate = self.limit_gate or self.mcu.limit_gate
        if gate is not None:
            await gate.wait()
        if self.limit_error is not None:
            raise self.limit_error
        self.limits.append(bits_per_second)

    async def request_keyframe(self) -> None:
        """Nothing hears it."""

    async def add_candidate(self, candidate: Candidate | None) -> None:
        self.candidates.append(candidate)

    async def close(self) -> None:
        self.end(CloseReason.PUBLISHER_GONE)

    def end(self, reason_for_subscribers: CloseReason, reason: CloseReason | None = None) -> None:
        """Be gone; ``reason`` is told the publisher's listener, when it did not close it itself."""
        if self.closed:
            return
        self.closed = True
        if self.mcu.publishers.get(self.key) is self:
            del self.mcu.publishers[self.key]
        for subscriber in [it for it in self.mcu.subscribers if it.publisher is self]:
            subscriber.end(reason_for_subscribers)
        if reason is not None:
            self.listener.on_closed(reason)


@dataclass(eq=False, slots=True)
class FakeSubscriber:
    """A subscription; ``gate`` holds back its verbs."""

    mcu: FakeMcu
    publisher: FakePublisher
    options: SubscribeOptions
    listener: StreamListener
    answers: list[str] = field(default_factory=list)
    candidates: list[Candidate | None] = field(default_factory=list)
    layers: list[MediaSelection] = field(default_factory=list)
    refreshed: int = 0
    error: McuError | None = None
    gate: asyncio.Event | None = None
    closed: bool = False

    async def _work(self) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        if self.closed:
            raise NoSuchStream("the subscription is closed")

    @property
    def layer(self) -> MediaSelection:
        """What it receives from the start."""
        return self.options.selection

    async def accept(self, answer: str) -> None:
        await self._work()
        self.answers.append(answer)

    async def refresh(self) -> str:
        await self._work()
        self.refreshed += 1
        return subscriber_offer(f"refreshed {self.refreshed}")

    async def select(self, layer: MediaSelection) -> None:
        await self._work()
        self.layers.append(layer)

    async def add_candidate(self, candidate: Candidate | None) -> None:
        await self._work()
        self.candidates.append(candidate)

    async def close(self) -> None:
        self.end(None)

    def end(self, reason: CloseReason | None) -> None:
        """Be gone; ``reason`` is told the listener, when its owner did not close it itself."""
        if self.closed:
            return
        self.closed = True
        self.mcu.subscribers.remove(self)
        if reason is not None:
            self.listener.on_closed(reason)


class FakeMcu:
    """An SFU without media; everything on it is in ``publishers`` and ``subscribers``."""

    def __init__(self) -> None:
        self.publishers: dict[StreamKey, FakePublisher] = {}
        self.subscribers: list[FakeSubscriber] = []
        self.published: list[FakePublisher] = []  # all there ever were
        self.subscribed: list[FakeSubscriber] = []
        self.waiting = 0  # calls of ``publish`` and ``subscribe`` that have not returned
        self.publish_gate: asyncio.Event | None = None
        self.limit_gate: asyncio.Event | None = None
        self.subscribe_gate: asyncio.Event | None = None
        self.publish_error: McuError | None = None
        self.subscribe_error: McuError | None = None
        self.away = False  # verbs wait for it to come back
        self.on_state: Callable[[McuStatus], None] = lambda status: None
        self._news = asyncio.Condition()
        self._locks: dict[StreamKey, asyncio.Lock] = {}

    async def start(self, on_state: Callable[[McuStatus], None]) -> None:
        self.on_state = on_state
        on_state(self.status())

    def lose(self, reason: CloseReason = CloseReason.LOST, *, back: bool = False) -> None:
        """Lose all streams, as when the SFU is killed; ``back``: it is there again at once."""
        self.away = not back
        self.on_state(self.status())
        for publisher in list(self.publishers.values()):
            publisher.end(reason, reason)

    async def come_back(self) -> None:
        """Take streams again."""
        self.away = False
        self.on_state(self.status())
        async with self._news:
            self._news.notify_all()

    async def _present(self, seconds: float) -> None:
        """Wait for the SFU."""
        if not self.away:
            return
        try:
            async with asyncio.timeout(seconds), self._news:
                await self._news.wait_for(lambda: not self.away)
        except TimeoutError:
            raise McuLost("the SFU is away") from None

    async def publish(
        self, key: StreamKey, offer: str, options: PublishOptions, listener: StreamListener
    ) -> tuple[FakePublisher, str]:
        self.waiting += 1
        try:
            async with self._locks.setdefault(key, asyncio.Lock()):
                await self._present(options.timeout)
                if (running := self.publishers.get(key)) is not None:
                    running.end(CloseReason.REPLACED)
                if self.publish_gate is not None:
                    await self.publish_gate.wait()
                if self.publish_error is not None:
                    raise self.publish_error
                made = self.publishers[key] = FakePublisher(self, key, offer, options, listener)
                self.published.append(made)
        finally:
            self.waiting -= 1
        async with self._news:
            self._news.notify_all()
        return made, ANSWER

    async def subscribe(
        self, key: StreamKey, options: SubscribeOptions, listener: StreamListener
    ) -> tuple[FakeSubscriber, str]:
        self.waiting += 1
        try:
            await self._present(options.timeout)
            async with asyncio.timeout(options.timeout), self._news:
                await self._news.wait_for(lambda: key in self.publishers)
            if self.subscribe_gate is not None:
                await self.subscribe_gate.wait()
            if self.subscribe_error is not None:
                raise self.subscribe_error
            if key not in self.publishers:
                raise NoSuchStream("the publisher went away")
            made = FakeSubscriber(self, self.publishers[key], options, listener)
        except TimeoutError:
            raise NoSuchStream("nobody published the stream") from None
        finally:
            self.waiting -= 1
        self.subscribers.append(made)
        self.subscribed.append(made)
        return made, subscriber_offer(f"subscription {len(self.subscribed)}")

    def status(self) -> McuStatus:
        state = SfuState.CONNECTING if self.away else SfuState.READY
        sfu = SfuStatus("", state, publishers=len(self.publishers), subscribers=len(self.subscribers))
        return McuStatus("fake", (sfu,))

    def streams(self) -> Iterable[StreamReport]:
        return ()

    def metrics(self) -> Iterable[Metric]:
        return ()

    async def reconfigure(self, settings: object) -> None:
        """There is nothing to set."""

    async def stop(self) -> None:
        for publisher in list(self.publishers.values()):
            publisher.end(CloseReason.PUBLISHER_GONE)

    @property
    def clean(self) -> bool:
        """Whether nothing is left on the SFU, and nothing on its way."""
        return not (self.publishers or self.subscribers or self.waiting)
