"""Session descriptions of clients and of Janus: parsing, serialising, reading; offers are edited in copies only."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Self

from mcu.base import MediaKind, Rejected, StreamKey, StreamReport
from mcu.janus.events.statistics import MediaStatistics
from mcu.janus.streams.offer_lines import adapt_for_janus
from sdp.document import Description, MediaSection, SdpError, parse
from sdp.payloads import payloads
from sdp.simulcast import layers, lowest_first, sent_layers

# Janus 1.1.2 loops forever on a negative id (or one that ``atoi`` makes negative), which blocks the plugin's only
# thread and fills the disk with its log. RFC 8285 has ids up to 4351.
_EXTMAP_WITH_BAD_ID = re.compile(r"(?:^|[\r\n])a=extmap:(?![0-9]{1,4}(?:[/ ]|$))", re.IGNORECASE)

MAX_LAYERS = 3  # of one m-line in Janus
MEDIA_KINDS = {"audio": MediaKind.AUDIO, "video": MediaKind.VIDEO, "application": MediaKind.DATA}


@dataclass(frozen=True, slots=True)
class SerialisedOffer:
    """A publisher's offer with the text that Janus receives; serialised once, however many Janus receive it."""

    description: Description
    text: str

    @classmethod
    def of(cls, offer: Description, previous: Description | None = None) -> Self:
        """Serialise an offer; ``previous`` is the connection's previous offer. Raises as ``serialise``."""
        adapted = _with_session_transport(adapt_for_janus(offer), offer, previous)
        return cls(offer, serialise(_with_ordered_layers(adapted)))


def _with_session_transport(offer: Description, *sources: Description | None) -> Description:
    """Return the offer with ICE credentials and fingerprint at the session level if its first m-line lacks them.

    Janus reads them there or in the first m-line, which lacks them if the client has stopped its medium. If all m-lines
    are stopped, Firefox's offer lacks them altogether; so they are copied from the first of ``sources`` that has them.
    """
    if not offer.media or offer.media[0].attribute("ice-ufrag") is not None:
        return offer
    sections = (section for source in sources if source is not None for section in source.media)
    source = next((section for section in sections if section.attribute("ice-ufrag") is not None), None)
    if source is None or offer.session.attribute("ice-ufrag") is not None:
        return offer
    missing = [name for name in ("ice-ufrag", "ice-pwd", "fingerprint") if offer.session.attribute(name) is None]
    lines = [f"a={name}:{value}" for name in missing if (value := source.attribute(name)) is not None]
    copy = offer.copy()
    copy.session.insert(len(copy.session.lines), lines)
    return copy


def _with_ordered_layers(offer: Description) -> Description:
    """Return the offer with the ``a=rid`` lines of its simulcast layers in an order that ``rid_order`` can express."""
    index, rids = _simulcast(offer)
    ordered = lowest_first(rids)
    if ordered in (list(rids), list(rids)[::-1]):
        return offer
    copy = offer.copy()
    section = copy.media[index]
    places = {rid: place for place, rid in enumerate(ordered)}
    lines = {at: line.removesuffix("\r") for at, line in enumerate(section.lines) if _rid(line) in places}
    for at, line in zip(lines, sorted(lines.values(), key=lambda line: places[_rid(line)]), strict=True):
        section.replace(at, line)
    return copy


def _rid(line: str) -> str:
    return line.removeprefix("a=rid:").partition(" ")[0] if line.startswith("a=rid:") else ""


def _simulcast(offer: Description) -> tuple[int, tuple[str, ...]]:
    """Return the index and the RIDs of the first m-line whose layers have RIDs; (0, ()) if there is none."""
    found = ((index, sent_layers(section)) for index, section in enumerate(offer.media))
    return next(((index, rids) for index, rids in found if rids), (0, ()))


def single_layer(offer: Description, preference: Sequence[str], simulcast: Set[str]) -> Description | None:
    """Return the offer with the largest of its layers only; ``None`` if Janus can forward all, or no layers have RIDs.

    ``preference``: the codecs of the room, of which Janus takes the first that is offered; ``simulcast``: the codecs
    whose layers Janus tells apart. Janus would forward the layers of other codecs as one stream, which no client can
    decode.
    """
    index, rids = _simulcast(offer)
    if not rids:
        return None
    offered = {payload.codec for payload in payloads(offer.media[index])}
    chosen = next((codec for codec in preference if codec in offered), None)
    if chosen is None or chosen in simulcast:
        return None
    paused = layers(offer.media[index], "send")
    ordered = lowest_first(rids)
    largest = next((rid for rid in reversed(ordered) if not paused[rid]), ordered[-1])
    copy = offer.copy()
    section = copy.media[index]
    others = {rid for rid in rids if rid != largest}
    section.remove(lambda line: _rid(line) in others)
    for at, line in enumerate(section.lines):
        if line.startswith("a=simulcast:"):
            section.replace(at, f"a=simulcast:send {'~' * paused[largest]}{largest}")
    return copy


