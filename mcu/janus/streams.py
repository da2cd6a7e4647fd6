"""Publisher and Subscriber of the SFU interface on Janus: each is one handle, one PeerConnection (docs/janus.md).

Janus tells subscribers nothing when a room is destroyed, so a publisher knows its subscribers and ends them itself.
Requests of one handle go one after another.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from mcu.base import (
    Candidate,
    Closed,
    Kind,
    Layer,
    Listener,
    McuLost,
    McuTimeout,
    NewPeerConnection,
    Rejected,
    StreamKey,
)
from mcu.janus import videoroom
from mcu.janus.listening import Ear
from mcu.janus.protocol import JanusError, Message
from mcu.janus.session import Handle, Reply, Session
from sdp.document import Identity, SdpError, identity, parse

log = logging.getLogger("portunus.mcu.janus")

KINDS = {kind.value: kind for kind in Kind}


class Leg:
    """What publisher and subscriber have in common: a handle, a listener and an end."""

    def __init__(self, session: Session, key: StreamKey, listener: Listener, timeout: float) -> None:
        self.key = key
        self.session = session
        self.handle: Handle
        self.ear = Ear(listener)
        self.ended = False
        self._timeout = timeout
        self._turn = asyncio.Lock()
        self._cleaning: list[Reply] = []

    async def attach(self) -> None:
        """Open the handle; events reach ``on_event`` from now on.

        Raises:
            JanusError: Janus refused.
            McuLost: the session is lost.
        """
        self.handle = await self.session.attach(videoroom.label(self.key), self)

    def on_event(self, message: Message) -> None:
        """Take what Janus says of the handle."""
        raise NotImplementedError

    def on_lost(self) -> None:
        """Learn that the session is gone: everything on Janus went with it."""
        self.end(Closed.LOST)

    def end(self, why: Closed | None) -> None:
        """Leave Janus at once and tell the listener why; ``None``: it is the owner's wish. Idempotent."""
        if self.ended:
            return
        self.ended = True
        self._leave()
        self.ear.end(why)

    def _leave(self) -> None:
        self._cleaning.append(self.handle.detach())

    async def close(self) -> None:
        """End the stream by its owner's wish and return when Janus is clean. Idempotent."""
        self.end(None)
        await self.clean()

    async def clean(self) -> None:
        """Wait, within the time limit, until Janus has carried out what the end asked for."""
        if self._cleaning:
            await asyncio.wait(self._cleaning, timeout=self._timeout)

    async def add_candidate(self, candidate: Candidate | None) -> None:
        """Hand over a candidate of the client; ``None`` ends the list. Unusable ones are ignored."""
        if self.ended:
            return
        try:
            async with asyncio.timeout(self._timeout):
                await self.handle.trickle(candidate)
        except JanusError as error:
            log.debug("a candidate was refused: %s", error)
        except TimeoutError as error:
            raise McuTimeout("Janus did not answer in time") from error

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Handle]:
        """Hold the handle for one request, within the time limit, and turn what goes wrong into typed errors."""
        try:
            async with asyncio.timeout(self._timeout), self._turn:
                if self.ended:
                    raise McuLost("the stream has ended")
                yield self.handle
        except TimeoutError as error:
            raise McuTimeout("Janus did not answer in time") from error
        except JanusError as error:
            raise videoroom.typed(error) from error

    def _candidate(self, message: Message) -> None:
        came = message.candidate
        if not came.completed:
            candidate = Candidate(came.candidate, came.sdp_mid, came.sdp_mline_index)
            self.ear.say(lambda listener: listener.on_candidate(candidate))
        else:
            self.ear.say(lambda listener: listener.on_candidate(None))


