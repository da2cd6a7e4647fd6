"""The rules between the media of an offer and of its answer: formats, header extensions, rids.

Source: RFC 3264 6 (formats), RFC 8829 5.3.1 (payload types), RFC 8285 6 (header extensions), RFC 8851 and RFC 8853 5.3
(rid, simulcast), RFC 8841 (data channels).
"""

from __future__ import annotations

from sdp.document import MediaSection, Section
from sdp.payloads import Payload, payloads
from sdp.profiles import CODECS_WITH_PROFILES, same_format
from sdp.simulcast import layers, streams

# -- formats


def shares_format(offered: MediaSection, answered: MediaSection) -> bool:
    """Return whether the answered section has a format of the offered one.

    Data channel sections in the notation before RFC 8841 always do: there the format is the SCTP port of each side.
    """
    if offered.attribute("sctpmap") is not None:
        return answered.attribute("sctpmap") is not None
    return not set(offered.formats).isdisjoint(answered.formats)


def formats_fit(offered: MediaSection, answered: MediaSection) -> bool:
    """Return whether the offer has each answered format, with the same codec, clock rate and profile.

    The answer also needs a codec besides auxiliary payload types, and the payload type that each rtx retransmits. For
    data channels ``shares_format`` suffices.
    """
    if not offered.is_rtp:
        return shares_format(offered, answered)
    accepted = payloads(answered)
    if [str(payload.type) for payload in accepted] != list(answered.formats):  # a format has no codec, or is repeated
        return False
    if all(payload.is_auxiliary for payload in accepted):
        return False
    offered_payloads = {payload.type: payload for payload in payloads(offered)}
    types = {payload.type for payload in accepted}
    return all(_fits(offered_payloads.get(payload.type), payload) for payload in accepted) and all(
        payload.apt in types for payload in accepted if payload.codec == "rtx"
    )


def has_codec_of(offered: MediaSection, answered: MediaSection) -> bool:
    """Return whether the answer has a codec of the offer, and no other codec for a payload type of the offer."""
    by_type = {payload.type: payload.codec for payload in payloads(offered)}
    accepted = payloads(answered)
    if any(by_type.get(payload.type, payload.codec) != payload.codec for payload in accepted):
        return False
    codecs = {payload.codec for payload in accepted if not payload.is_auxiliary}
    return not codecs.isdisjoint(by_type.values())


def differing_formats(offered: MediaSection, answered: MediaSection) -> dict[Payload, Payload]:
    """Map answered payload types to the offered ones, where the parameters name another format of the same codec."""
    offered_payloads = {payload.type: payload for payload in payloads(offered)}
    return {
        payload: original
        for payload in payloads(answered)
        if (original := offered_payloads.get(payload.type)) is not None
        and original.codec == payload.codec
        and not _same_format(original, payload)
    }


def _fits(offered: Payload | None, answered: Payload) -> bool:
    return (
        offered is not None
        and (offered.codec, offered.clock_rate, offered.channels, offered.apt)
        == (answered.codec, answered.clock_rate, answered.channels, answered.apt)
        and _same_format(offered, answered)
    )


def _same_format(offered: Payload, answered: Payload) -> bool:
    if offered.codec not in CODECS_WITH_PROFILES or offered.fmtp == answered.fmtp:
        return True
    return same_format(offered.codec, offered.parameters, answered.parameters)


# -- header extensions


def extensions(section: Section) -> tuple[tuple[str, str], ...]:
    """Return id and URI of each header extension of a section or the session level, in order (RFC 8285 5)."""
    return section.derive(_extensions)


def _extensions(section: Section) -> tuple[tuple[str, str], ...]:
    found = (parse_extension(value) for value in section.attributes("extmap"))
    return tuple(pair for pair in found if pair is not None)


def parse_extension(value: str) -> tuple[str, str] | None:
    """Return id and URI of an ``a=extmap`` line, without its direction; ``None`` if it is malformed.

    Of an encrypted extension (RFC 6904) the text has both URIs: that of the encryption and that of the extension.
    """
    words = value.split()
    if len(words) < 2:
        return None
    encrypted = words[1] == "urn:ietf:params:rtp-hdrext:encrypt"
    return words[0].partition("/")[0], " ".join(words[1:3] if encrypted else words[1:2])


# -- rids


def rids_fit(offered: MediaSection, answered: MediaSection) -> bool:
    """Return whether the answer names only offered layers and leaves paused ones paused (RFC 8853 5.3).

    Each answered stream is one offered stream, with all its alternatives or some.
    """
    if not any(section.attribute(name) is not None for section in (offered, answered) for name in ("rid", "simulcast")):
        return True
    for answer_direction, offer_direction in (("recv", "send"), ("send", "recv")):
        offers, answers = layers(offered, offer_direction), layers(answered, answer_direction)
        if not answers.keys() <= offers.keys():
            return False
        if any(offers[rid] and not paused for rid, paused in answers.items()):
            return False
        described = _described_rids(answered, answer_direction)
        if not answers.keys() <= described or not described <= _described_rids(offered, offer_direction):
            return False
        if not _streams_fit(streams(offered, offer_direction), streams(answered, answer_direction)):
            return False
    return True


def _streams_fit(offered: list[tuple[str, ...]], answered: list[tuple[str, ...]]) -> bool:
    left = [frozenset(alternatives) for alternatives in offered]
    for alternatives in answered:
        found = next((stream for stream in left if stream.issuperset(alternatives)), None)
        if found is None:
            return False
        left.remove(found)
    return True


def _described_rids(section: MediaSection, direction: str) -> set[str]:
    return {value.split()[0] for value in section.attributes("rid") if value.split()[1:2] == [direction]}
