"""All Janus servers of one gateway: those in the configuration, and removed ones that are still being drained.

``mcu.janus.placement.ranking`` chooses the server for a stream, by the loads that the pool collects.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from weakref import WeakSet

from mcu.base import McuLost, McuStatus, Metric, PublishOptions, Rejected, SfuState, StreamReport, SubscribeOptions
from mcu.janus.connection.session import Clock, JanusSession
from mcu.janus.events.statistics import EventStatistics
from mcu.janus.placement import ranking
from mcu.janus.placement.server import JanusServer
from mcu.janus.rooms.registry import RoomRegistry
from mcu.janus.settings import JanusServerSettings, check_servers
from mcu.janus.streams.publisher import JanusPublisher


class JanusPool:
    """One Janus server or several; ``on_change`` is called after each change of a server's state.

    ``instance`` is the gateway's name in labels (``mcu.janus.labels``), ``statistics`` provides the bandwidths.
    """

    def __init__(
        self,
        settings: Iterable[JanusServerSettings],
        timeout: float,
        instance: str,
        statistics: EventStatistics,
        clock: Clock,
        wall_clock: Clock,
        on_change: Callable[[], None],
    ) -> None:
        self._timeout = timeout
        self._instance = instance
        self._all_rooms: set[int] = set()  # shared by the room registries
        self._all_sessions: WeakSet[JanusSession] = WeakSet()  # shared by the servers
        self._statistics = statistics
        self._clock = clock
        self._wall_clock = wall_clock
        self._on_change = on_change
        self._started = False
        self._changed = asyncio.Event()  # replaced at each change of a state
        self.servers = {server.url: self._create(server) for server in settings}  # by the URL of the WebSocket API
        self._assign_names(server.settings for server in list(self.servers.values()))

    def _create(self, settings: JanusServerSettings) -> JanusServer:
        rooms = RoomRegistry(settings.admin_key, self._instance, self._all_rooms)
        return JanusServer(
            settings,
            self._timeout,
            rooms,
            self._all_sessions,
            self._statistics,
            self._clock,
            self._wall_clock,
            self._on_server_change,
        )

    def _assign_names(self, configured: Iterable[JanusServerSettings]) -> None:
        """Set the log names of the configured servers; ``JanusServer.reconfigure`` renames a removed one."""
        for number, settings in enumerate(configured, 1):
            name = settings.name or (str(number) if len(self.servers) > 1 else "")
            self.servers[settings.url].rename(name)

    def start(self) -> None:
        """Begin to connect and return at once."""
        self._started = True
        for server in self.servers.values():
            server.start()

    async def stop(self) -> None:
        """Close every stream on each Janus and disconnect. Idempotent."""
        self._started = False
        await asyncio.gather(*(server.stop() for server in self.servers.values()))

    def reconfigure(self, settings: tuple[JanusServerSettings, ...]) -> None:
        """Apply changed settings (see ``JanusMcu.reconfigure``).

        Raises:
            ValueError: the servers cannot be used together (``check_servers``); nothing has changed.
        """
        check_servers(settings)
        configured = {server.url: server for server in settings}
        before = self.servers
        self.servers = {url: before.get(url) or self._create(server) for url, server in configured.items()} | before
        self._assign_names(settings)
        for url, server in list(self.servers.items()):
            if url in before:
                server.reconfigure(configured.get(url))
            elif self._started:
                server.start()

    def _on_server_change(self) -> None:
        self.servers = {url: server for url, server in self.servers.items() if not (server.removed and server.drained)}
        self._changed.set()
        self._changed = asyncio.Event()
        self._on_change()

    # -- placement

    async def wait_until_accepting(self) -> None:
        """Wait until a server accepts streams.

        Raises:
            Rejected: no server will accept streams.
            McuLost: the pool has been stopped.
        """
        while not any(server.accepts_streams for server in self.servers.values()):
            self.check_usable()
            await self._changed.wait()

    def check_usable(self) -> None:
        """Check that a server accepts streams, or will do so without a change of the configuration.

        Raises:
            Rejected: no server will accept streams.
            McuLost: the pool has been stopped.
        """
        if any(server.may_accept_streams for server in self.servers.values()):
            return
        not_draining = [server for server in self.servers.values() if not server.draining]
        if refused := [server for server in not_draining if server.connector.state is SfuState.REFUSED]:
            raise Rejected(_reasons(refused))
        if not_draining or not self._started:
            raise McuLost("stopped")
        raise Rejected("every Janus is being drained")

    def reason_unreachable(self) -> str:
        """Return the reason for which no server is connected; empty if a server is connected."""
        servers = self.servers.values()
        if any(server.connector.state is SfuState.READY for server in servers):
            return ""
        return _reasons(server for server in servers if not server.drained)

    def rank_servers_for_publisher(self, options: PublishOptions, tried: set[JanusServer]) -> list[JanusServer]:
        """Return the servers that accept a new publisher and were not tried yet, best first."""
        servers = [server for server in self.servers.values() if server.accepts_streams and server not in tried]
        client = ranking.ClientLocation(options.country, options.continent)
        return [servers[index] for index in ranking.rank_for_publisher([server.load() for server in servers], client)]

    def server_of_publisher(self, publisher: JanusPublisher) -> JanusServer | None:
        """Return the server of a publisher; ``None``: the publisher has ended."""
        return next((server for server in self.servers.values() if publisher in server.publishers), None)

    def better_for_subscriber(self, publisher: JanusPublisher, options: SubscribeOptions) -> JanusServer | None:
        """Return a server that suits a subscriber better than the publisher's; ``None`` if there is none."""
        source = self.server_of_publisher(publisher)
        if source is None or not source.forwards_streams:
            return None
        others = [
            server
            for server in self.servers.values()
            if server is not source and server.accepts_streams and server.forwards_streams
        ]
        client = ranking.ClientLocation(options.country, options.continent)
        index = ranking.better_for_subscriber(source.load(), [server.load(publisher) for server in others], client)
        return None if index is None else others[index]

    # -- status

    def status(self) -> McuStatus:
        """Return the current status of all servers."""
        servers = list(self.servers.values())
        loads = ranking.loads([server.load() for server in servers])
        return McuStatus("janus", tuple(server.status(load) for server, load in zip(servers, loads, strict=True)))

    def streams(self) -> Iterable[StreamReport]:
        """Return a report for each media kind of each publisher and subscriber."""
        for server in self.servers.values():
            yield from server.streams()

    def metrics(self) -> Iterable[Metric]:
        """Return the load and bandwidth of each server and the numbers of connections by country.

        The metrics have the names that dashboards know from media proxies (reference 14.5).
        """
        sfus = self.status().sfus
        yield Metric("backend_load", "Load of an SFU", "gauge", ("url",), {(sfu.url,): sfu.load for sfu in sfus})
        servers = list(self.servers.values())
        countries = Counter[tuple[str, ...]](
            (server.settings.country or "unknown",) for server in servers if server.connector.session is not None
        )
        yield Metric("backend_connections", "Connections to SFUs", "gauge", ("country",), countries)
        bandwidths = {server.settings.url: server.bandwidth for server in servers}
        rates: dict[tuple[str, ...], float] = {
            (url, direction): rate
            for url, bandwidth in bandwidths.items()
            if bandwidth is not None
            for direction, rate in zip(("incoming", "outgoing"), bandwidth, strict=True)
        }
        yield Metric("backend_bandwidth", "Bytes per second of an SFU", "gauge", ("url", "direction"), rates)


def _reasons(servers: Iterable[JanusServer]) -> str:
    return "; ".join(server.log.prefixed(server.connector.reason) for server in servers)
