"""A published stream that goes on to a second Janus, once for all subscribers there (docs/mcu.md, "Several Janus").

On the second Janus (the target) a room with a remote publisher is made, to whose ports the first (the source) sends
RTP. Subscribers of the target's room are like those of any publisher. Ends with its last subscriber, with the publisher
and with either Janus. VideoRoom plugin documentation, "Remote publishers"; measured with Janus 1.1.2.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from mcu.base import CloseReason, McuError, McuLost, PublishOptions
from mcu.janus.connection.messages import JanusError, JanusMessage
from mcu.janus.connection.session import Answer, JanusSession
from mcu.janus.rooms import videoroom
from mcu.janus.rooms.registry import RoomRegistry
from mcu.janus.streams.forwarding import ForwardedMedium, media_of
from mcu.janus.streams.publisher import JanusPublisher
from mcu.janus.streams.room_feed import RoomFeed

LOOK = 0.02  # seconds between two looks for what Janus tells nobody: whether a remote publisher has come, or gone
LOOKS = 50


class RemoteStream(RoomFeed):
    """A stream on a second Janus. ``on_end`` is called once, when nobody may enter any more."""

    def __init__(
        self,
        publisher: JanusPublisher,
        session: JanusSession,
        rooms: RoomRegistry,
        host: str,
        timeout: float,
        on_end: Callable[[RemoteStream], None],
    ) -> None:
        """``session`` and ``rooms`` are the target's, ``host`` is where the source sends to."""
        super().__init__(rooms, publisher.feed)
        self.key = publisher.key
        self.session = session
        self.closed = False
        self.closing = []
        self._publisher = publisher
        self._host = host
        self._timeout = timeout
        self._on_end = on_end
        self._visitors = 0
        self._ready = False
        self._sent: tuple[ForwardedMedium, ...] = ()  # what the target knows of
        self._asked: set[Answer] = set()
        self._opening = asyncio.create_task(self._open(), name="janus-remote")

    @asynccontextmanager
    async def visited(self) -> AsyncIterator[None]:
        """Hold this while a subscription is made; returns when the target takes it.

        Raises:
            JanusError: one of the two Janus refused.
            McuError: one of them is gone, or the publisher is.
        """
        self._visitors += 1
        try:
            await asyncio.wait([self._opening])
            if self._opening.cancelled():
                raise McuLost("the stream has ended")
            self._opening.result()
            yield
        finally:
            self._visitors -= 1
            self._end_unused()

    def refresh_picture(self) -> None:
        """Ask the publisher, over its own Janus."""
        self._publisher.refresh_picture()

    def leave(self, subscriber: Any) -> None:
        """Learn that a subscription has ended; the last one ends the stream."""
        super().leave(subscriber)
        self._end_unused()

    def _end_unused(self) -> None:
        if not (self._visitors or self.subscribers or self.entering):
            self.end(None)

    async def _open(self) -> None:
        """Make the room, put the remote publisher into it and let the source send."""
        publisher = self._publisher
        try:
            self._sent = self._published_media()
            options = _profiles(self._sent)
            self.room = await self.rooms.create(self.session, self.key, options, remote=True)
            added = await self._ask(self.session, self._described("add_remote_publisher"))
            ports = added.plugindata.data
            await self._arrived()
            await self._ask(publisher.session, self._forward(ports.port, ports.rtcp_port))
            self.media = {medium.mid: medium.kind for medium in self._sent if medium.flows}
            if self.closed:
                raise McuLost("the stream has ended")
        except BaseException:
            self.end(None)
            raise
        self._ready = True
        self.update()  # what was added meanwhile

    def _published_media(self) -> tuple[ForwardedMedium, ...]:
        """Return the media of the publisher's last negotiation.

        Raises:
            McuLost: there was none yet.
        """
        offer, answer = self._publisher.offer, self._publisher.description
        if offer is None or answer is None:
            raise McuLost("the stream has not been negotiated")
        return media_of(offer, answer)

    async def _arrived(self) -> None:
        """Wait until the target lets others subscribe: a thread of its own puts the remote publisher into the room."""
        for _ in range(LOOKS):
            try:
                await self._ask(self.session, self._described("update_remote_publisher"))
            except JanusError as error:
                if error.code != videoroom.NO_SUCH_FEED:
                    raise
                await asyncio.sleep(LOOK)
            else:
                return
        raise McuLost("the remote publisher did not come up")

    def update(self) -> None:
        """Tell the target of what the publisher has now; its subscribers are offered what is new."""
        if self.closed or not self._ready:
            return
        media = self._published_media()
        if media == self._sent:
            return
        if any(new.differs(old) for new, old in zip(media, self._sent, strict=False)) or len(media) < len(self._sent):
            self.end(CloseReason.REPLACED)  # an m-line has become another medium: the target cannot change what it has
            return
        self._sent = media

        def updated(_: Answer) -> None:
            self.media = {medium.mid: medium.kind for medium in media if medium.flows}
            if not self.closed:
                self.cover()

        self._post(self.session, self._described("update_remote_publisher")).add_done_callback(updated)

    def end(self, reason: CloseReason | None) -> None:
        """End the stream there and all subscriptions to it. Idempotent."""
        if self.closed:
            return
        self.closed = True
        self.changes += 1
        self._publisher.remotes.discard(self)
        self.dismiss(reason or CloseReason.PUBLISHER_GONE)
        if asyncio.current_task() is not self._opening:
            self._opening.cancel()
        closing = asyncio.create_task(self._close(list(self.closing)), name="janus-remote-end")
        self.closing.append(closing)
        self._on_end(self)

    async def wait_closed(self) -> None:
        """Wait, within the time limit, until both Janus have let it go."""
        if self.closing:
            await asyncio.wait(self.closing, timeout=self._timeout)

    async def _close(self, handles: list[asyncio.Future[Any]]) -> None:
        """Take everything down, one after another: what is taken down at the same time makes Janus 1.1.2 crash."""
        waited = [*handles, *self._asked]
        if waited:
            await asyncio.wait(waited, timeout=self._timeout)
        if not self.room:
            return
        if not self._publisher.closed:
            await self._settled(self._post(self._publisher.session, self._withdraw()))
        with suppress(McuError, JanusError, TimeoutError):
            async with asyncio.timeout(self._timeout):
                await self._remove()
        await self._settled(self.rooms.destroy(self.session, self.room))

    async def _remove(self) -> None:
        await self._ask(self.session, videoroom.remove_remote_publisher(self.room, self.feed))
        for _ in range(LOOKS):
            listed = await self._ask(self.session, videoroom.list_participants(self.room))
            if not listed.plugindata.data.participants:
                self.rooms.remote_feed_removed(self.room)
                return
            await asyncio.sleep(LOOK)

    async def _settled(self, reply: Answer) -> None:
        await asyncio.wait([reply], timeout=self._timeout)

    async def _ask(self, session: JanusSession, body: Mapping[str, Any]) -> JanusMessage:
        return session.checked(await asyncio.shield(self._post(session, body)))

    def _post(self, session: JanusSession, body: Mapping[str, Any]) -> Answer:
        reply = session.post("message", handle_id=session.control.id, body=body)
        self._asked.add(reply)
        reply.add_done_callback(self._asked.discard)
        return reply

    def _described(self, request: str) -> dict[str, Any]:
        return {
            "request": request,
            "room": self.room,
            "id": self.feed,
            "streams": [medium.wire() for medium in self._sent],
        }

    def _forward(self, port: int, rtcp_port: int) -> dict[str, Any]:
        return self._of_source("publish_remotely") | {"host": self._host, "port": port, "rtcp_port": rtcp_port}

    def _withdraw(self) -> dict[str, Any]:
        return self._of_source("unpublish_remotely")

    def _of_source(self, request: str) -> dict[str, Any]:
        publisher = self._publisher
        key = publisher.rooms.admin_key
        return {
            "request": request,
            "room": publisher.room,
            "publisher_id": publisher.feed,
            "remote_id": str(self.room),
        } | ({"admin_key": key} if key else {})


def _profiles(media: tuple[ForwardedMedium, ...]) -> PublishOptions:
    """Return the profiles that the target's room must have: its streams take them from there."""
    found = {medium.codec: medium.profile for medium in reversed(media) if medium.profile}
    return PublishOptions(vp9profile=found.get("vp9", ""), h264profile=found.get("h264", ""))
