"""The Janus of one gateway: which there are, which take streams, and which of them one goes to.

Where a stream goes is decided in ``mcu.janus.placement.ranking``; here are the facts for it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable

from mcu.base import McuLost, McuStatus, Metric, PublishOptions, Rejected, SfuState, StreamReport, SubscribeOptions
from mcu.janus.events.statistics import EventStatistics
from mcu.janus.placement import ranking as pool
from mcu.janus.placement.server import JanusServer
from mcu.janus.rooms.videoroom import RoomRegistry
from mcu.janus.settings import JanusServerSettings, check
from mcu.janus.streams.publisher import JanusPublisher


class JanusPool:
    """One Janus or several; ``on_change`` is called after each change of the state of one.

    ``instance`` names this gateway on each (``mcu.janus.labels``), ``feed`` tells of bandwidth.
    """

    def __init__(
        self,
        servers: Iterable[JanusServerSettings],
        timeout: float,
        instance: str,
        feed: EventStatistics,
        on_change: Callable[[], None],
    ) -> None:
        self._timeout = timeout
        self._instance = instance
        self._rooms: set[int] = set()  # on all of them
        self._feed = feed
        self._on_change = on_change
        self._running = False
        self._changed = asyncio.Event()  # of any Janus' state; a new one after each change
        self.nodes = {server.url: self._node(server) for server in servers}
        self._name(node.server for node in list(self.nodes.values()))

    def _node(self, server: JanusServerSettings) -> JanusServer:
        rooms = RoomRegistry(server.admin_key, self._instance, self._rooms)
        return JanusServer(server, self._timeout, self._state_changed, rooms, self._feed)

    def _name(self, servers: Iterable[JanusServerSettings]) -> None:
        """Give those of the configuration their names; one that was taken out keeps what it was called."""
        for number, server in enumerate(servers, 1):
            name = server.name or (str(number) if len(self.nodes) > 1 else "")
            self.nodes[server.url].log.which = f"Janus {name}" if name else ""

    def start(self) -> None:
        """Begin to connect and return at once."""
        self._running = True
        for node in self.nodes.values():
            node.start()

    async def stop(self) -> None:
        """Close every stream on each Janus and disconnect. Idempotent."""
        self._running = False
        await asyncio.gather(*(node.stop() for node in self.nodes.values()))

    def reconfigure(self, servers: tuple[JanusServerSettings, ...]) -> None:
        """Take changed settings; what ``JanusMcu.reconfigure`` says.

        Raises:
            ValueError: there is no Janus, or one is named twice; nothing has changed.
        """
        check(servers)
        named = {server.url: server for server in servers}
        before = self.nodes
        self.nodes = {url: before.get(url) or self._node(server) for url, server in named.items()} | before
        self._name(servers)
        for url, node in list(self.nodes.items()):
            if url in before:
                node.reconfigure(named.get(url))
            elif self._running:
                node.start()

    def _state_changed(self) -> None:
        self.nodes = {url: node for url, node in self.nodes.items() if not (node.gone and node.left)}
        self._changed.set()
        self._changed = asyncio.Event()
        self._on_change()

    # -- which of them

    async def ready(self) -> None:
        """Wait until a Janus takes streams.

        Raises:
            Rejected: none will.
            McuLost: we have stopped.
        """
        while not any(node.takes for node in self.nodes.values()):
            self.hope()
            await self._changed.wait()

    def hope(self) -> None:
        """Look whether a Janus may come to take streams by itself.

        Raises:
            Rejected: none will.
            McuLost: we have stopped.
        """
        wanted = [node for node in self.nodes.values() if not node.draining]
        if any(node.coming for node in self.nodes.values()):
            return
        if refused := [node for node in wanted if node.client.state is SfuState.REFUSED]:
            raise Rejected(_reasons(refused))
        if wanted or not self._running:
            raise McuLost("stopped")
        raise Rejected("every Janus is being drained")

    def missing(self) -> str:
        """Say why no Janus is there; empty: one is."""
        nodes = self.nodes.values()
        if any(node.client.state is SfuState.READY for node in nodes):
            return ""
        return _reasons(node for node in nodes if not node.left)

    def preferred(self, options: PublishOptions, tried: set[JanusServer]) -> list[JanusServer]:
        """Return those that take a new publisher and were not tried, best first."""
        nodes = [node for node in self.nodes.values() if node.takes and node not in tried]
        client = pool.ClientLocation(options.country, options.continent)
        return [nodes[place] for place in pool.order([node.standing() for node in nodes], client)]

    def home(self, publisher: JanusPublisher) -> JanusServer | None:
        """Return where a publisher is."""
        return next((node for node in self.nodes.values() if publisher in node.publishers), None)

    def elsewhere(self, publisher: JanusPublisher, options: SubscribeOptions) -> JanusServer | None:
        """Return the second Janus over which a subscriber is served better than from its publisher's."""
        source = self.home(publisher)
        if source is None or not source.forwards:
            return None
        others = [node for node in self.nodes.values() if node is not source and node.takes and node.forwards]
        client = pool.ClientLocation(options.country, options.continent)
        place = pool.elsewhere(source.standing(), [node.standing(publisher) for node in others], client)
        return None if place is None else others[place]

    # -- what is told

    def status(self) -> McuStatus:
        """Return a snapshot."""
        nodes = list(self.nodes.values())
        load_of = pool.loads([node.standing() for node in nodes])
        return McuStatus("janus", tuple(node.status(load) for node, load in zip(nodes, load_of, strict=True)))

    def streams(self) -> Iterable[StreamReport]:
        """Return a report for each stream and kind."""
        for node in self.nodes.values():
            yield from node.streams()

    def metrics(self) -> Iterable[Metric]:
        """Return how each Janus does, under the names that are known of proxies in front of one."""
        sfus = self.status().sfus
        yield Metric("backend_load", "Load of an SFU", "gauge", ("url",), {(sfu.url,): sfu.load for sfu in sfus})
        nodes = list(self.nodes.values())
        countries = Counter[tuple[str, ...]]()
        countries.update((node.server.country or "unknown",) for node in nodes if node.client.current() is not None)
        yield Metric("backend_connections", "Connections to SFUs", "gauge", ("country",), countries)
        told = {node.server.url: node.bandwidth for node in nodes}
        flows: dict[tuple[str, ...], float] = {
            (url, direction): rate
            for url, both in told.items()
            if both is not None
            for direction, rate in zip(("incoming", "outgoing"), both, strict=True)
        }
        yield Metric("backend_bandwidth", "Bytes per second of an SFU", "gauge", ("url", "direction"), flows)


def _reasons(nodes: Iterable[JanusServer]) -> str:
    return "; ".join(node.log.named(node.client.reason) for node in nodes)
