"""A subscription on Janus: one subscriber handle in the room of a feed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from mcu.base import CloseReason, IceCandidate, MediaKind, MediaSelection, Rejected, StreamListener, TransportState
from mcu.janus.connection.messages import JanusError, JanusMessage
from mcu.janus.connection.session import RequestInterrupted
from mcu.janus.rooms import videoroom
from mcu.janus.streams.descriptions import inactive_mids, parse_and_freeze, serialise
from mcu.janus.streams.handle_peer import HandlePeer
from mcu.janus.streams.layer_order import HIGHEST_LAYER
from mcu.janus.streams.layer_switch import LayerSwitch
from mcu.janus.streams.room_feed import RoomFeed
from sdp.document import Description

MAX_CANDIDATES = 64  # of the client, repeated after an answer; those of its descriptions come in addition
HANGUP_WITHIN = 1.0  # seconds in which Janus reports the hangup of the publisher; measured below 0.1


class PublisherNotReady(Exception):
    """Janus does not accept subscribers yet: the publisher's PeerConnection is not up."""


class JanusSubscriber(HandlePeer):
    """A subscription to one feed.

    At most one offer of Janus is unanswered. Janus holds further changes back and offers them, combined, after the
    answer. A request for an offer that it holds back is never answered; so no further offer is requested while one is
    unanswered, or requested and not yet there.

    Janus (1.1.2 and 1.4.1) sets aside the candidates that arrive while an offer is unanswered, and uses them after the
    first answer only. So they are sent again after each later answer, until the PeerConnection is up.
    """

    IS_SUBSCRIBER = True

    def __init__(self, feed: RoomFeed, listener: StreamListener, timeout: float) -> None:
        super().__init__(feed.session, feed.key, listener, timeout)
        self.feed = feed
        self._layer_switch = LayerSwitch(feed.owner.send_keyframe_request)
        self._selected = HIGHEST_LAYER  # the client's selection: 0 is the smallest layer
        self._requested = HIGHEST_LAYER  # the layer that Janus was asked for, by Janus' number
        self._unanswered: Description | None = None  # Janus' offer that has no answer yet
        self._offer_requested = False  # an offer was requested from Janus and has not arrived
        self._offer_arrived = asyncio.Event()  # set while ``_offer_requested`` is not
        self._repeats = 0  # unanswered offers that ``refresh`` returned again: as many further answers are ignored
        self._answers = 0  # number of answers sent to Janus
        self._candidates: list[IceCandidate | None] = []  # of the client, while it is not connected
        self._feed_mids: dict[str, str] = {}  # the publisher's mids by the subscriber's, of audio and video
        self._subscribed: set[str] = set()  # mids of the publisher that are subscribed to, or were requested
        self._inactive: set[str] = set()  # those of ``_subscribed`` that are inactive in Janus' last offer

    async def open(self, selection: MediaSelection) -> Description | None:
        """Subscribe and return the offer; ``None``: the feed has changed, look for the stream again.

        Unless it returns an offer, no handle is left on Janus.

        Raises:
            PublisherNotReady: look for the stream again when the feed changes.
            Rejected: Janus has no media to offer.
            JanusError: Janus refused.
            McuLost: the session is lost.
        """
        feed = self.feed
        revision = feed.revision
        await self.attach()
        feed.joining.add(self)
        if feed.closed:
            self.end(None)
            return None
        try:
            offer = await self._join(selection)
        except JanusError as error:
            self.end(None)
            if feed.revision != revision:
                return None
            if error.code == videoroom.NO_SUCH_FEED:
                raise PublisherNotReady from error
            if error.code == videoroom.NO_SUCH_ROOM:
                feed.owner.end(CloseReason.FAILED)
            raise
        except RequestInterrupted:  # whether the handle has joined is unknown: begin again with another handle
            self.end(None)
            return None
        except BaseException:
            self.end(None)
            raise
        if feed.closed or self.closed:
            self.end(None)
            return None
        feed.joining.discard(self)
        feed.subscribers.add(self)
        self.request_missing_media()
        return offer

    async def _join(self, selection: MediaSelection) -> Description:
        message = await self.handle.request(videoroom.join_subscriber(self.feed.room, self.feed.id))
        offer = self._on_offer(message)
        if not self.closed:
            await self.select(selection)
        return offer

    async def accept(self, answer: Description) -> None:
        """Send the client's answer to Janus. Raises as ``mcu.base.Subscriber.accept``."""
        text = serialise(answer)
        async with self.exclusive_handle() as handle:
            offer = self._unanswered
            if offer is None and self._repeats:
                self._repeats -= 1
                return
            if offer is None:  # Janus 1.1.2 would accept the answer without an error
                raise Rejected("no offer waits for an answer")
            await handle.request(videoroom.start(self.feed.room), text, "answer")
            if self._unanswered is offer:
                self._unanswered = None
        self._answers += 1
        if self._answers > 1:
            await self._repeat_candidates()
        self.request_missing_media()

    async def add_candidate(self, candidate: IceCandidate | None) -> None:
        """Send a candidate of the client to Janus, and keep it for ``_repeat_candidates``."""
        if not self.connected and candidate not in self._candidates and len(self._candidates) < MAX_CANDIDATES:
            self._candidates.append(candidate)
        await super().add_candidate(candidate)

    async def _repeat_candidates(self) -> None:
        """Send the candidates again that Janus may have set aside; a candidate that Janus has already does no harm."""
        for candidate in list(self._candidates):
            await super().add_candidate(candidate)

    async def refresh(self) -> Description:
        """Return a new offer, or the unanswered one again: Janus makes no other until it is answered."""
        async with self.exclusive_handle() as handle:
            if self._unanswered is None and self._offer_requested:
                await self._offer_arrived.wait()
            if self._unanswered is not None:
                self._repeats += 1
                return self._unanswered
            self._expect_offer()
            try:
                return self._on_offer(await handle.request(videoroom.OFFER_REQUEST, repeatable=False))
            except JanusError:
                self._expect_no_offer()
                raise

    async def select(self, selection: MediaSelection) -> None:
        """Select simulcast and temporal layer, and switch audio and video on and off."""
        number = None if selection.substream is None else self._number(selection.substream)
        body = videoroom.configure_subscriber(replace(selection, substream=number))
        if len(body) > 1:
            async with self.exclusive_handle() as handle:
                await handle.request(body)
        if selection.substream is not None and number is not None and not self.closed:
            self._selected, self._requested = selection.substream, number
            self._layer_switch.select(number)
        self.apply_layer_order()

    def _number(self, substream: int) -> int:
        layers = self.feed.owner.layers
        return substream if layers is None else layers.number(substream)

    def apply_layer_order(self) -> None:
        """Request the selected layer again if Janus' number for that layer has changed."""
        number = self._number(self._selected)
        if self.closed or number == self._requested:
            return
        self._requested = number
        self.handle.send(videoroom.configure_subscriber(MediaSelection(substream=number)))
        self._layer_switch.select(number)

    def request_missing_media(self) -> None:
        """Request an offer with the media of the feed that this subscription lacks; the offer reaches ``on_event``.

        Added m-lines are subscribed to. An m-line that is inactive in Janus' last offer stays so until the next offer.
        """
        if self.closed:
            return
        missing = self.feed.media.keys() - self._subscribed
        if missing:
            self._subscribed |= missing
            self._expect_offer()
            self.handle.send(videoroom.subscribe(self.feed.id, sorted(missing)))
        elif self.feed.media.keys() & self._inactive and self._unanswered is None and not self._offer_requested:
            self._expect_offer()
            self.handle.send(videoroom.OFFER_REQUEST)

    def _expect_offer(self) -> None:
        self._offer_requested = True
        self._offer_arrived.clear()

    def _expect_no_offer(self) -> None:
        self._offer_requested = False
        self._offer_arrived.set()

    def _on_offer(self, message: JanusMessage) -> Description:
        self._expect_no_offer()
        if message.jsep is None:
            raise Rejected("Janus gave no offer")
        offer = parse_and_freeze(message.jsep.sdp)
        streams = message.plugindata.data.streams
        self._feed_mids |= {stream.mid: stream.feed_mid for stream in streams if stream.feed_mid is not None}
        self._subscribed |= set(self._feed_mids.values())
        if any(stream.type == MediaKind.DATA.value for stream in streams):  # its m-line names no mid of the publisher
            self._subscribed |= {mid for mid, kind in self.feed.media.items() if kind is MediaKind.DATA}
        inactive = inactive_mids(offer)
        self._inactive = {feed_mid for mid, feed_mid in self._feed_mids.items() if mid in inactive}
        self._unanswered = self.description = offer
        return offer

    def _announces_hangup(self, message: JanusMessage) -> bool:
        """Return whether Janus offers, unrequested, only inactive media: it is about to report the publisher's hangup.

        The offer is not forwarded: the client's answer to it would arrive after the end of the subscription.
        """
        data = message.plugindata.data
        kinds = (MediaKind.AUDIO.value, MediaKind.VIDEO.value)
        media = [stream for stream in data.streams if stream.type in kinds]
        inactive = bool(media) and not any(stream.active for stream in media)
        return data.videoroom == "updated" and not self._offer_requested and inactive

    def end(self, reason: CloseReason | None) -> None:
        """Detach the handle and leave the feed. Idempotent."""
        if self.closed:
            return
        super().end(reason)
        self._layer_switch.stop()
        self.feed.on_subscriber_end(self)

    def on_claimed(self) -> None:
        """End the subscription if an offer may have been lost: Janus waits for its answer and makes no other."""
        if self._offer_requested:
            self.end(CloseReason.REPLACED)

    def on_refused(self, body: Mapping[str, Any], error: JanusError) -> None:
        """Expect no offer any more if the refused request was for one; other requests do not end the wait."""
        if videoroom.requests_offer(body):
            self._expect_no_offer()
        super().on_refused(body, error)

    def _on_webrtcup(self, _: JanusMessage) -> None:
        self.connected = True
        self._candidates.clear()
        self._on_transport(TransportState.CONNECTED)

    _EVENT_HANDLERS: ClassVar = {**HandlePeer._EVENT_HANDLERS, "webrtcup": _on_webrtcup}

    def _on_plugin_event(self, message: JanusMessage) -> None:
        if self._announces_hangup(message):
            asyncio.get_running_loop().call_later(HANGUP_WITHIN, self.end, CloseReason.PUBLISHER_GONE)
        elif message.jsep is not None and message.jsep.type == "offer":
            offer = self._on_offer(message)
            self.gate.send(lambda listener: listener.on_offer(offer))
        elif message.plugindata.data.substream is not None:
            self._layer_switch.on_received(message.plugindata.data.substream)
        elif message.plugindata.data.videoroom == "updating":  # held back until the unanswered offer is answered
            self._expect_offer()
        elif message.plugindata.data.videoroom == "updated":  # there was nothing to change
            self._expect_no_offer()
