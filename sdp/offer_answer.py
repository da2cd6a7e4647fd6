"""The rules between an offer and its answer, and between an offer and the previous offer.

Source: RFC 3264 5 to 8 (sections, directions), RFC 8829 5.3 (what a WebRTC answer may contain), RFC 8866 5 (required
lines), RFC 9143 7 (BUNDLE), RFC 5888 9 (mid), RFC 8842 5, RFC 8839 4.4 and RFC 8122 5 (transport parameters). The rules
of formats, header extensions and rids are in ``sdp.answered_media``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from sdp.answered_media import extensions, formats_fit, has_codec_of, rids_fit
from sdp.document import DIRECTIONS, Description, MediaSection

_ANSWERS = {
    "sendrecv": {"sendrecv", "sendonly", "recvonly", "inactive"},
    "sendonly": {"recvonly", "inactive"},
    "recvonly": {"sendonly", "inactive"},
    "inactive": {"inactive"},
}
_UFRAG, _PASSWORD = re.compile("[A-Za-z0-9+/]{4,256}"), re.compile("[A-Za-z0-9+/]{22,256}")  # RFC 8839 5.4
_FINGERPRINT = re.compile(r"[!-~]+ +[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2})+ *")
_ROLE = re.compile("active|passive")  # RFC 5763 5; with "actpass" or "holdconn" Janus never begins the handshake
_SETUP_ANSWERS = {"actpass": {"active", "passive"}, "active": {"passive"}, "passive": {"active"}}


class Rule(Enum):
    """A rule that an offer or answer can break; the value is its name in logs."""

    SECTIONS = "number of media sections"
    LINES = "required lines"
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
    return list(_violations(offer, answer))


def is_valid_answer(offer: Description, answer: Description) -> bool:
    """Return whether an answer breaks no rule; the check ends with the first broken one."""
    return next(_violations(offer, answer), None) is None


def _violations(offer: Description, answer: Description) -> Iterator[Violation]:
    if len(offer.media) != len(answer.media):
        yield Violation(Rule.SECTIONS)
        return
    if not _has_session_lines(answer):
        yield Violation(Rule.LINES)
    if not _groups_fit(offer, answer):
        yield Violation(Rule.BUNDLE)
    offering, answering = _SharedParameters(offer), _SharedParameters(answer)
    for index, (offered, answered) in enumerate(zip(offer.media, answer.media, strict=True)):
        for rule in _broken_rules(offering, offered, answering, answered):
            yield Violation(rule, index)


def unusable_parts(offer: Description, answer: Description) -> list[Violation]:
    """Return the rules that a client's answer breaks and that make it unusable for an SFU.

    Clients that are no browsers break other rules, which does no harm. Sections have to be those of the offer, with its
    mids or none. An accepted section needs a codec of the offer, and no payload type of the offer for another codec:
    Janus (1.1.2 and 1.4.1) crashes when it sends a medium under the payload type of its retransmissions.
    """
    if len(offer.media) != len(answer.media):
        return [Violation(Rule.SECTIONS)]
    found = []
    accepted = [section for section in answer.media if not section.rejected]
    if accepted and not _has_usable_transport(answer, accepted):
        found.append(Violation(Rule.TRANSPORT))
    for index, (offered, answered) in enumerate(zip(offer.media, answer.media, strict=True)):
        if answered.mid is not None and answered.mid != offered.mid:
            found.append(Violation(Rule.MID, index))
        if offered.kind.lower() != answered.kind.lower():
            found.append(Violation(Rule.MEDIA_TYPE, index))
        elif offered.is_rtp and not answered.rejected and not has_codec_of(offered, answered):
            found.append(Violation(Rule.FORMATS, index))
    return found


def _has_usable_transport(answer: Description, accepted: list[MediaSection]) -> bool:
    """Return whether ICE credentials, fingerprint and DTLS role of an answer are well-formed, as far as present.

    All accepted sections have one role: SFUs differ in whose they take.
    """
    forms = (("ice-ufrag", _UFRAG), ("ice-pwd", _PASSWORD), ("fingerprint", _FINGERPRINT), ("setup", _ROLE))
    for name, form in forms:
        shared = answer.session.attribute(name)
        given = {value for section in accepted if (value := section.attribute(name) or shared) is not None}
        if not all(map(form.fullmatch, given)) or (form is _ROLE and len(given) > 1):
            return False
    return True


def offer_violations(offer: Description, previous: Description | None = None) -> list[Violation]:
    """Return every rule that an offer breaks, by itself or as a change of the previous offer of its connection."""
    found = [] if _has_session_lines(offer) else [Violation(Rule.LINES)]
    changes = [] if previous is None else changed_sections(previous, offer)
    if not offer.media:
        found.append(Violation(Rule.SECTIONS))
    shared = _SharedParameters(offer)
    mids = Counter(section.mid for section in offer.media)
    grouped = [mid for group in bundles(offer) for mid in group]
    accepted = {section.mid for section in offer.media if not section.rejected}
    if len(grouped) != len(set(grouped)) or not set(grouped) <= accepted:
        found.append(Violation(Rule.BUNDLE))
    for index, section in enumerate(offer.media):
        if section.mid is None or mids[section.mid] > 1:
            found.append(Violation(Rule.MID, index))
        if not section.rejected and not shared.has_transport(section):
            found.append(Violation(Rule.TRANSPORT, index))
    return found + changes


def changed_sections(previous: Description, offer: Description) -> list[Violation]:
    """Return the rules that an offer breaks as a change of the previous offer or answer of its connection.

    A connection never loses a section; a section keeps media type and mid unless it was rejected before
    (RFC 3264 8, RFC 8829 5.2.2).
    """
    found = [Violation(Rule.SECTIONS)] if len(offer.media) < len(previous.media) else []
    for index, (before, section) in enumerate(zip(previous.media, offer.media, strict=False)):
        if before.rejected:
            continue
        if section.kind != before.kind:
            found.append(Violation(Rule.MEDIA_TYPE, index))
        if section.mid != before.mid:
            found.append(Violation(Rule.MID, index))
    return found


def stops_all_media(offer: Description) -> bool:
    """Return whether no section of an offer can be accepted: each has port 0 and no transport of a BUNDLE group."""
    grouped = {mid for group in bundles(offer) for mid in group}
    return all(section.port == 0 and (section.rejected or section.mid not in grouped) for section in offer.media)


def transport_mid(description: Description) -> str | None:
    """Return the mid of the section that a bundled connection's transport is negotiated for (RFC 9143 7).

    When it is stopped, or an earlier section joins the group, another section takes its place. Browsers may then end
    the transport and begin another one, with other ICE candidates and another DTLS association. ``None``: no section
    is accepted, or the section has no mid.
    """
    first = next((section for section in description.media if not section.rejected), None)
    return None if first is None else _SharedParameters(description).transport_of(first).mid


def bundles(description: Description) -> list[tuple[str, ...]]:
    """Return the mids of each BUNDLE group (RFC 9143 6)."""
    groups = (value.split() for value in description.session.attributes("group"))
    return [tuple(words[1:]) for words in groups if words and words[0].upper() == "BUNDLE"]


def _broken_rules(
    offer: _SharedParameters, offered: MediaSection, answer: _SharedParameters, answered: MediaSection
) -> Iterator[Rule]:
    if offered.kind.lower() != answered.kind.lower():
        yield Rule.MEDIA_TYPE
    if offered.protocol.upper() != answered.protocol.upper():
        yield Rule.PROTOCOL
    if offered.attributes("mid") != answered.attributes("mid") or answer.repeats_mid(answered):
        yield Rule.MID
    if answered.port == 0:
        return
    if offered.rejected:
        yield Rule.REJECTED
    if not _transport_fits(offer, offered, answer, answered):
        yield Rule.TRANSPORT
    if not formats_fit(offered, answered):
        yield Rule.FORMATS
    if offered.is_rtp and not _direction_fits(offered, answered):
        yield Rule.DIRECTION
    if answer.repeats_extension(answered) or not offer.offers_extensions(offered, answer, answered):
        yield Rule.EXTENSIONS
    if not rids_fit(offered, answered):
        yield Rule.RIDS


def _has_session_lines(description: Description) -> bool:
    """Return whether the session level has the lines without which browsers parse no description (RFC 8866 5)."""
    return {"v=", "o=", "s=", "t="} <= {line[:2] for line in description.session.lines}


def _direction_fits(offered: MediaSection, answered: MediaSection) -> bool:
    written = [name for name in DIRECTIONS if answered.attribute(name) is not None]
    return len(written) < 2 and answered.direction in _ANSWERS[offered.direction]


# -- BUNDLE


def _groups_fit(offer: Description, answer: Description) -> bool:
    """Return whether each BUNDLE group of the answer is a subset of an offered group and names accepted sections only.

    The first mid of a group must be that of the first accepted section of the offered group: the transport is
    negotiated for it (RFC 9143 7.3). A section without a transport of its own (port 0 with ``a=bundle-only`` in the
    offer) must be in a group or be rejected. In an answer port 0 always rejects.
    """
    accepted = {section.mid for section in answer.media if section.port}
    offered, answered = bundles(offer), bundles(answer)
    mids = [mid for group in answered for mid in group]
    if len(mids) != len(set(mids)) or not set(mids) <= accepted:
        return False
    if not all(any(_is_answered_group(group, whole) for whole in offered) for group in answered):
        return False
    bundle_only = (section for section in offer.media if section.port == 0 and not section.rejected)
    return all(section.mid in mids or section.mid not in accepted for section in bundle_only)


def _is_answered_group(group: tuple[str, ...], offered: tuple[str, ...]) -> bool:
    mids = set(group)
    first = next((mid for mid in offered if mid in mids), None)
    return mids <= set(offered) and first is not None and group[0] == first


# -- transport


class _SharedParameters:
    """The parts that the sections of a description share, read once: BUNDLE groups, mids, session-level attributes."""

    def __init__(self, description: Description) -> None:
        self._session = description.session
        session_extensions = extensions(description.session)
        self.session_extensions = frozenset(session_extensions)
        self._session_ids_and_uris = frozenset(part for pair in session_extensions for part in pair)
        self._repeats_session_extension = len(self._session_ids_and_uris) < 2 * len(session_extensions)
        self._mids = Counter(section.mid for section in description.media)
        rtp = {section.mid for section in description.media if section.is_rtp and section.port}
        self._mids_sharing_rtp: set[str] = set()  # mids of the groups with several accepted RTP sections
        accepted = {section.mid: section for section in description.media if not section.rejected}
        self._transports: dict[str, MediaSection | None] = {}  # by mid
        for group in bundles(description):
            first = next((accepted[mid] for mid in group if mid in accepted), None)
            for mid in group:
                self._transports.setdefault(mid, first)
            if len(rtp.intersection(group)) > 1:
                self._mids_sharing_rtp.update(group)

    def transport_of(self, section: MediaSection) -> MediaSection:
        """Return the section with the transport parameters: the first accepted of its group (RFC 9143 7), or itself."""
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
            and _FINGERPRINT.fullmatch(self.attribute(transport, "fingerprint") or "") is not None
        )

    def attribute(self, section: MediaSection, name: str) -> str | None:
        """Return an attribute of the section, or else of the session level."""
        value = section.attribute(name)
        return self._session.attribute(name) if value is None else value

    def repeats_mid(self, section: MediaSection) -> bool:
        """Return whether another section has the same mid."""
        return section.mid is not None and self._mids[section.mid] > 1

    def repeats_extension(self, section: MediaSection) -> bool:
        """Return whether an id or URI of a header extension stands twice for the section."""
        own = [part for pair in extensions(section) for part in pair]
        repeats = self._repeats_session_extension or len(set(own)) < len(own)
        return repeats or not self._session_ids_and_uris.isdisjoint(own)

    def offers_extensions(self, offered: MediaSection, answer: _SharedParameters, answered: MediaSection) -> bool:
        """Return whether this offer has each header extension of the answered section, with the same id."""
        own = frozenset(extensions(offered))
        unknown = answer.session_extensions - self.session_extensions
        unknown |= {pair for pair in extensions(answered) if pair not in self.session_extensions}
        return unknown <= own

    def shares_rtp(self, section: MediaSection) -> bool:
        """Return whether other RTP sections share the transport of the section."""
        return section.mid in self._mids_sharing_rtp


def _transport_fits(
    offer: _SharedParameters, offered: MediaSection, answer: _SharedParameters, answered: MediaSection
) -> bool:
    transport, offered_transport = answer.transport_of(answered), offer.transport_of(offered)
    for name in ("rtcp-mux", "rtcp-rsize"):  # a bundled section may leave them out (RFC 8829 5.2.1)
        given = offered.attribute(name) is not None or offered_transport.attribute(name) is not None
        if answered.attribute(name) is not None and not given:
            return False
    multiplexed = answered.attribute("rtcp-mux") is not None or transport.attribute("rtcp-mux") is not None
    required = answer.shares_rtp(answered) or offered.attribute("rtcp-mux-only") is not None  # RFC 9143 9.1, RFC 8858
    if answered.is_rtp and required and not multiplexed:
        return False
    if not answer.has_transport(answered):
        return False
    if any(len(set(transport.attributes(name))) > 1 for name in ("ice-ufrag", "ice-pwd", "setup")):
        return False
    setup = offer.attribute(offered_transport, "setup") or "actpass"
    return answer.attribute(transport, "setup") in _SETUP_ANSWERS.get(setup, ())
