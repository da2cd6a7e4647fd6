"""What publishers and subscribers of the sessions have in common: whose they are, and how they speak to the client."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from gateway.core.ids import SessionId
from gateway.core.limits import exceeds
from gateway.core.policy import Decoder
from gateway.core.room import RoomKey
from gateway.core.session import Session
from gateway.flows.media.quality import QualityController
from gateway.flows.media.recovery import Watchers
from gateway.flows.services import Services
from gateway.flows.tasks import Backlog, SerialQueue
from gateway.wire import server
from gateway.wire.errors import Code, ProtocolError
from gateway.wire.media import (
    CandidateInit,
    CandidatePayload,
    DescriptionPayload,
    Head,
    MediaData,
    encode_data,
    member,
    string,
)
from mcu.base import BackendId, Candidate, Mcu, McuError, McuLost, PublisherId, StreamKey, StreamType

if TYPE_CHECKING:
    from gateway.flows.media.publication import Publication
    from gateway.flows.media.subscription import Subscription

log = logging.getLogger("portunus.flows.media")

_T = TypeVar("_T")
_TYPES = {kind.value: kind for kind in StreamType}


_BARELY = 0.1  # seconds by which a time limit may end too early


class LostTwice(McuLost):
    """An SFU went away under a verb, and so did the next: the verb may be what it dies of."""


def stream_type(head: Head) -> StreamType | None:
    """Return which stream a message is about; ``None`` for room types that nobody can publish (9.1)."""
    return _TYPES.get(head.roomType or "")


@dataclass(frozen=True, slots=True)
class MediaRequest:
    """A media message on its way: whose it is, and how to answer."""

    session: Session
    head: Head
    request: str

    def fail(self, services: Services, code: Code) -> None:
        """Tell the sender that its message could not be carried out."""
        if self.session.open:
            message = server.encode(server.ErrorMessage(code.error(), self.request))
            services.delivery.send(self.session, message)


@dataclass(slots=True)
class SessionStreams:
    """The streams of one session."""

    publishers: dict[StreamType, Publication] = field(default_factory=dict)
    subscribers: dict[tuple[SessionId, StreamType], Subscription] = field(default_factory=dict)
    waiting: Backlog = field(default_factory=Backlog)  # what the session asked for, of its streams and of others
    decoders: dict[str, Decoder] = field(default_factory=dict)  # by kind of media: what is known of it as a receiver

    @property
    def active(self) -> bool:
        """Whether it publishes or subscribes now."""
        return any(it.held for it in self.publishers.values()) or any(it.held for it in self.subscribers.values())


class Streams:
    """All streams by the session that owns them."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self._mcu = services.mcu
        self.owned: dict[SessionId, SessionStreams] = {}
        self.watchers = Watchers()
        self.quality = QualityController(services, self)

    @property
    def mcu(self) -> Mcu:
        """The SFU.

        Raises:
            McuLost: none is configured; media messages are relayed between clients then, and never come here.
        """
        if self._mcu is None:
            raise McuLost("no SFU is configured")
        return self._mcu

    @property
    def takes_streams(self) -> bool:
        """Whether an SFU takes streams now."""
        return self._mcu is not None and self._mcu.status().ready

    async def retry_once_if_lost(self, until: float, verb: Callable[[float], Awaitable[_T]]) -> _T:
        """Carry out a verb of the SFU, which is given the seconds left; once more when the SFU goes away under it.

        Not more often, and not where another SFU is left: what an SFU dies of must not take them all.

        Raises:
            LostTwice: the SFU went away both times, and not because there was none in time.
            McuError: what the verb raised last.
        """
        try:
            return await verb(max(until - self.services.clock(), 0.0))
        except McuLost:
            if self.takes_streams or self.services.clock() >= until:
                raise
        try:
            return await verb(max(until - self.services.clock(), 0.0))
        except McuLost as error:
            if self.services.clock() < until - _BARELY:
                raise LostTwice(str(error)) from error
            raise

    def of(self, session: SessionId) -> SessionStreams:
        """Return the streams of a session, to look at."""
        return self.owned.get(session) or SessionStreams()

    def own(self, session: Session) -> SessionStreams:
        """Return the streams of an open session, to add to."""
        return self.owned.setdefault(session.id, SessionStreams())

    def publisher(self, session: SessionId, kind: StreamType) -> Publication | None:
        """Return what a session publishes as that type, or is about to."""
        return self.of(session).publishers.get(kind)

    def dismiss(self, session: Session, kind: StreamType) -> None:
        """Wait for a session's stream no longer: its owner ended it."""
        self.watchers.dismiss(key_of(session, session.id, kind))

    def end(self, session: Session) -> None:
        """Close all streams of a session."""
        owned = self.owned.pop(session.id, None)
        if owned is not None:
            for subscriber in owned.subscribers.values():
                subscriber.forget()
            for publisher in owned.publishers.values():
                publisher.forget()
        for kind in StreamType:
            self.dismiss(session, kind)


