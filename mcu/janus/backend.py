"""Janus as an SFU of the gateway: which streams there are, who waits for them, and that nothing is left behind.

At each moment a stream has at most one publisher. Calls for one stream are carried out one after another; whoever
waits for a publisher is woken when one comes, comes up or goes, and looks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

import msgspec

from mcu.base import (
    Closed,
    Layer,
    Listener,
    McuLost,
    McuStatus,
    McuTimeout,
    NoSuchStream,
    Publisher,
    PublishOptions,
    SfuState,
    SfuStatus,
    StreamKey,
    StreamReport,
    SubscribeOptions,
    Subscriber,
)
from mcu.janus import videoroom
from mcu.janus.client import JanusClient
from mcu.janus.descriptions import identified
from mcu.janus.protocol import JanusError
from mcu.janus.publisher import JanusPublisher
from mcu.janus.session import Session
from mcu.janus.settings import JanusServer, only
from mcu.janus.subscriber import JanusSubscriber


class JanusMcu:
    """One Janus behind the SFU interface (``mcu.base.Mcu``)."""

    def __init__(self, servers: tuple[JanusServer, ...], timeout: float) -> None:
        """Take the settings; ``timeout`` in seconds holds for each request that brings no time limit of its own.

        Raises:
            ValueError: not exactly one Janus is configured.
        """
        self._server = only(servers)
        self._timeout = timeout
        self._on_state: Callable[[McuStatus], None] = lambda status: None
        self._rooms = videoroom.Rooms(self._server.admin_key)
        self._client = JanusClient(self._server, timeout, self._state_changed, self._rooms)
        self._publishers: dict[StreamKey, JanusPublisher] = {}
        self._turns: WeakValueDictionary[StreamKey, asyncio.Lock] = WeakValueDictionary()
        self._waiting: dict[StreamKey, set[asyncio.Future[None]]] = {}

    async def start(self, on_state: Callable[[McuStatus], None]) -> None:
        """Begin to connect and return at once."""
        self._on_state = on_state
        self._client.start()

    async def stop(self) -> None:
        """Close every stream on Janus and disconnect. Idempotent."""
        publishers = list(self._publishers.values())
        for publisher in publishers:
            publisher.end(Closed.LOST)
        for publisher in publishers:
            await publisher.clean()
        session = self._client.current()
        if session is not None and (rest := self._rooms.all()):  # of verbs that are still under way
            await asyncio.wait([self._rooms.destroy(session, number) for number in rest], timeout=self._timeout)
        await self._client.stop()

    async def session(self) -> Session:
        """Return the session with Janus, once there is one; for what goes beyond the SFU interface."""
        return await self._client.session()

    async def publish(self, key: StreamKey, offer: str, options: PublishOptions, to: Listener) -> tuple[Publisher, str]:
        """Publish a stream; what ``mcu.base.Mcu.publish`` says."""
        identified(offer)  # what is no description does not end the running publisher
        async with self._in_time(options.timeout), self._turns.setdefault(key, asyncio.Lock()):
            session = await self._client.session()
            before = self._publishers.get(key)
            if before is not None:
                before.replace()
                await before.clean()
            publisher = JanusPublisher(
                session, key, to, self._timeout, options.bitrate, self._rooms, self._publisher_changed
            )
            answer = await self._open(publisher, offer, options)
            self._publishers[key] = publisher
            self._wake(key)
            publisher.ear.open_soon()
            return publisher, answer

    async def _open(self, publisher: JanusPublisher, offer: str, options: PublishOptions) -> str:
        """Make the room, enter it and negotiate; what fails or is cancelled on the way leaves nothing."""
        await publisher.attach()
        try:
            publisher.room = await self._rooms.create(publisher.session, publisher.key, options)
            await publisher.handle.ask(videoroom.join_publisher(publisher.room, publisher.feed))
            answer = await publisher.negotiate(offer)
        except BaseException:
            publisher.end(None)
            raise
        if publisher.ended:
            raise McuLost("the connection to Janus is gone")
        return answer

    async def subscribe(self, key: StreamKey, options: SubscribeOptions, to: Listener) -> tuple[Subscriber, str]:
        """Subscribe to a stream; what ``mcu.base.Mcu.subscribe`` says."""
        async with self._in_time(options.timeout, key):
            while True:
                await self._client.session()
                publisher = self._publishers.get(key)
                if publisher is None or not publisher.up:
                    await self._change(key)
                    continue
                subscriber = JanusSubscriber(publisher, to, self._timeout)
                offer = await self._join(subscriber, options.layer)
                if offer:
                    subscriber.ear.open_soon()
                    return subscriber, offer

    async def _join(self, subscriber: JanusSubscriber, layer: Layer) -> str:
        """Return the offer, or nothing where the caller should look again; then, and on failure, nothing is left."""
        publisher = subscriber.publisher
        seen = publisher.changes
        await subscriber.attach()
        publisher.entering.add(subscriber)
        if publisher.ended:
            subscriber.end(None)
            return ""
        try:
            offer = await subscriber.join()
            if not subscriber.ended:
                await subscriber.select(layer)
        except JanusError as error:
            subscriber.end(None)
            if publisher.changes != seen:
                return ""
            if error.code == videoroom.NO_SUCH_FEED:
                await self._change(publisher.key)
                return ""
            if error.code == videoroom.NO_SUCH_ROOM:
                publisher.end(Closed.FAILED)
            raise
        except BaseException:
            subscriber.end(None)
            raise
        if publisher.ended or subscriber.ended:
            subscriber.end(None)
            return ""
        publisher.entering.discard(subscriber)
        publisher.subscribers.add(subscriber)
        subscriber.cover()
        return offer

    def status(self) -> McuStatus:
        """Return a snapshot."""
        client = self._client
        publishers = self._publishers.values()
        return McuStatus(
            "janus",
            (
                SfuStatus(
                    url=self._server.url,
                    state=client.state,
                    name=client.name,
                    version=client.version,
                    reason=client.reason,
                    publishers=len(publishers),
                    subscribers=sum(len(publisher.subscribers) for publisher in publishers),
                    connected_since=client.since,
                    details=client.details,
                ),
            ),
        )

    def streams(self) -> Iterable[StreamReport]:
        """Return a report for each stream and kind: which codec runs. Figures are in Janus' event feed only."""
        for publisher in list(self._publishers.values()):
            yield from publisher.reports()
            for subscriber in list(publisher.subscribers):
                yield from subscriber.reports()

    def feed(self, frame: bytes) -> None:
        """Ignore a frame of Janus' event feed."""

    async def reconfigure(self, settings: object) -> None:
        """Take changed settings: they hold from the next connection to Janus on, streams go on as they are.

        Raises:
            ValueError: not exactly one Janus is configured.
        """
        self._server = only(msgspec.convert(settings, tuple[JanusServer, ...]))
        self._client.server = self._server
        self._rooms.admin_key = self._server.admin_key

    @asynccontextmanager
    async def _in_time(self, seconds: float, key: StreamKey | None = None) -> AsyncIterator[None]:
        """Limit a verb and name what was missing; ``key``: the stream that was waited for."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            if self._client.state is not SfuState.READY:
                raise McuLost(f"Janus is not there: {self._client.reason}") from error
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
