"""Corrections of an SFU's answer to agree with the offer: mids, rejected sections, BUNDLE group.

An SFU may answer with other mids than it was offered, accept a section that the offer rejects, or put sections into a
BUNDLE group that the client did not offer. A client applies no such answer, and may be unable to negotiate afterwards.

Source: RFC 3264 6, RFC 5888 9, RFC 9143 7.3.
"""

from __future__ import annotations

from sdp.document import Description, MediaSection, Section, parse
from sdp.offer_answer import bundles, shares_format


def mend(offer: Description, answer: Description) -> None:
    """Correct the mids, rejected sections and BUNDLE group of an answer in place.

    Each section gets the mid of the offered section. A section that the offer rejects, that has no format of the
    offer, or that would need a transport of its own is rejected: both SFUs have one transport for each
    PeerConnection. Other faults stay; check with ``violations`` afterwards.
    """
    if len(offer.media) != len(answer.media):
        return
    pairs = list(zip(offer.media, answer.media, strict=True))
    offered_bundles = {mid for group in bundles(offer) for mid in group}
    for offered, answered in pairs:
        if offered.mid != answered.mid or len(answered.attributes("mid")) > 1:
            _set_mid(answered, offered.mid)
        lacks_transport = offered.port == 0 and offered.mid not in offered_bundles
        unacceptable = offered.rejected or lacks_transport or not shares_format(offered, answered)
        if unacceptable and not answered.rejected:
            reject(answered, offered)
    group = _bundle_to_answer(offer, pairs)
    accepted = [(offered, answered) for offered, answered in pairs if not answered.rejected]
    for offered, answered in accepted if group else accepted[1:]:
        if offered.mid is None or offered.mid not in group:
            reject(answered, offered)
    if bundles(answer) != ([group] if group else []):
        _write_group(answer, group)


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
        section.remove(lambda line: line.startswith(("a=rtpmap:", "a=fmtp:", "a=rtcp-fb:")))
        section.formats = offered.formats[:1]
    if section.direction != "inactive":
        section.remove(lambda line: line in ("a=sendrecv", "a=sendonly", "a=recvonly"))
        section.insert(_end(section), ["a=inactive"])


def _bundle_to_answer(offer: Description, pairs: list[tuple[MediaSection, MediaSection]]) -> tuple[str, ...]:
    """Return the answer's BUNDLE group: the accepted sections of the offered group that has the first accepted one."""
    accepted = {offered.mid for offered, answered in pairs if not answered.rejected}
    first = next((offered.mid for offered, answered in pairs if not answered.rejected), None)
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
