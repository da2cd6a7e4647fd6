"""Decides about the codecs and bitrates of publications by the quality rules.

Source: docs/mcu.md, "Quality"; the policy itself is ``gateway.core.policy``. A room is evaluated a moment after its
streams have changed, so that simultaneous changes cause one decision; limits are sent without renegotiation.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from gateway.core.ids import SessionId
from gateway.core.limits import Backend, QualityRules
from gateway.core.policy import BitrateShare, StreamDemand, share_bitrate
from gateway.core.room import RoomKey
from gateway.core.session import Session
from gateway.flows.media.codec_plan import CodecPlan, CodecPlanner, known_codecs
from gateway.flows.services import Services
from mcu.base import BackendId, McuError, Publisher, PublisherId, StreamKey, StreamType
from sdp.codecs import CodecPreference
from sdp.document import Description

log = logging.getLogger("portunus.flows.quality")

DELAY = 0.5  # seconds from a change in a room to its evaluation
RETRY = 5.0  # seconds until a limit that the SFU refused is sent again

_UNKNOWN_LIMIT = -1  # bit/s: the SFU may or may not have applied the last limit


class PublishedStream(Protocol):
    """The part of a publication that the quality policy uses; bitrates are bit/s, 0 = none."""

    @property
    def session(self) -> Session:
        """The publishing session."""

    @property
    def stream_type(self) -> StreamType:
        """Camera or screen."""

    @property
    def key(self) -> StreamKey:
        """The SFU's key of the stream."""

    @property
    def publisher(self) -> Publisher | None:
        """The publisher on the SFU; ``None`` while there is none."""

    @property
    def requested_bitrate(self) -> int:
        """The bitrate that the client requested."""

    @property
    def bitrate_limit(self) -> int:
        """The limit of the backend and the SFU for such a stream."""

    @property
    def ceiling(self) -> int:
        """The smaller of ``requested_bitrate`` and ``bitrate_limit``: the first limit of a publisher."""


@dataclass(frozen=True, slots=True)
class AppliedLimit:
    """The bitrate limit that was sent to a publisher last."""

    publisher: Publisher
    bits_per_second: int  # 0 = no limit
    confirmed: bool = False  # by the SFU


@dataclass(frozen=True, slots=True)
class StreamDecision:
    """One publication of a room and the decision about it."""

    stream: PublishedStream
    plan: CodecPlan
    publisher: Publisher
    share: BitrateShare
    applied: bool  # the limit was sent to the publisher
    confirmed: bool  # and the SFU has accepted it


@dataclass(frozen=True, slots=True)
class _Record:
    """The controller's own state of one publication."""

    stream: PublishedStream
    plan: CodecPlan  # of the latest answered offer
    room: RoomKey | None  # the room in whose bitrate budget the publication shares
    limit: AppliedLimit | None = None

    def limit_of(self, publisher: Publisher) -> AppliedLimit:
        """Return the limit that a publisher has now; at first the stream's ceiling."""
        if self.limit is not None and self.limit.publisher is publisher:
            return self.limit
        return AppliedLimit(publisher, self.stream.ceiling, confirmed=True)


