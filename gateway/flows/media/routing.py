"""Media messages: from the wire to the SFU and back.

Source: signaling API, Media publishing; reference 8 and 9. Each stream of a session has a strand of its own:
what concerns it is done in the order it came, whatever connection it came on, and candidates wait behind their offer
(invariant 5). Streams belong to the session: a resume does not touch them.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.core.ids import SessionId
from gateway.core.limits import exceeds
from gateway.core.session import Session
from gateway.core.virtual import VirtualSession
from gateway.flows.media.publication import Publication
from gateway.flows.media.quality import QualityController
from gateway.flows.media.streams import MediaRequest, Streams, stream_type
from gateway.flows.media.subscription import Subscription
from gateway.flows.services import Services
from gateway.wire.errors import Code
from gateway.wire.media import Head
from mcu.base import McuStatus, StreamType

UNSHARE_DELAY = 1.0  # seconds between unshareScreen and the end of the stream (9.7)


class Media:
    """The publishers and subscribers of all sessions."""

    def __init__(self, services: Services) -> None:
        self._streams = Streams(services)
        self._services = services

    def sfu_changed(self, status: McuStatus) -> None:
        """Ask for the streams that were lost, and offer those that are there, once an SFU takes streams."""
        if status.ready:
            for owned in list(self._streams.owned.values()):
                for slot in list(owned.publishers.values()):
                    slot.retire()
                for subscription in list(owned.subscribers.values()):
                    subscription.follow()

    @property
    def quality(self) -> QualityController:
        """What decides about bitrates and codecs."""
        return self._streams.quality

    @property
    def open_streams(self) -> tuple[int, int]:
        """How many publishers and subscribers sessions have."""
        return sum(1 for _ in self.publisher_types()), sum(1 for _ in self.subscriber_types())

    def publisher_types(self) -> Iterable[str]:
        """Yield the room type of each publisher; those that were lost are none."""
        owned = self._streams.owned.values()
        return (slot.kind.value for of in owned for slot in of.publishers.values() if slot.active)

    def subscriber_types(self) -> Iterable[str]:
        """Yield the room type of each subscription; those that wait for a stream to come back are none."""
        owned = self._streams.owned.values()
        return (slot.kind.value for of in owned for slot in of.subscribers.values() if slot.active)

    def handle(self, session: Session, recipient: SessionId, head: Head, request: str) -> None:
        """Carry out a checked media message of a session; ``request`` is its id, for an error."""
        errand = MediaRequest(session, head, request)
        self._services.counters.mcu_messages[str(head.type)] += 1
        if head.type == "offer":
            self._offer(errand)
        elif head.type == "sendoffer":
            self._send_offer(errand, recipient)
        elif head.type == "requestoffer":
            self._request_offer(errand, recipient)
        elif head.type == "selectStream":
            if recipient != session.id:
                self._of_subscriber(errand, recipient)
        elif recipient == session.id:
            self._of_publisher(errand)
        else:
            self._of_subscriber(errand, recipient)

    def unshare_screen(self, session: Session) -> None:
        """Close the session's screen publisher in a second, unless it is another one by then (9.7)."""
        slot = self._streams.of(session.id).publishers.get(StreamType.SCREEN)
        if slot is not None:
            slot.end_later(UNSHARE_DELAY)
        else:
            self._streams.dismiss(session, StreamType.SCREEN)

    def end(self, session: Session) -> None:
        """Close all streams of a session: it left the call or the room, or it ended."""
        self._streams.end(session)

    def revoke(self, session: Session) -> None:
        """Close the publishers that the session's permissions no longer cover (8)."""
        publishers = self._streams.of(session.id).publishers
        for kind in StreamType:
            if (slot := publishers.get(kind)) is not None:
                slot.revoke()
            elif not _may_publish(session, kind):
                self._streams.dismiss(session, kind)

    def _offer(self, errand: MediaRequest) -> None:
        kind = stream_type(errand.head)
        if kind is None:
            errand.fail(self._services, Code.CLIENT_NOT_FOUND)
            return
        publishers = self._streams.own(errand.session).publishers
        slot = publishers.get(kind)
        if slot is None:
            if self._is_too_many(errand, len(publishers) + 1, "publishers"):
                return
            slot = publishers[kind] = Publication(self._streams, errand.session, kind)
        slot.offer(errand)

    def _request_offer(self, errand: MediaRequest, recipient: SessionId) -> None:
        session, services = errand.session, self._services
        if recipient == session.id:
            return
        hub = services.hub
        publisher = hub.find(session.backend, recipient) or hub.find_virtual(session.backend, recipient)
        trusted = session.is_internal or services.settings.media_limits.subscribe_any
        if not trusted and (publisher is None or not services.hub.in_same_call(session, publisher)):
            errand.fail(services, Code.NOT_ALLOWED_TO_REQUEST_OFFER)
            return
        self._subscribe(errand, session, recipient)

    def _send_offer(self, errand: MediaRequest, recipient: SessionId) -> None:
        session, services = errand.session, self._services
        if not self._may_negotiate(errand):
            errand.fail(services, Code.NOT_ALLOWED_TO_SEND_OFFER)
            return
        hub = services.hub
        found = hub.find(session.backend, recipient) or hub.find_virtual(session.backend, recipient)
        if recipient == session.id:
            return
        if found is None:
            errand.fail(services, Code.CLIENT_NOT_FOUND)
            return
        subscriber = found.owner if isinstance(found, VirtualSession) else found  # who speaks for it gets the offer
        if subscriber is session:
            return
        if (session.room is None or found.room != session.room) and not session.is_internal:
            errand.fail(services, Code.NOT_ALLOWED_TO_SEND_OFFER)
            return
        self._subscribe(errand, subscriber, session.id)

    def _subscribe(self, errand: MediaRequest, subscriber: Session, publisher: SessionId) -> None:
        kind = stream_type(errand.head)
        if kind is None:
            errand.fail(self._services, Code.CLIENT_NOT_FOUND)
            return
        subscribers = self._streams.own(subscriber).subscribers
        slot = subscribers.get((publisher, kind))
        if slot is None:
            if self._is_too_many(errand, len(subscribers) + 1, "subscriptions"):
                return
            slot = subscribers[publisher, kind] = Subscription(self._streams, subscriber, publisher, kind)
        slot.request(errand)

    def _is_too_many(self, errand: MediaRequest, count: int, limit: str) -> bool:
        """Whether a session would have more streams than it may; the sender is told."""
        if not exceeds(count, getattr(self._services.settings.limits, limit)):
            return False
        self._services.count_excess(limit)
        errand.fail(self._services, Code.LIMIT_EXCEEDED)
        return True

    def _of_publisher(self, errand: MediaRequest) -> None:
        """Take an answer, a candidate or the end of candidates to the session's own publisher."""
        if not self._may_negotiate(errand):
            errand.fail(self._services, Code.NOT_ALLOWED_TO_SEND_CANDIDATE)
            return
        kind = stream_type(errand.head)
        slot = None if kind is None else self._streams.of(errand.session.id).publishers.get(kind)
        if slot is None:
            errand.fail(self._services, Code.CLIENT_NOT_FOUND)
            return
        slot.take(errand)

    def _of_subscriber(self, errand: MediaRequest, publisher: SessionId) -> None:
        kind = stream_type(errand.head)
        slot = None if kind is None else self._streams.of(errand.session.id).subscribers.get((publisher, kind))
        if slot is None:
            errand.fail(self._services, Code.CLIENT_NOT_FOUND)
            return
        slot.take(errand)

    @staticmethod
    def _may_negotiate(errand: MediaRequest) -> bool:
        return _may_publish(errand.session, stream_type(errand.head))


def _may_publish(session: Session, kind: StreamType | None) -> bool:
    """Whether a session may publish anything of that kind."""
    permissions = session.permissions
    return permissions.may_publish_screen() if kind is StreamType.SCREEN else permissions.may_publish_something()
