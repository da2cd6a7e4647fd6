"""One Janus or several as the SFU of the gateway: publishing and subscribing.

A stream has at most one publisher at a time. Calls of ``publish`` for one stream are carried out one after another; a
waiting ``subscribe`` is woken when a publisher is created, connects or ends, and looks the stream up again. A new
publisher is created on the Janus that ``mcu.janus.placement.ranking`` ranks first; subscribers are served there, or
over a second Janus (docs/mcu.md, "Several Janus"). No call waits for an unreachable Janus while another is usable.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import msgspec

from mcu.base import (
    McuError,
    McuLost,
    McuStatus,
    Metric,
    Publisher,
    PublishOptions,
    Rejected,
    StreamKey,
    StreamListener,
    StreamReport,
    SubscribeOptions,
    Subscriber,
)
from mcu.janus.connection.messages import JanusError
from mcu.janus.connection.session import Clock, JanusSession, RequestInterrupted
from mcu.janus.events.statistics import EventStatistics
from mcu.janus.labels import control_label
from mcu.janus.placement.pool import JanusPool
from mcu.janus.placement.server import JanusServer
from mcu.janus.rooms import videoroom
from mcu.janus.settings import JanusServerSettings, check_servers, instance_name
from mcu.janus.streams.descriptions import SerialisedOffer
from mcu.janus.streams.publisher import JanusPublisher
from mcu.janus.streams.room_feed import RoomFeed
from mcu.janus.streams.subscriber import JanusSubscriber, PublisherNotReady
from mcu.publisher_registry import PublisherRegistry
from mcu.stream_gauges import stream_gauges
from sdp.document import Description

REPLACED_WITHIN = 2.0  # seconds that Janus has to remove a replaced publisher before the new one is created
FORWARDED_WITHIN = 2.0  # seconds that a second Janus has to accept a stream, before the publisher's Janus is used
MAX_SERVERS_OFFERED = 2  # Janus servers to which one offer is sent: one that crashes Janus must not crash all


class JanusMcu:
    """One Janus or several behind the SFU interface (``mcu.base.Mcu``)."""

    def __init__(
        self,
        servers: tuple[JanusServerSettings, ...],
        timeout: float,
        instance: str = "",
        clock: Clock = time.monotonic,
        wall_clock: Clock = time.time,
    ) -> None:
        """Create the backend; ``timeout``, in seconds, is that of each request that has no time limit of its own.

        ``instance`` is this gateway's name on Janus (``mcu.janus.labels``); empty: a random one.

        Raises:
            ValueError: the servers cannot be used together (``check_servers``), or a label cannot contain the instance.
        """
        check_servers(servers)
        name = instance_name(instance)
        prefix = f"{control_label(name)}|"
        self._on_state: Callable[[McuStatus], None] = lambda status: None
        self._statistics = EventStatistics(lambda opaque_id: opaque_id.startswith(prefix), clock)
        self._clock = clock
        self._timeout = timeout
        self._pool = JanusPool(servers, timeout, name, self._statistics, clock, wall_clock, self._on_pool_change)
        self._publishers: PublisherRegistry[JanusPublisher] = PublisherRegistry()

    # -- connecting and disconnecting

    async def start(self, on_state: Callable[[McuStatus], None]) -> None:
        """Begin to connect and return at once."""
        self._on_state = on_state
        self._pool.start()

    async def stop(self) -> None:
        """Close every stream on Janus and disconnect. Idempotent."""
        await self._pool.stop()

    def reconfigure(self, settings: object) -> None:
        """Apply changed settings; streams stay where they are.

        Connects to each new Janus. A Janus that was removed from the settings, or is marked as draining, accepts no new
        streams and is disconnected when its last stream has ended. Changed settings of a connection apply to the next
        connection to that Janus.

        Raises:
            ValueError: the servers cannot be used together (``check_servers``); nothing has changed.
        """
        self._pool.reconfigure(msgspec.convert(settings, tuple[JanusServerSettings, ...]))

    def server(self, url: str = "") -> JanusServer:
        """Return the Janus with a URL, or the first one; for uses beyond the SFU interface."""
        return self._pool.servers[url] if url else next(iter(self._pool.servers.values()))

    async def session(self, url: str = "") -> JanusSession:
        """Return the session with one Janus, waiting for it; for uses beyond the SFU interface."""
        return await self.server(url).connector.wait_for_session()

    # -- publish

    async def publish(
        self, key: StreamKey, offer: Description, options: PublishOptions, listener: StreamListener
    ) -> tuple[Publisher, Description]:
        """Publish a stream, as ``mcu.base.Mcu.publish`` says."""
        serialised = SerialisedOffer.of(offer)  # a refused offer does not end the running publisher
        deadline = self._clock() + options.timeout
        async with self._time_limit(options.timeout), self._publishers.replacement(key) as replaced:
            await self._pool.wait_until_accepting()
            if replaced is not None and not replaced.closed:
                await self._replace(replaced)
            publisher, answer = await self._publish_on_best(key, serialised, options, listener, deadline)
            self._publishers.add(publisher)
            publisher.gate.open_soon()
            return publisher, answer

    async def _replace(self, publisher: JanusPublisher) -> None:
        server = self._pool.server_of_publisher(publisher)
        publisher.replace()
        if server is not None and server.connector.session is not None:  # otherwise Janus could not answer
            await asyncio.wait(publisher.closing, timeout=REPLACED_WITHIN)

    async def _publish_on_best(
        self, key: StreamKey, offer: SerialisedOffer, options: PublishOptions, listener: StreamListener, deadline: float
    ) -> tuple[JanusPublisher, Description]:
        """Publish on the best Janus that accepts the stream within its share of the time.

        Raises:
            TimeoutError, JanusError, McuError: the failure of the last Janus that was tried.
        """
        tried: set[JanusServer] = set()
        offered = 0
        while True:
            servers = self._pool.rank_servers_for_publisher(options, tried)
            if not servers:
                if tried:
                    raise McuLost("no Janus took the stream")
                await self._pool.wait_until_accepting()
                continue
            server, last = servers[0], len(servers) == 1
            share = (deadline - self._clock()) / len(servers)
            publisher = None
            try:
                async with asyncio.timeout(None if last else share):
                    with server.new_publisher(key, options, listener, self._publishers.publisher_changed) as publisher:
                        return publisher, await publisher.open(offer, options)
            except RequestInterrupted:  # its effect is unknown: the publisher was ended, and another one is created
                continue
            except (TimeoutError, JanusError, McuError) as error:
                tried.add(server)
                sent = publisher is not None and publisher.offer_sent
                offered += sent
                refused = sent and isinstance(error, JanusError | Rejected)  # every Janus would refuse this offer
                if last or offered == MAX_SERVERS_OFFERED or refused:
                    raise
                server.log.warning("a stream failed here and is published on another Janus: %s", type(error).__name__)

    # -- subscribe

    async def subscribe(
        self, key: StreamKey, options: SubscribeOptions, listener: StreamListener
    ) -> tuple[Subscriber, Description]:
        """Subscribe to a stream, as ``mcu.base.Mcu.subscribe`` says."""
        deadline = self._clock() + options.timeout
        tried: set[JanusServer] = set()
        async with self._time_limit(options.timeout, key):
            while True:
                publisher = await self._publishers.wait_until_connected(key, self._check_usable)
                server = self._pool.better_for_subscriber(publisher, options)
                if server is None or server in tried:
                    subscription = await self._subscribe_at_source(publisher.feed, options, listener)
                else:
                    subscription = await self._subscribe_at_target(server, publisher, options, listener, deadline)
                    if not publisher.closed:
                        tried.add(server)
                if subscription is not None:
                    subscription[0].gate.open_soon()
                    return subscription

    async def _subscribe_at_source(
        self, feed: RoomFeed, options: SubscribeOptions, listener: StreamListener
    ) -> tuple[JanusSubscriber, Description] | None:
        """Subscribe on the publisher's Janus; ``None``: the feed has changed, look for the stream again."""
        subscriber = JanusSubscriber(feed, listener, self._timeout)
        try:
            offer = await subscriber.open(options.selection)
        except PublisherNotReady:
            await self._publishers.wait_for_change(feed.key)
            return None
        except McuLost:
            if feed.closed:  # the stream may come back, here or on another Janus
                return None
            raise
        return None if offer is None else (subscriber, offer)

    async def _subscribe_at_target(
        self,
        server: JanusServer,
        publisher: JanusPublisher,
        options: SubscribeOptions,
        listener: StreamListener,
        deadline: float,
    ) -> tuple[JanusSubscriber, Description] | None:
        """Subscribe on a second Janus, to which the stream is forwarded; ``None``: look for the stream again."""
        limit = min(FORWARDED_WITHIN, (deadline - self._clock()) / 2)
        try:
            async with asyncio.timeout(limit):
                source = self._pool.server_of_publisher(publisher)
                if source is None:
                    raise McuLost("the stream has ended")
                remote = server.remote_stream(publisher, source)
                async with remote.in_use():
                    subscriber = JanusSubscriber(remote.feed, listener, self._timeout)
                    offer = await subscriber.open(options.selection)
        except (TimeoutError, JanusError, McuError, PublisherNotReady) as error:
            # a timeout before FORWARDED_WITHIN is due to the call's deadline, not to this Janus
            failed = not isinstance(error, TimeoutError) or limit == FORWARDED_WITHIN
            if failed and not publisher.closed:
                server.suspend_forwarding()
                server.log.warning("a stream cannot be forwarded to this Janus: %s", type(error).__name__)
            return None
        return None if offer is None else (subscriber, offer)

    # -- status

    def status(self) -> McuStatus:
        """Return a snapshot."""
        return self._pool.status()

    def streams(self) -> Iterable[StreamReport]:
        """Return a report for each media kind of each publisher and subscriber, with figures from Janus' events."""
        return self._pool.streams()

    def metrics(self) -> Iterable[Metric]:
        """Return the numbers of media now, the statistics of Janus' events, and load and bandwidth of each Janus."""
        yield from stream_gauges(
            ((publisher.key.stream_type, kind) for publisher in self._publishers for kind in publisher.received_media),
            ((report.key.stream_type, report.kind) for report in self.streams() if report.subscriber),
        )
        yield from self._statistics.metrics()
        yield from self._pool.metrics()

    def receive_events(self, frame: bytes) -> None:
        """Process a frame of Janus' event handler; several Janus may send theirs."""
        self._statistics.receive(frame)

    # -- waiting

    @asynccontextmanager
    async def _time_limit(self, seconds: float, key: StreamKey | None = None) -> AsyncIterator[None]:
        """Limit a call that waits for the stream ``key``, and raise Janus' errors as those of the SFU interface."""
        try:
            async with self._publishers.time_limit(seconds, key, unreachable=self._reason_unreachable):
                yield
        except JanusError as error:
            raise videoroom.mcu_error(error) from error

    def _reason_unreachable(self) -> str:
        reason = self._pool.reason_unreachable()
        return f"Janus is not there: {reason}" if reason else ""

    def _check_usable(self, publisher: JanusPublisher | None) -> None:
        if publisher is None:
            self._pool.check_usable()

    def _on_pool_change(self) -> None:
        self._publishers.wake_all()
        self._on_state(self.status())
