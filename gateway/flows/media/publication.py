"""A stream that a session publishes: offers of its client in, answers of the SFU out.

Source: reference 8, 9.2, 9.4, 9.7. An offer is carried out in this order: permission, candidate filter, order of
codecs, SFU, bitrate cap in the answer. An offer of a new PeerConnection replaces the running one; clients reconnect
this way. If a stream is lost and its client did not end it, the client is asked to publish it again (recovery.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

from gateway.core.session import Session
from gateway.flows.call_log import StreamEnd
from gateway.flows.media.negotiation import UnusableDescription, checked_answer
from gateway.flows.media.recovery import Recovery
from gateway.flows.media.session_stream import MediaContext, MediaRequest, Refused, SessionStream, StreamOwner
from gateway.flows.media.sfu import LostTwice
from gateway.flows.media.stream_trace import traced_request
from gateway.flows.services import smaller
from gateway.wire.errors import Code, ProtocolError
from gateway.wire.media import DescriptionPayload, MediaMessage
from mcu.base import (
    CloseReason,
    McuError,
    McuLost,
    NewConnectionRequired,
    Publisher,
    PublishOptions,
    Rejected,
    StreamType,
)
from sdp import bitrate, candidates, codecs, document
from sdp.document import Description, Identity
from sdp.mending import rejection
from sdp.offer_answer import changed_sections, stops_all_media

log = logging.getLogger("portunus.flows.media")

_MAX_BITRATE = 2**31 - 1  # bit/s


class Publication(SessionStream):
    """A stream that a session publishes."""

    _reports_media = True

    def __init__(self, context: MediaContext, owner: StreamOwner, session: Session, stream_type: StreamType) -> None:
        super().__init__(context, owner, session, session.id, stream_type)
        self.requested_bitrate = 0  # bit/s that the client requested; 0 = none
        self.bitrate_limit = 0  # bit/s of the backend and the SFU for such a stream; 0 = none
        self._publisher: Publisher | None = None
        # In all offers of the running PeerConnection: the SFU may go on forwarding media that a later offer omits.
        self._media_kinds: frozenset[str] = frozenset()
        self._identity: Identity | None = None  # of the PeerConnection of the latest offer that was carried out
        self._answer: Description | None = None  # the last answer of the running PeerConnection
        self._recovery = Recovery(context, session, stream_type)
        self._media_arrived = False  # whether media of the current PeerConnection have arrived
        self._offer_count = 0  # received, carried out or not
        self._unshared_offer_count = 0  # value of ``_offer_count`` when the client unshared the stream

    @property
    def established(self) -> bool:
        """Whether the SFU has a publisher for the stream."""
        return self._publisher is not None

    @property
    def publisher(self) -> Publisher | None:
        """The SFU's publisher of the stream."""
        return self._publisher

    @property
    def lost(self) -> bool:
        """Whether the client is to be asked to publish the stream again."""
        return self._recovery.pending

    @property
    def ceiling(self) -> int:
        """The stream's ceiling in bit/s, 0 = none: the least of the client's, the backend's and the SFU's (9.2)."""
        return smaller(self.requested_bitrate, self.bitrate_limit)

    # -- requests

    def offer(self, request: MediaRequest) -> None:
        """Publish, renegotiate, or replace the running PeerConnection.

        Raises:
            ProtocolError: the request was not queued.
        """
        self._offer_count += 1
        self.enqueue(request, self._offer)

    def refuse_answer(self, request: MediaRequest) -> None:
        """Refuse an answer of the publisher, after the requests before it (9.4).

        Raises:
            ProtocolError: the request was not queued.
        """
        self.enqueue(request, self._refuse_answer)

    def revoke(self) -> None:
        """End the stream if the session's permissions no longer cover it, and refuse an offer that is under way (8)."""
        if self._may_publish(self._media_kinds):
            return
        request = self._current_request
        self.end(StreamEnd.REVOKED)
        if request is not None and request.message.type == "offer":
            self._reply_error(request, Code.NOT_ALLOWED_TO_PUBLISH.error())

    def end(self, reason: StreamEnd) -> None:
        """Close the stream for good: neither the stream nor its subscriptions are to be recovered."""
        self.close(reason)
        self._owner.publication_ended(self.key)

    def end_later(self, delay: float) -> None:
        """End the stream in ``delay`` seconds, unless the client sends another offer by then."""
        offer_count = self._unshared_offer_count = self._offer_count
        self._recovery.cancel()

        async def wait_and_end() -> None:
            await asyncio.sleep(delay)
            if not self.closed and self._offer_count == offer_count:
                self.end(StreamEnd.UNSHARED)

        self._services.tasks.spawn(wait_and_end(), "unshare screen")

    def close(self, reason: StreamEnd = StreamEnd.UNUSED) -> None:
        """Close the stream on the SFU, drop its waiting requests and remove it from the registry. Idempotent."""
        if self.closed:
            return
        self.closed = True
        self._fail_trace(reason)
        self._set_sid("")
        self._recovery.cancel()
        self._queue.close()
        self._owner.remove_publication(self.session, self.stream_type)
        publisher, self._publisher, self._listener = self._publisher, None, None
        self._context.quality.stream_unpublished(self)
        if publisher is not None:
            self._services.calls.stream_closed(self.session, self.key, self._room, reason)
            self._services.tasks.spawn(publisher.close(), f"close {self.stream_type.value} publisher")

    def retire(self) -> None:
        """Recover the stream if that is possible now; close it if it is not on the SFU and not to be recovered."""
        if not self.active:
            self._recovery.attempt()
        super().retire()

    # -- carrying out requests

    async def _offer(self, request: MediaRequest) -> None:
        offer = request.require_description()
        media_kinds = document.kinds(offer)
        self._require_permission(media_kinds)
        preference = codecs.CodecPreference.parse(*_codec_fields(request.message))
        candidates.filter_description(offer, self._services.settings.candidate_filter)
        identity = document.identity(offer)
        stops_all = stops_all_media(offer)
        renegotiation = self._identity is not None and (
            self._identity.same_peer_connection(identity) or (stops_all and not identity.ufrags)
        )
        if stops_all and offer.media and (self._publisher is None or not renegotiation):
            self._reject_all(request.message, offer)
            return
        if renegotiation and self._publisher is not None:
            renegotiation = self._keeps_sections(offer, identity)
        plan = self._context.quality.plan_codecs(self, offer, preference, renegotiation=renegotiation)
        self._media_kinds |= media_kinds
        try:
            answer = await self._negotiate(
                request.message, offer.freeze(), plan.preference, renegotiation=renegotiation
            )
        except McuError as error:
            if self._publisher is None and stops_all and offer.media:  # the offer has crossed the end of its connection
                self._reject_all(request.message, offer)
                return
            if self._publisher is not None or isinstance(error, Rejected):  # the offer is at fault (9.9)
                raise
            lost = isinstance(error, McuLost) and not isinstance(error, LostTwice)
            if lost and not self._context.sfu.accepts_streams:
                self._media_kinds = media_kinds
                self._recover(CloseReason.LOST, request.message.sid or "")
            self._warn(type(error).__name__, "%s a %s stream failed: %s", "publishing", error)
            raise ProtocolError(Code.CLIENT_NOT_FOUND.error()) from error
        if self.closed or not self.session.open:
            return
        try:
            self._require_permission(media_kinds)  # check again: it may have been revoked meanwhile
        except ProtocolError:
            self.end(StreamEnd.REVOKED)
            raise
        if self._publisher is not None and identity.ufrags:
            self._identity = identity
        self._context.quality.stream_published(self, plan, answer)
        self._send("answer", DescriptionPayload("answer", str(self._capped(answer))))

    def _keeps_sections(self, offer: Description, identity: Identity) -> bool:
        """Return whether an offer keeps the running sections; ``False``: it is of another PeerConnection.

        Several PeerConnections of a client may have one certificate; they differ in their user name fragments.

        Raises:
            ProtocolError: ``invalid_sdp``, the offer changes a running section of its PeerConnection.
        """
        changes = [] if self._answer is None else changed_sections(self._answer, offer)
        if changes and not (self._identity is not None and identity.restarts_ice(self._identity)):
            text = f"The offer changes running media: {', '.join(map(str, changes))}."
            raise ProtocolError(Code.INVALID_SDP.error({"error": text}))
        return not changes

    def _reject_all(self, message: MediaMessage, offer: Description) -> None:
        """Answer, without the SFU, an offer whose sections are all stopped and that belongs to no stream on the SFU."""
        self._set_sid(message.sid or self.sid)
        self._send("answer", DescriptionPayload("answer", str(rejection(offer))))

    async def _negotiate(
        self, message: MediaMessage, offer: Description, preference: codecs.CodecPreference, *, renegotiation: bool
    ) -> Description:
        """Renegotiate the running PeerConnection, or publish anew; return the SFU's answer."""
        if self._publisher is not None and renegotiation:
            try:
                answer = await traced_request("update", self._publisher.update(offer))
            except NewConnectionRequired:
                pass
            else:
                self._set_sid(message.sid or self.sid)
                self._answer = checked_answer(offer, answer)
                return self._answer
        return await self._publish(message, offer, preference)

    async def _publish(
        self, message: MediaMessage, offer: Description, preference: codecs.CodecPreference
    ) -> Description:
        self._set_bitrates(message)
        self._publisher, replaced = None, self._publisher
        if replaced is not None:
            self._services.calls.stream_closed(self.session, self.key, self._room, CloseReason.REPLACED)

        def publish(seconds: float) -> Awaitable[tuple[Publisher, Description]]:
            options = self._options(preference, seconds)
            return self._context.sfu.mcu.publish(self.key, offer, options, self._new_listener())

        deadline = self._services.clock() + self._services.settings.media_limits.timeout
        try:
            publishing = self._context.sfu.retry_once_if_lost(deadline, publish)
            publisher, answer = await traced_request("publish", publishing)
        except BaseException:
            if replaced is not None:  # its client has abandoned that PeerConnection
                self._services.tasks.spawn(replaced.close(), "close replaced publisher")
            raise
        try:
            answer = checked_answer(offer, answer)
        except UnusableDescription:
            self._services.tasks.spawn(publisher.close(), "close publisher with an unusable answer")
            raise
        if self.closed:
            self._services.tasks.spawn(publisher.close(), "close late publisher")
            return answer
        self._publisher, self._answer, self._media_kinds = publisher, answer, document.kinds(offer)
        self._recovery.cancel()
        self._set_sid(message.sid or "")
        self._services.counters.publishers_total[self.stream_type.value] += 1
        self._media_arrived = False
        self._trace_connection()
        self._owner.resubscribe(self.key)
        codecs_in_order = (*preference.audio, *preference.video)
        self._services.calls.published(self.session, self.key, self._room, self.ceiling, codecs_in_order)
        return answer

    def _options(self, preference: codecs.CodecPreference, timeout: float) -> PublishOptions:
        location = self.session.location
        return PublishOptions(
            bitrate=self.ceiling,
            audiocodecs=preference.audio,
            videocodecs=preference.video,
            vp9profile=preference.vp9profile,
            h264profile=preference.h264profile,
            timeout=timeout,
            country=location.code,
            continent=location.continent,
        )

    def _set_bitrates(self, message: MediaMessage) -> None:
        """Store the bitrate that the client requested, and the limits that are configured now."""
        limits, backend = self._services.settings.media_limits, self.session.backend
        requested = message.bitrate or 0
        self.requested_bitrate = int(min(requested, _MAX_BITRATE)) if requested > 0 else 0
        if self.stream_type is StreamType.SCREEN:
            self.bitrate_limit = smaller(backend.max_screen_bitrate, limits.screen_bitrate)
        else:
            self.bitrate_limit = smaller(backend.max_stream_bitrate, limits.stream_bitrate)

    def _capped(self, answer: Description) -> Description:
        """Return the answer with the ceiling in its video sections; in audio sections Chromium takes it as a target."""
        if not self.ceiling:
            return answer
        capped = answer.copy()
        bitrate.limit_media(capped, ("video",), self.ceiling)
        return capped

    async def _refuse_answer(self, request: MediaRequest) -> None:
        self._require_peer()
        self._has_current_sid(request)  # the reason that it raises for an unknown sid comes first
        raise Refused("a publisher sends offers")

    def _require_peer(self) -> Publisher:
        if self._publisher is None:
            raise ProtocolError(Code.CLIENT_NOT_FOUND.error())
        return self._publisher

    # -- permissions (8)

    def _may_publish(self, media_kinds: frozenset[str]) -> bool:
        """Return whether the session may publish media of these kinds as this stream."""
        permissions = self.session.permissions
        if self.stream_type is StreamType.SCREEN:
            return permissions.may_publish_screen()
        return permissions.may_publish(media_kinds)

    def _require_permission(self, media_kinds: frozenset[str]) -> None:
        if not self._may_publish(media_kinds):
            raise ProtocolError(Code.NOT_ALLOWED_TO_PUBLISH.error())

    # -- events of the SFU

    def on_offer(self, offer: Description) -> None:
        """Do nothing: an SFU does not offer to publishers."""

    def on_media_flowing(self) -> None:
        """Log the first media, and offer the stream again to sessions that lost it and could not be subscribed yet."""
        if not self._media_arrived:
            self._media_arrived = True
            if self._trace is not None:
                self._trace.media()
                self._trace = None
            self._services.calls.media(self.session, self.key, self._room)
        self._owner.resubscribe(self.key)

    def on_closed(self, reason: CloseReason) -> None:
        """Remove the publisher that the SFU closed, and recover the stream if the SFU was lost or is drained."""
        self._services.calls.stream_closed(self.session, self.key, self._room, reason)
        self._fail_trace(reason)
        self._publisher = None
        self._context.quality.stream_lost(self)
        if reason is not CloseReason.CLIENT_CLOSED:
            self._services.counters.streams_lost[self.stream_type.value, reason.value] += 1
        if reason.is_of_sfu:
            self._recover(reason, self.sid)
        self.retire()

    def _recover(self, reason: CloseReason, sid: str) -> None:
        """Start the recovery of the stream, unless its client has unshared it or may no longer publish it."""
        if self._offer_count > self._unshared_offer_count and self._may_publish(self._media_kinds):
            self._recovery.mark_lost(reason, sid)


def _codec_fields(message: MediaMessage) -> tuple[str, str, str, str]:
    return message.audiocodec or "", message.videocodec or "", message.vp9profile or "", message.h264profile or ""
