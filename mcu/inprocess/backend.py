"""The in-process SFU: its published streams and their subscriptions.

Invariant: a stream has at most one publisher; a new one opens once the replaced one is closed.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import resource
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version

from mcu.base import (
    CloseReason,
    McuLost,
    McuStatus,
    Metric,
    NoSuchStream,
    PublishOptions,
    Rejected,
    SfuState,
    SfuStatus,
    StreamKey,
    StreamListener,
    StreamReport,
    SubscribeOptions,
)
from mcu.inprocess.connection_turns import ConnectionTurns
from mcu.inprocess.counters import StreamCounters
from mcu.inprocess.forwarding_turns import ForwardingTurns
from mcu.inprocess.negotiation.parsing import codec_preference, read_offer
from mcu.inprocess.publisher import InprocessPublisher
from mcu.inprocess.settings import InprocessSettings
from mcu.inprocess.subscriber import InprocessSubscriber
from mcu.inprocess.transport.aiortc_internals.sockets import binding_problem, sockets_of_connection
from mcu.inprocess.transport.impairment import Impairment, StreamLeg
from mcu.publisher_registry import PublisherRegistry
from mcu.stream_gauges import stream_gauges
from sdp.document import Description

VERSION = version("aiortc")
STOP_LIMIT = 5.0  # seconds until the sockets of all streams are closed
BIND_RETRY = 5.0  # seconds between two attempts to bind while no address can be bound

log = logging.getLogger("portunus.inprocess")


class InprocessMcu:
    """An SFU within this process and event loop; implements ``mcu.base.Mcu``."""

    def __init__(
        self,
        settings: InprocessSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._wall_clock = wall_clock
        self._publishers: PublisherRegistry[InprocessPublisher] = PublisherRegistry()
        self._subscribers: set[InprocessSubscriber] = set()
        self._subscriber_numbers = itertools.count(1)
        self._turns = ConnectionTurns()
        self._forwarding_turns = ForwardingTurns()
        self._closing: set[asyncio.Task[None]] = set()  # tasks that close the sockets of ended streams
        self._on_state: Callable[[McuStatus], None] = lambda status: None
        self._started_at = 0.0
        self._state = SfuState.CONNECTING
        self._reason = "not started yet"
        self._bind_timer: asyncio.TimerHandle | None = None
        self._sockets = 1  # of each PeerConnection

    async def start(self, on_state: Callable[[McuStatus], None]) -> None:
        """Become ready at once, or refused while no address can be bound."""
        for library in map(logging.getLogger, ("aioice", "aiortc")):
            if library.level == logging.NOTSET:
                library.setLevel(logging.WARNING)  # at INFO they log candidates and addresses
        self._on_state = on_state
        self._started_at = self._wall_clock()
        self._check_sockets()

    async def publish(
        self, key: StreamKey, offer: Description, options: PublishOptions, listener: StreamListener
    ) -> tuple[InprocessPublisher, Description]:
        """Publish a stream; a rejected offer replaces nothing."""
        self._require_ready()
        parsed = read_offer(offer, codec_preference(options))
        async with self._publishers.time_limit(options.timeout), self._publishers.replacement(key) as before:
            self._require_ready()
            if before is not None:
                await before.end_and_close(CloseReason.REPLACED)
            await self._turns.take()
            self._require_ready()
            publisher = InprocessPublisher(
                key,
                self._settings,
                options,
                listener,
                self._publishers.publisher_changed,
                self._keep_task,
                self._clock,
                self._forwarding_turns,
                self._turns,
            )
            self._publishers.add(publisher)
            try:
                answer = await publisher.open(parsed)
            except BaseException:
                await publisher.close()
                raise
            publisher.gate.open_soon()
            return publisher, answer

    async def subscribe(
        self, key: StreamKey, options: SubscribeOptions, listener: StreamListener
    ) -> tuple[InprocessSubscriber, Description]:
        """Subscribe to a stream, once its publisher is connected."""
        self._require_ready()
        async with self._publishers.time_limit(options.timeout, key):
            while True:
                publisher = await self._publishers.wait_until_connected(key, lambda _: self._require_ready())
                await self._turns.take()
                if not publisher.connected:
                    continue
                subscriber, offer = await self._subscribe(publisher, options, listener)
                if not subscriber.closed:
                    subscriber.gate.open_soon()
                    return subscriber, offer

    def status(self) -> McuStatus:
        """Return a snapshot of the SFU."""
        running = self._state is SfuState.READY
        sfu = SfuStatus(
            url="",
            state=self._state,
            name="aiortc",
            version=VERSION,
            reason=self._reason,
            publishers=len(self._publishers),
            subscribers=len(self._subscribers),
            connected_since=self._started_at if running else 0.0,
        )
        return McuStatus("inprocess", (sfu,), self._capacity())

    def _capacity(self) -> int:
        """Return the number of PeerConnections that settings, ports and descriptors allow; 0 = no limit.

        Half of the descriptors are left for clients.
        """
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        limits = [self._settings.peer_connections, self._settings.ports]
        if descriptors != resource.RLIM_INFINITY:
            limits.append(max(descriptors // 2 // self._sockets, 1))
        return min(filter(None, limits), default=0)

    def streams(self) -> Iterable[StreamReport]:
        """Return a report of each medium, received and sent."""
        for publisher in self._publishers:
            yield from publisher.reports()
        for subscriber in list(self._subscribers):
            yield from subscriber.reports()

    def metrics(self) -> Iterable[Metric]:
        """Return the gauges of published and of subscribed media."""
        return stream_gauges(
            ((report.key.stream_type, report.kind) for report in self.streams() if not report.subscriber),
            ((report.key.stream_type, report.kind) for report in self.streams() if report.subscriber),
        )

    def counters(self) -> list[StreamCounters]:
        """Return the counters of each stream."""
        return [publisher.counters() for publisher in self._publishers]

    def impair(
        self,
        key: StreamKey,
        *,
        loss: float = 0.0,
        delay: float = 0.0,
        jitter: float = 0.0,
        seed: int | None = None,
        leg: str = "publisher",
    ) -> None:
        """Lose and delay packets on the ``publisher`` or ``subscribers`` leg of a stream; stop if all are 0.

        Applies until the publisher reconnects; on the ``subscribers`` leg to later subscriptions, too.

        Raises:
            NoSuchStream: the stream is not published.
            ValueError: a figure is out of bounds, or there is no such leg.
        """
        impaired_leg, impairment = StreamLeg(leg), Impairment(loss, delay, jitter, seed)
        self._require_publisher(key).impair(impaired_leg, impairment if loss or delay or jitter else None)

    def silence(self, key: StreamKey) -> None:
        """Drop all datagrams of a publisher, as if it had vanished; after half a minute its stream ends as failed.

        Raises:
            NoSuchStream: the stream is not published.
        """
        self._require_publisher(key).silence(True)

    def revive(self, key: StreamKey) -> None:
        """Stop dropping the datagrams of a publisher.

        Raises:
            NoSuchStream: the stream is not published (any more).
        """
        self._require_publisher(key).silence(False)

    def reconfigure(self, settings: object) -> None:
        """Apply changed settings, from the next connection on.

        Raises:
            TypeError: the settings are another SFU's.
        """
        if not isinstance(settings, InprocessSettings):
            raise TypeError("not settings of the in-process SFU")
        self._settings = settings
        if self._state in (SfuState.READY, SfuState.REFUSED):
            self._check_sockets()

    async def stop(self) -> None:
        """Close every stream, and return when all sockets are closed, after ``STOP_LIMIT`` seconds at most."""
        if self._bind_timer is not None:
            self._bind_timer.cancel()
        self._set_state(SfuState.STOPPED, "stopped")
        self._publishers.wake_all()
        for publisher in self._publishers:
            publisher.end_lost()
        try:
            async with asyncio.timeout(STOP_LIMIT):
                while self._closing:
                    await asyncio.wait(self._closing)
        except TimeoutError:
            self._log_closing()

    def _log_closing(self) -> None:
        for task in self._closing:
            log.error("a PeerConnection did not close within %g s: %s", STOP_LIMIT, _waiting_at(task))

    def _require_publisher(self, key: StreamKey) -> InprocessPublisher:
        publisher = self._publishers.get(key)
        if publisher is None:
            raise NoSuchStream("the stream has no publisher")
        return publisher

    async def _subscribe(
        self, publisher: InprocessPublisher, options: SubscribeOptions, listener: StreamListener
    ) -> tuple[InprocessSubscriber, Description]:
        """Open a subscription; close it again if the publisher has ended meanwhile."""
        subscriber = InprocessSubscriber(
            publisher,
            next(self._subscriber_numbers),
            self._settings,
            options.selection,
            listener,
            self._subscriber_ended,
            self._keep_task,
            self._clock,
            self._turns,
        )
        try:
            offer = await subscriber.open()
        except BaseException:
            await subscriber.close()
            raise
        if publisher.closed:
            await subscriber.close()
        else:
            publisher.add_subscriber(subscriber)
            self._subscribers.add(subscriber)
        return subscriber, offer

    def _subscriber_ended(self, subscriber: InprocessSubscriber) -> None:
        self._subscribers.discard(subscriber)
        subscriber.publisher.remove_subscriber(subscriber)

    def _keep_task(self, task: asyncio.Task[None]) -> None:
        """Keep a task that closes sockets until it is done; ``stop`` waits for it."""
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _check_sockets(self) -> None:
        """Become READY if sockets can be bound, else REFUSED, and check again later."""
        if self._bind_timer is not None:
            self._bind_timer.cancel()
        reason = binding_problem(self._settings)
        self._sockets = sockets_of_connection(self._settings)
        if reason:
            self._bind_timer = asyncio.get_running_loop().call_later(BIND_RETRY, self._check_sockets)
            if reason != self._reason:
                log.error("the SFU cannot be used: %s", reason)
        self._set_state(SfuState.REFUSED if reason else SfuState.READY, reason)

    def _set_state(self, state: SfuState, reason: str) -> None:
        if (state, reason) != (self._state, self._reason):
            self._state, self._reason = state, reason
            self._on_state(self.status())

    def _require_ready(self) -> None:
        if self._state is SfuState.REFUSED:
            raise Rejected(f"The SFU cannot be used: {self._reason}.")
        if self._state is not SfuState.READY:
            raise McuLost("The SFU is not running.")


def _waiting_at(task: asyncio.Task[None]) -> str:
    """Return the function in which a task waits, and its line."""
    frames = task.get_stack(limit=1)
    return f"{frames[0].f_code.co_qualname}, line {frames[0].f_lineno}" if frames else "it waits nowhere"
