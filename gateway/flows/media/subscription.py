"""A session's subscription to a stream: sends the SFU's offers to the client, and the client's answers to the SFU.

Source: reference 9.3-9.6; docs/mcu.md, "When streams are lost". Each PeerConnection has a ``sid`` of its own. If the
stream is lost, and was not ended by its publisher, it is offered to the client without a request once it is published
again, however long that takes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import nullcontext
from dataclasses import astuple

from gateway.core.ids import SessionId
from gateway.core.session import Session
from gateway.flows.call_log import StreamEnd
from gateway.flows.media.negotiation import UnusableDescription, check_client_answer, checked_offer
from gateway.flows.media.session_stream import MediaContext, MediaRequest, SessionStream, StreamOwner
from gateway.flows.media.stream_trace import traced_request
from gateway.flows.media.validation import read_selection
from gateway.wire.errors import Code, ProtocolError
from gateway.wire.media import DescriptionPayload, MediaMessage
from mcu.base import (
    CloseReason,
    McuError,
    McuLost,
    MediaSelection,
    NoSuchStream,
    StreamType,
    SubscribeOptions,
    Subscriber,
)
from sdp import candidates
from sdp.document import Description

log = logging.getLogger("portunus.flows.media")

ANSWERABLE_OFFERS = 8  # of one connection: a client's answer may belong to an older one
CROSSING_WINDOW = 2.0  # seconds in which a client's request may have crossed an unrequested offer on the wire


class Subscription(SessionStream):
    """A stream of another session that a session receives."""

    _reports_media = False  # the client detects media by itself

    def __init__(
        self,
        context: MediaContext,
        owner: StreamOwner,
        session: Session,
        publisher: SessionId,
        stream_type: StreamType,
    ) -> None:
        super().__init__(context, owner, session, publisher, stream_type)
        self._subscriber: Subscriber | None = None
        self._last_offer: Description | None = None  # last sent to the client
        self._offers: deque[Description] = deque(maxlen=ANSWERABLE_OFFERS)  # sent on the current connection
        self._selection = MediaSelection()
        self._request_count = 0  # received
        self._last_own_request = 0  # number of the last request of the subscriber's own client
        self._last_served = 0  # number of the last request that was served by an offer
        self._requires_same_call = False
        self._lost = False  # the stream is to be offered again once it is published
        self._lost_by_publisher = False  # the publisher's client ended or replaced its PeerConnection
        self._resubscription_queued = False
        self._publication_ended = False  # the publisher ended the stream; the SFU has not closed it yet
        self._unrequested_offer_at: float | None = None  # when it was sent, until the client answers it
        self._unrequested_renegotiates = False  # whether it was sent under the sid of the offer before

    @property
    def established(self) -> bool:
        """Whether the SFU has a subscriber for the stream."""
        return self._subscriber is not None

    @property
    def lost(self) -> bool:
        """Whether the stream is to be offered again once it is published."""
        return self._lost

    # -- requests

    def request(self, request: MediaRequest) -> None:
        """Offer the stream: on the same PeerConnection when the request names its sid, else on a new one (9.3).

        A request that waits behind another request is served by the same offer; its timeout begins now. A request that
        crossed an unrequested offer is served by that offer.

        Raises:
            ProtocolError: the request was not queued.
        """
        self._request_count += 1
        if request.session is self.session:
            self._last_own_request = self._request_count
        if self._crossed_offer(request.message):
            self._last_served = self._request_count
        number, deadline = self._request_count, self._services.clock() + self._services.settings.media_limits.timeout
        requires_same_call = self.in_same_call()

        async def work(request: MediaRequest) -> None:
            if self._last_served < number:
                await self._request(request, requires_same_call, deadline)
            elif self._subscriber is not None:
                await self._apply_selection(self._subscriber, read_selection(request.message))

        self.enqueue(request, work)

    def answer(self, request: MediaRequest) -> None:
        """Forward the answer to an offer of the SFU.

        Raises:
            ProtocolError: the request was not queued.
        """
        if request.message.sid in (self.sid, "", None):
            self._unrequested_offer_at = None
        self.enqueue(request, self._accept)

    def select(self, request: MediaRequest) -> None:
        """Forward a selection of layers and media to the SFU.

        Raises:
            ProtocolError: the request was not queued.
        """
        self.enqueue(request, self._select)

    def close(self, reason: StreamEnd = StreamEnd.UNUSED) -> None:
        """Close the stream on the SFU, drop its waiting requests and remove it from the registry. Idempotent."""
        if self.closed:
            return
        self.closed = True
        self._set_sid("")
        self._lost = False
        self._queue.close()
        self._owner.remove_subscription(self.session, self.key)
        self._unsubscribe(reason)

    # -- events of the publication

    def resubscribe(self) -> None:
        """Offer the stream again if it was lost and is published; the SFU is asked after the waiting requests."""
        if self._lost and not self._resubscription_queued:
            self._resubscription_queued = True
            self._queue.put(self._resubscribe)

    def publication_ended(self) -> None:
        """Stop the recovery of a lost stream, because its publisher ended it."""
        self._lost, self._publication_ended = False, True
        self.retire()

    # -- carrying out requests

    def _crossed_offer(self, message: MediaMessage) -> bool:
        """Return whether a request was probably on its way when an unrequested offer, not yet answered, was sent.

        Such a request names the sid that the client knew: the same as the offer's if the offer renegotiates.
        """
        if self._unrequested_offer_at is None or self._subscriber is None:
            return False
        names_sid = bool(message.sid) and message.sid == self.sid
        recent = self._services.clock() - self._unrequested_offer_at < CROSSING_WINDOW
        return recent and names_sid is self._unrequested_renegotiates

    async def _wait_for_budget(self) -> float:
        """Wait until the subscriber may be sent an offer that its client did not request; return the seconds.

        Requests behind this one are served by the same offer. A request of the client itself ends the wait.
        """
        begun = self._services.clock()
        while self._last_own_request <= self._last_served:
            seconds = self._context.traffic.take_offer(self.session)
            if not seconds:
                break
            await asyncio.sleep(seconds)
        return self._services.clock() - begun

    def in_same_call(self) -> bool:
        """Return whether subscriber and publisher are in one call now (9.3)."""
        hub = self._services.hub
        publisher = hub.find(self.session.backend, self.publisher_id)
        return publisher is not None and hub.in_same_call(self.session, publisher)

    async def _request(self, request: MediaRequest, requires_same_call: bool, deadline: float) -> None:
        if request.session is not self.session and not request.session.is_internal:
            deadline += await self._wait_for_budget()
        message = request.message
        selection = read_selection(message)
        subscriber, offer, before = self._subscriber, None, self._last_offer
        if subscriber is not None and message.type == "requestoffer" and message.sid and message.sid == self.sid:
            offer = await self._refresh(subscriber, selection)
        if offer is None:
            self._selection, self._requires_same_call = selection, requires_same_call
            offer = await self._subscribe_until(deadline)
            self._last_served = self._request_count
            if requires_same_call and not self.in_same_call():  # check again: the publisher may have left
                self._unsubscribe(StreamEnd.NOT_IN_CALL)
                requested = message.type == "requestoffer"
                code = Code.NOT_ALLOWED_TO_REQUEST_OFFER if requested else Code.NOT_ALLOWED_TO_SEND_OFFER
                raise ProtocolError(code.error())
        if offer is before or offer is not self._last_offer:  # otherwise ``on_offer`` has sent it meanwhile
            self._send_offer(offer)

    async def _refresh(self, subscriber: Subscriber, selection: MediaSelection) -> Description | None:
        """Return a new offer on the same PeerConnection; ``None``: the stream has ended meanwhile."""
        try:
            offer = checked_offer(await traced_request("refresh", subscriber.refresh()), self._last_offer)
            await self._apply_selection(subscriber, selection)
        except McuError:
            if self._subscriber is subscriber:
                raise
            return None
        return offer

    async def _subscribe_until(self, deadline: float) -> Description:
        """Subscribe on a new PeerConnection and return the SFU's offer.

        Raises:
            ProtocolError: the SFU could not subscribe the client.
        """
        try:
            return await traced_request("subscribe", self._context.sfu.retry_once_if_lost(deadline, self._subscribe))
        except McuError as error:
            if isinstance(error, McuLost):  # the client gets an error now, and an offer once the SFU has recovered
                self._lost = True
            # A missing stream is usual: clients request the streams of all members of the call.
            usual = isinstance(error, NoSuchStream)
            text, level = "%s a %s stream failed: %s", logging.INFO if usual else logging.WARNING
            self._warn(type(error).__name__, text, "subscribing to", error, level)
            missing = isinstance(error, NoSuchStream | McuLost)
            if missing:
                self._services.counters.no_publisher_total[self.stream_type.value] += 1
            code = Code.CLIENT_NOT_FOUND if missing else Code.PROCESSING_FAILED
            raise ProtocolError(code.error()) from error

    async def _subscribe(self, seconds: float) -> Description:
        """Open a new PeerConnection in place of the current one, and return the SFU's offer."""
        self._unsubscribe(CloseReason.REPLACED)
        location = self.session.location
        options = SubscribeOptions(seconds, self._selection, location.code, location.continent)
        subscriber, offer = await self._context.sfu.mcu.subscribe(self.key, options, self._new_listener())
        try:
            checked_offer(offer, None)
        except UnusableDescription:
            self._services.tasks.spawn(subscriber.close(), "close subscriber with an unusable offer")
            raise
        if self.closed:
            self._services.tasks.spawn(subscriber.close(), "close late subscriber")
            return offer
        self._subscriber = subscriber
        self._offers.clear()
        self._context.quality.stream_subscribed(self.session, self.key)
        self._lost, self._unrequested_offer_at = False, None
        self._publication_ended = not self._owner.has_publication(self.key)
        self._set_sid(_new_sid(self._services.entropy(8)))
        self._services.counters.subscribers_total[self.stream_type.value] += 1
        self._trace_connection()
        self._services.calls.subscribed(self.session, self.key, self._room)
        return offer

    def _unsubscribe(self, reason: CloseReason | StreamEnd) -> None:
        subscriber, self._subscriber, self._listener = self._subscriber, None, None
        self._fail_trace(reason)
        if subscriber is not None:
            self._services.calls.stream_closed(self.session, self.key, self._room, reason)
            self._context.quality.stream_unsubscribed(self.session, self.key)
            self._services.tasks.spawn(subscriber.close(), f"close {self.stream_type.value} subscriber")

    async def _apply_selection(self, subscriber: Subscriber | None, selection: MediaSelection) -> None:
        """Apply a selection of layers and media, also to the next PeerConnection."""
        if subscriber is not None:
            await subscriber.select(selection)
        pairs = zip(astuple(selection), astuple(self._selection), strict=True)
        self._selection = MediaSelection(*(new if new is not None else old for new, old in pairs))

    async def _select(self, request: MediaRequest) -> None:
        if self._subscriber is None and not self._lost:
            raise ProtocolError(Code.CLIENT_NOT_FOUND.error())
        await self._apply_selection(self._subscriber, read_selection(request.message))

    async def _accept(self, request: MediaRequest) -> None:
        subscriber = self._require_peer()
        if not self._has_current_sid(request):
            return
        answer = request.require_description()
        with nullcontext() if self._trace is None else self._trace.answering():
            candidates.filter_description(answer, self._services.settings.candidate_filter)
            check_client_answer(self._offers, answer)
            await traced_request("accept", subscriber.accept(answer.freeze()))
        self._context.quality.subscriber_answered(self.session, self.key, answer)

    def _require_peer(self) -> Subscriber:
        if self._subscriber is None:
            raise ProtocolError(Code.CLIENT_NOT_FOUND.error())
        return self._subscriber

    # -- recovery

    def on_closed(self, reason: CloseReason) -> None:
        """Mark the stream as lost, unless the client's own PeerConnection or the publication has ended (9.7)."""
        self._services.calls.stream_closed(self.session, self.key, self._room, reason)
        self._fail_trace(reason)
        self._subscriber = None
        self._context.quality.stream_unsubscribed(self.session, self.key)
        self._lost = not reason.is_of_connection and not self._publication_ended
        self._lost_by_publisher = not reason.is_of_sfu
        self.resubscribe()
        self.retire()

    async def _resubscribe(self) -> None:
        """Subscribe to the publisher's new PeerConnection, unless a request has done so already."""
        if self._lost and self._lost_by_publisher and self._owner.is_published(self.key):
            await self._wait_for_budget()
        self._resubscription_queued = False
        if self._lost and self._owner.is_published(self.key):
            await self._offer_unrequested()
        self.retire()

    async def _offer_unrequested(self) -> None:
        if not self._may_receive():
            self._lost = False
            return
        try:
            offer = await self._subscribe(self._services.settings.media_limits.timeout)
        except McuError as error:
            log.info("a %s stream cannot be offered again yet: %s", self.stream_type.value, error)
            return
        if not self._may_receive():  # check again: the publisher may have left
            self._unsubscribe(StreamEnd.NOT_IN_CALL)
            return
        self._last_served = self._request_count
        self._send_offer(offer, unrequested=True, renegotiates=False)

    def _may_receive(self) -> bool:
        return not self._requires_same_call or self.in_same_call()

    def on_offer(self, offer: Description) -> None:
        """Send a new offer of the SFU to the client; drop an offer that breaks the rules and keep the stream."""
        try:
            self._send_offer(checked_offer(offer, self._last_offer), unrequested=True)
        except UnusableDescription as error:
            self._warn(type(error).__name__, "%s of a %s stream was dropped: %s", "an offer", error)

    def _send_offer(self, offer: Description, *, unrequested: bool = False, renegotiates: bool = True) -> None:
        self._last_offer = offer
        self._offers.append(offer)
        self._unrequested_offer_at = self._services.clock() if unrequested else None
        self._unrequested_renegotiates = renegotiates
        text = str(offer)
        self._context.traffic.count_long_offer(self.session, len(text))
        self._send("offer", DescriptionPayload("offer", text))

    def on_media_flowing(self) -> None:
        """Do nothing: the client detects media by itself."""


def _new_sid(entropy: bytes) -> str:
    """Return a new sid; clients expect decimal digits (9.3)."""
    return str(int.from_bytes(entropy) >> 11)  # 53 bits: a number that JavaScript can hold