class QualityController:
    """Decides about the codecs and bitrates of all publications, and sends the bitrate limits to the publishers."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._planner = CodecPlanner(services)
        self._published: dict[StreamKey, _Record] = {}
        self._subscribed: dict[SessionId, dict[StreamKey, RoomKey | None]] = {}  # with the session's room
        self._due: dict[RoomKey, float] = {}  # when a room is evaluated next, by ``services.clock``

    # -- codecs

    def plan_codecs(
        self, stream: PublishedStream, offer: Description, preference: CodecPreference, *, renegotiation: bool
    ) -> CodecPlan:
        """Decide about the codecs of an offer, reorder them in it and remove the codecs that must not be used.

        ``renegotiation``: the offer is of the same PeerConnection as the latest answered offer.
        """
        record = self._published.get(stream.key) if renegotiation else None
        return self._planner.plan(stream.session, offer, preference, None if record is None else record.plan)

    def subscriber_answered(self, session: Session, key: StreamKey, answer: Description) -> None:
        """Record from a subscriber's answer which of the stream's codecs the session decodes."""
        record = self._published.get(key)
        if record is not None:
            self._planner.learn_from_answer(session, record.plan.chosen, answer)

    # -- events of streams

    def stream_published(self, stream: PublishedStream, plan: CodecPlan, answer: Description) -> None:
        """Record a stream that was published or renegotiated, and send a new publisher its first limit.

        The answer to the client does not wait until the limit is applied: media start after the answer.
        """
        if stream.publisher is None:
            return
        chosen = {kind: names[0] for kind, names in known_codecs(answer).items() if names}
        before = self._published.get(stream.key)
        room = stream.session.room
        record = _Record(stream, replace(plan, chosen=chosen), room, None if before is None else before.limit)
        self._published[stream.key] = record
        self._schedule(room)
        if not self._rules(stream.session.backend).limits_bitrate:
            return
        for decision in self._decide([record], 1) if room is None else self._decide_room(room):
            if decision.stream is stream and not decision.applied:
                self._services.tasks.spawn(self._apply_all([decision], room), "first limit")

    def stream_lost(self, stream: PublishedStream) -> None:
        """Schedule the evaluation of a room after the SFU closed a publisher; the stream may be published again."""
        record = self._published.get(stream.key)
        if record is not None:
            self._schedule(record.room)

    def stream_unpublished(self, stream: PublishedStream) -> None:
        """Forget a stream."""
        record = self._published.pop(stream.key, None)
        if record is not None:
            self._schedule(record.room)

    def stream_subscribed(self, session: Session, key: StreamKey) -> None:
        """Record that a session receives a stream in the room where it is."""
        self._subscribed.setdefault(session.id, {})[key] = session.room
        self._schedule(session.room)

    def stream_unsubscribed(self, session: Session, key: StreamKey) -> None:
        """Record that a session no longer receives a stream."""
        subscribed = self._subscribed.get(session.id, {})
        self._schedule(subscribed.pop(key, None))
        if not subscribed:
            self._subscribed.pop(session.id, None)

    def room_entered(self, session: Session) -> None:
        """Move the streams of a session into the room that it has joined."""
        for key, record in self._records_of(session.backend.id, session.id):
            self._published[key] = replace(record, room=session.room)
            self._schedule(session.room)
        for key in self._subscribed.get(session.id, {}):
            self.stream_subscribed(session, key)

    def forget_codecs(self, session: SessionId) -> None:
        """Forget which codecs a session decodes."""
        self._planner.forget(session)

    def rules_changed(self) -> None:
        """Evaluate all rooms, and the streams outside of rooms, by the new rules."""
        for record in self._published.values():
            if record.room is not None:
                self._evaluate_in(record.room, DELAY)
            else:
                changed = [decision for decision in self._decide([record], 1) if not decision.applied]
                self._services.tasks.spawn(self._apply_all(changed, None), "limit")

    # -- evaluation

    def _schedule(self, room: RoomKey | None) -> None:
        """Schedule the evaluation of a room whose streams have changed, if bitrate rules apply to it."""
        if room is None:
            return
        backend = self._services.backends.by_id(room.backend)
        if backend is None or self._rules(backend).limits_bitrate:
            self._evaluate_in(room, DELAY)

    def _evaluate_in(self, room: RoomKey, seconds: float) -> None:
        """Schedule the evaluation of a room in ``seconds``, unless an earlier evaluation is scheduled."""
        at = self._services.clock() + seconds
        if at < self._due.get(room, math.inf):
            self._due[room] = at
            self._services.tasks.spawn(self._evaluate(room, at), "quality")

    async def _evaluate(self, room: RoomKey, at: float) -> None:
        await asyncio.sleep(at - self._services.clock())
        if self._due.get(room) == at:
            del self._due[room]
            await self._apply_all([decision for decision in self._decide_room(room) if not decision.applied], room)

    async def _apply_all(self, decisions: list[StreamDecision], room: RoomKey | None) -> None:
        if not all(await asyncio.gather(*map(self._apply, decisions))) and room is not None:
            self._evaluate_in(room, RETRY)

    async def _apply(self, decision: StreamDecision) -> bool:
        """Send a publisher its limit; return ``False`` if the SFU refused it for a stream that is still there."""
        stream, publisher = decision.stream, decision.publisher
        limit = AppliedLimit(publisher, decision.share.bitrate)
        self._set_limit(stream, limit)
        try:
            await publisher.limit(limit.bits_per_second)
        except McuError as error:
            self._services.warnings.warning(
                (stream.key.backend, "limit", type(error).__name__),
                "backend %s: a %s stream was not limited: %s",
                stream.key.backend,
                stream.stream_type.value,
                error,
            )
            self._replace_limit(stream, limit, AppliedLimit(publisher, _UNKNOWN_LIMIT))
            return stream.publisher is not publisher
        self._replace_limit(stream, limit, replace(limit, confirmed=True))
        self._services.calls.limited(stream.session, stream.key, stream.session.room, limit.bits_per_second)
        return True

    def _set_limit(self, stream: PublishedStream, limit: AppliedLimit) -> None:
        record = self._published.get(stream.key)
        if record is not None and record.stream is stream:
            self._published[stream.key] = replace(record, limit=limit)

    def _replace_limit(self, stream: PublishedStream, old: AppliedLimit, new: AppliedLimit) -> None:
        """Replace the record of a stream's limit, unless another limit was sent meanwhile."""
        record = self._published.get(stream.key)
        if record is not None and record.limit is old:
            self._set_limit(stream, new)

    def _decide_room(self, room: RoomKey) -> list[StreamDecision]:
        """Decide about each stream that is published in a room now."""
        found = self._services.hub.rooms.get(room)
        if found is None:
            return []
        records = [record for member in found.members for _, record in self._records_of(room.backend, member)]
        return list(self._decide(records, sum(self._is_active(room.backend, member) for member in found.members)))

    def _decide(self, records: list[_Record], sessions: int) -> Iterator[StreamDecision]:
        """Share the bitrate among the streams of a room; ``sessions``: how many of its sessions publish or receive."""
        sending = [(record, publisher) for record in records if (publisher := record.stream.publisher) is not None]
        if not sending:
            return
        rules = self._rules(sending[0][0].stream.session.backend)
        shares = share_bitrate(rules, [_demand(record) for record, _ in sending], sessions)
        for (record, publisher), share in zip(sending, shares, strict=True):
            limit = record.limit_of(publisher)
            applied = limit.bits_per_second == share.bitrate
            yield StreamDecision(record.stream, record.plan, publisher, share, applied, applied and limit.confirmed)

    def _records_of(self, backend: str, session: SessionId) -> list[tuple[StreamKey, _Record]]:
        keys = [StreamKey(BackendId(backend), PublisherId(session), stream_type) for stream_type in StreamType]
        return [(key, self._published[key]) for key in keys if key in self._published]

    def _is_active(self, backend: str, session: SessionId) -> bool:
        """Return whether a session publishes or receives now."""
        published = any(record.stream.publisher is not None for _, record in self._records_of(backend, session))
        return published or session in self._subscribed

    def _rules(self, backend: Backend) -> QualityRules:
        return backend.quality.with_defaults(self._services.settings.quality)

    # -- explanations for the operator

    def explain(self, room: RoomKey) -> list[StreamDecision]:
        """Return the decision about each stream that is published in a room now."""
        return self._decide_room(room)

    def count_incapable(self, decision: StreamDecision) -> dict[str, int]:
        """Return by media kind how many members of the room cannot decode the stream; zeros are left out."""
        return self._planner.count_incapable(decision.stream.session, decision.plan)


def _demand(record: _Record) -> StreamDemand:
    stream = record.stream
    screen = stream.stream_type is StreamType.SCREEN
    return StreamDemand(screen, "video" in record.plan.sent, stream.requested_bitrate, stream.bitrate_limit)
