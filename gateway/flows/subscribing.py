"""A session's subscription to a stream: offers of the SFU out, answers in.

Source: behaviour reference 9.3-9.6. Each connection to the SFU has a ``sid`` of its own; a publisher that was
replaced has its subscribers offered a new connection, unasked.
"""

from __future__ import annotations

import logging
from dataclasses import astuple

import msgspec

from gateway.core.ids import SessionId
from gateway.core.session import Session
from gateway.flows.streams import Errand, Slot, Streams, Unusable
from gateway.flows.validation import description
from gateway.wire.errors import Code, ProtocolError
from gateway.wire.media import DescriptionPayload, Head, selection
from mcu.base import (
    Candidate,
    Closed,
    Kind,
    Layer,
    McuError,
    McuLost,
    NoSuchStream,
    StreamType,
    SubscribeOptions,
    Subscriber,
)
from sdp import candidates
from sdp.document import Description

log = logging.getLogger("portunus.flows.media")


class SubscriberSlot(Slot):
    """What a session receives of another one's stream."""

    def __init__(self, streams: Streams, session: Session, publisher: SessionId, kind: StreamType) -> None:
        super().__init__(streams, session, publisher, kind)
        self._subscriber: Subscriber | None = None
        self._listener: _Listener | None = None
        self._layer = Layer()  # what the client chose to receive
        self._requests = 0  # that came
        self._served = 0  # requests up to this one have got their offer

    def request(self, errand: Errand) -> None:
        """Offer the stream: the same connection anew when the request names its sid, else a new connection (9.3).

        A request that waited behind another one is served by that one's offer, and its own time limit counts from now.
        """
        self._requests += 1
        number, until = self._requests, self.services.clock() + self.services.media_limits.timeout
        together = errand.head.type == "requestoffer" and self._in_same_call()

        async def work(errand: Errand) -> None:
            if self._served < number:
                await self._request(errand, together, until)
            elif self._subscriber is not None:
                await self._choose(self._subscriber, _layer(errand.head))

        self.put(errand, work)

    def take(self, errand: Errand) -> None:
        """Take an answer, a candidate, the end of candidates, or a choice of layers."""
        self.put(errand, self._take)

    @property
    def held(self) -> bool:
        """Whether there is a subscription on the SFU."""
        return self._subscriber is not None

    def close(self) -> None:
        """End the subscription on the SFU and forget it; what still waits is dropped."""
        self.closed = True
        self.strand.close()
        subscribers = self.streams.of(self.session.id).subscribers
        if subscribers.get((self.peer, self.kind)) is self:
            del subscribers[self.peer, self.kind]
        self._drop()

    def _drop(self) -> None:
        subscriber, self._subscriber, self._listener = self._subscriber, None, None
        if subscriber is not None:
            self.services.tasks.spawn(subscriber.close(), f"close {self.kind.value} subscriber")

    async def _request(self, errand: Errand, together: bool, until: float) -> None:
        head = errand.head
        layer = _layer(head)
        if self._subscriber is not None and head.type == "requestoffer" and head.sid and head.sid == self.sid:
            sdp = await self._subscriber.refresh()
            await self._choose(self._subscriber, layer)
        else:
            self._layer = layer
            sdp = await self._subscribe_or_fail(max(until - self.services.clock(), 0.0))
            self._served = self._requests
            if together and not self._in_same_call():  # ask again: the publisher may have left
                self._drop()
                raise ProtocolError(Code.NOT_ALLOWED_TO_REQUEST_OFFER.error())
        self.say("offer", DescriptionPayload("offer", sdp))

    def _in_same_call(self) -> bool:
        hub = self.services.hub
        publisher = hub.find(self.session.backend, self.peer)
        return publisher is not None and hub.in_same_call(self.session, publisher)

    async def _choose(self, subscriber: Subscriber, layer: Layer) -> None:
        """Receive what the client chooses now, also after the publisher's next connection."""
        await subscriber.select(layer)
        self._layer = Layer(
            *(new if new is not None else old for new, old in zip(astuple(layer), astuple(self._layer), strict=True))
        )

    async def _subscribe_or_fail(self, seconds: float) -> str:
        try:
            return await self._subscribe(seconds)
        except McuError as error:
            log.warning("subscribing to a %s stream failed: %s", self.kind.value, error)
            missing = isinstance(error, NoSuchStream | McuLost)
            if missing:
                self.services.counters.no_publisher_total[self.kind.value] += 1
            code = Code.CLIENT_NOT_FOUND if missing else Code.PROCESSING_FAILED
            raise ProtocolError(code.error()) from error

    async def _subscribe(self, seconds: float) -> str:
        self._drop()
        listener = self._listener = _Listener(self)
        options = SubscribeOptions(seconds, self._layer, self.session.place.code, self.session.place.continent)
        subscriber, sdp = await self.streams.mcu.subscribe(self.key, options, listener)
        if self.closed:
            self.services.tasks.spawn(subscriber.close(), "close late subscriber")
            return sdp
        self._subscriber = subscriber
        self.sid = _new_sid(self.services.entropy(8))
        self.services.counters.subscribers_total[self.kind.value] += 1
        return sdp

    async def _take(self, errand: Errand) -> None:
        subscriber, head = self._subscriber, errand.head
        if subscriber is None:
            raise ProtocolError(Code.CLIENT_NOT_FOUND.error())
        if head.type == "selectStream":
            await self._choose(subscriber, _layer(head))
            return
        self.check_sid(errand)
        if head.type == "answer":
            answer = description(head)
            if not isinstance(answer, Description):
                raise ProtocolError(answer)
            candidates.filter_description(answer, self.streams.candidates)
            await subscriber.accept(str(answer))
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

    def lost(self, listener: _Listener, why: Closed) -> None:
        """Offer a new connection when the publisher has one, else forget the stream silently (9.7)."""
        if self._listener is not listener:
            return
        self._subscriber = None
        if why is Closed.REPLACED:
            self.strand.put(self._follow)
        else:
            self.retire()

    async def _follow(self) -> None:
        """Subscribe to the publisher's new connection, unless a request has done that already."""
        if self._subscriber is not None:
            return
        try:
            sdp = await self._subscribe(self.services.media_limits.timeout)
        except McuError as error:
            log.info("a %s stream did not come back: %s", self.kind.value, error)
            self.retire()
            return
        self.say("offer", DescriptionPayload("offer", sdp))


class _Listener:
    """Hears of one PeerConnection of a slot, so that an older one cannot speak for its successor."""

    def __init__(self, slot: SubscriberSlot) -> None:
        self._slot = slot

    def on_candidate(self, candidate: Candidate | None) -> None:
        self._slot.trickled(self, candidate)

    def on_media(self, kind: Kind, flowing: bool) -> None:
        """Nothing that the protocol tells clients."""

    def on_offer(self, sdp: str) -> None:
        self._slot.offered(self, sdp)

    def on_closed(self, why: Closed) -> None:
        self._slot.lost(self, why)


def _layer(head: Head) -> Layer:
    """Read what a subscriber wants to receive (9.6).

    Raises:
        ProtocolError: ``processing_failed``, a value has a wrong type.
    """
    try:
        chosen = selection(head.payload)
    except msgspec.DecodeError as error:
        raise ProtocolError(Code.PROCESSING_FAILED.error()) from error
    return Layer(chosen.substream, chosen.temporal, chosen.audio, chosen.video)


def _new_sid(entropy: bytes) -> str:
    """Make a sid; clients expect decimal digits (9.3)."""
    return str(int.from_bytes(entropy) >> 11)  # 53 bits: a number that JavaScript can hold
