"""What we read in the descriptions of clients and of Janus; nothing is changed in them here."""

from __future__ import annotations

from mcu.base import Kind, Rejected, StreamKey, StreamReport
from sdp.document import Identity, SdpError, identity, parse
from sdp.payloads import payloads

KINDS = {"audio": Kind.AUDIO, "video": Kind.VIDEO, "application": Kind.DATA}


def identified(offer: str) -> Identity:
    """Return whose PeerConnection an offer is.

    Raises:
        Rejected: it is no description.
    """
    try:
        return identity(parse(offer))
    except SdpError as error:
        raise Rejected("the offer is not a session description") from error


def accepted(answer: str) -> frozenset[str]:
    """Return the mids of the m-lines that an answer of Janus takes."""
    sections = parse(answer).media
    return frozenset(section.mid for section in sections if section.mid is not None and not section.rejected)


def reports(key: StreamKey, subscriber: bool, description: str) -> list[StreamReport]:
    """Return a report for each medium that Janus' own description has running; of figures Janus tells none here."""
    found = []
    for section in parse(description).media:
        kind = KINDS.get(section.kind)
        if kind is None or section.rejected or section.direction == "inactive":
            continue
        codec = next((payload.codec for payload in payloads(section) if not payload.is_helper), "")
        found.append(StreamReport(key, subscriber=subscriber, kind=kind, codec="" if kind is Kind.DATA else codec))
    return found