class JanusPublisher(Leg):
    """A stream that a client publishes: a room with this handle as its publisher."""

    def __init__(
        self,
        session: Session,
        key: StreamKey,
        listener: Listener,
        timeout: float,
        rooms: videoroom.Rooms,
        on_change: Callable[[JanusPublisher], None],
    ) -> None:
        super().__init__(session, key, listener, timeout)
        self.feed = videoroom.FEEDS[key.type]
        self.room = 0
        self.up = False  # ICE and DTLS stand: Janus lets others subscribe
        self.changes = 0
        self.mids: frozenset[str] = frozenset()  # what there is to subscribe to
        self.subscribers: set[JanusSubscriber] = set()
        self._rooms = rooms
        self._on_change = on_change
        self._identity = Identity(frozenset(), frozenset())
        self._flowing: dict[tuple[Kind, str], bool] = {}

    async def negotiate(self, offer: str) -> str:
        """Hand an offer to Janus and return the answer; subscribers are asked to take what is new.

        Raises:
            Rejected: the offer is no description, or Janus has no answer to it.
            JanusError: Janus refused.
            McuLost: the session is lost.
        """
        who = identified(offer)
        message = await self.handle.ask(videoroom.configure_publisher(), offer)
        if message.jsep is None:
            raise Rejected("Janus gave no answer to the offer")
        self._identity = who
        self._answered(message.jsep.sdp)
        return message.jsep.sdp

    def _answered(self, answer: str) -> None:
        self.mids = accepted(answer)
        for subscriber in list(self.subscribers):
            subscriber.cover(self.mids)

    async def update(self, offer: str) -> str:
        """Renegotiate; subscribers are offered what is new. Raises as ``mcu.base.Publisher.update`` says."""
        if not identified(offer).same_peer_connection(self._identity):
            raise NewPeerConnection("the offer is of another PeerConnection")
        async with self.turn():
            return await self.negotiate(offer)

    async def limit(self, bits_per_second: int) -> None:
        """Cap what the publisher sends, by REMB; 0 lifts the cap."""
        async with self.turn() as handle:
            await handle.ask({"request": "configure", "bitrate": max(bits_per_second, 0)})

    async def request_keyframe(self) -> None:
        """Ask the publisher for a keyframe."""
        async with self.turn() as handle:
            await handle.ask({"request": "configure", "keyframe": True})

    def replace(self) -> None:
        """End in favour of a new publisher: the own listener hears nothing, the subscribers hear REPLACED."""
        self._dismiss(None, Closed.REPLACED)

    def end(self, why: Closed | None) -> None:
        """Leave Janus; subscribers hear PUBLISHER_GONE, or LOST where Janus is gone. Idempotent."""
        self._dismiss(why, why if why is Closed.LOST else Closed.PUBLISHER_GONE)

    def _dismiss(self, why: Closed | None, subscribers_hear: Closed) -> None:
        if self.ended:
            return
        super().end(why)
        self._changed(up=False)
        for subscriber in list(self.subscribers):
            subscriber.end(subscribers_hear)
            self._cleaning += subscriber.leaving()

    def _leave(self) -> None:
        if self.room:
            self._cleaning.append(self._rooms.destroy(self.session, self.room))
        super()._leave()

    def on_event(self, message: Message) -> None:
        """Take what Janus says of the handle."""
        if message.janus == "webrtcup":
            self._changed(up=True)
        elif message.janus == "media":
            self._media(message)
        elif message.janus == "trickle":
            self._candidate(message)
        elif message.janus in ("hangup", "detached") or message.plugindata.data.videoroom == "destroyed":
            self.end(Closed.FAILED)
        elif message.jsep is not None:  # the answer to an offer whose update() was cancelled
            self._answered(message.jsep.sdp)

    def _media(self, message: Message) -> None:
        kind = KINDS.get(message.type)
        if kind is None:
            return
        before = any(flows for (of, _), flows in self._flowing.items() if of is kind)
        self._flowing[kind, message.mid] = message.receiving
        after = any(flows for (of, _), flows in self._flowing.items() if of is kind)
        if before != after:
            self.ear.say(lambda listener: listener.on_media(kind, after))

    def _changed(self, up: bool) -> None:
        self.up = up
        self.changes += 1
        self._on_change(self)


class JanusSubscriber(Leg):
    """A subscription to one publisher.

    At most one offer of Janus waits for an answer. What changes meanwhile Janus keeps back and offers, combined, after
    the answer; so nothing is asked for again while one is outstanding.
    """

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
        self._outstanding = message.jsep.sdp
        return self._outstanding

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
                self._outstanding = message.jsep.sdp
            return self._outstanding

    async def select(self, layer: Layer) -> None:
        """Choose simulcast and temporal layer, switch audio and video on and off."""
        body = videoroom.select(layer)
        if len(body) == 1:
            return
        async with self.turn() as handle:
            await handle.ask(body)

    def cover(self, mids: frozenset[str]) -> None:
        """Ask for m-lines that the publisher has added; Janus offers them when it may, ``on_offer`` hears of it."""
        missing = mids - self._covered
        if missing and not self.ended:
            self._covered |= missing
            self.handle.tell(videoroom.subscribe(self.publisher.feed, sorted(missing)))

    def leaving(self) -> list[Reply]:
        """Return what is done when Janus has let the handle go."""
        return self._cleaning

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
            offer = self._outstanding = message.jsep.sdp
            self.ear.say(lambda listener: listener.on_offer(offer))
        elif message.plugindata.data.error_code:
            log.info("a subscription was not changed: Janus error %d", message.plugindata.data.error_code)


def identified(offer: str) -> Identity:
    """Return whose PeerConnection an offer is.

    Raises:
        Rejected: it is no description.
    """
    try:
        return identity(parse(offer))
    except SdpError as error:
        raise Rejected("the offer is not a session description") from error


def accepted(answer: str) -> frozenset[str]:
    """Return the mids of the m-lines that an answer of Janus takes."""
    sections = parse(answer).media
    return frozenset(section.mid for section in sections if section.mid is not None and not section.rejected)
