"""A copy of a published stream on a second Janus, for all its subscribers there (docs/mcu.md, "Several Janus").

The second Janus (the target) gets a room with a remote publisher, to whose ports the first (the source) sends RTP.
Clients subscribe to the feed of that room as to any publisher's. The copy ends with its last subscription, with the
publisher and with either Janus. VideoRoom plugin documentation, "Remote publishers"; measured with 1.1.2 and 1.4.1.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from mcu.base import CloseReason, McuError, McuLost, MediaKind, PublishOptions
from mcu.janus.connection.messages import JanusError, JanusMessage
from mcu.janus.connection.session import Answer, JanusSession
from mcu.janus.rooms import videoroom
from mcu.janus.rooms.registry import RoomRegistry
from mcu.janus.streams.forwarding import ForwardedMedium, media_of
from mcu.janus.streams.layer_order import LayerOrder
from mcu.janus.streams.publisher import JanusPublisher
from mcu.janus.streams.room_feed import RoomFeed

POLL_PAUSE = 0.02  # seconds between two requests: Janus sends no event when a remote publisher was added or removed
MAX_POLLS = 50
SRTP_SUITE = 80  # AES_CM_128_HMAC_SHA1_80 (RFC 4568 6.2)
SRTP_KEY_LENGTH = 30  # bytes: master key of 16 and master salt of 14


class RemoteStream:
    """A copy of a stream on a second Janus. After construction ``start`` must be called.

    ``on_end`` is called once, when it accepts no subscriber any more.
    """

    def __init__(
        self,
        publisher: JanusPublisher,
        session: JanusSession,
        rooms: RoomRegistry,
        host: str,
        timeout: float,
        on_end: Callable[[RemoteStream], None],
        *,
        encrypted: bool,
    ) -> None:
        """Create the copy; ``session`` and ``rooms`` are the target's, the source sends to ``host``.

        ``encrypted``: both Janus can encrypt RTP between them (SRTP).
        """
        self.feed = RoomFeed(session, publisher.key, publisher.feed.id, self)
        self.closed = False
        self.closing: list[asyncio.Future[Any]] = []  # done when both Janus have removed the ended copy
        self._publisher = publisher
        self._session = session
        self._rooms = rooms
        self._host = host
        self._srtp = _srtp_members() if encrypted else {}
        self._timeout = timeout
        self._on_end = on_end
        self._users = 0  # number of subscriptions that are being made
        self._forwarding = False  # whether the source sends, and the target accepts subscribers
        self._media: tuple[ForwardedMedium, ...] = ()  # as last sent to the target
        self._pending: set[Answer] = set()
        self._opening: asyncio.Task[None] | None = None

    @property
    def layers(self) -> LayerOrder | None:
        """The order of the publisher's simulcast layers; the target numbers them as the source does."""
        return self._publisher.layers

    def start(self) -> None:
        """Begin to forward the stream and return at once."""
        self._opening = asyncio.create_task(self._open(), name="janus-remote")

    @asynccontextmanager
    async def in_use(self) -> AsyncIterator[None]:
        """Keep the copy while a subscription is made; the context is entered when the target accepts subscriptions.

        Raises:
            JanusError: one of the two Janus refused.
            McuError: one of the two Janus, or the publisher, is gone.
        """
        self._users += 1
        try:
            if self._opening is None:
                raise McuLost("the stream has not been started")
            await asyncio.wait([self._opening])
            if self._opening.cancelled():
                raise McuLost("the stream has ended")
            self._opening.result()
            yield
        finally:
            self._users -= 1
            self.on_unsubscribed()

    def send_keyframe_request(self) -> None:
        """Request a keyframe from the publisher over its own Janus, without waiting."""
        self._publisher.send_keyframe_request()

    def on_unsubscribed(self) -> None:
        """End the copy after its last subscription."""
        if not (self._users or self.feed.in_use):
            self.end(None)

    async def _open(self) -> None:
        """Create the room, add the remote publisher, and start the source's forwarding to it."""
        publisher, feed = self._publisher, self.feed
        try:
            self._media = self._published_media()
            feed.room = await self._rooms.create(self._session, feed.key, _profiles(self._media), remote=True)
            added = await self._request(self._session, self._target_request("add_remote_publisher"))
            await self._wait_for_remote_publisher()
            ports = added.plugindata.data
            await self._request(publisher.session, self._forwarding_request(ports.port, ports.rtcp_port))
            feed.media = _subscribable(self._media)
            if self.closed:
                raise McuLost("the stream has ended")
        except BaseException:
            self.end(None)
            raise
        self._forwarding = True
        self.update()  # with media that were added meanwhile

    def _published_media(self) -> tuple[ForwardedMedium, ...]:
        """Return the media of the publisher's last negotiation.

        Raises:
            McuLost: there was no negotiation yet.
        """
        offer, answer = self._publisher.offer, self._publisher.description
        if offer is None or answer is None:
            raise McuLost("the stream has not been negotiated")
        return media_of(offer, answer)

    async def _wait_for_remote_publisher(self) -> None:
        """Wait until the target accepts subscribers: another thread of Janus adds the remote publisher to the room."""
        for _ in range(MAX_POLLS):
            try:
                await self._request(self._session, self._target_request("update_remote_publisher"))
            except JanusError as error:
                if error.code != videoroom.NO_SUCH_FEED:
                    raise
                await asyncio.sleep(POLL_PAUSE)
            else:
                return
        raise McuLost("the remote publisher did not come up")

    def update(self) -> None:
        """Send the publisher's changed media to the target, whose subscribers are offered the added media."""
        if self.closed or not self._forwarding:
            return
        media, known = self._published_media(), self._media
        if media == known:
            return
        if len(media) < len(known) or any(new.replaces(old) for new, old in zip(media, known, strict=False)):
            self.end(CloseReason.REPLACED)  # an m-line has become another medium, which the target cannot change
            return
        self._media = media

        def updated(_: Answer) -> None:
            if self.closed:
                self.feed.media = _subscribable(media)
            else:
                self.feed.set_media(_subscribable(media))

        request = self._target_request("update_remote_publisher")
        self._post(self._session, request).add_done_callback(updated)

    def end(self, reason: CloseReason | None) -> None:
        """End the copy and all subscriptions to it. Idempotent."""
        if self.closed:
            return
        self.closed = True
        self._publisher.remotes.discard(self)
        handles = self.feed.end(reason or CloseReason.PUBLISHER_GONE)
        if self._opening is not None and asyncio.current_task() is not self._opening:
            self._opening.cancel()
        removing = asyncio.create_task(self._remove(handles), name="janus-remote-end")
        self.closing += [*handles, removing]
        self._on_end(self)

    async def wait_closed(self) -> None:
        """Wait, within the time limit, until both Janus have removed the ended copy."""
        if self.closing:
            await asyncio.wait(self.closing, timeout=self._timeout)

    async def _remove(self, handles: list[asyncio.Future[Any]]) -> None:
        """Remove all objects, one after another: removing them at the same time crashes Janus 1.1.2."""
        pending = [*handles, *self._pending]
        if pending:
            await asyncio.wait(pending, timeout=self._timeout)
        if not self.feed.room:
            return
        if not self._publisher.closed:
            await self._wait_for(self._post(self._publisher.session, self._source_request("unpublish_remotely")))
        with suppress(McuError, JanusError, TimeoutError):
            async with asyncio.timeout(self._timeout):
                await self._remove_remote_publisher()
        await self._wait_for(self._rooms.destroy(self._session, self.feed.room))

    async def _remove_remote_publisher(self) -> None:
        room = self.feed.room
        await self._request(self._session, videoroom.remove_remote_publisher(room, self.feed.id))
        for _ in range(MAX_POLLS):
            listed = await self._request(self._session, videoroom.list_participants(room))
            if not listed.plugindata.data.participants:
                self._rooms.on_remote_feed_removed(room)
                return
            await asyncio.sleep(POLL_PAUSE)

    async def _wait_for(self, answer: Answer) -> None:
        await asyncio.wait([answer], timeout=self._timeout)

    async def _request(self, session: JanusSession, body: Mapping[str, Any]) -> JanusMessage:
        return session.require_success(await asyncio.shield(self._post(session, body)))

    def _post(self, session: JanusSession, body: Mapping[str, Any]) -> Answer:
        answer = session.post("message", handle_id=session.control.id, body=body)
        self._pending.add(answer)
        answer.add_done_callback(self._pending.discard)
        return answer

    def _target_request(self, request: str) -> dict[str, Any]:
        streams = [medium.wire() for medium in self._media]
        return {"request": request, "room": self.feed.room, "id": self.feed.id, "streams": streams} | self._srtp

    def _forwarding_request(self, port: int, rtcp_port: int) -> dict[str, Any]:
        destination = {"host": self._host, "port": port, "rtcp_port": rtcp_port}
        return self._source_request("publish_remotely") | destination | self._srtp

    def _source_request(self, request: str) -> dict[str, Any]:
        publisher = self._publisher
        key = publisher.rooms.admin_key
        return {
            "request": request,
            "room": publisher.feed.room,
            "publisher_id": publisher.feed.id,
            "remote_id": str(self.feed.room),
        } | ({"admin_key": key} if key else {})


def _srtp_members() -> dict[str, Any]:
    """Return the members of a request that encrypt RTP between two Janus, with a random key.

    A key serves one copy only: Janus numbers the SSRCs of every copy alike, and two copies of a stream with one key
    would share a keystream (RFC 3711 9.1).
    """
    return {"srtp_suite": SRTP_SUITE, "srtp_crypto": base64.b64encode(secrets.token_bytes(SRTP_KEY_LENGTH)).decode()}


def _subscribable(media: tuple[ForwardedMedium, ...]) -> dict[str, MediaKind]:
    return {medium.mid: medium.kind for medium in media if medium.active}


def _profiles(media: tuple[ForwardedMedium, ...]) -> PublishOptions:
    """Return the profiles for the target's room, from which Janus takes those of its streams."""
    found = {medium.codec: medium.profile for medium in reversed(media) if medium.profile}
    return PublishOptions(vp9profile=found.get("vp9", ""), h264profile=found.get("h264", ""))
