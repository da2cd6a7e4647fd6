"""A session's subscription to a stream: offers of the SFU out, answers in.

Source: reference 9.3-9.6. Each connection to the SFU has a ``sid`` of its own. Who loses a stream without its
publisher's ending it is offered the next one, unasked, however long that takes (recovery.py).
"""

from __future__ import annotations

import logging
from dataclasses import astuple

import msgspec

from gateway.core.ids import SessionId
from gateway.core.session import Session
from gateway.flows.media.recovery import CROSSING
from gateway.flows.media.streams import MediaRequest, SessionStream, Streams, Unusable
from gateway.flows.media.validation import description
from gateway.wire.errors import Code, ProtocolError
from gateway.wire.media import DescriptionPayload, Head, selection
from mcu.base import (
    Candidate,
    CloseReason,
    McuError,
    McuLost,
    MediaKind,
    MediaSelection,
    NoSuchStream,
    StreamType,
    SubscribeOptions,
    Subscriber,
)
from sdp import candidates
from sdp.document import Description

log = logging.getLogger("portunus.flows.media")


class Subscription(SessionStream):
    """What a session receives of another one's stream."""

    def __init__(self, streams: Streams, session: Session, publisher: SessionId, kind: StreamType) -> None:
        super().__init__(streams, session, publisher, kind)
        self._subscriber: Subscriber | None = None
        self._listener: _Listener | None = None
        self._layer = MediaSelection()  # what the client chose to receive
        self._requests = 0  # that came
        self._served = 0  # requests up to this one have got their offer
        self._together = False  # only as long as both are in one call
        self._following = False  # the stream was lost and is offered when it is there again
        self._due = False  # an attempt at that waits for its turn
        self._dismissed = False  # the publisher ended the stream that the client receives
        self._pushed: float | None = None  # when the last offer was made unasked, until it is answered
        streams.watchers.add(self)

    def request(self, errand: MediaRequest) -> None:
        """Offer the stream: the same connection anew when the request names its sid, else a new connection (9.3).

        A request that waited behind another one is served by that one's offer, and its own time limit counts from now.
        One that crossed an offer that nobody asked for is served by that.
        """
        self._requests += 1
        if self._crosses(errand.head):
            self._served = self._requests
        number, until = self._requests, self.services.clock() + self.services.settings.media_limits.timeout
        together = errand.head.type == "requestoffer" and self._in_same_call()

        async def work(errand: MediaRequest) -> None:
            if self._served < number:
                await self._request(errand, together, until)
            elif self._subscriber is not None:
                await self._choose(self._subscriber, _layer(errand.head))

        self.put(errand, work)

    def take(self, errand: MediaRequest) -> None:
        """Take an answer, a candidate, the end of candidates, or a choice of layers."""
        self.put(errand, self._take)

    @property
    def held(self) -> bool:
        """Whether there is a subscription on the SFU."""
        return self._subscriber is not None

    @property
    def missed(self) -> bool:
        """Whether the stream is to be offered when it is there again."""
        return self._following

    def forget(self) -> None:
        """End the subscription on the SFU and forget it; what still waits is dropped."""
        self.closed = True
        self._following = False
        self.strand.close()
        self.streams.watchers.remove(self)
        subscribers = self.streams.of(self.session.id).subscribers
        if subscribers.get((self.peer, self.kind)) is self:
            del subscribers[self.peer, self.kind]
        self._drop()

    def follow(self) -> None:
        """Offer the stream anew if it was lost; what has to be asked of the SFU is done in turn."""
        if self._following and not self._due:
            self._due = True
            self.strand.put(self._follow)

    def dismissed(self) -> None:
        """Wait for the stream no longer: its publisher ended it."""
        self._following, self._dismissed = False, True
        self.retire()

    def _crosses(self, head: Head) -> bool:
        """Whether a request was on its way when an offer was made that it did not ask for (it is not answered yet)."""
        if self._pushed is None or self._subscriber is None or (head.sid and head.sid == self.sid):
            return False
        return self.services.clock() - self._pushed < CROSSING

    def _drop(self) -> None:
        subscriber, self._subscriber, self._listener = self._subscriber, None, None
        if subscriber is not None:
            self.streams.quality.touch(self.room)
            self.services.tasks.spawn(subscriber.close(), f"close {self.kind.value} subscriber")

    async def _request(self, errand: MediaRequest, together: bool, until: float) -> None:
        head = errand.head
        layer = _layer(head)
        if self._subscriber is not None and head.type == "requestoffer" and head.sid and head.sid == self.sid:
            sdp = await self._subscriber.refresh()
            await self._choose(self._subscriber, layer)
        else:
            self._layer, self._together = layer, together
            sdp = await self._subscribe_or_fail(until)
            self._served = self._requests
            if together and not self._in_same_call():  # ask again: the publisher may have left
                self._drop()
                raise ProtocolError(Code.NOT_ALLOWED_TO_REQUEST_OFFER.error())
        self.say("offer", DescriptionPayload("offer", sdp))

    def _in_same_call(self) -> bool:
        hub = self.services.hub
        publisher = hub.find(self.session.backend, self.peer)
        return publisher is not None and hub.in_same_call(self.session, publisher)

    async def _choose(self, subscriber: Subscriber | None, layer: MediaSelection) -> None:
        """Receive what the client chooses now, also after the publisher's next connection."""
        if subscriber is not None:
            await subscriber.select(layer)
        self._layer = MediaSelection(
            *(new if new is not None else old for new, old in zip(astuple(layer), astuple(self._layer), strict=True))
        )

    async def _subscribe_or_fail(self, until: float) -> str:
        try:
            return await self.streams.retry_once_if_lost(until, self._subscribe)
        except McuError as error:
            if isinstance(error, McuLost):  # the client is told, and offered the stream all the same when it is there
                self._following = True
            log.warning("subscribing to a %s stream failed: %s", self.kind.value, error)
            missing = isinstance(error, NoSuchStream | McuLost)
            if missing:
                self.services.counters.no_publisher_total[self.kind.value] += 1
            code = Code.CLIENT_NOT_FOUND if missing else Code.PROCESSING_FAILED
            raise ProtocolError(code.error()) from error

    async def _subscribe(self, seconds: float) -> str:
        self._drop()
        listener = self._listener = _Listener(self)
        options = SubscribeOptions(seconds, self._layer, self.session.location.code, self.session.location.continent)
        subscriber, sdp = await self.streams.mcu.subscribe(self.key, options, listener)
        if self.closed:
            self.services.tasks.spawn(subscriber.close(), "close late subscriber")
            return sdp
        self._subscriber = subscriber
        self.streams.quality.count(self)
        self._following, self._pushed = False, None
        self._dismissed = self.streams.publisher(self.peer, self.kind) is None
        self.sid = _new_sid(self.services.entropy(8))
        self.services.counters.subscribers_total[self.kind.value] += 1
        return sdp

    async def _take(self, errand: MediaRequest) -> None:
        subscriber, head = self._subscriber, errand.head
        if head.type == "selectStream" and (subscriber is not None or self._following):
            await self._choose(subscriber, _layer(head))
            return
        if subscriber is None:
            raise ProtocolError(Code.CLIENT_NOT_FOUND.error())
        self.check_sid(errand)
        if head.type == "answer":
            answer = description(head)
            if not isinstance(answer, Description):
                raise ProtocolError(answer)
            candidates.filter_description(answer, self.services.settings.candidate_filter)
            self._pushed = None
            await subscriber.accept(str(answer))
            self.streams.quality.answered(self, answer)
            return
        try:
            candidate = self.candidate_of(head)
        except Unusable:
            return
        await subscriber.add_candidate(candidate)

    def trickled(self, listener: _Listener, candidate: Candidate | None) -> None:
        """Pass a candidate on, unless it is one of a connection that was replaced."""
        if self._listener is listener:
            self.on_candidate(candidate)

    def offered(self, listener: _Listener, sdp: str) -> None:
        """Pass an offer on by which the SFU renegotiates."""
        if self._listener is listener:
            self.say("offer", DescriptionPayload("offer", sdp))

    def lost(self, listener: _Listener, reason: CloseReason) -> None:
        """Wait for the stream, unless the client's own connection failed or the publisher ended it (9.7)."""
        if self._listener is not listener:
            return
        self._subscriber = None
        self.streams.quality.touch(self.room)
        self._following = reason is not CloseReason.FAILED and not self._dismissed
        self.follow()
        self.retire()

    async def _follow(self) -> None:
        """Subscribe to the publisher's new connection, unless a request has done that already."""
        self._due = False
        publisher = self.streams.publisher(self.peer, self.kind)
        if self._following and publisher is not None and publisher.held:
            await self._offer_unasked()
        self.retire()

    async def _offer_unasked(self) -> None:
        if not self._may_follow():
            self._following = False
            return
        try:
            sdp = await self._subscribe(self.services.settings.media_limits.timeout)
        except McuError as error:
            log.info("a %s stream is not back yet: %s", self.kind.value, error)
            return
        if not self._may_follow():  # ask again: the publisher may have left
            self._drop()
            return
        self._served, self._pushed = self._requests, self.services.clock()
        self.say("offer", DescriptionPayload("offer", sdp))

    def _may_follow(self) -> bool:
        return not self._together or self._in_same_call()


class _Listener:
    """Hears of one PeerConnection of a slot, so that an older one cannot speak for its successor."""

    def __init__(self, slot: Subscription) -> None:
        self._slot = slot

    def on_candidate(self, candidate: Candidate | None) -> None:
        self._slot.trickled(self, candidate)

    def on_media(self, kind: MediaKind, flowing: bool) -> None:
        """Nothing that the protocol tells clients."""

    def on_offer(self, sdp: str) -> None:
        self._slot.offered(self, sdp)

    def on_closed(self, reason: CloseReason) -> None:
        self._slot.lost(self, reason)


def _layer(head: Head) -> MediaSelection:
    """Read what a subscriber wants to receive (9.6).

    Raises:
        ProtocolError: ``processing_failed``, a value has a wrong type.
    """
    try:
        chosen = selection(head.payload)
    except msgspec.DecodeError as error:
        raise ProtocolError(Code.PROCESSING_FAILED.error()) from error
    return MediaSelection(chosen.substream, chosen.temporal, chosen.audio, chosen.video)


def _new_sid(entropy: bytes) -> str:
    """Make a sid; clients expect decimal digits (9.3)."""
    return str(int.from_bytes(entropy) >> 11)  # 53 bits: a number that JavaScript can hold
