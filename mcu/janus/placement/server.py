"""One Janus of the gateway: its connection, its rooms, and the streams on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from weakref import WeakSet

import aiohttp

from mcu.base import (
    CloseReason,
    McuLost,
    PublishOptions,
    SfuState,
    SfuStatus,
    StreamKey,
    StreamListener,
    StreamReport,
)
from mcu.janus.connection.connector import JanusConnector
from mcu.janus.connection.log import JanusLog
from mcu.janus.connection.messages import version_numbers
from mcu.janus.connection.session import Clock, JanusSession
from mcu.janus.events.statistics import EventStatistics
from mcu.janus.placement.layer_watch import LayerWatch
from mcu.janus.placement.ranking import ServerLoad
from mcu.janus.rooms.registry import RoomRegistry
from mcu.janus.rooms.sweep import report_handle_states, sweep
from mcu.janus.rooms.videoroom import VIDEO_CODECS
from mcu.janus.settings import JanusServerSettings
from mcu.janus.streams.handle_peer import HandlePeer
from mcu.janus.streams.publisher import JanusPublisher
from mcu.janus.streams.remote import RemoteStream

REMOTE_PUBLISHERS_SINCE = (1, 1)  # the version of Janus that introduced remote publishers
ANY_SIMULCAST_SINCE = (1, 2)  # the version whose VideoRoom knows simulcast of every codec
OLD_SIMULCAST = ("vp8", "h264")  # the codecs whose layers an older Janus tells apart
REMOTE_SRTP_SINCE = (1, 3)  # the version that encrypts RTP to a remote publisher; older ones ignore the key
FORWARDING_PAUSE = 30.0  # seconds without forwarding after a stream could not be forwarded to this Janus
BANDWIDTH_AGE = 1.0  # seconds for which a measured bandwidth is used


class JanusServer:
    """One Janus; ``on_change`` is called after each change of its state.

    ``all_sessions`` are the sessions of all servers of this process: two may be one Janus under two addresses.
    """

    def __init__(
        self,
        settings: JanusServerSettings,
        timeout: float,
        rooms: RoomRegistry,
        all_sessions: WeakSet[JanusSession],
        statistics: EventStatistics,
        clock: Clock,
        wall_clock: Clock,
        on_change: Callable[[], None],
    ) -> None:
        self.log = JanusLog()
        self.settings = settings
        self.rooms = rooms
        self._all_sessions = all_sessions
        self.connector = JanusConnector(
            settings,
            timeout,
            rooms.instance,
            self.log,
            clock,
            wall_clock,
            self._on_connector_change,
            self._check,
            self._upkeep,
        )
        self.publishers: set[JanusPublisher] = set()
        self.remotes: dict[JanusPublisher, RemoteStream] = {}  # copies of streams of another Janus
        self.removed = False  # from the configuration
        self._timeout = timeout
        self._statistics = statistics
        self._clock = clock
        self._on_change = on_change
        self._opening = 0  # number of publishers that are being opened
        self._closing: set[JanusPublisher | RemoteStream] = set()  # ended, but perhaps not yet removed by Janus
        self._started = False  # start() was called and stop() was not
        self._connector_runs = False
        self._disconnected = True
        self._disconnecting: asyncio.Task[None] | None = None
        self._no_forwarding_until = 0.0
        self._unencrypted_version: tuple[int, ...] = ()  # for which a missing encryption was logged
        self._bandwidth: tuple[int, int] | None = None
        self._bandwidth_until = 0.0

    # -- connecting, draining, disconnecting

    @property
    def draining(self) -> bool:
        """Whether this Janus accepts no new streams."""
        return self.settings.draining or self.removed

    @property
    def accepts_streams(self) -> bool:
        """Whether this Janus is connected, not being disconnected, and accepts new streams."""
        return self._connector_runs and not self.draining and self.connector.session is not None

    @property
    def may_accept_streams(self) -> bool:
        """Whether this Janus accepts new streams, or will do so without a change of the configuration."""
        if self.draining:
            return False
        return self.connector.state in (SfuState.CONNECTING, SfuState.READY) or (
            self._started and not self._connector_runs
        )

    @property
    def drained(self) -> bool:
        """Whether this Janus was drained, and is disconnected."""
        return self.draining and self._disconnected

    @property
    def has_streams(self) -> bool:
        """Whether this Janus has a stream or is opening one."""
        return bool(self.publishers or self.remotes or self._opening)

    def start(self) -> None:
        """Begin to connect, unless this Janus is draining, and return at once."""
        self._started = True
        if not self.draining:
            self._connector_runs, self._disconnected = True, False
            self.connector.start()

    async def stop(self) -> None:
        """Close every stream and disconnect. Idempotent."""
        self._started = self._connector_runs = False
        for stream in self._streams():
            stream.end(CloseReason.LOST)
        await self._disconnect()
        if self._disconnecting is not None:
            await asyncio.wait([self._disconnecting])

    async def _disconnect(self) -> None:
        self.connector.give_up_claim()  # if Janus is away, the next process removes the streams' objects
        await asyncio.gather(*(stream.wait_closed() for stream in self._closing))
        session = self.connector.session
        if session is not None and (rest := self.rooms.rooms()):  # of publish and subscribe calls still running
            await asyncio.wait([self.rooms.destroy(session, room) for room in rest], timeout=self._timeout)
        await self.connector.stop()

    def rename(self, name: str) -> None:
        """Set the name of this Janus in the log; empty: its lines name none."""
        self.log.server_name = f"Janus {name}" if name else ""

    def reconfigure(self, settings: JanusServerSettings | None) -> None:
        """Apply changed settings; ``None``: this Janus was removed from the configuration.

        Settings of the connection apply to the next connection, all others at once. If draining is taken back during
        the disconnection, this Janus is connected again afterwards.
        """
        if settings is None and not self.removed:
            self.log.server_name = f"{self.log.server_name or 'Janus'} of before the reload"
        self.removed = settings is None
        if settings is not None:
            self.settings = self.connector.settings = settings
        if self.draining:
            self._disconnect_if_drained()
        elif self._started and not self._connector_runs and (self._disconnecting is None or self._disconnecting.done()):
            self.start()
        self._on_change()

    def _disconnect_if_drained(self) -> None:
        if self.draining and self._connector_runs and not self.has_streams:
            self._connector_runs = False
            self._disconnecting = asyncio.create_task(self._disconnect_drained(), name="janus-drained")

    async def _disconnect_drained(self) -> None:
        await asyncio.sleep(0)  # a stream that has just ended adds itself to ``_closing`` first
        await self._disconnect()
        self.rooms.release()
        self._disconnected = True
        self.log.info("Janus was drained and disconnected")
        if self._started and not self.draining:
            self.start()
        self._on_change()

    async def _check(self, session: JanusSession) -> str:
        self.rooms.admin_key = self.settings.admin_key  # with each new session: Janus reads its own key at its start
        return await self.rooms.reason_unusable(session)

    async def _upkeep(self, http: aiohttp.ClientSession, session: JanusSession, claimed: bool) -> None:
        self._all_sessions.add(session)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_layers(http, session), name="janus-layers")
            if claimed and self.settings.admin_url:
                await report_handle_states(http, session, self.settings)
            await sweep(http, session, self.rooms, lambda: self.settings, self.connector.abandoned, self._all_sessions)

    async def _watch_layers(self, http: aiohttp.ClientSession, session: JanusSession) -> None:
        watch = LayerWatch(http, session, self._statistics, self._clock)
        while True:
            await watch.measure(list(self.publishers), self.settings)

    def _on_connector_change(self) -> None:
        self._disconnect_if_drained()
        self._on_change()

    def _session(self) -> JanusSession:
        session = self.connector.session
        if session is None:
            raise McuLost(f"Janus is not there: {self.connector.reason}")
        return session

    # -- streams

    @contextmanager
    def new_publisher(
        self,
        key: StreamKey,
        options: PublishOptions,
        listener: StreamListener,
        on_change: Callable[[JanusPublisher], None],
    ) -> Iterator[JanusPublisher]:
        """Yield a publisher to be opened in the context, and keep it if that succeeds.

        ``on_change`` is called when the publisher's connection is up, and when the publisher ends.

        Raises:
            McuLost: this Janus is not connected, or the publisher has ended within the context.
        """

        def changed(publisher: JanusPublisher) -> None:
            if publisher.closed:
                self.publishers.discard(publisher)
                self._on_stream_end(publisher)
            on_change(publisher)

        simulcast = frozenset(VIDEO_CODECS if self._version >= ANY_SIMULCAST_SINCE else OLD_SIMULCAST)
        publisher = JanusPublisher(
            self._session(),
            key,
            listener,
            self._timeout,
            options.bitrate,
            self.rooms,
            changed,
            simulcast=simulcast,
        )
        self._opening += 1
        try:
            yield publisher
            if publisher.closed:
                raise McuLost("the connection to Janus is gone")
            self.publishers.add(publisher)
        finally:
            self._opening -= 1
            self._disconnect_if_drained()

    def remote_stream(self, publisher: JanusPublisher, source: JanusServer) -> RemoteStream:
        """Return this Janus' copy of a stream that is published on ``source``; create the copy if there is none.

        Raises:
            McuLost: this Janus is not connected.
        """
        found = self.remotes.get(publisher)
        if found is not None:
            return found

        def ended(remote: RemoteStream) -> None:
            if self.remotes.get(publisher) is remote:
                del self.remotes[publisher]
            self._on_stream_end(remote)

        unencrypting = [server for server in (source, self) if not server.encrypts_forwarding()]
        remote = RemoteStream(
            publisher,
            self._session(),
            self.rooms,
            self.settings.forward_host,
            self._timeout,
            ended,
            encrypted=not unencrypting,
        )
        self.remotes[publisher] = remote
        publisher.remotes.add(remote)
        remote.start()
        return remote

    def _streams(self) -> list[JanusPublisher | RemoteStream]:
        return [*self.publishers, *self.remotes.values()]

    def _on_stream_end(self, stream: JanusPublisher | RemoteStream) -> None:
        self._closing = {other for other in self._closing if not all(future.done() for future in other.closing)}
        self._closing.add(stream)
        self._disconnect_if_drained()

    @property
    def forwards_streams(self) -> bool:
        """Whether streams may be forwarded from this Janus to another, and from another to it."""
        if not self.settings.remote_streams or self._clock() < self._no_forwarding_until:
            return False
        return self.connector.session is not None and self._version >= REMOTE_PUBLISHERS_SINCE

    def encrypts_forwarding(self) -> bool:
        """Return whether this Janus can encrypt a stream that is forwarded from it or to it; log once if it cannot."""
        if self._version >= REMOTE_SRTP_SINCE:
            return True
        if self._version != self._unencrypted_version:
            self._unencrypted_version = self._version
            self.log.warning(
                "streams that are forwarded to or from this Janus are not encrypted: that needs version %s",
                ".".join(map(str, REMOTE_SRTP_SINCE)),
            )
        return False

    def suspend_forwarding(self) -> None:
        """Forward no stream to this Janus for ``FORWARDING_PAUSE``, after a failure."""
        self._no_forwarding_until = self._clock() + FORWARDING_PAUSE

    @property
    def _version(self) -> tuple[int, ...]:
        return version_numbers(self.connector.version)

    # -- load and status

    def load(self, publisher: JanusPublisher | None = None) -> ServerLoad:
        """Return load and location; ``publisher``: that of the stream for whose subscriber a Janus is chosen."""
        return ServerLoad(
            publishers=len(self.publishers) + len(self.remotes) + self._opening,
            subscribers=self._subscriber_count + sum(len(publisher.remotes) for publisher in self.publishers),
            bits_per_second=None if self.bandwidth is None else 8 * sum(self.bandwidth),
            weight=self.settings.weight,
            country=self.settings.country,
            continents=frozenset(self.settings.continents),
            has_stream=publisher in self.remotes,
        )

    @property
    def _subscriber_count(self) -> int:
        return sum(len(stream.feed.subscribers) for stream in self._streams())

    @property
    def bandwidth(self) -> tuple[int, int] | None:
        """Incoming and outgoing bytes per second; ``None``: Janus sends no statistics."""
        now = self._clock()
        if now >= self._bandwidth_until:
            self._bandwidth, self._bandwidth_until = self._measure_bandwidth(), now + BANDWIDTH_AGE
        return self._bandwidth

    def _measure_bandwidth(self) -> tuple[int, int] | None:
        peers = list(self._peers())
        media = [
            statistics
            for peer in peers
            for statistics in self._statistics.statistics_of_handle(peer.session.id, peer.handle.id).values()
        ]
        if peers and not media:
            return None
        return sum(medium.incoming for medium in media), sum(medium.outgoing for medium in media)

    def _peers(self) -> Iterator[HandlePeer]:
        yield from list(self.publishers)
        for stream in self._streams():
            yield from list(stream.feed.subscribers)

    def status(self, load: float) -> SfuStatus:
        """Return a snapshot."""
        connector = self.connector
        state, reason = connector.state, connector.reason
        if self.drained:
            state, reason = SfuState.STOPPED, "drained"
        elif self.draining and state in (SfuState.READY, SfuState.STOPPED):
            state, reason = SfuState.DRAINING, "accepts no new streams, and is disconnected when its last one has ended"
        return SfuStatus(
            url=self.settings.url,
            state=state,
            name=connector.name,
            version=connector.version,
            reason=reason,
            restriction=connector.restriction if state is SfuState.READY else "",
            publishers=len(self.publishers),
            subscribers=self._subscriber_count,
            load=load,
            connected_since=connector.connected_since,
            details=connector.details,
            log_name=self.log.server_name,
        )

    def streams(self) -> Iterable[StreamReport]:
        """Return a report for each media kind of each publisher and subscriber, with figures from Janus' events."""
        for peer in self._peers():
            yield from peer.reports(self._statistics)
