"""One Janus of the gateway: its connection, its rooms, and the streams on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from mcu.base import Closed, Listener, McuLost, PublishOptions, SfuStatus, StreamKey, StreamReport
from mcu.janus.client import JanusClient
from mcu.janus.figures import Feed
from mcu.janus.publisher import JanusPublisher
from mcu.janus.session import Interrupted
from mcu.janus.settings import JanusServer
from mcu.janus.videoroom import Rooms


class Node:
    """One Janus; ``on_change`` is called after each change of its state."""

    def __init__(self, server: JanusServer, timeout: float, on_change: Callable[[], None], instance: str) -> None:
        self.server = server
        self.rooms = Rooms(server.admin_key, instance)
        self.client = JanusClient(server, timeout, on_change, self.rooms)
        self.publishers: set[JanusPublisher] = set()
        self._timeout = timeout

    async def stop(self) -> None:
        """Close every stream and disconnect. Idempotent."""
        publishers = list(self.publishers)
        for publisher in publishers:
            publisher.end(Closed.LOST)
        for publisher in publishers:
            await publisher.clean()
        session = self.client.current()
        if session is not None and (rest := self.rooms.all()):  # of verbs that are still under way
            await asyncio.wait([self.rooms.destroy(session, number) for number in rest], timeout=self._timeout)
        await self.client.stop()

    async def publish(
        self,
        key: StreamKey,
        offer: str,
        options: PublishOptions,
        to: Listener,
        on_change: Callable[[JanusPublisher], None],
    ) -> tuple[JanusPublisher, str]:
        """Publish a stream here, waiting for Janus where it is away; the caller sets the time limit.

        ``on_change`` is called whenever the stream comes up or ends. A call that fails or is cancelled leaves nothing.

        Raises:
            McuError: Janus is gone or cannot be used, or has no answer to the offer.
            JanusError: Janus refused.
        """

        def changed(publisher: JanusPublisher) -> None:
            if publisher.ended:
                self.publishers.discard(publisher)
            on_change(publisher)

        while True:
            session = await self.client.session()
            publisher = JanusPublisher(session, key, to, self._timeout, options.bitrate, self.rooms, changed)
            try:
                answer = await publisher.open(offer, options)
            except Interrupted:  # nobody knows how far it came: what there is goes, and it begins again
                await publisher.clean()
            else:
                break
        if publisher.ended:
            raise McuLost("the connection to Janus is gone")
        self.publishers.add(publisher)
        return publisher, answer

    def status(self) -> SfuStatus:
        """Return a snapshot."""
        client = self.client
        return SfuStatus(
            url=self.server.url,
            state=client.state,
            name=client.name,
            version=client.version,
            reason=client.reason,
            publishers=len(self.publishers),
            subscribers=sum(len(publisher.subscribers) for publisher in self.publishers),
            connected_since=client.since,
            details=client.details,
        )

    def streams(self, feed: Feed) -> Iterable[StreamReport]:
        """Return a report for each stream and kind, with the figures that the event feed has of it."""
        for publisher in list(self.publishers):
            yield from publisher.reports(feed)
            for subscriber in list(publisher.subscribers):
                yield from subscriber.reports(feed)

    def reconfigure(self, server: JanusServer) -> None:
        """Take changed settings: they hold from the next connection on."""
        self.server = self.client.server = server
        self.rooms.admin_key = server.admin_key
