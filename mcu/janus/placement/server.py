"""One Janus of the gateway: its connection, its rooms, and the streams on it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import aiohttp

from mcu.base import CloseReason, McuLost, PublishOptions, SfuState, SfuStatus, StreamKey, StreamListener, StreamReport
from mcu.janus.connection.connector import JanusConnector
from mcu.janus.connection.log import JanusLog
from mcu.janus.connection.session import JanusSession
from mcu.janus.events.statistics import EventStatistics
from mcu.janus.placement.ranking import ServerLoad
from mcu.janus.rooms.sweep import sweep, tell_owners
from mcu.janus.rooms.videoroom import RoomRegistry
from mcu.janus.settings import JanusServerSettings
from mcu.janus.streams.handle_peer import HandlePeer
from mcu.janus.streams.publisher import JanusPublisher
from mcu.janus.streams.remote import RemoteStream

REMOTE_SINCE = (1, 1)  # the version of Janus that brought remote publishers
SPARED = 30.0  # seconds without remote streams after one that did not come about
MEASURED = 1.0  # seconds between two looks at the bandwidth


class JanusServer:
    """One Janus; ``on_change`` is called after each change of its state."""

    def __init__(
        self,
        server: JanusServerSettings,
        timeout: float,
        on_change: Callable[[], None],
        rooms: RoomRegistry,
        feed: EventStatistics,
    ) -> None:
        self.log = JanusLog()
        self.server = server
        self.rooms = rooms
        self.client = JanusConnector(server, timeout, self._changed, rooms.instance, self.log, self._upkeep)
        self.publishers: set[JanusPublisher] = set()
        self.remotes: dict[JanusPublisher, RemoteStream] = {}  # what comes from other Janus
        self.gone = False  # taken out of the configuration
        self._timeout = timeout
        self._on_change = on_change
        self._feed = feed
        self._coming = 0  # publishers that are being made
        self._ending: set[JanusPublisher | RemoteStream] = set()  # ended, but perhaps not let go by Janus yet
        self._wanted = False  # started and not stopped
        self._running = False  # connected, or about to be
        self._disconnected = True
        self._leaving: asyncio.Task[None] | None = None
        self._spared_until = 0.0
        self._bandwidth: tuple[float, tuple[int, int] | None] = (0.0, None)  # until when it holds

    # -- to be there and not to be there

    @property
    def draining(self) -> bool:
        """Whether it takes no new streams."""
        return self.server.draining or self.gone

    @property
    def takes(self) -> bool:
        """Whether it takes new streams now; one that is just being left, and was called back meanwhile, does not."""
        return self._running and not self.draining and self.client.current() is not None

    @property
    def coming(self) -> bool:
        """Whether it may come to take streams by itself."""
        if self.draining:
            return False
        return self.client.state in (SfuState.CONNECTING, SfuState.READY) or (self._wanted and not self._running)

    @property
    def left(self) -> bool:
        """Whether it was drained, and left."""
        return self.draining and self._disconnected

    @property
    def idle(self) -> bool:
        """Whether no stream is here, nor about to come."""
        return not (self.publishers or self.remotes or self._coming)

    def start(self) -> None:
        """Begin to connect and return at once; one that is drained is not connected to."""
        self._wanted = True
        if not self.draining:
            self._running, self._disconnected = True, False
            self.client.start()

    async def stop(self) -> None:
        """Close every stream and disconnect. Idempotent."""
        self._wanted = self._running = False
        for stream in (*self.publishers, *self.remotes.values()):
            stream.end(CloseReason.LOST)
        await self._disconnect()
        if self._leaving is not None:
            await asyncio.wait([self._leaving])

    async def _disconnect(self) -> None:
        self.client.give_up()  # what cannot be told to Janus now is cleared away by the next process
        await asyncio.gather(*(stream.clean() for stream in self._ending))
        session = self.client.current()
        if session is not None and (rest := self.rooms.all()):  # of verbs that are still under way
            await asyncio.wait([self.rooms.destroy(session, number) for number in rest], timeout=self._timeout)
        await self.client.stop()

    def reconfigure(self, server: JanusServerSettings | None) -> None:
        """Take changed settings; ``None``: it was taken out of the configuration.

        What the connection needs holds from the next one on, all else at once. One that is called back while it is
        being left is connected to again when that is done.
        """
        if server is None and not self.gone:
            self.log.which = f"{self.log.which or 'Janus'} of before the reload"
        self.gone = server is None
        if server is not None:
            self.server = self.client.server = server
            self.rooms.admin_key = server.admin_key
        if self.draining:
            self._settle()
        elif self._wanted and not self._running and (self._leaving is None or self._leaving.done()):
            self.start()
        self._on_change()

    def _settle(self) -> None:
        """Leave if it is drained and its last stream has ended."""
        if self.draining and self._running and self.idle:
            self._running = False
            self._leaving = asyncio.create_task(self._leave(), name="janus-drained")

    async def _leave(self) -> None:
        await asyncio.sleep(0)  # what ended just now says first what has to be waited for
        await self._disconnect()
        self.rooms.release()
        self._disconnected = True
        self.log.info("Janus was drained and left")
        if self._wanted and not self.draining:
            self.start()
        self._on_change()

    async def _upkeep(self, http: aiohttp.ClientSession, session: JanusSession, claimed: bool) -> None:
        if claimed and self.server.admin_url:
            await tell_owners(http, session, self.server)
        await sweep(http, session, self.rooms, lambda: self.server, self.client.old)

    def _changed(self) -> None:
        self._settle()
        self._on_change()

    # -- streams

    @contextmanager
    def publisher(
        self,
        key: StreamKey,
        options: PublishOptions,
        listener: StreamListener,
        on_change: Callable[[JanusPublisher], None],
    ) -> Iterator[JanusPublisher]:
        """Give a publisher that is not opened yet, and keep it when it is; ``on_change`` hears its ups and downs.

        Raises:
            McuLost: this Janus is not there.
        """
        session = self.client.current()
        if session is None:
            raise McuLost(f"Janus is not there: {self.client.reason}")

        def changed(publisher: JanusPublisher) -> None:
            if publisher.ended:
                self.publishers.discard(publisher)
                self._ended(publisher)
            on_change(publisher)

        publisher = JanusPublisher(session, key, listener, self._timeout, options.bitrate, self.rooms, changed)
        self._coming += 1
        try:
            yield publisher
            if publisher.ended:
                raise McuLost("the connection to Janus is gone")
            self.publishers.add(publisher)
        finally:
            self._coming -= 1
            self._settle()

    def remote(self, publisher: JanusPublisher) -> RemoteStream:
        """Return a publisher's stream on this Janus, where it comes from another; it is made if need be.

        Raises:
            McuLost: this Janus is not there.
        """
        found = self.remotes.get(publisher)
        if found is not None:
            return found
        session = self.client.current()
        if session is None:
            raise McuLost(f"Janus is not there: {self.client.reason}")

        def ended(remote: RemoteStream) -> None:
            if self.remotes.get(publisher) is remote:
                del self.remotes[publisher]
            self._ended(remote)

        remote = RemoteStream(publisher, session, self.rooms, self.server.host, self._timeout, ended)
        self.remotes[publisher] = remote
        publisher.remotes.add(remote)
        return remote

    def _ended(self, stream: JanusPublisher | RemoteStream) -> None:
        self._ending = {other for other in self._ending if not all(left.done() for left in other.leaving)} | {stream}
        self._settle()

    @property
    def forwards(self) -> bool:
        """Whether streams may go on from here and to here."""
        if not self.server.remote_streams or time.monotonic() < self._spared_until:
            return False
        return self.client.current() is not None and self._version >= REMOTE_SINCE

    def spare(self) -> None:
        """Let no stream go on to here for a while: it did not work."""
        self._spared_until = time.monotonic() + SPARED

    @property
    def _version(self) -> tuple[int, ...]:
        parts = self.client.version.split(".")
        return tuple(int(part) for part in parts if part.isdecimal())

    # -- what is told of it

    def standing(self, publisher: JanusPublisher | None = None) -> ServerLoad:
        """Return how it stands; ``publisher``: of the stream in question."""
        return ServerLoad(
            publishers=len(self.publishers) + len(self.remotes) + self._coming,
            subscribers=self._subscribers + sum(len(publisher.remotes) for publisher in self.publishers),
            bits_per_second=None if self.bandwidth is None else 8 * sum(self.bandwidth),
            weight=self.server.weight,
            country=self.server.country,
            continents=frozenset(self.server.continents),
            carries=publisher in self.remotes,
        )

    @property
    def _subscribers(self) -> int:
        return sum(len(stream.subscribers) for stream in (*self.publishers, *self.remotes.values()))

    @property
    def bandwidth(self) -> tuple[int, int] | None:
        """What comes in and goes out, in bytes per second; ``None``: Janus does not tell."""
        now = time.monotonic()
        if now >= self._bandwidth[0]:
            self._bandwidth = (now + MEASURED, self._measure())
        return self._bandwidth[1]

    def _measure(self) -> tuple[int, int] | None:
        found = [self._feed.figures(leg.session.id, leg.handle.id) for leg in self._legs()]
        told = [figures for media in found for figures in media.values()]
        if found and not told:
            return None
        return sum(figures.incoming for figures in told), sum(figures.outgoing for figures in told)

    def _legs(self) -> Iterator[HandlePeer]:
        yield from list(self.publishers)
        for stream in (*self.publishers, *self.remotes.values()):
            yield from list(stream.subscribers)

    def status(self, load: float) -> SfuStatus:
        """Return a snapshot."""
        client = self.client
        state, reason = client.state, client.reason
        if self.left:
            state, reason = SfuState.STOPPED, "drained"
        elif self.draining and state in (SfuState.READY, SfuState.STOPPED):
            state, reason = SfuState.DRAINING, "takes no new streams, and is left when its last one has ended"
        return SfuStatus(
            url=self.server.url,
            state=state,
            name=client.name,
            version=client.version,
            reason=reason,
            publishers=len(self.publishers),
            subscribers=self._subscribers,
            load=load,
            connected_since=client.since,
            details=client.details,
            log_name=self.log.which,
        )

    def streams(self) -> Iterable[StreamReport]:
        """Return a report for each stream and kind, with the figures that the event feed has of it."""
        for leg in self._legs():
            yield from leg.reports(self._feed)
