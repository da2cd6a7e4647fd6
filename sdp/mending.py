"""Correction of an SFU's answer by the offer: mids, rejected sections, BUNDLE group, media attributes.

An SFU may answer with other mids than it was offered, accept a section that the offer rejects, or put sections into a
BUNDLE group that the client did not offer. A client applies no such answer, and may be unable to negotiate afterwards.

Source: RFC 3264 6, RFC 5888 9, RFC 9143 7.3; RFC 6184 8.2.2 (format parameters), RFC 4585 4.2 (feedback), RFC 8285 6
(header extensions).
"""

from __future__ import annotations

from sdp.answered_media import differing_formats, extensions, parse_extension, shares_format
from sdp.document import Description, MediaSection, Section, parse
from sdp.offer_answer import bundles
from sdp.payloads import payloads


def mend(offer: Description, answer: Description) -> None:
    """Correct the mids, rejected sections, BUNDLE group and media attributes of an answer in place.

    Each section gets the mid of the offered section; if the offer rejects the section, it gets the offered media type
    and protocol, too. A section that the offer rejects, that has no format of the offer, or that would need a transport
    of its own is rejected: both SFUs have one transport for each PeerConnection. A codec gets the format parameters of
    the offer where those of the answer name another profile; repeated header extensions are removed. Other faults stay;
    check with ``violations`` afterwards.
    """
    if len(offer.media) != len(answer.media):
        return
    pairs = list(zip(offer.media, answer.media, strict=True))
    offered_bundles = {mid for group in bundles(offer) for mid in group}
    for offered, answered in pairs:
        if offered.mid != answered.mid or len(answered.attributes("mid")) > 1:
            _set_mid(answered, offered.mid)
        if offered.rejected and (offered.kind, offered.protocol) != (answered.kind, answered.protocol):
            answered.rewrite(offered.kind, offered.protocol)
            _write_offered_format(answered, offered)
        lacks_transport = offered.port == 0 and offered.mid not in offered_bundles
        unacceptable = offered.rejected or lacks_transport or not shares_format(offered, answered)
        if not answered.rejected and (unacceptable or answered.port == 0):
            reject(answered, offered)
        elif offered.is_rtp and answered.port:
            _correct_formats(answered, offered)
            _remove_repeated_extensions(answered)
    group = _bundle_to_answer(offer, pairs)
    accepted = [(offered, answered) for offered, answered in pairs if answered.port]
    # Without a group only the first accepted section has a transport.
    for offered, answered in accepted if group else accepted[1:]:
        if offered.mid is None or offered.mid not in group:
            reject(answered, offered)
    if bundles(answer) != ([group] if group else []):
        _write_group(answer, group)


def tidy(offer: Description, answer: Description) -> None:
    """Remove feedback and attributes that the offer lacks, and Janus' placeholder in track ids, from an answer.

    Changes it in place: RTCP feedback, ``a=extmap-allow-mixed``, and "(null)", which Janus writes into a track's id in
    place of a missing mid, go. A rejected section without an offered format gets the first one of the offer.
    """
    for offered, answered in zip(offer.media, answer.media, strict=False):
        if not offered.is_rtp:
            continue
        for position, value in answered.indexed("msid"):  # Janus composes the track's id of the mid
            if value.endswith("(null)"):
                answered.replace(position, f"a=msid:{value.removesuffix('(null)')}")
        if answered.port == 0 and not shares_format(offered, answered):
            _write_offered_format(answered, offered)
        _remove_feedback(answered, offered)
    if not any(section.attribute("extmap-allow-mixed") is not None for section in offer.sections()):
        for section in answer.sections():
            if section.attribute("extmap-allow-mixed") is not None:
                section.remove(lambda line: line == "a=extmap-allow-mixed")


def rejection(offer: Description) -> Description:
    """Return an answer that rejects every section of an offer (RFC 3264 6)."""
    lines = ["v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=-", "t=0 0"]
    for section in offer.media:
        lines += [f"m={section.kind} 0 {section.protocol} {' '.join(section.formats)}", "c=IN IP4 0.0.0.0"]
        lines += ["a=inactive"] + ([] if section.mid is None else [f"a=mid:{section.mid}"])
    return parse("\r\n".join(lines) + "\r\n").freeze()


