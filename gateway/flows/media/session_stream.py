"""One stream of a session, published or received: its queue of requests and its messages to the client.

Requests about one stream are carried out in the order in which they were received, on whichever connection
(invariant 5). The error reply to a request that fails after it was queued is sent here.
"""

from __future__ import annotations

import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Protocol

from gateway.core.ids import SessionId
from gateway.core.limits import exceeds
from gateway.core.room import RoomKey
from gateway.core.session import Session
from gateway.flows.call_log import StreamEnd
from gateway.flows.media.quality import QualityController
from gateway.flows.media.sfu import SfuAccess
from gateway.flows.media.stream_trace import StreamTrace
from gateway.flows.media.validation import CandidateRefused, read_candidate
from gateway.flows.services import Services
from gateway.flows.tasks import Backlog, SerialQueue
from gateway.flows.traffic import Traffic
from gateway.wire import server
from gateway.wire.errors import Code, Error, ProtocolError
from gateway.wire.media import CandidateInit, CandidatePayload, DescriptionPayload, MediaData, MediaMessage, encode_data
from mcu.base import (
    BackendId,
    CloseReason,
    IceCandidate,
    McuError,
    MediaKind,
    Publisher,
    PublisherId,
    StreamKey,
    StreamType,
    Subscriber,
    TransportState,
)
from sdp.document import Description

SLOW_LINK_INTERVAL = 60.0  # seconds between two reports of a slow link in the log: an SFU may report it each second
LOGGED_SID = 32  # characters of a sid in the log; the client may send any text

_unloggable = re.compile(r"[^\w-]", re.ASCII)
log = logging.getLogger("portunus.flows.media")


@dataclass(frozen=True, slots=True)
class MediaRequest:
    """A media message that a session's client sent."""

    session: Session
    message: MediaMessage
    id: str  # of the message, for an error reply
    description: Description | None = None  # of an offer or answer
    trace: StreamTrace | None = None

    def require_description(self) -> Description:
        """Return the description of an offer or answer.

        Raises:
            ProtocolError: ``invalid_sdp``, the message has none.
        """
        if self.description is None:
            raise ProtocolError(Code.NO_SDP.error())
        return self.description


@dataclass(frozen=True, slots=True)
class MediaContext:
    """The services, SFU, quality controller and budgets that all streams of a gateway share."""

    services: Services
    sfu: SfuAccess
    quality: QualityController
    traffic: Traffic


class StreamOwner(Protocol):
    """The part of the stream registry that a stream uses."""

    def backlog(self, session: Session) -> Backlog:
        """Return the counter of a session's waiting requests."""

    def remove_publication(self, session: Session, stream_type: StreamType) -> None:
        """Remove the closed publication of a session."""

    def remove_subscription(self, session: Session, key: StreamKey) -> None:
        """Remove the closed subscription of a session."""

    def has_publication(self, key: StreamKey) -> bool:
        """Return whether a session publishes this stream, or is about to."""

    def is_published(self, key: StreamKey) -> bool:
        """Return whether this stream is on the SFU."""

    def resubscribe(self, key: StreamKey) -> None:
        """Offer this stream to the sessions that lost it."""

    def publication_ended(self, key: StreamKey) -> None:
        """Stop the recovery of the subscriptions to this stream: its publisher ended it."""


def stream_key(session: Session, publisher: SessionId, stream_type: StreamType) -> StreamKey:
    """Return the SFU's key of a stream of ``publisher``, a session of the same backend as ``session``."""
    return StreamKey(BackendId(session.backend.id), PublisherId(publisher), stream_type)


