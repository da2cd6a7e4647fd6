"""What we read in the descriptions of clients and of Janus; nothing is changed in them here."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mcu.base import MediaKind, Rejected, StreamKey, StreamReport
from mcu.janus.events.statistics import MediaStatistics
from sdp.document import Identity, MediaSection, SdpError, identity, parse
from sdp.payloads import payloads
from sdp.simulcast import lowest_first, sent_layers

# Janus 1.1.2 never ends with a negative number here (and with one that ``atoi`` makes negative): it takes the plugin's
# only thread and fills the disk with its log. RFC 8285 has numbers up to 4351.
_ENDLESS = re.compile(r"(?:^|[\r\n])a=extmap:(?![0-9]{1,4}(?:[/ ]|$))", re.IGNORECASE)

KINDS = {"audio": MediaKind.AUDIO, "video": MediaKind.VIDEO, "application": MediaKind.DATA}


def identified(offer: str) -> Identity:
    """Return whose PeerConnection an offer is.

    Raises:
        Rejected: it is no description, or none that Janus bears.
    """
    bearable(offer)
    try:
        return identity(parse(offer))
    except SdpError as error:
        raise Rejected("the offer is not a session description") from error


def bearable(sdp: str) -> None:
    """Look for what Janus breaks at.

    Raises:
        Rejected: there is something.
    """
    if _ENDLESS.search(sdp):
        raise Rejected("the description has a header extension without a number of RFC 8285")


def rid_order(offer: str) -> str:
    """Return in which order an offer names the layers of its simulcast, as Janus wants to be told; empty: unknown.

    Janus takes the first for the highest, "hml", unless it is told "lmh"; by that it numbers its substreams.
    """
    layers = next((found for section in parse(offer).media if (found := list(sent_layers(section)))), [])
    ordered = lowest_first(layers)
    if not layers or ordered not in (layers, layers[::-1]):
        return ""
    return "lmh" if ordered == layers else "hml"


def flowing(answer: str) -> dict[str, MediaKind]:
    """Return mid and kind of each m-line that an answer of Janus takes and that is not switched off."""
    sections = ((section.mid, KINDS.get(section.kind)) for section in _running(answer))
    return {mid: kind for mid, kind in sections if mid is not None and kind is not None}


def switched_off(offer: str) -> frozenset[str]:
    """Return the mids of m-lines that Janus offers without sending anything on them."""
    sections = parse(offer).media
    return frozenset(section.mid for section in sections if section.mid and section.direction == "inactive")


def _running(description: str) -> list[MediaSection]:
    return [s for s in parse(description).media if not s.rejected and s.direction != "inactive"]


def reports(
    key: StreamKey, subscriber: bool, description: str, figures: Mapping[str, MediaStatistics]
) -> list[StreamReport]:
    """Return a report for each kind of media that Janus' own description has running.

    ``figures`` are what the event feed tells, by kind; where it does not, the report has none.
    """
    found: dict[MediaKind, StreamReport] = {}
    for section in _running(description):
        kind = KINDS.get(section.kind)
        if kind is None or kind in found:
            continue
        codec = next((payload.codec for payload in payloads(section) if not payload.is_auxiliary), "")
        codec = "" if kind is MediaKind.DATA else codec
        told = figures.get(kind.value)
        if told is None:
            found[kind] = StreamReport(key, subscriber=subscriber, kind=kind, codec=codec)
            continue
        found[kind] = StreamReport(
            key,
            subscriber=subscriber,
            kind=kind,
            codec=codec,
            bits_per_second=8 * (told.outgoing if subscriber else told.incoming),
            lost=None if kind is MediaKind.DATA else told.lost_by_remote if subscriber else told.lost,
            round_trip=told.rtt / 1000 if told.rtt else None,
        )
    return list(found.values())
