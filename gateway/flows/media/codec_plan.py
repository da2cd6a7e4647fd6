"""Chooses the codecs of publications by the rules, the publisher's preference and the codecs that the members decode.

Source: docs/mcu.md, "Quality"; the decision itself is ``gateway.core.policy``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gateway.core.ids import SessionId
from gateway.core.limits import ANY_CODEC, AUDIO_CODECS, VIDEO_CODECS
from gateway.core.policy import CodecChoice, DecodableCodecs, choose_codecs
from gateway.core.session import Session
from gateway.flows.services import Services
from sdp import codecs
from sdp.codecs import CodecPreference
from sdp.document import Description

KNOWN_CODECS = {"audio": AUDIO_CODECS, "video": VIDEO_CODECS}  # by media kind; other codecs have no rules

_SENDING_DIRECTIONS = ("sendrecv", "sendonly")


@dataclass(frozen=True, slots=True)
class CodecPlan:
    """The media that an offer sends, and the decision about their codecs."""

    preference: CodecPreference  # for the SFU
    offered: dict[str, tuple[str, ...]]  # codecs by media kind
    sent: frozenset[str]  # media kinds
    decided: dict[str, CodecChoice]  # by media kind
    chosen: dict[str, str] = field(default_factory=dict)  # the codec by media kind that the SFU's answer prefers


class CodecPlanner:
    """Plans the codecs of offers, and records which codecs each session decodes."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._decodable: dict[SessionId, dict[str, DecodableCodecs]] = {}  # by session and media kind

    def plan(
        self, session: Session, offer: Description, preference: CodecPreference, running: CodecPlan | None
    ) -> CodecPlan:
        """Decide about the codecs of an offer, reorder them in it and remove the codecs that must not be used.

        ``running`` is the plan of the PeerConnection that the offer renegotiates; its decisions stay, so that no
        stream changes its codec while it runs.
        """
        offered = known_codecs(offer)
        self._learn_from_offer(session, offered)
        decided = {}
        for kind in KNOWN_CODECS:
            if running is not None and running.offered[kind]:
                decided[kind] = running.decided[kind]
            else:
                decided[kind] = self._decide(session, kind, offered[kind], preference.codecs(kind))
            if decided[kind].removed:
                codecs.restrict(offer, kind, set(offered[kind]) - decided[kind].removed)
        preference = replace(
            preference,
            audio=decided["audio"].order,
            video=decided["video"].order,
            h264profile=preference.h264profile or codecs.common_h264_profile(offer),
        )
        codecs.prefer(offer, preference)
        sending = (
            section for section in offer.media if not section.rejected and section.direction in _SENDING_DIRECTIONS
        )
        sent = frozenset(section.kind for section in sending)
        return CodecPlan(preference, offered, sent, decided)

    def learn_from_answer(self, session: Session, chosen: Mapping[str, str], answer: Description) -> None:
        """Record from a subscriber's answer which of the publication's ``chosen`` codecs the session decodes."""
        decodable = self._decodable.setdefault(session.id, {})
        for section in answer.media:
            codec = chosen.get(section.kind)
            if codec is not None:
                known = decodable.get(section.kind, DecodableCodecs())
                decodable[section.kind] = known.with_answer([codec], accepted=not section.rejected)

    def forget(self, session: SessionId) -> None:
        """Forget which codecs a session decodes. Idempotent."""
        self._decodable.pop(session, None)

    def decodable_codecs(self, session: SessionId, kind: str) -> DecodableCodecs:
        """Return the codecs of a media kind that a session decodes, as far as they are known."""
        return self._decodable.get(session, {}).get(kind, DecodableCodecs())

    def count_incapable(self, publisher: Session, plan: CodecPlan) -> dict[str, int]:
        """Return by media kind how many members of the publisher's room cannot decode its codec; zeros are left out."""
        room = self._services.hub.room_of(publisher)
        others = [] if room is None else [member for member in room.members if member != publisher.id]
        counts = {
            kind: sum(not self.decodable_codecs(session, kind).can_decode(codec) for session in others)
            for kind, codec in plan.chosen.items()
        }
        return {kind: count for kind, count in counts.items() if count}

    def _decide(self, session: Session, kind: str, offered: tuple[str, ...], preferred: tuple[str, ...]) -> CodecChoice:
        quality = session.backend.quality.with_defaults(self._services.settings.quality)
        allowed = quality.audiocodecs if kind == "audio" else quality.videocodecs
        room = self._services.hub.room_of(session)
        others = () if room is None else (member for member in room.members if member != session.id)
        decodable = (self._decodable.get(member, {}) for member in others)
        receivers = [by_kind[kind] for by_kind in decodable if kind in by_kind]
        preferred = tuple(codec for codec in preferred if codec in KNOWN_CODECS[kind])
        possible = offered or (*preferred, *(codec for codec in allowed if codec != ANY_CODEC))
        return choose_codecs(allowed, preferred, possible, receivers)

    def _learn_from_offer(self, session: Session, offered: dict[str, tuple[str, ...]]) -> None:
        decodable = self._decodable.setdefault(session.id, {})
        for kind in KNOWN_CODECS:
            if offered[kind]:
                decodable[kind] = decodable.get(kind, DecodableCodecs()).with_offer(offered[kind])


def known_codecs(description: Description) -> dict[str, tuple[str, ...]]:
    """Return by media kind the codecs of a description for which there are rules, preferred first."""
    listed = {kind: codecs.listed(description, kind) for kind in KNOWN_CODECS}
    return {kind: tuple(codec for codec in names if codec in KNOWN_CODECS[kind]) for kind, names in listed.items()}