class Refused(ProtocolError):
    """The error ``processing_failed``, with a reason for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__(Code.PROCESSING_FAILED.error())
        self.reason = reason


class SessionStream(ABC):
    """One stream of a session, from the first request about it to its end; its SFU object may be replaced meanwhile."""

    def __init__(
        self,
        context: MediaContext,
        owner: StreamOwner,
        session: Session,
        publisher: SessionId,
        stream_type: StreamType,
    ) -> None:
        self.session = session
        self.publisher_id = publisher
        self.stream_type = stream_type
        self.key = stream_key(session, publisher, stream_type)
        self.sid = ""
        self.closed = False
        self._context = context
        self._services = context.services
        self._owner = owner
        self._listener: PeerConnectionListener | None = None
        self._last_room = session.room
        self._slow_link_logged_at = -SLOW_LINK_INTERVAL
        self._current_request: MediaRequest | None = None
        self._trace: StreamTrace | None = None  # of the request that brought up the current PeerConnection
        self._queue = SerialQueue(context.services.tasks, f"{type(self).__name__} {stream_type.value}")

    _reports_media: ClassVar[bool]  # whether ``on_media_flowing`` is of use

    @property
    @abstractmethod
    def established(self) -> bool:
        """Whether the SFU has an object for the stream."""

    @property
    @abstractmethod
    def lost(self) -> bool:
        """Whether the stream was lost and is to be recovered."""

    @property
    def active(self) -> bool:
        """Whether the stream is on the SFU, or requests about it wait."""
        return self.established or self._queue.waiting

    @abstractmethod
    def close(self, reason: StreamEnd = StreamEnd.UNUSED) -> None:
        """Close the stream on the SFU, drop its waiting requests and remove it from the registry. Idempotent."""

    def retire(self) -> None:
        """Close the stream if it is not on the SFU, no request waits, and it is not to be recovered."""
        if not self.active and not self.lost:
            self.close()

    @abstractmethod
    def _require_peer(self) -> Publisher | Subscriber:
        """Return the stream on the SFU.

        Raises:
            ProtocolError: ``client_not_found``, it is not there.
        """

    # -- requests of clients

    def add_candidate(self, request: MediaRequest) -> None:
        """Forward a candidate or the end of candidates to the SFU (9.4).

        Raises:
            ProtocolError: the request was not queued.
        """
        self.enqueue(request, self._add_candidate)

    async def _add_candidate(self, request: MediaRequest) -> None:
        peer = self._require_peer()
        if not self._has_current_sid(request):
            return
        try:
            candidate = read_candidate(request.message, self._services.settings.candidate_filter)
        except CandidateRefused:
            return
        await peer.add_candidate(candidate)

    def enqueue(self, request: MediaRequest, work: Callable[[MediaRequest], Awaitable[None]]) -> None:
        """Carry out ``work`` for a request after the requests before it, and send its failure to the client.

        Raises:
            ProtocolError: ``limit_exceeded``, too many requests of the requesting session wait.
        """
        backlog = self._owner.backlog(request.session)
        if exceeds(backlog.count + 1, self._services.settings.limits.waiting_requests):
            self._services.count_excess("waiting_requests")
            self.retire()
            raise ProtocolError(Code.LIMIT_EXCEEDED.error())
        on_dropped = None if request.trace is None else request.trace.queued()
        self._queue.put(partial(self._carry_out, request, work), backlog, on_dropped)

    async def _carry_out(self, request: MediaRequest, work: Callable[[MediaRequest], Awaitable[None]]) -> None:
        self._current_request = request
        try:
            await (work(request) if request.trace is None else self._carry_out_traced(request, request.trace, work))
        except ProtocolError as error:
            self._log_refusal(request, error)
            self._reply_error(request, error.error)
        except McuError as error:
            self._warn(type(error).__name__, "%s of a %s stream failed: %s", request.message.type or "", error)
            self._reply_error(request, Code.PROCESSING_FAILED.error())
        except Exception:  # the client waits for a reply to each request
            log.exception("%s of a %s stream failed", request.message.type, self.stream_type.value)
            self._reply_error(request, Code.PROCESSING_FAILED.error())
        finally:
            self._current_request = None
            self.retire()

    async def _carry_out_traced(
        self, request: MediaRequest, trace: StreamTrace, work: Callable[[MediaRequest], Awaitable[None]]
    ) -> None:
        with trace.negotiating():
            await work(request)
        reply = "answer" if request.message.type == "offer" else "offer"
        trace.replied(reply, goes_on=trace is self._trace and not self.closed)

    def _trace_connection(self) -> None:
        """Have the trace of the current request go on with the PeerConnection that it has brought up."""
        if self._trace is not None:
            self._trace.end()
        self._trace = None if self._current_request is None else self._current_request.trace

    def _fail_trace(self, reason: CloseReason | StreamEnd) -> None:
        """End the trace of a PeerConnection after its stream has ended without any media."""
        if self._trace is not None:
            self._trace.fail(reason.name.lower())
            self._trace = None

    def _log_refusal(self, request: MediaRequest, refusal: ProtocolError) -> None:
        """Log the reason of ``processing_failed``, whose text refers the client's user to the log (9.4)."""
        cause = refusal.reason if isinstance(refusal, Refused) else refusal.__cause__
        if refusal.error.code == Code.PROCESSING_FAILED.error().code and not isinstance(cause, McuError):
            self._services.warnings.warning(
                (self.session.id, self.key, request.message.type),
                "%s of a %s stream was refused: %s",
                request.message.type,
                self.stream_type.value,
                cause,
            )

    @property
    def _room(self) -> RoomKey | None:
        """The room that the session is in, or else was last in, for the log."""
        self._last_room = self.session.room or self._last_room
        return self._last_room

    def _warn(self, cause: str, text: str, subject: str, reason: object, level: int = logging.WARNING) -> None:
        """Log a failure of the SFU, once a minute for each backend, subject and cause."""
        backend = self.session.backend.id
        values = (backend, subject, self.stream_type.value, reason)
        self._services.warnings.log(level, (backend, subject, cause), "backend %s: " + text, *values)

    def _reply_error(self, request: MediaRequest, error: Error) -> None:
        self._services.calls.refused(request.session, self.key, self._room, request.message.type, error.code)
        if request.session.open:
            self._services.delivery.send(request.session, server.encode(server.ErrorMessage(error, request.id)))

    def _set_sid(self, sid: str) -> None:
        """Store the sid of the current connection, empty if there is none; add the previous one to the former sids."""
        if self.sid != sid:
            self.session.former_sids.add(self.key, self.sid, self._services.clock())
        self.sid = sid

    def _has_current_sid(self, request: MediaRequest) -> bool:
        """Return whether a message has the sid of the current connection, or none (9.4).

        ``False``: it is about a connection that ended while the message was on its way, and is to be dropped.

        Raises:
            ProtocolError: ``processing_failed``, the stream has had no connection with this sid for a minute or longer.
        """
        sid = request.message.sid
        if not sid or sid == self.sid:
            return True
        if self.session.former_sids.contains(self.key, sid, self._services.clock()):
            log.debug(
                "%s of a %s stream dropped: its connection has ended", request.message.type, self.stream_type.value
            )
            return False
        named, present = _loggable(sid), _loggable(self.sid) or "none"
        raise Refused(f"it names the sid {named}, the stream has the sid {present}")

    # -- messages to the client

    def _send(self, type: str, payload: DescriptionPayload | CandidatePayload) -> None:
        """Send the session's client a message about this stream (9.2-9.4)."""
        if self.closed or not self.session.open:
            return
        data = MediaData(self.session.id, self.publisher_id, type, self.stream_type.value, payload, self.sid)
        own_answer = self.publisher_id == self.session.id and type == "answer"
        sender = server.Sender("session", self.publisher_id, self.session.shown_userid if own_answer else "")
        message = server.Message(server.MessageBody(sender, encode_data(data)))
        self._services.delivery.send(self.session, server.encode(message))

    # -- events of the SFU

    def _new_listener(self) -> PeerConnectionListener:
        """Return a listener for the next PeerConnection; events of the previous one are ignored from now on."""
        self._listener = PeerConnectionListener(self)
        return self._listener

    def is_current(self, listener: PeerConnectionListener) -> bool:
        """Return whether a listener belongs to the current PeerConnection."""
        return self._listener is listener

    def on_candidate(self, candidate: IceCandidate | None) -> None:
        """Send a candidate of the SFU to the client; the end of candidates is not sent (9.4)."""
        if candidate is not None:
            init = CandidateInit(candidate.candidate, candidate.sdp_mid, candidate.sdp_mline_index)
            self._send("candidate", CandidatePayload(init))

    def on_transport(self, state: TransportState) -> None:
        """Log a state of the PeerConnection."""
        if self._trace is not None:
            self._trace.transport(state, last=not self._reports_media)
        if state is TransportState.SLOW_LINK:
            now = self._services.clock()
            if now < self._slow_link_logged_at + SLOW_LINK_INTERVAL:
                return
            self._slow_link_logged_at = now
        self._services.calls.transport(self.session, self.key, self._room, state)

    @abstractmethod
    def on_offer(self, offer: Description) -> None:
        """Handle an offer by which the SFU renegotiates."""

    @abstractmethod
    def on_media_flowing(self) -> None:
        """Handle the start of the stream's media."""

    @abstractmethod
    def on_closed(self, reason: CloseReason) -> None:
        """Handle the closing of the stream's object by the SFU."""


class PeerConnectionListener:
    """Passes the events of one PeerConnection to its stream while it is the stream's current PeerConnection."""

    def __init__(self, stream: SessionStream) -> None:
        self._stream = stream

    def on_candidate(self, candidate: IceCandidate | None) -> None:
        if self._stream.is_current(self):
            self._stream.on_candidate(candidate)

    def on_offer(self, offer: Description) -> None:
        if self._stream.is_current(self):
            self._stream.on_offer(offer)

    def on_media(self, kind: MediaKind, flowing: bool) -> None:
        if flowing and self._stream.is_current(self):
            self._stream.on_media_flowing()

    def on_transport(self, state: TransportState) -> None:
        if self._stream.is_current(self):
            self._stream.on_transport(state)

    def on_closed(self, reason: CloseReason) -> None:
        if self._stream.is_current(self):
            self._stream.on_closed(reason)


def _loggable(sid: str) -> str:
    """Return a sid for the log, without anything that could be an address (invariant 7)."""
    return _unloggable.sub("?", sid[:LOGGED_SID])
