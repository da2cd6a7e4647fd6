"""The rules between an offer and its answer, and between an offer and the previous offer.

Source: RFC 3264 5 to 8 (sections, directions, formats), RFC 8829 5.3 (what a WebRTC answer may contain), RFC 9143 7
(BUNDLE), RFC 5888 9 (mid), RFC 8842 5 and RFC 8839 4.4 (transport parameters), RFC 8285 6 (header extensions), RFC 8851
and RFC 8853 5.3 (rid, simulcast).
"""

from __future__ import annotations

import re
from collections import ChainMap, Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from sdp.document import Description, MediaSection, Section
from sdp.payloads import payloads
from sdp.simulcast import layers

_ANSWERS = {
    "sendrecv": {"sendrecv", "sendonly", "recvonly", "inactive"},
    "sendonly": {"recvonly", "inactive"},
    "recvonly": {"sendonly", "inactive"},
    "inactive": {"inactive"},
}
_UFRAG, _PASSWORD = re.compile("[A-Za-z0-9+/]{4,256}"), re.compile("[A-Za-z0-9+/]{22,256}")  # RFC 8839 5.4
_SETUP_ANSWERS = {"actpass": {"active", "passive"}, "active": {"passive"}, "passive": {"active"}}


class Rule(Enum):
    """A rule that an offer or answer can break; the value is its name in logs."""

    SECTIONS = "number of media sections"
    MEDIA_TYPE = "media type"
    PROTOCOL = "transport protocol"
    REJECTED = "accepted section that the offer rejects"
    MID = "mid"
    BUNDLE = "BUNDLE group"
    TRANSPORT = "ICE, DTLS or rtcp-mux parameters"
    FORMATS = "formats"
    DIRECTION = "direction"
    EXTENSIONS = "header extensions"
    RIDS = "rids"


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken rule, and the index of the media section; -1 stands for the whole description."""

    rule: Rule
    section: int = -1

    def __str__(self) -> str:
        return self.rule.value if self.section < 0 else f"{self.rule.value} of section {self.section}"


def violations(offer: Description, answer: Description) -> list[Violation]:
    """Return every rule that the answer breaks, in the order of the sections; an empty list for a valid answer."""
    if len(offer.media) != len(answer.media):
        return [Violation(Rule.SECTIONS)]
    found = [] if _groups_fit(offer, answer) else [Violation(Rule.BUNDLE)]
    offering, answering = _Shared(offer), _Shared(answer)
    for index, (offered, answered) in enumerate(zip(offer.media, answer.media, strict=True)):
        found += [Violation(rule, index) for rule in _broken_rules(offering, offered, answering, answered)]
    return found


def offer_violations(offer: Description, previous: Description | None = None) -> list[Violation]:
    """Return every rule that an offer breaks, by itself or as a change of the previous offer of its connection.

    A connection never loses a section; a section keeps media type and protocol unless it was rejected before
    (RFC 3264 8, RFC 8829 5.2.2).
    """
    found = []
    before = () if previous is None else previous.media
    if not offer.media or len(offer.media) < len(before):
        found.append(Violation(Rule.SECTIONS))
    shared = _Shared(offer)
    mids = Counter(section.mid for section in offer.media)
    grouped = [mid for group in bundles(offer) for mid in group]
    accepted = {section.mid for section in offer.media if not section.rejected}
    if len(grouped) != len(set(grouped)) or not set(grouped) <= accepted:
        found.append(Violation(Rule.BUNDLE))
    for index, section in enumerate(offer.media):
        if section.mid is None or mids[section.mid] > 1:
            found.append(Violation(Rule.MID, index))
        if index < len(before) and not before[index].rejected:
            if section.kind != before[index].kind:
                found.append(Violation(Rule.MEDIA_TYPE, index))
            if section.mid != before[index].mid:
                found.append(Violation(Rule.MID, index))
        if not section.rejected and not shared.has_transport(section):
            found.append(Violation(Rule.TRANSPORT, index))
    return found


def stops_all_media(offer: Description) -> bool:
    """Return whether no section of an offer can be accepted: port 0, and no transport of a BUNDLE group either."""
    grouped = {mid for group in bundles(offer) for mid in group}
    return all(section.port == 0 and (section.rejected or section.mid not in grouped) for section in offer.media)


def transport_mid(description: Description) -> str | None:
    """Return the mid of the section that a bundled connection's transport is negotiated for (RFC 9143 7).

    When it is stopped, or an earlier section joins the group, another section takes its place. Browsers may then end
    the transport and begin another one, with other ICE candidates and another DTLS association. ``None``: no section
    is accepted, or it has no mid.
    """
    first = next((section for section in description.media if not section.rejected), None)
    return None if first is None else _Shared(description).transport_of(first).mid


def bundles(description: Description) -> list[tuple[str, ...]]:
    """Return the mids of each BUNDLE group (RFC 9143 6)."""
    groups = (value.split() for value in description.session.attributes("group"))
    return [tuple(words[1:]) for words in groups if words and words[0].upper() == "BUNDLE"]


def _broken_rules(offer: _Shared, offered: MediaSection, answer: _Shared, answered: MediaSection) -> Iterator[Rule]:
    if offered.kind.lower() != answered.kind.lower():
        yield Rule.MEDIA_TYPE
    if offered.protocol.upper() != answered.protocol.upper():
        yield Rule.PROTOCOL
    if offered.attributes("mid") != answered.attributes("mid"):
        yield Rule.MID
    if answered.rejected:
        return
    if offered.rejected:
        yield Rule.REJECTED
    if not _transport_fits(offer, offered, answer, answered):
        yield Rule.TRANSPORT
    if not _formats_fit(offered, answered):
        yield Rule.FORMATS
    if offered.is_rtp and answered.direction not in _ANSWERS[offered.direction]:
        yield Rule.DIRECTION
    extensions = offer.extensions(offered)
    if any(extensions.get(number) != uri for number, uri in answer.extensions(answered).items()):
        yield Rule.EXTENSIONS
    if not _rids_fit(offered, answered):
        yield Rule.RIDS


# -- BUNDLE


def _groups_fit(offer: Description, answer: Description) -> bool:
    """Return whether each BUNDLE group of the answer is a subset of an offered group and names accepted sections only.

    A section without a transport of its own (port 0 with ``a=bundle-only`` in the offer) must be in a group or be
    rejected.
    """
    accepted = {section.mid for section in answer.media if not section.rejected}
    offered, answered = bundles(offer), bundles(answer)
    mids = [mid for group in answered for mid in group]
    if len(mids) != len(set(mids)) or not set(mids) <= accepted:
        return False
    if not all(any(set(group) <= set(whole) for whole in offered) and group for group in answered):
        return False
    bundle_only = (section for section in offer.media if section.port == 0 and not section.rejected)
    return all(section.mid in mids or section.mid not in accepted for section in bundle_only)


# -- transport


class _Shared:
    """What the sections of a description share, read once: transports of BUNDLE groups, session-level attributes."""

    def __init__(self, description: Description) -> None:
        self._session = description.session
        self._session_extensions = _extension_ids(description.session)
        accepted = {section.mid: section for section in description.media if not section.rejected}
        self._transports: dict[str, MediaSection | None] = {}  # by mid
        for group in bundles(description):
            first = next((accepted[mid] for mid in group if mid in accepted), None)
            for mid in group:
                self._transports.setdefault(mid, first)

    def transport_of(self, section: MediaSection) -> MediaSection:
        """Return the section with the transport parameters: the first of the BUNDLE group (RFC 9143 7)."""
        shared = None if section.mid is None else self._transports.get(section.mid)
        return section if shared is None else shared

    def has_transport(self, section: MediaSection) -> bool:
        """Return whether a section's transport, its own or a shared one, has valid ICE credentials and a fingerprint.

        Janus writes "(null)" for the credentials of a connection that it has hung up.
        """
        transport = self.transport_of(section)
        return (
            _UFRAG.fullmatch(self.attribute(transport, "ice-ufrag") or "") is not None
            and _PASSWORD.fullmatch(self.attribute(transport, "ice-pwd") or "") is not None
            and self.attribute(transport, "fingerprint") is not None
        )

    def attribute(self, section: MediaSection, name: str) -> str | None:
        """Return an attribute of the section, or else of the session level."""
        value = section.attribute(name)
        return self._session.attribute(name) if value is None else value

    def extensions(self, section: MediaSection) -> Mapping[str, str]:
        """Return the URIs of the header extensions by id, without directions (RFC 8285 5)."""
        return ChainMap(_extension_ids(section), self._session_extensions)


def _transport_fits(offer: _Shared, offered: MediaSection, answer: _Shared, answered: MediaSection) -> bool:
    for name in ("rtcp-mux", "rtcp-rsize"):
        if answered.attribute(name) is not None and offered.attribute(name) is None:
            return False
    if not answer.has_transport(answered):
        return False
    setup = offer.attribute(offer.transport_of(offered), "setup") or "actpass"
    return answer.attribute(answer.transport_of(answered), "setup") in _SETUP_ANSWERS.get(setup, ())


# -- media


def shares_format(offered: MediaSection, answered: MediaSection) -> bool:
    """Return whether the answered section has a format of the offered one.

    In the notation of data channels before RFC 8841 the format is the SCTP port of each side.
    """
    if offered.attribute("sctpmap") is not None:
        return answered.attribute("sctpmap") is not None
    return not set(offered.formats).isdisjoint(answered.formats)


def _formats_fit(offered: MediaSection, answered: MediaSection) -> bool:
    """Return whether the offer has each answered format, with the same codec per payload type (RFC 8829 5.3.1)."""
    if not offered.is_rtp:
        return shares_format(offered, answered)
    if not set(answered.formats) <= set(offered.formats):
        return False
    offered_codecs = {payload.type: (payload.codec, payload.clock_rate) for payload in payloads(offered)}
    accepted = payloads(answered)
    if all(payload.is_auxiliary for payload in accepted):
        return False
    types = {payload.type for payload in accepted}
    return all(offered_codecs.get(payload.type) == (payload.codec, payload.clock_rate) for payload in accepted) and all(
        payload.apt in types for payload in accepted if payload.codec == "rtx"
    )


def _extension_ids(section: Section) -> dict[str, str]:
    found = {}
    for value in section.attributes("extmap"):
        words = value.split()
        if len(words) > 1:
            found[words[0].partition("/")[0]] = words[1]
    return found


def _rids_fit(offered: MediaSection, answered: MediaSection) -> bool:
    """Return whether the answer receives only offered layers and leaves paused ones paused (RFC 8853 5.3)."""
    for answer_direction, offer_direction in (("recv", "send"), ("send", "recv")):
        offers, answers = layers(offered, offer_direction), layers(answered, answer_direction)
        if not answers.keys() <= offers.keys():
            return False
        if any(offers[rid] and not paused for rid, paused in answers.items()):
            return False
        described = _described_rids(answered, answer_direction)
        if not answers.keys() <= described or not described <= _described_rids(offered, offer_direction):
            return False
    return True


def _described_rids(section: MediaSection, direction: str) -> set[str]:
    return {value.split()[0] for value in section.attributes("rid") if value.split()[1:2] == [direction]}