def simulcast_layers(offer: Description, answer: Description) -> tuple[str, int] | None:
    """Return mid and number of layers of the first m-line with simulcast; ``None`` without one.

    Layers have RIDs, or are listed by SSRC (``a=ssrc-group:SIM``). ``answer`` is Janus' own, with Janus' mids.
    """
    for offered, answered in zip(offer.media, answer.media, strict=False):
        groups = [value.split()[1:] for value in offered.attributes("ssrc-group") if value.startswith("SIM ")]
        count = max(len(sent_layers(offered)), *map(len, groups), 0)
        if count > 1 and answered.mid is not None and not answered.rejected:
            return answered.mid, min(count, MAX_LAYERS)
    return None


def serialise(description: Description) -> str:
    """Serialise a description for Janus.

    Raises:
        Rejected: the description has a header extension on which Janus loops forever.
    """
    text = str(description)
    if _EXTMAP_WITH_BAD_ID.search(text):
        raise Rejected("the description has a header extension without a number of RFC 8285")
    return text


def parse_and_freeze(text: str) -> Description:
    """Parse a description of Janus and freeze it.

    Raises:
        Rejected: it is not a session description.
    """
    try:
        return parse(text).freeze()
    except SdpError as error:
        raise Rejected("Janus' description is not a session description") from error


def rid_order(offer: Description) -> str:
    """Return Janus' word for the order of an offer's ``a=rid`` lines, "hml" or "lmh"; empty without simulcast.

    Janus takes the first ``a=rid`` for the highest layer, "hml", unless it receives "lmh"; substreams are numbered in
    that order.
    """
    _, rids = _simulcast(offer)
    if not rids:
        return ""
    return "hml" if lowest_first(rids) == list(rids)[::-1] else "lmh"


def is_firefox(offer: Description) -> bool:
    """Return whether an offer is Firefox's, by its origin line."""
    return any(line.startswith("o=mozilla") for line in offer.session.lines)


def active_media(answer: Description) -> dict[str, MediaKind]:
    """Return mid and media kind of each m-line that Janus' answer accepts and that is not inactive."""
    sections = ((section.mid, MEDIA_KINDS.get(section.kind)) for section in _active(answer))
    return {mid: kind for mid, kind in sections if mid is not None and kind is not None}


def inactive_mids(offer: Description) -> frozenset[str]:
    """Return the mids of the inactive m-lines of Janus' offer."""
    return frozenset(section.mid for section in offer.media if section.mid and section.direction == "inactive")


def _active(description: Description) -> list[MediaSection]:
    return [section for section in description.media if not section.rejected and section.direction != "inactive"]


def reports(
    key: StreamKey, subscriber: bool, description: Description, statistics: Mapping[str, MediaStatistics]
) -> list[StreamReport]:
    """Return a report for each media kind that is active in Janus' own description.

    ``statistics`` are from Janus' events, by media kind; without them a report has no numbers.
    """
    found: dict[MediaKind, StreamReport] = {}
    for section in _active(description):
        kind = MEDIA_KINDS.get(section.kind)
        if kind is None or kind in found:
            continue
        codec = next((payload.codec for payload in payloads(section) if not payload.is_auxiliary), "")
        codec = "" if kind is MediaKind.DATA else codec
        measured = statistics.get(kind.value)
        if measured is None:
            found[kind] = StreamReport(key, subscriber=subscriber, kind=kind, codec=codec)
            continue
        found[kind] = StreamReport(
            key,
            subscriber=subscriber,
            kind=kind,
            codec=codec,
            bits_per_second=8 * (measured.outgoing if subscriber else measured.incoming),
            lost=None if kind is MediaKind.DATA else measured.lost_by_remote if subscriber else measured.lost,
            round_trip=measured.rtt / 1000 if measured.rtt else None,
        )
    return list(found.values())
