"""One Janus or several as the SFU of the gateway: which streams there are, who waits for them, and where they go.

At each moment a stream has at most one publisher. Calls for one stream are carried out one after another; whoever
waits for a publisher is woken when one comes, comes up or goes, and looks again. A new publisher goes to the Janus that
``mcu.janus.pool`` puts first, its subscribers follow it there or are served over a second one (docs/mcu.md, "Several
Janus"). Nobody waits for a Janus that is away while another takes streams.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

import msgspec

from mcu.base import (
    Listener,
    McuError,
    McuLost,
    McuStatus,
    McuTimeout,
    Measure,
    NoSuchStream,
    Publisher,
    PublishOptions,
    Rejected,
    SfuState,
    StreamKey,
    StreamReport,
    SubscribeOptions,
    Subscriber,
    stream_gauges,
)
from mcu.janus import pool, videoroom
from mcu.janus.audience import Audience
from mcu.janus.descriptions import identified
from mcu.janus.figures import Feed
from mcu.janus.labels import control
from mcu.janus.node import Node
from mcu.janus.protocol import JanusError
from mcu.janus.publisher import JanusPublisher
from mcu.janus.session import Interrupted, Session
from mcu.janus.settings import JanusServer, check
from mcu.janus.settings import instance as instance_name
from mcu.janus.subscriber import JanusSubscriber, PutOff

log = logging.getLogger("portunus.mcu.janus")

LET_GO = 2.0  # seconds that a replaced publisher's Janus has to let it go before the new one is made
GO_ON = 2.0  # seconds that a second Janus has to take a stream before the publisher's serves
OFFERED = 2  # Janus at most that are given one offer: a description at which Janus dies must not take them all


class JanusMcu:
    """One Janus or several behind the SFU interface (``mcu.base.Mcu``)."""

    def __init__(self, servers: tuple[JanusServer, ...], timeout: float, instance: str = "") -> None:
        """Take the settings; ``timeout`` in seconds holds for each request that brings no time limit of its own.

        ``instance`` names this gateway on Janus (``mcu.janus.labels``); empty: one is drawn.

        Raises:
            ValueError: there is no Janus, one is named twice, or the instance cannot stand in a label.
        """
        check(servers)
        name = instance_name(instance)
        self._instance = name
        self._on_state: Callable[[McuStatus], None] = lambda status: None
        self._feed = Feed(lambda opaque_id: opaque_id.startswith(f"{control(name)}|"), time.monotonic)
        self._timeout = timeout
        self._running = False
        self._nodes = {server.url: self._node(server) for server in servers}
        self._publishers: dict[StreamKey, JanusPublisher] = {}
        self._turns: WeakValueDictionary[StreamKey, asyncio.Lock] = WeakValueDictionary()
        self._waiting: dict[StreamKey, set[asyncio.Future[None]]] = {}
        self._changed = asyncio.Event()  # of any Janus' state; a new one after each change

    def _node(self, server: JanusServer) -> Node:
        return Node(server, self._timeout, self._state_changed, self._instance, self._feed)

    # -- to be there and not to be there

    async def start(self, on_state: Callable[[McuStatus], None]) -> None:
        """Begin to connect and return at once."""
        self._on_state = on_state
        self._running = True
        for node in self._nodes.values():
            node.start()

    async def stop(self) -> None:
        """Close every stream on Janus and disconnect. Idempotent."""
        self._running = False
        await asyncio.gather(*(node.stop() for node in self._nodes.values()))

    async def reconfigure(self, settings: object) -> None:
        """Take changed settings; streams go on where they are.

        A Janus that is new is connected to. One that is no longer named, or is marked as draining, takes no new streams
        and is left when its last one has ended. What a connection needs holds from the next one to that Janus on.

        Raises:
            ValueError: there is no Janus, or one is named twice; nothing has changed.
        """
        servers = msgspec.convert(settings, tuple[JanusServer, ...])
        check(servers)
        named = {server.url: server for server in servers}
        before = self._nodes
        self._nodes = {url: before.get(url) or self._node(server) for url, server in named.items()} | before
        for url, node in list(self._nodes.items()):
            if url in before:
                await node.reconfigure(named.get(url))
            elif self._running:
                node.start()

    async def session(self, url: str = "") -> Session:
        """Return the session with a Janus (the first), once there is one; for what goes beyond the SFU interface."""
        node = self._nodes[url] if url else next(iter(self._nodes.values()))
        return await node.client.session()

    # -- publish

    async def publish(self, key: StreamKey, offer: str, options: PublishOptions, to: Listener) -> tuple[Publisher, str]:
        """Publish a stream; what ``mcu.base.Mcu.publish`` says."""
        identified(offer)  # what is no description does not end the running publisher
        deadline = asyncio.get_running_loop().time() + options.timeout
        async with self._in_time(options.timeout), self._turns.setdefault(key, asyncio.Lock()):
            await self._taken()
            before = self._publishers.get(key)
            if before is not None:
                at_hand = self._home(before)
                before.replace()
                if at_hand is not None and at_hand.client.current() is not None:  # else it would be waited for in vain
                    await asyncio.wait(before.leaving, timeout=LET_GO)
            publisher, answer = await self._place(key, offer, options, to, deadline)
            self._publishers[key] = publisher
            self._wake(key)
            publisher.ear.open_soon()
            return publisher, answer

    def _home(self, publisher: JanusPublisher) -> Node | None:
        return next((node for node in self._nodes.values() if publisher in node.publishers), None)

    async def _taken(self) -> None:
        """Wait until a Janus takes streams.

        Raises:
            Rejected: none will.
            McuLost: we have stopped.
        """
        while not any(node.takes for node in self._nodes.values()):
            self._hope()
            await self._changed.wait()

    def _hope(self) -> None:
        """Look whether a Janus may come up by itself.

        Raises:
            Rejected: none will.
            McuLost: we have stopped.
        """
        wanted = [node.client for node in self._nodes.values() if not node.draining]
        if any(client.state in (SfuState.CONNECTING, SfuState.READY) for client in wanted):
            return
        if refused := [client.reason for client in wanted if client.state is SfuState.REFUSED]:
            raise Rejected(_sentence(refused))
        if wanted or not self._running:
            raise McuLost("stopped")
        raise Rejected("every Janus is being drained")

    async def _place(
        self, key: StreamKey, offer: str, options: PublishOptions, to: Listener, deadline: float
    ) -> tuple[JanusPublisher, str]:
        """Publish on the best Janus that manages to in its share of the time.

        Raises:
            TimeoutError, JanusError, McuError: what went wrong on the last one that was tried.
        """
        tried: set[Node] = set()
        offered = 0
        while True:
            left = self._preferred(options, tried)
            if not left:
                if tried:
                    raise McuLost("no Janus took the stream")
                await self._taken()
                continue
            node = left[0]
            share = (deadline - asyncio.get_running_loop().time()) / len(left)
            publisher = None
            try:
                async with asyncio.timeout(share if len(left) > 1 else None):
                    with node.publisher(key, options, to, self._publisher_changed) as publisher:
                        return publisher, await publisher.open(offer, options)
            except (
                Interrupted
            ):  # nobody knows how far it came: what there is goes, and it begins again, here or elsewhere
                continue
            except (TimeoutError, JanusError, McuError) as error:
                tried.add(node)
                given = publisher is not None and publisher.offered
                offered += given
                if len(left) == 1 or offered == OFFERED or (given and isinstance(error, JanusError | Rejected)):
                    raise  # where Janus has answered, another one would say the same of the same description
                log.warning("a stream was not taken by one Janus, and goes to another: %s", type(error).__name__)

    def _preferred(self, options: PublishOptions, tried: set[Node]) -> list[Node]:
        nodes = [node for node in self._nodes.values() if node.takes and node not in tried]
        client = pool.Client(options.country, options.continent)
        return [nodes[place] for place in pool.order([node.standing() for node in nodes], client)]

    # -- subscribe

    async def subscribe(self, key: StreamKey, options: SubscribeOptions, to: Listener) -> tuple[Subscriber, str]:
        """Subscribe to a stream; what ``mcu.base.Mcu.subscribe`` says."""
        deadline = asyncio.get_running_loop().time() + options.timeout
        async with self._in_time(options.timeout, key):
            while True:
                publisher = self._publishers.get(key)
                if publisher is None or not publisher.up:
                    if publisher is None:
                        self._hope()
                    await self._change(key)
                    continue
                node = self._elsewhere(publisher, options)
                if node is None:
                    found = await self._enter(publisher, options, to)
                else:
                    found = await self._enter_remote(node, publisher, options, to, deadline)
                if found is not None:
                    found[0].ear.open_soon()
                    return found

    def _elsewhere(self, publisher: JanusPublisher, options: SubscribeOptions) -> Node | None:
        """Return the second Janus over which a subscriber is served better than from its publisher's."""
        source = self._home(publisher)
        if source is None or not source.forwards:
            return None
        others = [node for node in self._nodes.values() if node is not source and node.takes and node.forwards]
        client = pool.Client(options.country, options.continent)
        place = pool.elsewhere(source.standing(), [node.standing(publisher) for node in others], client)
        return None if place is None else others[place]

    async def _enter(
        self, audience: Audience, options: SubscribeOptions, to: Listener
    ) -> tuple[JanusSubscriber, str] | None:
        """Subscribe where the publisher is; ``None``: look again."""
        subscriber = JanusSubscriber(audience, to, self._timeout)
        try:
            offer = await subscriber.open(options.layer)
        except PutOff:
            await self._change(audience.key)
            return None
        except McuLost:
            if audience.ended:  # the stream may come back, here or elsewhere
                return None
            raise
        return (subscriber, offer) if offer else None

    async def _enter_remote(
        self,
        node: Node,
        publisher: JanusPublisher,
        options: SubscribeOptions,
        to: Listener,
        deadline: float,
    ) -> tuple[JanusSubscriber, str] | None:
        """Subscribe on a second Janus; ``None``: look again."""
        try:
            async with asyncio.timeout(min(GO_ON, (deadline - asyncio.get_running_loop().time()) / 2)):
                remote = node.remote(publisher)
                async with remote.visited():
                    subscriber = JanusSubscriber(remote, to, self._timeout)
                    offer = await subscriber.open(options.layer)
        except (TimeoutError, JanusError, McuError, PutOff) as error:
            if not publisher.ended:
                node.spare()
                log.warning("a stream cannot go on to another Janus: %s", type(error).__name__)
            return None
        return (subscriber, offer) if offer else None

    # -- what is told

    def status(self) -> McuStatus:
        """Return a snapshot."""
        nodes = list(self._nodes.values())
        load_of = pool.loads([node.standing() for node in nodes])
        return McuStatus("janus", tuple(node.status(load) for node, load in zip(nodes, load_of, strict=True)))

    def streams(self) -> Iterable[StreamReport]:
        """Return a report for each stream and kind: which codec runs, and what Janus' event feed tells of it."""
        for node in self._nodes.values():
            yield from node.streams()

    def measures(self) -> Iterable[Measure]:
        """Return how many media flow, and what Janus' event feed adds up to."""
        publishers = list(self._publishers.values())
        yield from stream_gauges(
            ((publisher.key.type, kind) for publisher in publishers for kind in publisher.arriving),
            ((report.key.type, report.kind) for report in self.streams() if report.subscriber),
        )
        yield from self._feed.measures()
        yield from self._pool_measures()

    def _pool_measures(self) -> Iterable[Measure]:
        """Return how each Janus does, under the names that are known of proxies in front of one."""
        sfus = self.status().sfus
        yield Measure("backend_load", "Load of an SFU", "gauge", ("url",), {(sfu.url,): sfu.load for sfu in sfus})
        nodes = list(self._nodes.values())
        countries = Counter[tuple[str, ...]]()
        countries.update((node.server.country or "unknown",) for node in nodes if node.client.current() is not None)
        yield Measure("backend_connections", "Connections to SFUs", "gauge", ("country",), countries)
        told = {node.server.url: node.bandwidth for node in nodes}
        flows: dict[tuple[str, ...], float] = {
            (url, direction): rate
            for url, both in told.items()
            if both is not None
            for direction, rate in zip(("incoming", "outgoing"), both, strict=True)
        }
        yield Measure("backend_bandwidth", "Bytes per second of an SFU", "gauge", ("url", "direction"), flows)

    def feed(self, frame: bytes) -> None:
        """Take a frame of Janus' event feed; several Janus may send theirs."""
        self._feed.take(frame)

    # -- waiting

    @asynccontextmanager
    async def _in_time(self, seconds: float, key: StreamKey | None = None) -> AsyncIterator[None]:
        """Limit a verb and name what was missing; ``key``: the stream that was waited for."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            nodes = list(self._nodes.values())
            if not any(node.client.state is SfuState.READY for node in nodes):
                why = _sentence([node.client.reason for node in nodes if not node.left])
                raise McuLost(f"Janus is not there: {why}") from error
            if key is not None and key not in self._publishers:
                raise NoSuchStream("nobody publishes the stream") from error
            raise McuTimeout("Janus, or the publisher's media, did not come up in time") from error
        except JanusError as error:
            raise videoroom.typed(error) from error

    async def _change(self, key: StreamKey) -> None:
        """Wait until something changes about the publisher of a stream, or about a Janus."""
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
        self._nodes = {url: node for url, node in self._nodes.items() if not (node.gone and node.left)}
        self._changed.set()
        self._changed = asyncio.Event()
        for key in list(self._waiting):
            self._wake(key)
        self._on_state(self.status())


def _sentence(reasons: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(reasons))
