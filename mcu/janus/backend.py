"""Janus as an SFU of the gateway: which streams there are, who waits for them, and that nothing is left behind.

At each moment a stream has at most one publisher. Calls for one stream are carried out one after another; whoever
waits for a publisher is woken when one comes, comes up or goes, and looks again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

import msgspec

from mcu.base import (
    Listener,
    McuLost,
    McuStatus,
    McuTimeout,
    Measure,
    NoSuchStream,
    Publisher,
    PublishOptions,
    SfuState,
    StreamKey,
    StreamReport,
    SubscribeOptions,
    Subscriber,
    stream_gauges,
)
from mcu.janus import videoroom
from mcu.janus.descriptions import identified
from mcu.janus.figures import Feed
from mcu.janus.labels import control
from mcu.janus.node import Node
from mcu.janus.protocol import JanusError
from mcu.janus.publisher import JanusPublisher
from mcu.janus.session import Session
from mcu.janus.settings import JanusServer, only
from mcu.janus.settings import instance as instance_name
from mcu.janus.subscriber import JanusSubscriber, PutOff


class JanusMcu:
    """One Janus behind the SFU interface (``mcu.base.Mcu``)."""

    def __init__(self, servers: tuple[JanusServer, ...], timeout: float, instance: str = "") -> None:
        """Take the settings; ``timeout`` in seconds holds for each request that brings no time limit of its own.

        ``instance`` names this gateway on Janus (``mcu.janus.labels``); empty: one is drawn.

        Raises:
            ValueError: not exactly one Janus is configured, or the instance cannot stand in a label.
        """
        self._on_state: Callable[[McuStatus], None] = lambda status: None
        name = instance_name(instance)
        self._node = Node(only(servers), timeout, self._state_changed, name)
        self._feed = Feed(lambda opaque_id: opaque_id.startswith(f"{control(name)}|"), time.monotonic)
        self._timeout = timeout
        self._publishers: dict[StreamKey, JanusPublisher] = {}
        self._turns: WeakValueDictionary[StreamKey, asyncio.Lock] = WeakValueDictionary()
        self._waiting: dict[StreamKey, set[asyncio.Future[None]]] = {}

    async def start(self, on_state: Callable[[McuStatus], None]) -> None:
        """Begin to connect and return at once."""
        self._on_state = on_state
        self._node.client.start()

    async def stop(self) -> None:
        """Close every stream on Janus and disconnect. Idempotent."""
        await self._node.stop()

    async def session(self) -> Session:
        """Return the session with Janus, once there is one; for what goes beyond the SFU interface."""
        return await self._node.client.session()

    async def publish(self, key: StreamKey, offer: str, options: PublishOptions, to: Listener) -> tuple[Publisher, str]:
        """Publish a stream; what ``mcu.base.Mcu.publish`` says."""
        identified(offer)  # what is no description does not end the running publisher
        async with self._in_time(options.timeout), self._turns.setdefault(key, asyncio.Lock()):
            await self._node.client.session()
            before = self._publishers.get(key)
            if before is not None:
                before.replace()
                await before.clean()
            publisher, answer = await self._node.publish(key, offer, options, to, self._publisher_changed)
            self._publishers[key] = publisher
            self._wake(key)
            publisher.ear.open_soon()
            return publisher, answer

    async def subscribe(self, key: StreamKey, options: SubscribeOptions, to: Listener) -> tuple[Subscriber, str]:
        """Subscribe to a stream; what ``mcu.base.Mcu.subscribe`` says."""
        async with self._in_time(options.timeout, key):
            while True:
                await self._node.client.session()
                publisher = self._publishers.get(key)
                if publisher is None or not publisher.up:
                    await self._change(key)
                    continue
                subscriber = JanusSubscriber(publisher, to, self._timeout)
                try:
                    offer = await subscriber.open(options.layer)
                except PutOff:
                    await self._change(key)
                    continue
                if offer:
                    subscriber.ear.open_soon()
                    return subscriber, offer

    def status(self) -> McuStatus:
        """Return a snapshot."""
        return McuStatus("janus", (self._node.status(),))

    def streams(self) -> Iterable[StreamReport]:
        """Return a report for each stream and kind: which codec runs, and what Janus' event feed tells of it."""
        yield from self._node.streams(self._feed)

    def measures(self) -> Iterable[Measure]:
        """Return how many media flow, and what Janus' event feed adds up to."""
        publishers = list(self._publishers.values())
        yield from stream_gauges(
            ((publisher.key.type, kind) for publisher in publishers for kind in publisher.arriving),
            ((report.key.type, report.kind) for report in self.streams() if report.subscriber),
        )
        yield from self._feed.measures()

    def feed(self, frame: bytes) -> None:
        """Take a frame of Janus' event feed; several Janus may send theirs."""
        self._feed.take(frame)

    async def reconfigure(self, settings: object) -> None:
        """Take changed settings: they hold from the next connection to Janus on, streams go on as they are.

        Raises:
            ValueError: not exactly one Janus is configured.
        """
        self._node.reconfigure(only(msgspec.convert(settings, tuple[JanusServer, ...])))

    @asynccontextmanager
    async def _in_time(self, seconds: float, key: StreamKey | None = None) -> AsyncIterator[None]:
        """Limit a verb and name what was missing; ``key``: the stream that was waited for."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            if self._node.client.state is not SfuState.READY:
                raise McuLost(f"Janus is not there: {self._node.client.reason}") from error
            if key is not None and key not in self._publishers:
                raise NoSuchStream("nobody publishes the stream") from error
            raise McuTimeout("Janus, or the publisher's media, did not come up in time") from error
        except JanusError as error:
            raise videoroom.typed(error) from error

    async def _change(self, key: StreamKey) -> None:
        """Wait until something changes about the publisher of a stream."""
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(key, set())
        waiting.add(woken)
        try:
            await woken
        finally:
            waiting.discard(woken)
            if not waiting and self._waiting.get(key) is waiting:
                del self._waiting[key]

    def _wake(self, key: StreamKey) -> None:
        for woken in self._waiting.get(key, ()):
            if not woken.done():
                woken.set_result(None)

    def _publisher_changed(self, publisher: JanusPublisher) -> None:
        if publisher.ended and self._publishers.get(publisher.key) is publisher:
            del self._publishers[publisher.key]
        self._wake(publisher.key)

    def _state_changed(self) -> None:
        self._on_state(self.status())
