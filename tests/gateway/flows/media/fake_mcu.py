"""A fake SFU without media that fulfils the contract of ``mcu.base``; gates delay its replies until they are set."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mcu.base import (
    CloseReason,
    IceCandidate,
    McuError,
    McuLost,
    McuStatus,
    MediaSelection,
    Metric,
    NoSuchStream,
    PublishOptions,
    SfuState,
    SfuStatus,
    StreamKey,
    StreamListener,
    StreamReport,
    SubscribeOptions,
)
from sdp.document import Description, identity, parse
from tests.gateway.flows.media.descriptions import answer_to, subscriber_offer
from tests.mcu.descriptions import is_frozen, parse_frozen


@dataclass(eq=False, slots=True)
class FakePublisher:
    """A publisher on the fake SFU; ``gate`` holds back updates."""

    mcu: FakeMcu
    key: StreamKey
    offer: str
    options: PublishOptions
    listener: StreamListener
    candidates: list[IceCandidate | None] = field(default_factory=list)
    updates: list[str] = field(default_factory=list)
    limits: list[int] = field(default_factory=list)
    limit_error: McuError | None = None
    limit_gate: asyncio.Event | None = None
    error: McuError | None = None
    gate: asyncio.Event | None = None
    closed: bool = False

    async def update(self, offer: Description) -> Description:
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        if self.closed:
            raise NoSuchStream("the publisher is closed")
        assert is_frozen(offer)
        given = identity(offer)
        assert given.same_peer_connection(identity(parse(self.offer))) or not given.ufrags
        self.updates.append(str(offer))
        return parse_frozen(self.mcu.edit_description(answer_to(str(offer))))

    async def limit(self, bits_per_second: int) -> None:
        gate = self.limit_gate or self.mcu.limit_gate
        if gate is not None:
            await gate.wait()
        if self.limit_error is not None:
            raise self.limit_error
        self.limits.append(bits_per_second)

    async def request_keyframe(self) -> None:
        """Do nothing."""

    async def add_candidate(self, candidate: IceCandidate | None) -> None:
        self.candidates.append(candidate)

    async def close(self) -> None:
        self.end(CloseReason.PUBLISHER_GONE)

    def end(self, reason_for_subscribers: CloseReason, reason: CloseReason | None = None) -> None:
        """Close the publisher and its subscribers; ``reason`` is reported if the SFU closes it, not its owner."""
        if self.closed:
            return
        self.closed = True
        if self.mcu.publishers.get(self.key) is self:
            del self.mcu.publishers[self.key]
        for subscriber in [subscriber for subscriber in self.mcu.subscribers if subscriber.publisher is self]:
            subscriber.end(reason_for_subscribers)
        if reason is not None:
            self.listener.on_closed(reason)


@dataclass(eq=False, slots=True)
class FakeSubscriber:
    """A subscriber on the fake SFU; ``gate`` holds back its methods."""

    mcu: FakeMcu
    publisher: FakePublisher
    options: SubscribeOptions
    listener: StreamListener
    answers: list[str] = field(default_factory=list)
    candidates: list[IceCandidate | None] = field(default_factory=list)
    selections: list[MediaSelection] = field(default_factory=list)
    refreshed: int = 0
    unanswered: Description | None = None  # returned by ``refresh``, as by an SFU that waits for its answer
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
    def first_selection(self) -> MediaSelection:
        """The selection with which the subscription began."""
        return self.options.selection

    async def accept(self, answer: Description) -> None:
        await self._work()
        assert is_frozen(answer)
        self.answers.append(str(answer))

    async def refresh(self) -> Description:
        await self._work()
        if self.unanswered is not None:
            return self.unanswered
        self.refreshed += 1
        return parse_frozen(self.mcu.edit_description(subscriber_offer(f"refreshed {self.refreshed}")))

    async def select(self, selection: MediaSelection) -> None:
        await self._work()
        self.selections.append(selection)

    async def add_candidate(self, candidate: IceCandidate | None) -> None:
        await self._work()
        self.candidates.append(candidate)

    async def close(self) -> None:
        self.end(None)

    def end(self, reason: CloseReason | None) -> None:
        """Close the subscriber; ``reason`` is reported if the SFU closes it, not its owner."""
        if self.closed:
            return
        self.closed = True
        self.mcu.subscribers.remove(self)
        if reason is not None:
            self.listener.on_closed(reason)


class FakeMcu:
    """An SFU without media; ``publishers`` and ``subscribers`` are the streams that are open on it."""

    def __init__(self) -> None:
        self.publishers: dict[StreamKey, FakePublisher] = {}
        self.subscribers: list[FakeSubscriber] = []
        self.published: list[FakePublisher] = []  # closed publishers included
        self.subscribed: list[FakeSubscriber] = []  # closed subscribers included
        self.pending_calls = 0  # calls of ``publish`` and ``subscribe`` that have not returned
        self.publish_gate: asyncio.Event | None = None
        self.limit_gate: asyncio.Event | None = None
        self.subscribe_gate: asyncio.Event | None = None
        self.publish_error: McuError | None = None
        self.subscribe_error: McuError | None = None
        self.edit_description: Callable[[str], str] = lambda description: (
            description
        )  # edits each description of the SFU
        self.capacity = 0
        self.reports: list[StreamReport] = []  # of its streams
        self.unavailable = False  # ``publish`` and ``subscribe`` wait while it is set
        self.on_state: Callable[[McuStatus], None] = lambda status: None
        self._changed = asyncio.Condition()
        self._locks: dict[StreamKey, asyncio.Lock] = {}

    async def start(self, on_state: Callable[[McuStatus], None]) -> None:
        self.on_state = on_state
        on_state(self.status())

    def lose_streams(self, reason: CloseReason = CloseReason.LOST, *, recovers: bool = False) -> None:
        """Close all streams, as when the SFU is killed; with ``recovers`` it accepts streams again at once."""
        self.unavailable = not recovers
        self.on_state(self.status())
        for publisher in list(self.publishers.values()):
            publisher.end(reason, reason)

    async def recover(self) -> None:
        """Accept streams again."""
        self.unavailable = False
        self.on_state(self.status())
        async with self._changed:
            self._changed.notify_all()

    async def _wait_until_available(self, seconds: float) -> None:
        """Wait for ``recover``.

        Raises:
            McuLost: ``recover`` was not called in time.
        """
        if not self.unavailable:
            return
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: not self.unavailable)
        except TimeoutError:
            raise McuLost("the SFU is unavailable") from None

    async def publish(
        self, key: StreamKey, offer: Description, options: PublishOptions, listener: StreamListener
    ) -> tuple[FakePublisher, Description]:
        assert is_frozen(offer)
        self.pending_calls += 1
        try:
            async with self._locks.setdefault(key, asyncio.Lock()):
                await self._wait_until_available(options.timeout)
                if (running := self.publishers.get(key)) is not None:
                    running.end(CloseReason.REPLACED)
                if self.publish_gate is not None:
                    await self.publish_gate.wait()
                if self.publish_error is not None:
                    raise self.publish_error
                publisher = self.publishers[key] = FakePublisher(self, key, str(offer), options, listener)
                self.published.append(publisher)
        finally:
            self.pending_calls -= 1
        async with self._changed:
            self._changed.notify_all()
        return publisher, parse_frozen(self.edit_description(answer_to(publisher.offer)))

    async def subscribe(
        self, key: StreamKey, options: SubscribeOptions, listener: StreamListener
    ) -> tuple[FakeSubscriber, Description]:
        self.pending_calls += 1
        try:
            await self._wait_until_available(options.timeout)
            async with asyncio.timeout(options.timeout), self._changed:
                await self._changed.wait_for(lambda: key in self.publishers)
            if self.subscribe_gate is not None:
                await self.subscribe_gate.wait()
            if self.subscribe_error is not None:
                raise self.subscribe_error
            if key not in self.publishers:
                raise NoSuchStream("the publisher went away")
            subscriber = FakeSubscriber(self, self.publishers[key], options, listener)
        except TimeoutError:
            raise NoSuchStream("the stream was not published in time") from None
        finally:
            self.pending_calls -= 1
        self.subscribers.append(subscriber)
        self.subscribed.append(subscriber)
        return subscriber, parse_frozen(self.edit_description(subscriber_offer(f"subscription {len(self.subscribed)}")))

    def status(self) -> McuStatus:
        state = SfuState.CONNECTING if self.unavailable else SfuState.READY
        sfu = SfuStatus("", state, publishers=len(self.publishers), subscribers=len(self.subscribers))
        return McuStatus("fake", (sfu,), self.capacity)

    def streams(self) -> Iterable[StreamReport]:
        return self.reports

    def metrics(self) -> Iterable[Metric]:
        return ()

    def reconfigure(self, settings: object) -> None:
        """Do nothing: it has no settings."""

    async def stop(self) -> None:
        for publisher in list(self.publishers.values()):
            publisher.end(CloseReason.PUBLISHER_GONE)

    @property
    def is_empty(self) -> bool:
        """Whether no stream is open and no call is pending."""
        return not (self.publishers or self.subscribers or self.pending_calls)
