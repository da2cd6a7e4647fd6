"""A session's published stream: offers in, answers out.

Source: reference 8, 9.2, 9.4, 9.7. The steps of an offer: permission, candidates, order of codecs, SFU, cap
of the answer. An offer from another PeerConnection than the running one replaces it (clients retry this way). A stream
that was lost without its client's doing is asked for again (recovery.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

from gateway.core.session import ClientType, Session
from gateway.flows.end_requests import EndCause, EndRequest
from gateway.flows.media.quality import AppliedLimit, Plan
from gateway.flows.media.recovery import ASKED_FOR, REPUBLISH
from gateway.flows.media.streams import LostTwice, MediaRequest, SessionStream, Streams, Unusable
from gateway.flows.media.validation import description
from gateway.flows.services import smaller
from gateway.wire import server
from gateway.wire.errors import Code, ProtocolError
from gateway.wire.media import DescriptionPayload, Head
from mcu.base import (
    Candidate,
    CloseReason,
    McuError,
    McuLost,
    MediaKind,
    NewPeerConnection,
    Publisher,
    PublishOptions,
    Rejected,
    StreamType,
)
from sdp import bitrate, candidates, codecs, document
from sdp.document import Description

log = logging.getLogger("portunus.flows.media")

_GREATEST_BITRATE = 2**31 - 1


class Publication(SessionStream):
    """What a session publishes as one room type."""

    def __init__(self, streams: Streams, session: Session, kind: StreamType) -> None:
        super().__init__(streams, session, session.id, kind)
        self._publisher: Publisher | None = None
        self._sections: frozenset[str] = frozenset()  # media sections of the latest offer
        self._offers = 0  # that came, carried out or not
        self.asked = self.limit = 0  # bit/s: what the client asked for, and what a stream may have; 0 = nothing
        self.plan: Plan | None = None  # of the latest offer that was carried out
        self.told: AppliedLimit | None = None
        self._listener: _Listener | None = None
        self._lost: server.RepublishBody | None = None  # what is to be asked for, once an SFU takes streams
        self._unshared = 0  # offers that had come when the client ended the stream

    def offer(self, errand: MediaRequest) -> None:
        """Publish, renegotiate, or replace the running connection."""
        self._offers += 1
        self.put(errand, self._offer)

    def take(self, errand: MediaRequest) -> None:
        """Take a candidate, the end of candidates, or an answer, which is an error (9.4)."""
        self.put(errand, self._take)

    def revoke(self) -> None:
        """End the stream if the session's permissions no longer cover it; an offer under way is answered so (8)."""
        if self.permitted():
            return
        errand = self.errand
        self.end()
        if errand is not None and errand.head.type == "offer":
            errand.fail(self.services, Code.NOT_ALLOWED_TO_PUBLISH)

    def permitted(self) -> bool:
        """Whether the session may still publish what this stream carries (8)."""
        if self.kind is StreamType.SCREEN:
            return self.session.permissions.may_publish_screen()
        return self.session.permissions.may_publish(self._sections)

    @property
    def held(self) -> bool:
        """Whether there is a publisher on the SFU."""
        return self._publisher is not None

    @property
    def publisher(self) -> Publisher | None:
        """What is on the SFU."""
        return self._publisher

    @property
    def ceiling(self) -> int:
        """The stream's ceiling in bit/s, 0 = none: least of client's wish, backend's and SFU's limit (9.2)."""
        return smaller(self.asked, self.limit)

    @property
    def missed(self) -> bool:
        """Whether the client is to be asked for the stream."""
        return self._lost is not None

    def end(self) -> None:
        """End the stream for good: it is neither asked for nor waited for."""
        self.forget()
        self.streams.dismiss(self.session, self.kind)

    def forget(self) -> None:
        """End the stream on the SFU and forget it; what still waits is dropped."""
        self.closed = True
        self._lost = None
        self.strand.close()
        publishers = self.streams.of(self.session.id).publishers
        if publishers.get(self.kind) is self:
            del publishers[self.kind]
        publisher, self._publisher, self._listener = self._publisher, None, None
        self.streams.quality.touch(self.room)
        if publisher is not None:
            self.services.tasks.spawn(publisher.close(), f"close {self.kind.value} publisher")

    def end_later(self, delay: float) -> None:
        """End the stream in ``delay`` seconds, unless another offer came by then."""
        offers = self._unshared = self._offers
        self._lost = None

        async def wait_and_end() -> None:
            await asyncio.sleep(delay)
            if not self.closed and self._offers == offers:
                self.end()

        self.services.tasks.spawn(wait_and_end(), "unshare screen")

    def retire(self) -> None:
        """Ask for the stream if it is time to, and forget the slot when there is nothing to wait for."""
        self.ask()
        super().retire()

    def ask(self) -> None:
        """Ask the client to offer the stream again, if it was lost and an SFU would take it now."""
        lost, session = self._lost, self.session
        if lost is None or self.active or not self.streams.takes_streams:
            return
        self._lost = None
        if REPUBLISH in session.features:
            self.services.delivery.send(session, server.encode(server.Republish(lost)))
        elif self.services.settings.reset_sessions_on_loss:
            log.info("a session ends: its client cannot be asked to offer again")
            self.services.end_requests.put_nowait(EndRequest(session, EndCause.STREAMS_LOST))

    def _miss(self, reason: CloseReason, sid: str) -> None:
        """Have the stream asked for, if the client can be, still shares it, and may."""
        can_be_asked = REPUBLISH in self.session.features
        may_be_reset = self.services.settings.reset_sessions_on_loss and self.session.client_type is ClientType.CLIENT
        if (can_be_asked or may_be_reset) and self._offers > self._unshared and self.permitted():
            self._lost = server.RepublishBody(self.kind.value, sid, reason.value)

    async def _offer(self, errand: MediaRequest) -> None:
        offer = description(errand.head)
        if not isinstance(offer, Description):
            raise ProtocolError(offer)
        sections = document.kinds(offer)
        self._permit(sections)
        preference = codecs.CodecPreference.parse(*_codec_fields(errand.head))
        candidates.filter_description(offer, self.services.settings.candidate_filter)
        plan = self.streams.quality.plan(self, offer, preference)
        try:
            answer = await self._update_or_publish(errand.head, str(offer), plan.preference)
        except McuError as error:
            if self._publisher is not None or isinstance(error, Rejected):  # it is the offer that fails (9.9)
                raise
            lost = isinstance(error, McuLost) and not isinstance(error, LostTwice)  # else it is the client's to try
            if lost and not self.streams.takes_streams:
                self._sections = sections
                self._miss(CloseReason.LOST, errand.head.sid or "")
            log.warning("publishing a %s stream failed: %s", self.kind.value, error)
            raise ProtocolError(Code.CLIENT_NOT_FOUND.error()) from error
        self._sections = sections
        if self.closed or not self.session.open:
            return
        try:
            self._permit(sections)  # ask again: it may have been revoked meanwhile
        except ProtocolError:
            self.end()
            raise
        self.streams.quality.sends(self, plan, answer)
        self.say("answer", DescriptionPayload("answer", self._capped(answer)))

    def _permit(self, sections: frozenset[str]) -> None:
        permissions = self.session.permissions
        screen = self.kind is StreamType.SCREEN
        if not (permissions.may_publish_screen() if screen else permissions.may_publish(sections)):
            raise ProtocolError(Code.NOT_ALLOWED_TO_PUBLISH.error())

    async def _update_or_publish(self, head: Head, offer: str, preference: codecs.CodecPreference) -> str:
        if self._publisher is not None:
            try:
                answer = await self._publisher.update(offer)
            except NewPeerConnection:
                pass
            else:
                self.sid = head.sid or self.sid
                return answer
        self._note_limits(head)
        self._publisher, replaced = None, self._publisher

        def publish(seconds: float) -> Awaitable[tuple[Publisher, str]]:
            listener = self._listener = _Listener(self)
            options = self._options(preference, seconds)
            return self.streams.mcu.publish(self.key, offer, options, listener)

        until = self.services.clock() + self.services.settings.media_limits.timeout
        try:
            publisher, answer = await self.streams.retry_once_if_lost(until, publish)
        except BaseException:
            if replaced is not None:  # its connection is closed or useless: the client has another one by now
                self.services.tasks.spawn(replaced.close(), "close replaced publisher")
            raise
        if self.closed:
            self.services.tasks.spawn(publisher.close(), "close late publisher")
            return answer
        self._publisher, self._lost = publisher, None
        self.sid = head.sid or ""
        self.services.counters.publishers_total[self.kind.value] += 1
        self.streams.watchers.wake(self.key)
        return answer

    def _options(self, preference: codecs.CodecPreference, seconds: float) -> PublishOptions:
        return PublishOptions(
            bitrate=self.ceiling,
            audiocodecs=preference.audio,
            videocodecs=preference.video,
            vp9profile=preference.vp9profile,
            h264profile=preference.h264profile,
            timeout=seconds,
            country=self.session.location.code,
            continent=self.session.location.continent,
        )

    def _note_limits(self, head: Head) -> None:
        limits, backend = self.services.settings.media_limits, self.session.backend
        self.asked = int(min(head.bitrate, _GREATEST_BITRATE)) if head.bitrate and head.bitrate > 0 else 0
        if self.kind is StreamType.SCREEN:
            self.limit = smaller(backend.max_screen_bitrate, limits.screen_bitrate)
        else:
            self.limit = smaller(backend.max_stream_bitrate, limits.stream_bitrate)

    def _capped(self, answer: str) -> str:
        """Tell the sender of the media its ceiling; audio is left alone, for Chromium takes a cap of it as a target."""
        if not self.ceiling:
            return answer
        parsed = document.parse(answer)
        bitrate.limit_media(parsed, ("video",), self.ceiling)
        return str(parsed)

    async def _take(self, errand: MediaRequest) -> None:
        if self._publisher is None:
            raise ProtocolError(Code.CLIENT_NOT_FOUND.error())
        self.check_sid(errand)
        if errand.head.type == "answer":
            raise ProtocolError(Code.PROCESSING_FAILED.error())
        try:
            candidate = self.candidate_of(errand.head)
        except Unusable:
            return
        await self._publisher.add_candidate(candidate)

    def trickled(self, listener: _Listener, candidate: Candidate | None) -> None:
        """Pass a candidate on, unless it is one of a connection that was replaced."""
        if self._listener is listener:
            self.on_candidate(candidate)

    def flows(self, listener: _Listener) -> None:
        """Let those follow whom the connection came up too late for."""
        if self._listener is listener:
            self.streams.watchers.wake(self.key)

    def lost(self, listener: _Listener, reason: CloseReason) -> None:
        """Forget the SFU's object when it ended by itself, unless it was replaced."""
        if self._listener is not listener:
            return
        self._publisher = None
        self.streams.quality.touch(self.room)
        self.services.counters.streams_lost[self.kind.value, reason.value] += 1
        if reason in ASKED_FOR:
            self._miss(reason, self.sid)
        self.retire()


class _Listener:
    """Hears of one PeerConnection of a slot, so that an older one cannot speak for its successor."""

    def __init__(self, slot: Publication) -> None:
        self._slot = slot

    def on_candidate(self, candidate: Candidate | None) -> None:
        self._slot.trickled(self, candidate)

    def on_media(self, kind: MediaKind, flowing: bool) -> None:
        if flowing:
            self._slot.flows(self)

    def on_offer(self, sdp: str) -> None:
        """A publisher is never offered anything."""

    def on_closed(self, reason: CloseReason) -> None:
        log.info("a %s publisher ended: %s", self._slot.kind.value, reason.value)
        self._slot.lost(self, reason)


def _codec_fields(head: Head) -> tuple[str, str, str, str]:
    return head.audiocodec or "", head.videocodec or "", head.vp9profile or "", head.h264profile or ""
