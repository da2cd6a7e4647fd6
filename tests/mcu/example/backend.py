"""An SFU without media: its answers accept the whole offer, its offers are the publisher's.

It implements ``mcu.base`` as far as no media are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mcu.base import (
    CloseReason,
    IceCandidate,
    McuLost,
    McuStatus,
    MediaSelection,
    Metric,
    PublishOptions,
    Rejected,
    SfuState,
    SfuStatus,
    StreamKey,
    StreamListener,
    StreamReport,
    SubscribeOptions,
)
from mcu.listener_gate import ListenerGate
from mcu.publisher_registry import PublisherRegistry
from mcu.stream_gauges import stream_gauges
from sdp.document import Description

from .settings import ExampleSettings


def answer(offer: Description) -> Description:
    """Return a frozen answer that accepts each section of an offer."""
    accepted = offer.copy()
    for section in accepted.media:
        for name, line in (("setup", "a=setup:passive"), ("sendonly", "a=recvonly")):
            for position, _ in section.indexed(name):
                section.replace(position, line)
    return accepted.freeze()


class ExamplePublisher:
    """A published stream; implements ``mcu.base.Publisher``."""

    def __init__(self, key: StreamKey, offer: Description, listener: StreamListener) -> None:
        self.key = key
        self.offer = offer
        self.gate = ListenerGate(listener)
        self.connected = True
        self.closed = False
        self.subscribers: set[ExampleSubscriber] = set()
        self.on_change: Callable[[ExamplePublisher], None] = lambda publisher: None

    async def update(self, offer: Description) -> Description:
        self.offer = offer
        return answer(offer)

    async def limit(self, bits_per_second: int) -> None:
        """Do nothing: no media flow."""

    async def request_keyframe(self) -> None:
        """Do nothing: no media flow."""

    async def add_candidate(self, candidate: IceCandidate | None) -> None:
        """Do nothing: there is no transport."""

    async def close(self) -> None:
        self.end(CloseReason.PUBLISHER_GONE)

    def end(self, reason: CloseReason, own_reason: CloseReason | None = None) -> None:
        """Close the stream; ``reason`` is for its subscribers, ``own_reason`` for its own listener."""
        if self.closed:
            return
        self.closed = True
        self.gate.close(own_reason)
        for subscriber in list(self.subscribers):
            subscriber.end(reason)
        self.on_change(self)


class ExampleSubscriber:
    """A subscription; implements ``mcu.base.Subscriber``."""

    def __init__(self, publisher: ExamplePublisher, listener: StreamListener) -> None:
        self.gate = ListenerGate(listener)
        self._publisher = publisher
        publisher.subscribers.add(self)

    async def accept(self, answer: Description) -> None:
        """Do nothing: there is no transport."""

    async def refresh(self) -> Description:
        return self._publisher.offer

    async def select(self, selection: MediaSelection) -> None:
        """Do nothing: no media flow."""

    async def add_candidate(self, candidate: IceCandidate | None) -> None:
        """Do nothing: there is no transport."""

    async def close(self) -> None:
        self.end(None)

    def end(self, reason: CloseReason | None) -> None:
        """Close the subscription; ``None``: the gateway closed it."""
        self.gate.close(reason)
        self._publisher.subscribers.discard(self)


class ExampleMcu:
    """The SFU; implements ``mcu.base.Mcu``."""

    def __init__(self, settings: ExampleSettings) -> None:
        self._settings = settings
        self._state = SfuState.CONNECTING
        self._on_state: Callable[[McuStatus], None] = lambda status: None
        self._publishers: PublisherRegistry[ExamplePublisher] = PublisherRegistry()

    async def start(self, on_state: Callable[[McuStatus], None]) -> None:
        self._on_state = on_state
        self._set_state(SfuState.READY)

    async def publish(
        self, key: StreamKey, offer: Description, options: PublishOptions, listener: StreamListener
    ) -> tuple[ExamplePublisher, Description]:
        if not offer.media:
            raise Rejected("the offer has no media")
        if key not in self._publishers and len(self._publishers) >= self._settings.streams:
            raise Rejected("too many streams")
        async with self._publishers.time_limit(options.timeout), self._publishers.replacement(key) as running:
            self._require_ready()
            if running is not None:
                running.end(CloseReason.REPLACED)
            publisher = ExamplePublisher(key, offer, listener)
            publisher.on_change = self._publishers.publisher_changed
            self._publishers.add(publisher)
            publisher.gate.open_soon()
            return publisher, answer(offer)

    async def subscribe(
        self, key: StreamKey, options: SubscribeOptions, listener: StreamListener
    ) -> tuple[ExampleSubscriber, Description]:
        async with self._publishers.time_limit(options.timeout, key):
            publisher = await self._publishers.wait_until_connected(key, lambda _: self._require_ready())
            subscriber = ExampleSubscriber(publisher, listener)
            subscriber.gate.open_soon()
            return subscriber, publisher.offer

    def status(self) -> McuStatus:
        subscribers = sum(len(publisher.subscribers) for publisher in self._publishers)
        sfu = SfuStatus("", self._state, name="example", publishers=len(self._publishers), subscribers=subscribers)
        return McuStatus("example", (sfu,))

    def streams(self) -> Iterable[StreamReport]:
        return ()

    def metrics(self) -> Iterable[Metric]:
        return stream_gauges((), ())

    def reconfigure(self, settings: object) -> None:
        if not isinstance(settings, ExampleSettings):
            raise TypeError("not settings of the example SFU")
        self._settings = settings

    async def stop(self) -> None:
        self._set_state(SfuState.STOPPED)
        self._publishers.wake_all()
        for publisher in self._publishers:
            publisher.end(CloseReason.LOST, CloseReason.LOST)

    def _set_state(self, state: SfuState) -> None:
        self._state = state
        self._on_state(self.status())

    def _require_ready(self) -> None:
        if self._state is not SfuState.READY:
            raise McuLost("the SFU is not running")
