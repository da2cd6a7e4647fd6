"""A subscription on Janus: one subscriber handle in the room of a publisher."""

from __future__ import annotations

import asyncio

from mcu.base import CloseReason, MediaKind, MediaSelection, Rejected, StreamListener
from mcu.janus.connection.messages import JanusError, JanusMessage
from mcu.janus.connection.session import RequestInterrupted
from mcu.janus.rooms import videoroom
from mcu.janus.streams.descriptions import inactive_mids, parsed, serialised
from mcu.janus.streams.handle_peer import HandlePeer
from mcu.janus.streams.layer_switch import LayerSwitch
from mcu.janus.streams.room_feed import RoomFeed
from sdp.document import Description

KINDS = {kind.value: kind for kind in MediaKind}
UPDATE = {"request": "configure", "update": True}  # asks for an offer
FAREWELL = 1.0  # seconds in which Janus tells that the publisher has hung up; measured below 0.1


class PublisherNotReady(Exception):
    """Janus lets nobody subscribe yet: the publisher's connection is not up."""


class JanusSubscriber(HandlePeer):
    """A subscription to one publisher.

    At most one offer of Janus waits for an answer. What changes meanwhile Janus keeps back and offers, combined, after
    the answer; so nothing is asked for again while one is outstanding.
    """

    SUBSCRIBES = True

    def __init__(self, publisher: RoomFeed, listener: StreamListener, timeout: float) -> None:
        super().__init__(publisher.session, publisher.key, listener, timeout)
        self.publisher = publisher
        self._switch = LayerSwitch(publisher.refresh_picture)
        self._outstanding: Description | None = None  # the offer that waits for an answer
        self._expecting = False  # Janus was asked for an offer that has not come
        self._feed_mids: dict[str, str] = {}  # by our mid the publisher's, of audio and video
        self._covered: set[str] = set()  # mids of the publisher that we have, or have asked for
        self._off: set[str] = set()  # of these, what was switched off when Janus made its last offer

    async def open(self, layer: MediaSelection) -> Description | None:
        """Subscribe and return the offer, or ``None`` where the caller should look for the publisher again.

        Then, and on failure, nothing is left on Janus.

        Raises:
            PublisherNotReady: the caller should look again when something about the publisher changes.
            Rejected: Janus has nothing to offer.
            JanusError: Janus refused.
            McuLost: the session is lost.
        """
        publisher = self.publisher
        seen = publisher.changes
        await self.attach()
        publisher.entering.add(self)
        if publisher.closed:
            self.end(None)
            return None
        try:
            offer = await self._join(layer)
        except JanusError as error:
            self.end(None)
            if publisher.changes != seen:
                return None
            if error.code == videoroom.NO_SUCH_FEED:
                raise PublisherNotReady from error
            if error.code == videoroom.NO_SUCH_ROOM:
                publisher.end(CloseReason.FAILED)
            raise
        except RequestInterrupted:  # nobody knows whether we are in: another handle tries
            self.end(None)
            return None
        except BaseException:
            self.end(None)
            raise
        if publisher.closed or self.closed:
            self.end(None)
            return None
        publisher.entering.discard(self)
        publisher.subscribers.add(self)
        self.cover()
        return offer

    async def _join(self, layer: MediaSelection) -> Description:
        message = await self.handle.request(videoroom.join_subscriber(self.publisher.room, self.publisher.feed))
        offer = self._offered(message)
        if not self.closed:
            await self.select(layer)
        return offer

    async def accept(self, answer: Description) -> None:
        """Send the client's answer to Janus. Raises as ``mcu.base.Subscriber.accept``."""
        text = serialised(answer)
        async with self.turn() as handle:
            offer = self._outstanding
            if offer is None:  # Janus 1.1.2 would accept the answer and say nothing
                raise Rejected("no offer waits for an answer")
            await handle.request({"request": "start", "room": self.publisher.room}, text, "answer")
            if self._outstanding is offer:
                self._outstanding = None
        self.cover()

    async def refresh(self) -> Description:
        """Return a new offer, or again the one that was not answered: Janus makes no other before that."""
        async with self.turn() as handle:
            if self._outstanding is None:
                self._expecting = True
                return self._offered(await handle.request(UPDATE, repeatable=False))
            return self._outstanding

    async def select(self, layer: MediaSelection) -> None:
        """Choose simulcast and temporal layer, switch audio and video on and off."""
        body = videoroom.configure_subscriber(layer)
        if len(body) == 1:
            return
        async with self.turn() as handle:
            await handle.request(body)
        if layer.substream is not None and not self.closed:
            self._switch.select(layer.substream)

    def cover(self) -> None:
        """Ask for what the publisher has and we have not; Janus offers it when it may, ``on_offer`` hears of it.

        An added m-line is subscribed to. One that was switched off when Janus made its last offer stays off until the
        next one.
        """
        if self.closed:
            return
        missing = self.publisher.media.keys() - self._covered
        if missing:
            self._covered |= missing
            self._expecting = True
            self.handle.send(videoroom.subscribe(self.publisher.feed, sorted(missing)))
        elif self.publisher.media.keys() & self._off and not self._outstanding:
            self._off.clear()
            self._expecting = True
            self.handle.send(UPDATE)

    def _offered(self, message: JanusMessage) -> Description:
        if message.jsep is None:
            raise Rejected("Janus gave no offer")
        offer = parsed(message.jsep.sdp)
        self._expecting = False
        streams = message.plugindata.data.streams
        self._feed_mids |= {stream.mid: stream.feed_mid for stream in streams if stream.feed_mid is not None}
        self._covered |= set(self._feed_mids.values())
        if any(
            KINDS.get(stream.type) is MediaKind.DATA for stream in streams
        ):  # its m-line names no mid of the publisher
            self._covered |= {mid for mid, kind in self.publisher.media.items() if kind is MediaKind.DATA}
        off = inactive_mids(offer)
        self._off = {feed_mid for mid, feed_mid in self._feed_mids.items() if mid in off}
        self._outstanding = self.description = offer
        return offer

    def _is_farewell(self, message: JanusMessage) -> bool:
        """Whether Janus offers, unasked, no media any more: the publisher is about to be told to have hung up.

        A client that was passed this offer would answer it when there is nothing left to answer.
        """
        answer = message.plugindata.data
        media = [stream for stream in answer.streams if KINDS.get(stream.type) in (MediaKind.AUDIO, MediaKind.VIDEO)]
        gone = bool(media) and not any(stream.active for stream in media)
        return answer.videoroom == "updated" and not self._expecting and gone

    def end(self, reason: CloseReason | None) -> None:
        """Leave Janus. Idempotent."""
        if self.closed:
            return
        super().end(reason)
        self._switch.stop()
        self.publisher.leave(self)

    def on_claimed(self) -> None:
        """Begin anew if an offer may have been lost: Janus makes no other before that one is answered."""
        if self._expecting:
            self.end(CloseReason.REPLACED)

    def on_event(self, message: JanusMessage) -> None:
        """Take what Janus says of the handle."""
        if message.janus == "trickle":
            self._candidate(message)
        elif message.janus in ("hangup", "detached") or message.plugindata.data.videoroom == "destroyed":
            self.end(CloseReason.FAILED)
        elif self._is_farewell(message):
            asyncio.get_running_loop().call_later(FAREWELL, self.end, CloseReason.PUBLISHER_GONE)
        elif message.jsep is not None and message.jsep.type == "offer":
            offer = self._offered(message)
            self.gate.send(lambda listener: listener.on_offer(offer))
        elif message.plugindata.data.substream is not None:
            self._switch.on_received(message.plugindata.data.substream)
        elif message.plugindata.data.error_code:
            self._expecting = False
            self.session.log.info("a subscription was not changed: Janus error %d", message.plugindata.data.error_code)
