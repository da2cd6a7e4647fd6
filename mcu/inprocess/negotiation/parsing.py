"""What the descriptions of clients say to a forwarder.

One codec is agreed per medium, the first that we can forward in the order of the offer, with its retransmission. All
media travel in one bundle; a medium outside of it, or without a codec that we forward, is to be rejected with port 0.

Source: RFC 8829 5 (offers and answers), RFC 9143 (bundle), RFC 5761 (rtcp-mux), RFC 5576 and RFC 4588 (SSRCs and
retransmission), RFC 8853 and RFC 8851 (simulcast), RFC 8841 (data channels).
"""

from __future__ import annotations

from collections.abc import Sequence

from mcu.base import MediaKind, PublishOptions, Rejected
from mcu.inprocess.negotiation.parameters import (
    DEFAULT_MESSAGE_SIZE,
    EXTENSIONS,
    FORWARDED,
    MAX_LAYERS,
    MAX_MEDIA,
    REPAIRED_RID,
    RID,
    SCTP_PORT,
    AcceptedSection,
    NegotiatedCodec,
    OfferedStream,
    PublisherOffer,
    PublisherSection,
    RemoteTransportDescription,
    SubscriberSection,
)
from sdp.candidates import parse as parse_candidate
from sdp.codecs import CodecPreference, payloads, prefer
from sdp.document import Description, MediaSection, SdpError, parse
from sdp.simulcast import lowest_first, sent_layers

MAX_DIGITS = 10  # of a number of 32 bits
MAX_NUMBER = (1 << 32) - 1  # an SSRC
MAX_PORT = 65535


def preference(options: PublishOptions) -> CodecPreference:
    """Return in which order codecs are wanted."""
    return CodecPreference(
        options.audiocodecs, options.videocodecs, options.vp9profile.lower(), options.h264profile.lower()
    )


def read_offer(text: str, wish: CodecPreference) -> PublisherOffer:
    """Read a publisher's offer, its codecs put into the order of ``wish``.

    Raises:
        Rejected: it is no offer that a connection could come from, or holds nothing that we forward.
    """
    description = _parse(text)
    prefer(description, wish)
    bundle = _bundle(description)
    media = tuple(
        _medium(section, bundle) if place < MAX_MEDIA else None for place, section in enumerate(description.media)
    )
    mids = [medium.mid for medium in media if medium is not None]
    if len(mids) != len(set(mids)):
        raise Rejected("The offer gives two media the same identification.")
    agreed = [medium.section for medium in media if medium is not None]
    if not agreed:
        raise Rejected("The offer has no medium that this SFU can forward.")
    return PublisherOffer(description, media, _transport(description, agreed))


def read_answer(
    text: str, sections: Sequence[SubscriberSection]
) -> tuple[tuple[AcceptedSection, ...], RemoteTransportDescription | None]:
    """Read a subscriber's answer; it may end early, where it answers an offer that has been superseded.

    Without a transport the client has rejected everything.

    Raises:
        Rejected: it does not fit the offer, or is no description that a connection could come from.
    """
    description = _parse(text)
    if len(description.media) > len(sections):
        raise Rejected("The answer has more media than the offer.")
    accepted = []
    for section, offered in zip(description.media, sections, strict=False):
        if section.kind != ("application" if offered.kind is MediaKind.DATA else offered.kind.value):
            raise Rejected("The answer's media are not those of the offer.")
        accepted.append(_accepted(section, offered))
    agreed = [section for section in description.media if not section.rejected]
    return tuple(accepted), _transport(description, agreed) if agreed else None


def _parse(text: str) -> Description:
    try:
        return parse(text)
    except SdpError as error:
        raise Rejected(f"The description does not parse: {error}") from None


def _bundle(description: Description) -> frozenset[str]:
    """Return the media identifications that share one transport: those bundled, or the only one."""
    for value in description.session.attributes("group"):
        semantics, _, mids = value.strip().partition(" ")
        if semantics == "BUNDLE" and mids.strip():
            return frozenset(mids.split())
    alive = [section.mid for section in description.media if not section.rejected and section.mid]
    return frozenset(alive[:1])


def _medium(section: MediaSection, bundle: frozenset[str]) -> PublisherSection | None:
    mid = section.mid
    if section.rejected or not mid or mid not in bundle or not _plain(mid):
        return None
    if section.kind == "application":
        usable = section.protocol in ("UDP/DTLS/SCTP", "TCP/DTLS/SCTP") and "webrtc-datachannel" in section.formats
        return PublisherSection(MediaKind.DATA, mid, section, sends=True) if usable else None
    codec = _choose(section)
    if codec is None or section.attribute("rtcp-mux") is None:
        return None
    extensions = _extensions(section)
    rids = sent_layers(section)[:MAX_LAYERS] if RID in extensions and section.kind == "video" else ()
    if rids:
        sources, others = tuple(map(OfferedStream, lowest_first(rids))), frozenset[int]()
    else:
        sources, others = _sources(section)
        extensions = {uri: ident for uri, ident in extensions.items() if uri not in (RID, REPAIRED_RID)}
    return PublisherSection(
        kind=MediaKind(section.kind),
        mid=mid,
        section=section,
        sends=section.direction in ("sendrecv", "sendonly"),
        codec=codec,
        extensions=extensions,
        sources=sources,
        rids=rids,
        others=others,
    )


