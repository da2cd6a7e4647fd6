"""The streams of all sessions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from gateway.core.ids import SessionId
from gateway.core.session import Session
from gateway.flows.call_log import StreamEnd
from gateway.flows.media.publication import Publication
from gateway.flows.media.session_stream import MediaContext, stream_key
from gateway.flows.media.stream_totals import StreamTotals
from gateway.flows.media.subscription import Subscription
from gateway.flows.tasks import Backlog
from mcu.base import StreamKey, StreamType


@dataclass(frozen=True, slots=True)
class SessionStreams:
    """The streams of one session, and the count of its waiting requests."""

    publications: dict[StreamType, Publication] = field(default_factory=dict)
    subscriptions: dict[StreamKey, Subscription] = field(default_factory=dict)
    backlog: Backlog = field(default_factory=Backlog)  # requests about other sessions' streams included


class StreamRegistry:
    """The streams of each session, and the subscriptions to each stream."""

    def __init__(self, context: MediaContext) -> None:
        self._context = context
        self._sessions: dict[SessionId, SessionStreams] = {}
        self._subscriptions: dict[StreamKey, dict[SessionId, Subscription]] = {}  # oldest first
        self.totals = StreamTotals()

    # -- look-up

    def publications(self) -> Iterator[Publication]:
        """Yield the publications of all sessions."""
        return (publication for streams in self._sessions.values() for publication in streams.publications.values())

    def subscriptions(self) -> Iterator[Subscription]:
        """Yield the subscriptions of all sessions."""
        return (subscription for streams in self._sessions.values() for subscription in streams.subscriptions.values())

    def streams_of(self, session: Session) -> SessionStreams:
        """Return the streams of a session, to be read only."""
        return self._sessions.get(session.id) or SessionStreams()

    def publication(self, session: Session, stream_type: StreamType) -> Publication | None:
        """Return a session's publication of this type, established or being negotiated."""
        return self.streams_of(session).publications.get(stream_type)

    def subscription(self, session: Session, key: StreamKey) -> Subscription | None:
        """Return a session's subscription to a stream, established or being negotiated."""
        return self.streams_of(session).subscriptions.get(key)

    def has_publication(self, key: StreamKey) -> bool:
        """Return whether a session publishes this stream, or is about to."""
        return self._publication(key) is not None

    def is_published(self, key: StreamKey) -> bool:
        """Return whether this stream is on the SFU."""
        publication = self._publication(key)
        return publication is not None and publication.established

    def backlog(self, session: Session) -> Backlog:
        """Return the counter of an open session's waiting requests."""
        return self._get_or_create(session).backlog

    # -- additions and removals

    def add_publication(self, session: Session, stream_type: StreamType) -> Publication:
        """Create a publication of an open session that has none of this type."""
        publication = Publication(self._context, self, session, stream_type)
        self._get_or_create(session).publications[stream_type] = publication
        self.totals.add(publication)
        return publication

    def add_subscription(self, session: Session, publisher: SessionId, stream_type: StreamType) -> Subscription:
        """Create a subscription of an open session that has none to this stream."""
        subscription = Subscription(self._context, self, session, publisher, stream_type)
        self._get_or_create(session).subscriptions[subscription.key] = subscription
        self._subscriptions.setdefault(subscription.key, {})[session.id] = subscription
        self.totals.add(subscription)
        return subscription

    def remove_publication(self, session: Session, stream_type: StreamType) -> None:
        """Remove the closed publication of a session."""
        publication = self.streams_of(session).publications.pop(stream_type, None)
        if publication is not None:
            self.totals.remove(publication)

    def remove_subscription(self, session: Session, key: StreamKey) -> None:
        """Remove the closed subscription of a session."""
        subscription = self.streams_of(session).subscriptions.pop(key, None)
        if subscription is not None:
            self.totals.remove(subscription)
        subscriptions = self._subscriptions.get(key, {})
        subscriptions.pop(session.id, None)
        if not subscriptions:
            self._subscriptions.pop(key, None)

    def end(self, session: Session, reason: StreamEnd) -> None:
        """Close all streams of a session, and stop the recovery of other sessions' subscriptions to them."""
        streams = self._sessions.pop(session.id, None)
        if streams is not None:
            for stream in (*streams.subscriptions.values(), *streams.publications.values()):
                stream.close(reason)
                self.totals.remove(stream)
        self._context.quality.forget_codecs(session.id)
        for stream_type in StreamType:
            self.publication_ended(stream_key(session, session.id, stream_type))

    # -- events of publications for their subscriptions

    def resubscribe(self, key: StreamKey) -> None:
        """Offer this stream to the sessions that lost it."""
        for subscription in list(self._subscriptions.get(key, {}).values()):
            subscription.resubscribe()

    def publication_ended(self, key: StreamKey) -> None:
        """Stop the recovery of the subscriptions to this stream: its publisher ended it."""
        for subscription in list(self._subscriptions.get(key, {}).values()):
            subscription.publication_ended()

    def _publication(self, key: StreamKey) -> Publication | None:
        streams = self._sessions.get(SessionId(key.publisher))
        return None if streams is None else streams.publications.get(key.stream_type)

    def _get_or_create(self, session: Session) -> SessionStreams:
        return self._sessions.setdefault(session.id, SessionStreams())
