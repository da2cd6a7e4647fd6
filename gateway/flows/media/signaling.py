"""Carries out the media messages of clients with the SFU.

Source: signaling API, Media publishing; reference 8 and 9. Streams belong to the session and not to its connection: a
resume does not touch them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

from gateway.core.ids import SessionId
from gateway.core.limits import exceeds
from gateway.core.session import Session
from gateway.core.token_bucket import QuantityBucket
from gateway.core.virtual import VirtualSession
from gateway.flows.call_log import StreamEnd
from gateway.flows.media.description_turns import DescriptionTurns
from gateway.flows.media.publication import Publication
from gateway.flows.media.quality import QualityController
from gateway.flows.media.registry import StreamRegistry
from gateway.flows.media.session_stream import MediaContext, MediaRequest, stream_key
from gateway.flows.media.sfu import SfuAccess
from gateway.flows.media.stream_trace import StreamTrace
from gateway.flows.media.subscription import Subscription
from gateway.flows.media.validation import check, description_size, require_stream_type, stream_type_of
from gateway.flows.services import Services
from gateway.flows.traffic import Traffic
from gateway.wire.errors import Code, ProtocolError
from gateway.wire.media import MediaMessage
from mcu.base import McuStatus, StreamType
from sdp.document import Description

# The requests for streams that are traced, and the names of their traces.
TRACED = {"offer": "publish", "requestoffer": "subscribe", "sendoffer": "subscribe"}

UNSHARE_DELAY = 1.0  # seconds between unshareScreen and the end of the stream (9.7)


class MediaSignaling:
    """Opens, negotiates and closes the streams of all sessions on the SFU."""

    def __init__(self, services: Services, traffic: Traffic) -> None:
        self._services = services
        self._quality = QualityController(services)
        self._description_turns = DescriptionTurns()
        self._sfu = SfuAccess(services.mcu, services.clock)
        self._streams = StreamRegistry(MediaContext(services, self._sfu, self._quality, traffic))
        self._handlers: dict[str, Callable[[MediaRequest, SessionId], None]] = {
            "offer": self._offer,
            "answer": self._answer,
            "candidate": self._add_candidate,
            "endOfCandidates": self._add_candidate,
            "requestoffer": self._request_offer,
            "sendoffer": self._send_offer,
            "selectStream": self._select,
        }

    @property
    def quality(self) -> QualityController:
        """The decisions about bitrates and codecs."""
        return self._quality

    # -- statistics

    @property
    def open_streams(self) -> tuple[int, int]:
        """The number of publications and of subscriptions."""
        return sum(1 for _ in self.publication_types()), sum(1 for _ in self.subscription_types())

    def publication_types(self) -> Iterator[str]:
        """Yield the room type of each publication that is not lost."""
        return (stream.stream_type.value for stream in self._streams.publications() if stream.active)

    def subscription_types(self) -> Iterator[str]:
        """Yield the room type of each subscription whose stream is not lost."""
        return (stream.stream_type.value for stream in self._streams.subscriptions() if stream.active)

    # -- events

    def sfu_changed(self, status: McuStatus) -> None:
        """Recover the lost streams if an SFU accepts streams now."""
        if status.ready:
            for publication in list(self._streams.publications()):
                publication.retire()
            for subscription in list(self._streams.subscriptions()):
                subscription.resubscribe()

    def end(self, session: Session, reason: StreamEnd) -> None:
        """Close all streams of a session that left the call or the room, or that ended."""
        self._streams.end(session, reason)

    def subscriptions_restricted(self) -> None:
        """End the subscriptions of sessions that are not in one call with the publisher, internal clients excepted."""
        for subscription in list(self._streams.subscriptions()):
            if not subscription.session.is_internal and not subscription.in_same_call():
                subscription.close(StreamEnd.NOT_IN_CALL)

    def revoke(self, session: Session) -> None:
        """Close the publications that the session's permissions no longer cover (8)."""
        for stream_type in StreamType:
            publication = self._streams.publication(session, stream_type)
            if publication is not None:
                publication.revoke()
            elif not _may_publish(session, stream_type):
                self._publication_ended(session, stream_type)

    def unshare_screen(self, session: Session) -> None:
        """End the session's screen publication in a second, unless its client offers a screen again by then (9.7)."""
        publication = self._streams.publication(session, StreamType.SCREEN)
        if publication is not None:
            publication.end_later(UNSHARE_DELAY)
        else:
            self._publication_ended(session, StreamType.SCREEN)

    def _publication_ended(self, session: Session, stream_type: StreamType) -> None:
        self._streams.publication_ended(stream_key(session, session.id, stream_type))

    # -- messages

    def check(self, session: Session, message: MediaMessage) -> Description | None:
        """Check a media message, and count the size of its description against the session.

        Raises:
            ProtocolError: the message is malformed; ``too_many_requests``, the session sends too many descriptions.
            Postponed: the message has to be handled again later.
        """
        limits, size = self._services.settings.limits, description_size(message)
        if size:
            self._description_turns.take(session.id, size)
            rate, burst = limits.description_bytes_per_second, limits.description_bytes_burst
            self._take(session.description_bucket, size, rate, burst, "description_bytes_per_second")
        return check(message)

    def _take(self, bucket: QuantityBucket, size: int, rate: int, burst: int, limit: str) -> None:
        """Take tokens from a bucket of a session.

        Raises:
            ProtocolError: ``too_many_requests``, it has too few.
        """
        if not bucket.take(size, rate, burst, self._services.clock()):
            self._services.count_excess(limit)
            raise ProtocolError(Code.TOO_MANY_REQUESTS.error())

    def handle(self, session: Session, recipient: SessionId, message: MediaMessage, request_id: str) -> None:
        """Check and carry out a message of one of ``SFU_TYPES``; a later failure is sent to the client.

        Raises:
            ProtocolError: the message is malformed, or cannot be carried out.
            Postponed: the message has to be handled again later.
        """
        try:
            self._begin(session, recipient, message, request_id)
        except ProtocolError as refusal:
            self._log_refusal(session, recipient, message, refusal)
            raise

    def _begin(self, session: Session, recipient: SessionId, message: MediaMessage, request_id: str) -> None:
        name = None if self._services.traces is None else TRACED.get(message.type or "")
        if self._services.traces is None or name is None:
            self._handle(session, recipient, message, request_id)
            return
        publisher = session.id if message.type == "sendoffer" else recipient
        trace = StreamTrace(self._services.traces.stream(name, session, publisher, stream_type_of(message)))
        with trace.receiving():
            self._handle(session, recipient, message, request_id, trace)

    def _handle(
        self,
        session: Session,
        recipient: SessionId,
        message: MediaMessage,
        request_id: str,
        trace: StreamTrace | None = None,
    ) -> None:
        request, type = (
            MediaRequest(session, message, request_id, self.check(session, message), trace),
            str(message.type),
        )
        self._services.counters.mcu_messages[type] += 1
        self._handlers[type](request, recipient)

    def _log_refusal(
        self, session: Session, recipient: SessionId, message: MediaMessage, refusal: ProtocolError
    ) -> None:
        """Log a request for a stream that was refused before it was queued; not each candidate of such a stream."""
        stream_type = stream_type_of(message)
        if message.type in TRACED and stream_type is not None:
            publisher = recipient if message.type == "requestoffer" else session.id
            key = stream_key(session, publisher, stream_type)
            self._services.calls.refused(session, key, session.room, message.type, refusal.error.code)

    def _offer(self, request: MediaRequest, recipient: SessionId) -> None:
        session, stream_type = request.session, require_stream_type(request.message)
        limits = self._services.settings.limits
        self._take(session.offer_bucket, 1, limits.offers_per_second, limits.offers_burst, "offers_per_second")
        publication = self._streams.publication(session, stream_type)
        if publication is None:
            self._require_below_limit("publishers", len(self._streams.streams_of(session).publications))
            self._require_place(session)
            publication = self._streams.add_publication(session, stream_type)
        publication.offer(request)

    def _request_offer(self, request: MediaRequest, publisher_id: SessionId) -> None:
        session, hub = request.session, self._services.hub
        if publisher_id == session.id:
            return
        publisher = hub.find(session.backend, publisher_id) or hub.find_virtual(session.backend, publisher_id)
        trusted = session.is_internal or self._services.settings.media_limits.subscribe_any
        if not trusted and (publisher is None or not hub.in_same_call(session, publisher)):
            raise ProtocolError(Code.NOT_ALLOWED_TO_REQUEST_OFFER.error())
        self._subscribe(request, session, publisher_id)

    def _send_offer(self, request: MediaRequest, recipient: SessionId) -> None:
        session, hub = request.session, self._services.hub
        if not _may_publish(session, stream_type_of(request.message)):
            raise ProtocolError(Code.NOT_ALLOWED_TO_SEND_OFFER.error())
        if recipient == session.id:
            return
        found = hub.find(session.backend, recipient) or hub.find_virtual(session.backend, recipient)
        if found is None:
            raise ProtocolError(Code.CLIENT_NOT_FOUND.error())
        subscriber = found.owner if isinstance(found, VirtualSession) else found
        if subscriber is session:
            return
        if not session.is_internal and not self._may_be_offered(subscriber, found, session):
            raise ProtocolError(Code.NOT_ALLOWED_TO_SEND_OFFER.error())
        self._subscribe(request, subscriber, session.id)

    def _may_be_offered(self, subscriber: Session, recipient: Session | VirtualSession, publisher: Session) -> bool:
        """Return whether a publisher's stream may be offered to a recipient: both are in one call (9.5).

        An internal client, which receives the offer for a virtual session too, need not be in the call.
        """
        if publisher.room is None or recipient.room != publisher.room:
            return False
        if subscriber.is_internal or self._services.settings.media_limits.subscribe_any:
            return True
        return self._services.hub.in_same_call(subscriber, publisher)

    def _subscribe(self, request: MediaRequest, subscriber: Session, publisher: SessionId) -> None:
        stream_type, limits = require_stream_type(request.message), self._services.settings.limits
        rate, burst = limits.stream_requests_per_second, limits.stream_requests_burst
        self._take(request.session.stream_request_bucket, 1, rate, burst, "stream_requests_per_second")
        subscription = self._streams.subscription(subscriber, stream_key(subscriber, publisher, stream_type))
        if subscription is None:
            self._require_below_limit("subscriptions", len(self._streams.streams_of(subscriber).subscriptions))
            self._require_place(subscriber)
            subscription = self._streams.add_subscription(subscriber, publisher, stream_type)
        subscription.request(request)

    def _answer(self, request: MediaRequest, publisher: SessionId) -> None:
        if publisher == request.session.id:
            self._own_publication(request).refuse_answer(request)
        else:
            self._own_subscription(request, publisher).answer(request)

    def _add_candidate(self, request: MediaRequest, publisher: SessionId) -> None:
        if publisher == request.session.id:
            self._own_publication(request).add_candidate(request)
        else:
            self._own_subscription(request, publisher).add_candidate(request)

    def _select(self, request: MediaRequest, publisher: SessionId) -> None:
        if publisher != request.session.id:
            self._own_subscription(request, publisher).select(request)

    def _own_publication(self, request: MediaRequest) -> Publication:
        """Return the publication of the requesting session that a request is about.

        Raises:
            ProtocolError: there is none, or the session may not publish it.
        """
        if not _may_publish(request.session, stream_type_of(request.message)):
            raise ProtocolError(Code.NOT_ALLOWED_TO_SEND_CANDIDATE.error())
        publication = self._streams.publication(request.session, require_stream_type(request.message))
        if publication is None:
            raise ProtocolError(Code.CLIENT_NOT_FOUND.error())
        return publication

    def _own_subscription(self, request: MediaRequest, publisher: SessionId) -> Subscription:
        """Return the subscription of the requesting session that a request is about.

        Raises:
            ProtocolError: there is none.
        """
        session, stream_type = request.session, require_stream_type(request.message)
        subscription = self._streams.subscription(session, stream_key(session, publisher, stream_type))
        if subscription is None:
            raise ProtocolError(Code.CLIENT_NOT_FOUND.error())
        return subscription

    def _require_below_limit(self, limit: Literal["publishers", "subscriptions"], count: int) -> None:
        """Refuse one more stream of a session that has ``count`` already, if the limit is reached.

        Raises:
            ProtocolError: ``limit_exceeded``.
        """
        if exceeds(count + 1, getattr(self._services.settings.limits, limit)):
            self._services.count_excess(limit)
            raise ProtocolError(Code.LIMIT_EXCEEDED.error())

    def _require_place(self, session: Session) -> None:
        """Refuse one more stream of a session if the SFU has no PeerConnection left for its room or address.

        Raises:
            ProtocolError: ``limit_exceeded``.
        """
        if not self._streams.totals.have_place(session, self._sfu.capacity):
            self._services.count_excess("peer_connections")
            self._services.warnings.warning("peer connections", "streams are refused: the SFU has too many already")
            raise ProtocolError(Code.LIMIT_EXCEEDED.error())


def _may_publish(session: Session, stream_type: StreamType | None) -> bool:
    """Return whether a session may publish any media as a stream of this type."""
    permissions = session.permissions
    return (
        permissions.may_publish_screen()
        if stream_type is StreamType.SCREEN
        else permissions.may_publish_audio_or_video()
    )