def key_of(session: Session, publisher: SessionId, kind: StreamType) -> StreamKey:
    """Name a stream of a session's backend as the SFU knows it."""
    return StreamKey(BackendId(session.backend.id), PublisherId(publisher), kind)


class SessionStream(ABC):
    """One stream of a session, from the first message about it to its end; the SFU's object comes and goes within."""

    def __init__(self, streams: Streams, session: Session, peer: SessionId, kind: StreamType) -> None:
        self.streams = streams
        self.services = streams.services
        self.session = session
        self.peer = peer  # whom the client believes to talk to: the publishing session
        self.kind = kind
        self.key = key_of(session, peer, kind)
        self.sid = ""
        self.room: RoomKey | None = None  # where it was counted last
        self.closed = False
        self.errand: MediaRequest | None = None  # what is being done
        self.strand = SerialQueue(self.services.tasks, f"{type(self).__name__} {kind.value}")

    def put(self, errand: MediaRequest, work: Callable[[MediaRequest], Awaitable[None]]) -> None:
        """Do the errand's work after what was put before, and answer for its failure."""
        tally = self.streams.own(errand.session).waiting
        if exceeds(tally.count + 1, self.services.settings.limits.waiting_requests):
            self.services.count_excess("waiting_requests")
            errand.fail(self.services, Code.LIMIT_EXCEEDED)
            self.retire()
            return

        async def job() -> None:
            self.errand = errand
            try:
                await work(errand)
            except ProtocolError as error:
                if errand.session.open:
                    message = server.encode(server.ErrorMessage(error.error, errand.request))
                    self.services.delivery.send(errand.session, message)
            except McuError as error:
                log.warning("%s of a %s stream failed: %s", errand.head.type, self.kind.value, error)
                errand.fail(self.services, Code.PROCESSING_FAILED)
            except Exception:  # the client must hear something, whatever went wrong
                log.exception("%s of a %s stream failed", errand.head.type, self.kind.value)
                errand.fail(self.services, Code.PROCESSING_FAILED)
            finally:
                self.errand = None
                self.retire()

        self.strand.put(job, tally)

    @property
    @abstractmethod
    def held(self) -> bool:
        """Whether there is an object on the SFU."""

    @property
    @abstractmethod
    def missed(self) -> bool:
        """Whether the stream was lost, and is to come back."""

    @property
    def active(self) -> bool:
        """Whether there is something on the SFU, or something to do."""
        return self.held or self.strand.waiting

    @abstractmethod
    def forget(self) -> None:
        """End the stream on the SFU and forget it; what still waits is dropped."""

    def retire(self) -> None:
        """Forget the slot when it has nothing on the SFU, nothing to do and nothing to wait for."""
        if not self.active and not self.missed:
            self.forget()

    def check_sid(self, errand: MediaRequest) -> None:
        """Refuse a message about an older connection; an empty sid is accepted (9.4).

        Raises:
            ProtocolError: ``processing_failed``.
        """
        if errand.head.sid and errand.head.sid != self.sid:
            raise ProtocolError(Code.PROCESSING_FAILED.error())

    def candidate_of(self, head: Head) -> Candidate | None:
        """Return the candidate of a checked message, ``None`` for the end of candidates.

        Raises:
            Unusable: its address must not reach the SFU.
        """
        if head.type == "endOfCandidates" or head.payload is None:
            return None
        init = head.payload.candidate
        text = string(member(init, "candidate"))
        if not text:
            return None
        if not self.services.settings.candidate_filter.accepts(text):
            raise Unusable
        index = bytes(member(init, "sdpMLineIndex"))
        number = int(index) if index.isdigit() and len(index) < 6 else None
        return Candidate(text, string(member(init, "sdpMid")), number)

    def say(self, type: str, payload: DescriptionPayload | CandidatePayload) -> None:
        """Send the client a message about this stream (9.2-9.4)."""
        if self.closed or not self.session.open:
            return
        data = MediaData(self.session.id, self.peer, type, self.kind.value, payload, self.sid)
        userid = self.session.shown_userid if self.peer == self.session.id and type == "answer" else ""
        sender = server.Sender("session", self.peer, userid)
        message = server.Message(server.MessageBody(sender, encode_data(data)))
        self.services.delivery.send(self.session, server.encode(message))

    def on_candidate(self, candidate: Candidate | None) -> None:
        """Pass a candidate of the SFU on; the end of the list is not told (9.4)."""
        if candidate is not None:
            init = CandidateInit(candidate.candidate, candidate.sdp_mid, candidate.sdp_mline_index)
            self.say("candidate", CandidatePayload(init))


class Unusable(Exception):
    """A candidate whose address must not reach the SFU; dropped without an error (9.4)."""
