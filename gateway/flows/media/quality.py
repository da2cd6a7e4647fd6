"""The quality policy at work: rooms are looked at when their streams change, and publishers are told their limits.

Source: docs/mcu.md, "Quality"; the policy itself is ``gateway.core.policy``. What came or went in a room is waited for
a moment, so that many at once cost one decision; the limits are sent without renegotiation.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from gateway.core import policy
from gateway.core.limits import ANY_CODEC, AUDIO_CODECS, VIDEO_CODECS, Backend, Quality
from gateway.core.policy import Decoder, Share, Stream
from gateway.core.room import RoomKey
from gateway.core.session import Session
from gateway.flows.services import Services
from mcu.base import McuError, Publisher, StreamType
from sdp import codecs, document
from sdp.codecs import CodecPreference
from sdp.document import Description, Identity

if TYPE_CHECKING:
    from gateway.flows.media.publication import Publication
    from gateway.flows.media.streams import SessionStream, Streams
    from gateway.flows.media.subscription import Subscription

log = logging.getLogger("portunus.flows.quality")

DELAY = 0.5  # seconds from a change in a room to the decision about it
RETRY = 5.0  # seconds until a limit that the SFU did not take is sent again
KINDS = {"audio": AUDIO_CODECS, "video": VIDEO_CODECS}  # what else a client may name is nobody's business

_UNKNOWN = -1  # bit/s: the SFU may or may not have taken the last limit
_SENDS = ("sendrecv", "sendonly")


@dataclass(frozen=True, slots=True)
class Plan:
    """What an offer says, and what was decided about its codecs."""

    preference: CodecPreference  # to prefer on the SFU
    identity: Identity
    offered: dict[str, tuple[str, ...]]  # codecs by kind
    sends: frozenset[str]  # kinds of which anything is sent
    decided: dict[str, policy.Codecs]
    chosen: dict[str, str] = field(default_factory=dict)  # the codec by kind that the SFU agreed to


@dataclass(frozen=True, slots=True)
class AppliedLimit:
    """What a publisher was told to keep to."""

    publisher: Publisher
    bits_per_second: int  # 0 = no limit
    taken: bool = False  # whether the SFU has answered


@dataclass(frozen=True, slots=True)
class Decision:
    """One stream of a room and what was decided about it."""

    slot: Publication
    plan: Plan
    publisher: Publisher
    share: Share

    @property
    def applied(self) -> bool:
        """Whether the publisher was told, or is being told."""
        return _told(self.slot, self.publisher).bits_per_second == self.share.bitrate

    @property
    def taken(self) -> bool:
        """Whether the SFU took it."""
        return self.applied and _told(self.slot, self.publisher).taken


class QualityController:
    """Decides about the streams of all rooms, and sends what was decided."""

    def __init__(self, services: Services, streams: Streams) -> None:
        self._services = services
        self._streams = streams
        self._due: dict[RoomKey, float] = {}  # when a room is looked at next, by the loop's clock

    # -- codecs

    def plan(self, slot: Publication, offer: Description, preference: CodecPreference) -> Plan:
        """Decide about the codecs of an offer, and put it into that order; what must not be used is taken out.

        What was decided about a running connection stays, so that nobody's stream changes its codec under way.
        """
        offered = _known(offer)
        self._learn(slot.session, offered)
        identity, running = document.identity(offer), slot.plan
        if running is not None and not running.identity.same_peer_connection(identity):
            running = None
        decided = {}
        for kind in KINDS:
            if running is not None and running.offered[kind]:
                decided[kind] = running.decided[kind]
            else:
                decided[kind] = self._choose(slot.session, kind, offered[kind], preference.codecs(kind))
            if decided[kind].removed:
                codecs.restrict(offer, kind, set(offered[kind]) - decided[kind].removed)
        preference = replace(preference, audio=decided["audio"].order, video=decided["video"].order)
        codecs.prefer(offer, preference)
        sends = frozenset(it.kind for it in offer.media if not it.rejected and it.direction in _SENDS)
        return Plan(preference, identity, offered, sends, decided)

    def _choose(self, session: Session, kind: str, offered: tuple[str, ...], wished: tuple[str, ...]) -> policy.Codecs:
        quality = self._quality(session.backend)
        allowed = quality.audiocodecs if kind == "audio" else quality.videocodecs
        room = self._services.hub.room_of(session)
        others = () if room is None else (self._streams.of(id).decoders for id in room.members if id != session.id)
        receivers = [known[kind] for known in others if kind in known]
        wished = tuple(codec for codec in wished if codec in KINDS[kind])
        possible = offered or (*wished, *(codec for codec in allowed if codec != ANY_CODEC))
        return policy.codecs(allowed, wished, possible, receivers)

    def _learn(self, session: Session, offered: dict[str, tuple[str, ...]]) -> None:
        decoders = self._streams.own(session).decoders
        for kind in KINDS:
            if offered[kind]:
                decoders[kind] = decoders.get(kind, Decoder()).offered(offered[kind])

    def answered(self, slot: Subscription, answer: Description) -> None:
        """Learn from a subscriber's answer what it decodes."""
        publisher = self._streams.publisher(slot.peer, slot.kind)
        if publisher is None or publisher.plan is None:
            return
        decoders = self._streams.own(slot.session).decoders
        for section in answer.media:
            codec = publisher.plan.chosen.get(section.kind)
            if codec is not None:
                known = decoders.get(section.kind, Decoder())
                decoders[section.kind] = known.answered([codec], accepted=not section.rejected)

    # -- bitrates

    def sends(self, slot: Publication, plan: Plan, answer: str) -> None:
        """Count a stream that was published or has changed, and tell a new publisher its limit at once.

        Its answer does not wait for that: media come later still.
        """
        publisher = slot.publisher
        if slot.closed or publisher is None:
            return
        agreed = document.parse(answer)
        chosen = {kind: listed[0] for kind, listed in _known(agreed).items() if listed}
        slot.plan = replace(plan, chosen=chosen)
        self.count(slot)
        if not self._quality(slot.session.backend).limits_bitrate:
            return
        for decision in self._decide(slot.session.room) if slot.session.room else self._alone(slot):
            if decision.slot is slot and not decision.applied:
                self._services.tasks.spawn(self._tell_all([decision], slot.room), "first limit")

    def count(self, slot: SessionStream) -> None:
        """Count what a session publishes or receives in the room where the session is."""
        slot.room = slot.session.room
        self.touch(slot.room)

    def entered(self, session: Session) -> None:
        """Count the streams that a session brought into its room."""
        owned = self._streams.of(session.id)
        for slot in (*owned.publishers.values(), *owned.subscribers.values()):
            self.count(slot)

    def touch(self, room: RoomKey | None) -> None:
        """Look at a room in a moment: something came, went or changed there."""
        backend = None if room is None else self._services.backends.by_id(room.backend)
        if room is not None and (backend is None or self._quality(backend).limits_bitrate):
            self._look_in(room, DELAY)

    def touch_all(self) -> None:
        """Look at all rooms, and at streams outside of any: the rules have changed."""
        for owned in self._streams.owned.values():
            for slot in owned.publishers.values():
                if slot.room is not None:
                    self._look_in(slot.room, DELAY)
                else:
                    changed = [decision for decision in self._alone(slot) if not decision.applied]
                    self._services.tasks.spawn(self._tell_all(changed, None), "limit")

    def _look_in(self, room: RoomKey, seconds: float) -> None:
        """Look at a room then, unless that is done sooner: what changes does not wait for a repetition."""
        at = asyncio.get_running_loop().time() + seconds
        if at < self._due.get(room, math.inf):
            self._due[room] = at
            self._services.tasks.spawn(self._look(room, at), "quality")

    async def _look(self, room: RoomKey, at: float) -> None:
        await asyncio.sleep(at - asyncio.get_running_loop().time())
        if self._due.get(room) == at:
            del self._due[room]
            await self._tell_all([decision for decision in self._decide(room) if not decision.applied], room)

    async def _tell_all(self, decisions: list[Decision], room: RoomKey | None) -> None:
        if not all(await asyncio.gather(*map(self._tell, decisions))) and room is not None:
            self._look_in(room, RETRY)

    async def _tell(self, decision: Decision) -> bool:
        """Send a publisher its limit; ``False``: the SFU did not take it, and the stream is still there."""
        slot, publisher = decision.slot, decision.publisher
        told = slot.told = AppliedLimit(publisher, decision.share.bitrate)
        try:
            await publisher.limit(told.bits_per_second)
        except McuError as error:
            log.warning("a %s stream was not limited: %s", slot.kind.value, error)
            if slot.told is told:
                slot.told = AppliedLimit(publisher, _UNKNOWN)
            return slot.publisher is not publisher
        if slot.told is told:
            slot.told = replace(told, taken=True)
        return True

    def _decide(self, room: RoomKey) -> list[Decision]:
        """Apply the policy to a room as it is now."""
        found = self._services.hub.rooms.get(room)
        if found is None:
            return []
        slots = [it for id in found.members for it in self._streams.of(id).publishers.values()]
        sessions = sum(self._streams.of(id).active for id in found.members)
        return list(self._share(slots, sessions))

    def _alone(self, slot: Publication) -> list[Decision]:
        return list(self._share([slot], 1))

    def _share(self, slots: list[Publication], sessions: int) -> Iterator[Decision]:
        sending = [(it, it.plan, it.publisher) for it in slots if it.plan is not None and it.publisher is not None]
        if not sending:
            return
        quality = self._quality(sending[0][0].session.backend)
        streams = [_stream(slot, plan) for slot, plan, _ in sending]
        for (slot, plan, publisher), share in zip(sending, policy.shares(quality, streams, sessions), strict=True):
            yield Decision(slot, plan, publisher, share)

    def _quality(self, backend: Backend) -> Quality:
        return backend.quality.with_defaults(self._services.settings.quality)

    # -- what the operator asks

    def explain(self, room: RoomKey) -> list[Decision]:
        """Return what counts for each publisher of a room now."""
        return self._decide(room)

    def incapable(self, decision: Decision) -> dict[str, int]:
        """Return how many of the room cannot decode what a publisher sends, by kind; those that can are left out."""
        room = self._services.hub.room_of(decision.slot.session)
        others = [] if room is None else [it for it in room.members if it != decision.slot.session.id]
        found = {}
        for kind, codec in decision.plan.chosen.items():
            known = (self._streams.of(id).decoders.get(kind, Decoder()) for id in others)
            found[kind] = sum(not decoder.can(codec) for decoder in known)
        return {kind: count for kind, count in found.items() if count}


def _known(description: Description) -> dict[str, tuple[str, ...]]:
    """Return the codecs of a description by kind, as far as they are known."""
    found = {kind: codecs.listed(description, kind) for kind in KINDS}
    return {kind: tuple(codec for codec in listed if codec in KINDS[kind]) for kind, listed in found.items()}


def _stream(slot: Publication, plan: Plan) -> Stream:
    screen = slot.kind is StreamType.SCREEN
    return Stream(screen, "video" in plan.sends, slot.asked, slot.limit)


def _told(slot: Publication, publisher: Publisher) -> AppliedLimit:
    """Return the limit that a publisher has now: it begins with the stream's ceiling."""
    told = slot.told
    return (
        told if told is not None and told.publisher is publisher else AppliedLimit(publisher, slot.ceiling, taken=True)
    )