def _choose(section: MediaSection) -> NegotiatedCodec | None:
    if not section.is_rtp or section.kind not in FORWARDED:
        return None
    found = payloads(section)
    forwarded = FORWARDED[section.kind]
    main = next((payload for payload in found if payload.codec in forwarded and _plain(payload.fmtp)), None)
    if main is None:
        return None
    return NegotiatedCodec(
        main, next((payload for payload in found if payload.codec == "rtx" and payload.apt == main.type), None)
    )


def _plain(text: str) -> bool:
    """Whether a text may stand in a description that others get: some readers split lines at more than LF."""
    return text.isascii() and text.isprintable()


def _extensions(section: MediaSection) -> dict[str, int]:
    found: dict[str, int] = {}
    for value in section.attributes("extmap"):
        number, _, rest = value.partition(" ")
        uri = rest.split(" ")[0]
        ident = _decimal(number.partition("/")[0], 255)
        if (uri in EXTENSIONS[section.kind] or uri in (RID, REPAIRED_RID)) and ident:
            found[uri] = ident
    return found


def _sources(section: MediaSection) -> tuple[tuple[OfferedStream, ...], frozenset[int]]:
    """Return the SSRCs of the medium, several where a group of simulcast names them, and what others are listed."""
    listed: dict[int, None] = {}
    for value in section.attributes("ssrc"):
        ssrc = _decimal(value.split(" ")[0], MAX_NUMBER)
        if ssrc is not None:
            listed[ssrc] = None
    repairs: dict[int, int] = {}
    layers: list[int] = []
    for value in section.attributes("ssrc-group"):
        semantics, _, members = value.strip().partition(" ")
        numbers = [ssrc for member in members.split() if (ssrc := _decimal(member, MAX_NUMBER)) is not None]
        if semantics == "FID" and len(numbers) == 2:
            repairs[numbers[0]] = numbers[1]
        elif semantics == "SIM":
            layers = list(dict.fromkeys(numbers))[:MAX_LAYERS]
    layers = layers or list(listed)[:1]
    if len(layers) > 1:
        sources = tuple(OfferedStream(f"#{place}", ssrc, repairs.get(ssrc)) for place, ssrc in enumerate(layers))
    elif layers:
        sources = (OfferedStream("", layers[0], repairs.get(layers[0])),)
    else:
        sources = (OfferedStream(),)
    return sources, frozenset(listed).difference(layers, [repairs.get(ssrc) for ssrc in layers])


def _decimal(text: str | None, most: int) -> int | None:
    """Return a number of ASCII digits, ``None`` for what is none or too great (``int`` has limits)."""
    if text is None or len(text) > MAX_DIGITS or not (text.isascii() and text.isdigit()):
        return None
    number = int(text)
    return number if number <= most else None


def _accepted(section: MediaSection, offered: SubscriberSection) -> AcceptedSection:
    if section.rejected:
        return AcceptedSection(receives=False)
    if offered.codec is None:
        return AcceptedSection(receives=True)
    found = payloads(section)
    wanted = offered.codec.payload
    main = next((p for p in found if p.type == wanted.type and p.codec == wanted.codec), None)
    main = main or next((p for p in found if p.codec == wanted.codec and p.clock_rate == wanted.clock_rate), None)
    if main is None:
        return AcceptedSection(receives=False)
    rtx = next((p.type for p in found if p.codec == "rtx" and p.apt == main.type), None)
    return AcceptedSection(section.direction in ("sendrecv", "recvonly"), main.type, rtx)


def _transport(description: Description, sections: Sequence[MediaSection]) -> RemoteTransportDescription:
    def first(name: str) -> str:
        values = (section.attribute(name) for section in (*sections, description.session))
        return next((value for value in values if value), "")

    prints: dict[tuple[str, str], None] = {}
    for section in (*sections, description.session):
        for value in section.attributes("fingerprint"):
            algorithm, _, digits = value.strip().partition(" ")
            prints[algorithm.lower(), digits.strip()] = None
    ufrag, password = first("ice-ufrag"), first("ice-pwd")
    if not (ufrag and password and prints):
        raise Rejected("The description lacks ICE credentials or a fingerprint.")
    candidates = []
    for section in sections:
        for value in section.attributes("candidate"):
            try:
                candidates.append(parse_candidate(f"candidate:{value}"))
            except SdpError:
                continue  # a client may know kinds of candidates that we do not
    channels = next((section for section in sections if section.kind == "application"), None)
    size = _decimal(first("max-message-size"), MAX_NUMBER)
    return RemoteTransportDescription(
        ufrag=ufrag,
        password=password,
        fingerprints=tuple(prints),
        setup=first("setup") or "actpass",
        candidates=tuple(dict.fromkeys(candidates)),
        lite=description.session.attribute("ice-lite") is not None,
        sctp_port=None if channels is None else _decimal(channels.attribute("sctp-port"), MAX_PORT) or SCTP_PORT,
        max_message_size=DEFAULT_MESSAGE_SIZE if size is None else size,
    )
