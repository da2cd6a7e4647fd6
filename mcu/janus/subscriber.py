"""A subscription on Janus: one subscriber handle in the room of a publisher."""

from __future__ import annotations

import logging

from mcu.base import Closed, Layer, Listener, Rejected
from mcu.janus import videoroom
from mcu.janus.leg import Leg
from mcu.janus.protocol import Message
from mcu.janus.publisher import JanusPublisher

log = logging.getLogger("portunus.mcu.janus")


class JanusSubscriber(Leg):
    """A subscription to one publisher.

    At most one offer of Janus waits for an answer. What changes meanwhile Janus keeps back and offers, combined, after
    the answer; so nothing is asked for again while one is outstanding.
    """

    SUBSCRIBES = True

    def __init__(self, publisher: JanusPublisher, listener: Listener, timeout: float) -> None:
        super().__init__(publisher.session, publisher.key, listener, timeout)
        self.publisher = publisher
        self._outstanding = ""  # the offer that waits for an answer
        self._covered: frozenset[str] = frozenset()  # mids of the publisher that we have, or have asked for

    async def join(self) -> str:
        """Enter the publisher's room and return Janus' offer.

        Raises:
            Rejected: Janus has nothing to offer.
            JanusError: Janus refused.
            McuLost: the session is lost.
        """
        self._covered = self.publisher.mids
        message = await self.handle.ask(videoroom.join_subscriber(self.publisher.room, self.publisher.feed))
        if message.jsep is None:
            raise Rejected("Janus gave no offer")
        offered = {stream.feed_mid for stream in message.plugindata.data.streams}
        self._covered = frozenset(mid for mid in offered if mid is not None) or self._covered
        return self._offered(message.jsep.sdp)

    async def accept(self, answer: str) -> None:
        """Hand the client's answer to Janus. Raises as ``mcu.base.Subscriber.accept`` says."""
        async with self.turn() as handle:
            offer = self._outstanding
            if not offer:  # Janus 1.1.2 would take it and say nothing
                raise Rejected("no offer waits for an answer")
            await handle.ask({"request": "start", "room": self.publisher.room}, answer, "answer")
            if self._outstanding == offer:
                self._outstanding = ""

    async def refresh(self) -> str:
        """Return a new offer, or again the one that was not answered: Janus makes no other before that."""
        async with self.turn() as handle:
            if not self._outstanding:
                message = await handle.ask({"request": "configure", "update": True})
                if message.jsep is None:
                    raise Rejected("Janus gave no offer")
                self._offered(message.jsep.sdp)
            return self._outstanding

    async def select(self, layer: Layer) -> None:
        """Choose simulcast and temporal layer, switch audio and video on and off."""
        body = videoroom.select(layer)
        if len(body) == 1:
            return
        async with self.turn() as handle:
            await handle.ask(body)

    def _offered(self, offer: str) -> str:
        self._outstanding = self.description = offer
        return offer

    def cover(self, mids: frozenset[str]) -> None:
        """Ask for m-lines that the publisher has added; Janus offers them when it may, ``on_offer`` hears of it."""
        missing = mids - self._covered
        if missing and not self.ended:
            self._covered |= missing
            self.handle.tell(videoroom.subscribe(self.publisher.feed, sorted(missing)))

    def end(self, why: Closed | None) -> None:
        """Leave Janus. Idempotent."""
        super().end(why)
        self.publisher.subscribers.discard(self)

    def on_event(self, message: Message) -> None:
        """Take what Janus says of the handle."""
        if message.janus == "trickle":
            self._candidate(message)
        elif message.janus in ("hangup", "detached") or message.plugindata.data.videoroom == "destroyed":
            self.end(Closed.FAILED)
        elif message.jsep is not None and message.jsep.type == "offer":
            offer = self._offered(message.jsep.sdp)
            self.ear.say(lambda listener: listener.on_offer(offer))
        elif message.plugindata.data.error_code:
            log.info("a subscription was not changed: Janus error %d", message.plugindata.data.error_code)