def reject(section: MediaSection, offered: MediaSection) -> None:
    """Reject a section of an answer: port 0, inactive, with a format of the offered section (RFC 3264 6)."""
    section.port = 0
    section.remove(lambda line: line == "a=bundle-only")
    if not set(section.formats) & set(offered.formats):
        _write_offered_format(section, offered)
    if section.direction != "inactive":
        section.remove(lambda line: line in ("a=sendrecv", "a=sendonly", "a=recvonly"))
        section.insert(_end(section), ["a=inactive"])


def _write_offered_format(section: MediaSection, offered: MediaSection) -> None:
    section.remove(lambda line: line.startswith(("a=rtpmap:", "a=fmtp:", "a=rtcp-fb:")))
    section.formats = offered.formats[:1]


def _correct_formats(answered: MediaSection, offered: MediaSection) -> None:
    """Write the offered format parameters of the payload types whose parameters in the answer name another format.

    The SFU forwards the client's media unchanged; so the parameters of the offer hold.
    """
    for payload, original in differing_formats(offered, answered).items():
        prefix = f"a=fmtp:{payload.type} "
        answered.remove(lambda line, prefix=prefix: line.startswith(prefix))  # type: ignore[misc]
        if original.fmtp:
            answered.insert(_end(answered), [prefix + original.fmtp])


def _remove_feedback(answered: MediaSection, offered: MediaSection) -> None:
    """Remove the ``a=rtcp-fb`` lines with feedback that the offer lacks for their payload type."""
    lines = answered.attributes("rtcp-fb")
    if not lines:
        return
    named = {line.partition(" ")[0] for line in lines}
    by_type = {str(payload.type): payload.feedback for payload in payloads(offered)}
    feedback = {payload_type: frozenset(by_type.get(payload_type, ())) for payload_type in named}
    feedback["*"] = (
        frozenset.intersection(*map(frozenset, by_type.values())) if "*" in named and by_type else frozenset()
    )

    def unwanted(line: str) -> bool:
        if not line.startswith("a=rtcp-fb:"):
            return False
        payload_type, _, value = line.removeprefix("a=rtcp-fb:").partition(" ")
        return value.strip() not in feedback[payload_type]

    answered.remove(unwanted)


def _remove_repeated_extensions(answered: MediaSection) -> None:
    """Remove ``a=extmap`` lines whose id or URI stands in an earlier line."""
    ids_and_uris = [part for pair in extensions(answered) for part in pair]
    if len(set(ids_and_uris)) == len(ids_and_uris):
        return
    seen: set[str] = set()

    def unwanted(line: str) -> bool:
        found = parse_extension(line.removeprefix("a=extmap:")) if line.startswith("a=extmap:") else None
        if found is None:
            return False
        repeated = not seen.isdisjoint(found)
        seen.update(found)
        return repeated

    answered.remove(unwanted)


def _bundle_to_answer(offer: Description, pairs: list[tuple[MediaSection, MediaSection]]) -> tuple[str, ...]:
    """Return the answer's BUNDLE group: the accepted mids of the offered group that has the first accepted section."""
    accepted = {offered.mid for offered, answered in pairs if answered.port}
    first = next((offered.mid for offered, answered in pairs if answered.port), None)
    group = next((group for group in bundles(offer) if first in group), ())
    return tuple(mid for mid in dict.fromkeys(group) if mid in accepted)


def _write_group(answer: Description, group: tuple[str, ...]) -> None:
    session = answer.session
    session.remove(lambda line: line.upper().startswith("A=GROUP:BUNDLE"))
    if group:
        first = next((at for at, line in enumerate(session.lines) if line.startswith("a=")), None)
        session.insert(_end(session) if first is None else first, [f"a=group:BUNDLE {' '.join(group)}"])


def _set_mid(section: MediaSection, mid: str | None) -> None:
    section.remove(lambda line: line == "a=mid" or line.startswith("a=mid:"))
    if mid is not None:
        section.insert(_end(section), [f"a=mid:{mid}"])


def _end(section: Section) -> int:
    """Return the position behind the last line of a section; the empty text behind a final LF is no line."""
    return len(section.lines) - (section.lines[-1] == "")
