"""One Janus or several as the SFU of the gateway: which streams there are, who waits for them, and where they go.

At each moment a stream has at most one publisher. Calls for one stream are carried out one after another; whoever
waits for a publisher is woken when one comes, comes up or goes, and looks again. A new publisher goes to the Janus that
``mcu.janus.placement.ranking`` puts first, its subscribers follow it there or are served over a second one
(docs/mcu.md, "Several Janus"). Nobody waits for a Janus that is away while another takes streams.
"""

from __future__ import annotations

import asyncio
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
from mcu.janus.connection.session import Clock, JanusSession, RequestInterrupted, loop_time
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

LET_GO = 2.0  # seconds that a replaced publisher's Janus has to let it go before the new one is made
GO_ON = 2.0  # seconds that a second Janus has to take a stream before the publisher's serves
OFFERED = 2  # Janus at most that are given one offer: a description at which Janus dies must not take them all


class JanusMcu:
    """One Janus or several behind the SFU interface (``mcu.base.Mcu``)."""

    def __init__(
        self,
        servers: tuple[JanusServerSettings, ...],
        timeout: float,
        instance: str = "",
        clock: Clock = loop_time,
    ) -> None:
        """Take the settings; ``timeout`` in seconds holds for each request that brings no time limit of its own.

        ``instance`` names this gateway on Janus (``mcu.janus.labels``); empty: one is drawn.

        Raises:
            ValueError: there is no Janus, one is named twice, or the instance cannot stand in a label.
        """
        check_servers(servers)
        name = instance_name(instance)
        self._on_state: Callable[[McuStatus], None] = lambda status: None
        self._statistics = EventStatistics(lambda opaque_id: opaque_id.startswith(f"{control_label(name)}|"), clock)
        self._clock = clock
        self._timeout = timeout
        self._pool = JanusPool(servers, timeout, name, self._statistics, clock, self._state_changed)
        self._publishers: PublisherRegistry[JanusPublisher] = PublisherRegistry()

    # -- to be there and not to be there

    async def start(self, on_state: Callable[[McuStatus], None]) -> None:
        """Begin to connect and return at once."""
        self._on_state = on_state
        self._pool.start()

    async def stop(self) -> None:
        """Close every stream on Janus and disconnect. Idempotent."""
        await self._pool.stop()

    async def reconfigure(self, settings: object) -> None:
        """Take changed settings; streams go on where they are.

        A Janus that is new is connected to. One that is no longer named, or is marked as draining, takes no new streams
        and is left when its last one has ended. What a connection needs holds from the next one to that Janus on.

        Raises:
            ValueError: there is no Janus, or one is named twice; nothing has changed.
        """
        self._pool.reconfigure(msgspec.convert(settings, tuple[JanusServerSettings, ...]))

    def server(self, url: str = "") -> JanusServer:
        """Return one Janus, the first where no address is given; for what goes beyond the SFU interface."""
        return self._pool.servers[url] if url else next(iter(self._pool.servers.values()))

    async def session(self, url: str = "") -> JanusSession:
        """Return the session with a Janus (the first), once there is one; for what goes beyond the SFU interface."""
        return await self.server(url).connector.wait_for_session()

    # -- publish

    async def publish(
        self, key: StreamKey, offer: Description, options: PublishOptions, listener: StreamListener
    ) -> tuple[Publisher, Description]:
        """Publish a stream; what ``mcu.base.Mcu.publish`` says."""
        serialised = SerialisedOffer.of(offer)  # a refused offer does not end the running publisher
        deadline = self._clock() + options.timeout
        async with self._in_time(options.timeout), self._publishers.replacement(key) as before:
            await self._pool.wait_until_accepting()
            if before is not None and not before.closed:
                at_hand = self._pool.of_publisher(before)
                before.replace()
                if at_hand is not None and at_hand.connector.session is not None:  # else it would be waited for in vain
                    await asyncio.wait(before.closing, timeout=LET_GO)
            publisher, answer = await self._place(key, serialised, options, listener, deadline)
            self._publishers.add(publisher)
            publisher.gate.open_soon()
            return publisher, answer

    async def _place(
        self, key: StreamKey, offer: SerialisedOffer, options: PublishOptions, listener: StreamListener, deadline: float
    ) -> tuple[JanusPublisher, Description]:
        """Publish on the best Janus that manages to in its share of the time.

        Raises:
            TimeoutError, JanusError, McuError: what went wrong on the last one that was tried.
        """
        tried: set[JanusServer] = set()
        offered = 0
        while True:
            left = self._pool.for_publisher(options, tried)
            if not left:
                if tried:
                    raise McuLost("no Janus took the stream")
                await self._pool.wait_until_accepting()
                continue
            server = left[0]
            share = (deadline - self._clock()) / len(left)
            publisher = None
            try:
                async with asyncio.timeout(share if len(left) > 1 else None):
                    with server.new_publisher(key, options, listener, self._publishers.changed) as publisher:
                        return publisher, await publisher.open(offer, options)
            except (
                RequestInterrupted
            ):  # nobody knows how far it came: what there is goes, and it begins again, here or elsewhere
                continue
            except (TimeoutError, JanusError, McuError) as error:
                tried.add(server)
                given = publisher is not None and publisher.offered
                offered += given
                if len(left) == 1 or offered == OFFERED or (given and isinstance(error, JanusError | Rejected)):
                    raise  # where Janus has answered, another one would say the same of the same description
                server.log.warning("a stream was not taken, and goes to another Janus: %s", type(error).__name__)

    # -- subscribe

    async def subscribe(
        self, key: StreamKey, options: SubscribeOptions, listener: StreamListener
    ) -> tuple[Subscriber, Description]:
        """Subscribe to a stream; what ``mcu.base.Mcu.subscribe`` says."""
        deadline = self._clock() + options.timeout
        passed: set[JanusServer] = set()
        async with self._in_time(options.timeout, key):
            while True:
                publisher = await self._publishers.wait_until_connected(key, self._check_usable)
                server = self._pool.better_for_subscriber(publisher, options)
                if server is None or server in passed:
                    found = await self._enter(publisher, options, listener)
                else:
                    found = await self._enter_remote(server, publisher, options, listener, deadline)
                    if not publisher.closed:
                        passed.add(server)
                if found is not None:
                    found[0].gate.open_soon()
                    return found

    async def _enter(
        self, audience: RoomFeed, options: SubscribeOptions, listener: StreamListener
    ) -> tuple[JanusSubscriber, Description] | None:
        """Subscribe where the publisher is; ``None``: look again."""
        subscriber = JanusSubscriber(audience, listener, self._timeout)
        try:
            offer = await subscriber.open(options.selection)
        except PublisherNotReady:
            await self._publishers.wait_for_change(audience.key)
            return None
        except McuLost:
            if audience.closed:  # the stream may come back, here or elsewhere
                return None
            raise
        return None if offer is None else (subscriber, offer)

    async def _enter_remote(
        self,
        server: JanusServer,
        publisher: JanusPublisher,
        options: SubscribeOptions,
        listener: StreamListener,
        deadline: float,
    ) -> tuple[JanusSubscriber, Description] | None:
        """Subscribe on a second Janus; ``None``: look again."""
        limit = min(GO_ON, (deadline - self._clock()) / 2)
        try:
            async with asyncio.timeout(limit):
                remote = server.remote_stream(publisher)
                async with remote.visited():
                    subscriber = JanusSubscriber(remote, listener, self._timeout)
                    offer = await subscriber.open(options.selection)
        except (TimeoutError, JanusError, McuError, PublisherNotReady) as error:
            in_vain = not isinstance(error, TimeoutError) or limit == GO_ON  # else it had little time
            if in_vain and not publisher.closed:
                server.suspend_forwarding()
                server.log.warning("a stream of another Janus cannot go on to here: %s", type(error).__name__)
            return None
        return None if offer is None else (subscriber, offer)

    # -- what is told

    def status(self) -> McuStatus:
        """Return a snapshot."""
        return self._pool.status()

    def streams(self) -> Iterable[StreamReport]:
        """Return a report for each stream and kind: which codec runs, and what Janus' event feed tells of it."""
        return self._pool.streams()

    def metrics(self) -> Iterable[Metric]:
        """Return how many media flow, and what Janus' event feed adds up to."""
        yield from stream_gauges(
            ((publisher.key.stream_type, kind) for publisher in self._publishers for kind in publisher.arriving),
            ((report.key.stream_type, report.kind) for report in self.streams() if report.subscriber),
        )
        yield from self._statistics.metrics()
        yield from self._pool.metrics()

    def receive_events(self, frame: bytes) -> None:
        """Process a frame of Janus' event feed; several Janus may send theirs."""
        self._statistics.receive(frame)

    # -- waiting

    @asynccontextmanager
    async def _in_time(self, seconds: float, key: StreamKey | None = None) -> AsyncIterator[None]:
        """Limit a call that waits for the stream ``key``, and raise Janus' errors as those of the SFU interface."""
        try:
            async with self._publishers.time_limit(seconds, key, unreachable=self._unreachable):
                yield
        except JanusError as error:
            raise videoroom.mcu_error(error) from error

    def _unreachable(self) -> str:
        reason = self._pool.reason_unreachable()
        return f"Janus is not there: {reason}" if reason else ""

    def _check_usable(self, publisher: JanusPublisher | None) -> None:
        if publisher is None:
            self._pool.check_usable()

    def _state_changed(self) -> None:
        self._publishers.wake_all()
        self._on_state(self.status())
