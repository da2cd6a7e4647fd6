"""A published stream on Janus: a room of its own with one publisher handle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from mcu.base import CloseReason, MediaKind, PublishOptions, Rejected, StreamKey, StreamListener
from mcu.janus.connection.messages import HandleInfo, JanusMessage, error_of
from mcu.janus.connection.session import JanusSession
from mcu.janus.rooms import videoroom
from mcu.janus.rooms.registry import RoomRegistry
from mcu.janus.streams.descriptions import SerialisedOffer, flowing, parsed, rid_order
from mcu.janus.streams.handle_peer import HandlePeer
from mcu.janus.streams.room_feed import RoomFeed
from sdp.document import Description

if TYPE_CHECKING:
    from mcu.janus.streams.remote import RemoteStream

KINDS = {kind.value: kind for kind in MediaKind}
# Janus takes 0 for "no limit" but then sends no REMB, and the client stays at the last one.
UNLIMITED = 100_000_000  # bit/s
KEYFRAME = {"request": "configure", "keyframe": True}
CONNECTS_WITHIN = 30.0  # seconds; Janus gives a connection up after 22


class JanusPublisher(HandlePeer, RoomFeed):
    """A stream that a client publishes: a room with this handle as its publisher."""

    SUBSCRIBES = False

    def __init__(
        self,
        session: JanusSession,
        key: StreamKey,
        listener: StreamListener,
        timeout: float,
        ceiling: int,
        rooms: RoomRegistry,
        on_change: Callable[[JanusPublisher], None],
    ) -> None:
        HandlePeer.__init__(self, session, key, listener, timeout)
        RoomFeed.__init__(self, rooms, videoroom.FEEDS[key.stream_type])
        self.connected = False  # ICE and DTLS stand: Janus lets others subscribe
        self.offered = False  # whether Janus was given the offer
        self.remotes: set[RemoteStream] = set()  # where the stream goes on to
        self.offer: Description | None = None  # the last one that was answered
        self._ceiling = ceiling  # bit/s, 0 = none
        self._on_change = on_change

        self._flowing: dict[tuple[MediaKind, str], bool] = {}

    async def open(self, offer: SerialisedOffer, options: PublishOptions) -> Description:
        """Make the room, enter it, negotiate and return the answer; what fails or is cancelled leaves nothing.

        Raises as ``negotiate`` does.
        """
        await self.attach()
        try:
            self.room = await self.rooms.create(self.session, self.key, options)
            await self.handle.request(videoroom.join_publisher(self.room, self.feed))
            return await self.negotiate(offer)
        except BaseException:
            self.end(None)
            raise

    async def negotiate(self, offer: SerialisedOffer) -> Description:
        """Send an offer to Janus and return the answer; added media are offered to the subscribers.

        Raises:
            Rejected: Janus sent no answer.
            JanusError: Janus refused.
            McuLost: the session is lost.
        """
        self.offered = True
        order = rid_order(offer.description)
        message = await self.handle.request(videoroom.configure_publisher(), offer.text, rid_order=order)
        if message.jsep is None:
            raise Rejected("Janus gave no answer to the offer")
        answer = parsed(message.jsep.sdp)
        self.offer = offer.description
        self._answered(answer)
        return answer

    def _answered(self, answer: Description) -> None:
        self.description = answer
        self.media = flowing(answer)
        self.cover()
        for remote in list(self.remotes):
            remote.update()

    async def update(self, offer: Description) -> Description:
        """Renegotiate; added media are offered to the subscribers. Raises as ``mcu.base.Publisher.update``."""
        serialised_offer = SerialisedOffer.of(offer)
        async with self.turn():
            return await self.negotiate(serialised_offer)

    async def limit(self, bits_per_second: int) -> None:
        """Cap what the publisher sends, by REMB; 0 lifts the cap, up to the stream's ceiling."""
        ceiling = self._ceiling or UNLIMITED
        wanted = min(bits_per_second, ceiling) if bits_per_second > 0 else ceiling
        async with self.turn() as handle:
            await handle.request({"request": "configure", "bitrate": wanted})

    async def request_keyframe(self) -> None:
        """Ask the publisher for a keyframe."""
        async with self.turn() as handle:
            await handle.request(KEYFRAME)

    def refresh_picture(self) -> None:
        """Ask for a keyframe, for a subscriber whose layer does not come; nobody waits for it."""
        if not self.closed:
            self.handle.send(KEYFRAME)

    def replace(self) -> None:
        """End in favour of a new publisher: the own listener hears nothing, the subscribers hear REPLACED."""
        self._dismiss(None, CloseReason.REPLACED)

    def end(self, reason: CloseReason | None) -> None:
        """Leave Janus; subscribers hear PUBLISHER_GONE, or LOST where Janus is gone. Idempotent."""
        self._dismiss(reason, reason if reason is CloseReason.LOST else CloseReason.PUBLISHER_GONE)

    def _dismiss(self, reason: CloseReason | None, subscribers_hear: CloseReason) -> None:
        if self.closed:
            return
        super().end(reason)
        self._changed(connected=False)
        self.dismiss(subscribers_hear)
        if self.room:
            self._destroy_when_empty()
        for remote in list(self.remotes):
            remote.end(subscribers_hear)
            self.closing += remote.closing

    def _destroy_when_empty(self) -> None:
        """Destroy the room after Janus has let everybody go: destroyed at the same time, Janus 1.1.2 crashes."""
        destroyed = asyncio.get_running_loop().create_future()

        def destroy(_: object) -> None:
            reply = self.rooms.destroy(self.session, self.room)
            reply.add_done_callback(lambda _: destroyed.set_result(None))

        asyncio.gather(*self.closing).add_done_callback(destroy)
        self.closing.append(destroyed)

    def on_event(self, message: JanusMessage) -> None:
        """Take what Janus says of the handle."""
        if message.janus == "webrtcup":
            self._changed(connected=True)
        elif message.janus == "media":
            self._media(message)
        elif message.janus == "trickle":
            self._candidate(message)
        elif message.janus in ("hangup", "detached") or message.plugindata.data.videoroom == "destroyed":
            self.end(CloseReason.FAILED)
        elif message.jsep is not None:  # the answer to an offer whose update() was cancelled
            self._answered(parsed(message.jsep.sdp))

    def on_claimed(self) -> None:
        """Ask whether the connection came up or was ended meanwhile."""
        if self.room:  # else ``open`` is at work
            body = videoroom.list_participants(self.room)
            reply = self.session.post("message", handle_id=self.session.control.id, body=body)
            reply.add_done_callback(lambda done: self._looked_up(done.result()))

    def _looked_up(self, message: JanusMessage | None) -> None:
        if message is None or self.closed:
            return
        error = error_of(message)
        if error is not None:
            self.session.log.info("a room is not what it was when the connection to Janus broke: %s", error)
            if error.code == videoroom.NO_SUCH_ROOM:
                self.end(CloseReason.FAILED)
            return
        up = any(one.publisher for one in message.plugindata.data.participants if one.id == self.feed)
        if up and not self.connected:
            self._changed(connected=True)
            for mid, kind in self.media.items():  # Janus says when it receives nothing, and does so again and again
                self._arrives(kind.value, mid, receiving=True)
        elif self.connected and not up:
            self.end(CloseReason.FAILED)
        elif not up:  # that it failed may have been said while nobody heard
            asyncio.get_running_loop().call_later(CONNECTS_WITHIN, self._give_up)

    def _give_up(self) -> None:
        if not self.connected:
            self.end(CloseReason.FAILED)

    def on_handle_info(self, info: HandleInfo) -> None:
        """Take what the Admin API tells: whether it was hung up, and what arrives."""
        super().on_handle_info(info)
        for medium in info.webrtc.media.values():
            if medium.stats.incoming.bytes_lastsec > 0:
                self._arrives(medium.type, medium.mid, receiving=True)

    def _media(self, message: JanusMessage) -> None:
        self._arrives(message.type, message.mid, receiving=message.receiving)

    def _arrives(self, type: str, mid: str, *, receiving: bool) -> None:
        kind = KINDS.get(type)
        if kind is None:
            return
        before = any(flows for (of, _), flows in self._flowing.items() if of is kind)
        self._flowing[kind, mid] = receiving
        after = any(flows for (of, _), flows in self._flowing.items() if of is kind)
        if before != after:
            self.gate.send(lambda listener: listener.on_media(kind, after))

    @property
    def arriving(self) -> set[MediaKind]:
        """The kinds of media that Janus receives now."""
        return {kind for (kind, _), flows in self._flowing.items() if flows}

    def _changed(self, connected: bool) -> None:
        self.connected = connected
        self.changes += 1
        self._on_change(self)
