"""Parse the clients' session descriptions into the parameters that the SFU uses.

One codec is negotiated per media section: of the codecs that the SFU forwards the most preferred one, with its RTX
format. All media share one BUNDLE group; a section outside of it, or without such a codec, is rejected with port 0.

Source: RFC 8829 5 (offers and answers), RFC 9143 (BUNDLE), RFC 5761 (rtcp-mux), RFC 5576 and RFC 4588 (SSRCs and
retransmission), RFC 8853 and RFC 8851 (simulcast), RFC 8841 (data channels).
"""

from __future__ import annotations

from collections.abc import Sequence

from mcu.base import MediaKind, PublishOptions, Rejected
from mcu.inprocess.negotiation.parameters import (
    DEFAULT_MAX_MESSAGE_SIZE,
    EXTENSION_IDS,
    FORWARDED_CODECS,
    MAX_LAYERS,
    MAX_SECTIONS,
    OLD_SCTP_PROTOCOL,
    REPAIRED_RID,
    RID,
    SCTP_PORT,
    AnsweredSection,
    NegotiatedCodec,
    OfferedStream,
    PublisherOffer,
    PublisherSection,
    RemoteTransportDescription,
    SubscriberSection,
)
from sdp.candidates import parse as parse_candidate
from sdp.codecs import CodecPreference, payloads, prefer
from sdp.document import Description, MediaSection, SdpError
from sdp.offer_answer import bundles
from sdp.simulcast import layers, lowest_first, sent_layers

MAX_DIGITS = 10  # of a 32 bit number
MAX_SSRC = (1 << 32) - 1
MAX_REMOTE_MESSAGE_SIZE = (1 << 32) - 1  # bytes, greatest ``a=max-message-size`` that is read
MAX_PORT = 65535
MAX_FMTP = 2048  # characters of a codec's format parameters; H264 ones with parameter sets have a few hundred
MAX_EXTENSION_ID = 255  # RFC 8285, two-byte headers


def codec_preference(options: PublishOptions) -> CodecPreference:
    """Return the codec preference that a publisher requests by ``options``."""
    return CodecPreference(
        options.audiocodecs, options.videocodecs, options.vp9profile.lower(), options.h264profile.lower()
    )


def read_offer(offer: Description, preference: CodecPreference, *, renegotiation: bool = False) -> PublisherOffer:
    """Parse a publisher's offer, with its codecs ordered by ``preference``; ``offer`` itself is not edited.

    Only in a renegotiation may the SFU reject all sections of an offer. One transport has one SCTP association (RFC
    8841 9.2), so a second section of data channels is rejected.

    Raises:
        Rejected: the offer lacks transport parameters, has no medium that the SFU forwards, or repeats a mid.
    """
    description = offer.copy()
    prefer(description, preference)
    bundled = _bundled_sections(description)
    multiplexed = any(description.media[index].attribute("rtcp-mux") is not None for index in bundled)
    data = next((index for index in sorted(bundled) if _has_data_channels(description.media[index])), None)
    sections = tuple(
        _publisher_section(section, index, multiplexed=multiplexed)
        if index in bundled and index < MAX_SECTIONS and (section.kind != "application" or index == data)
        else None
        for index, section in enumerate(description.media)
    )
    accepted = [section for section in sections if section is not None]
    if len({section.mid for section in accepted}) != len(accepted):
        raise Rejected("The offer has two media sections with the same mid.")
    if not accepted and not (renegotiation and description.media):
        raise Rejected("The offer has no medium that this SFU can forward.")
    used = [section.section for section in accepted]
    grouped = {mid for group in bundles(description) if used and used[0].mid in group for mid in group}
    # The transport is described in the group's first section (RFC 9143 7), even if the SFU rejects that one.
    offered = sorted(
        (section for section in description.media if section.mid in grouped), key=lambda one: one not in used
    )
    return PublisherOffer(description, sections, _transport(description, offered or used) if used else None)


def read_answer(
    answer: Description, offered: Sequence[SubscriberSection]
) -> tuple[tuple[AnsweredSection | None, ...], RemoteTransportDescription | None]:
    """Read a subscriber's answer to the sections ``offered``; an answer to a superseded offer may have fewer.

    A section is ``None`` if it can answer a superseded offer only: it has another mid, or accepts a section that is
    offered with port 0 now. The transport is ``None`` where the client rejected all sections.

    Raises:
        Rejected: the answer does not fit the offer, or lacks transport parameters.
    """
    if len(answer.media) > len(offered):
        raise Rejected("The answer has more media sections than the offer.")
    answered = []
    for section, offer in zip(answer.media, offered, strict=False):
        if section.kind != ("application" if offer.kind is MediaKind.DATA else offer.kind.value):
            raise Rejected("The answer's media sections differ in kind from the offer's.")
        superseded = section.mid not in (None, offer.mid) or (offer.rejected and not section.rejected)
        answered.append(None if superseded else _answered_section(section, offer))
    used = [section for section in answer.media if not section.rejected]
    return tuple(answered), _transport(answer, used, "active") if used else None


def _bundled_sections(description: Description) -> frozenset[int]:
    """Return the indices of sections that share a transport: the first BUNDLE group, else the first used section."""
    used = {index: section for index, section in enumerate(description.media) if not section.rejected}
    group = frozenset(next((group for group in bundles(description) if group), ()))
    if group:
        return frozenset(index for index, section in used.items() if section.mid in group)
    return frozenset(list(used)[:1])


def _publisher_section(section: MediaSection, index: int, *, multiplexed: bool) -> PublisherSection | None:
    """Return the section if it is accepted; ``multiplexed``: a section of its BUNDLE group has ``a=rtcp-mux``.

    By RFC 8829 5.2.1 only one section of a BUNDLE group has the transport attributes.
    """
    mid = section.mid or str(index)  # without a mid the section is the only one
    if not _is_printable_ascii(mid):
        return None
    if section.kind == "application":
        return PublisherSection(MediaKind.DATA, mid, section, sends=True) if _has_data_channels(section) else None
    codec = _choose_codec(section)
    if codec is None or not multiplexed:
        return None
    extensions = _extension_ids(section)
    rids = sent_layers(section)[:MAX_LAYERS] if RID in extensions and section.kind == "video" else ()
    if rids:
        streams, other_ssrcs = tuple(map(OfferedStream, lowest_first(rids))), frozenset[int]()
    else:
        streams, other_ssrcs = _read_ssrcs(section)
        extensions = {uri: number for uri, number in extensions.items() if uri not in (RID, REPAIRED_RID)}
    paused = layers(section, "send")
    return PublisherSection(
        kind=MediaKind(section.kind),
        mid=mid,
        section=section,
        sends=section.direction in ("sendrecv", "sendonly"),
        codec=codec,
        extensions=extensions,
        streams=streams,
        rids=rids,
        paused_rids=frozenset(rid for rid in rids if paused.get(rid)),
        other_ssrcs=other_ssrcs,
    )


def _has_data_channels(section: MediaSection) -> bool:
    """Return whether the section negotiates data channels, by RFC 8841 or by the older ``a=sctpmap``.

    Some drafts of RFC 8841 combine the older protocol with the newer format, ``webrtc-datachannel``.
    """
    if section.protocol == OLD_SCTP_PROTOCOL and "webrtc-datachannel" not in section.formats:
        return any(value.split()[1:2] == ["webrtc-datachannel"] for value in section.attributes("sctpmap"))
    return (
        section.protocol in ("UDP/DTLS/SCTP", "TCP/DTLS/SCTP", OLD_SCTP_PROTOCOL)
        and "webrtc-datachannel" in section.formats
    )


def _sctp_port(section: MediaSection) -> int:
    port = section.attribute("sctp-port")
    if section.protocol == OLD_SCTP_PROTOCOL and port is None:
        port = section.formats[0]
    return _decimal(port, MAX_PORT) or SCTP_PORT


def _choose_codec(section: MediaSection) -> NegotiatedCodec | None:
    if not section.is_rtp or section.kind not in FORWARDED_CODECS:
        return None
    offered = payloads(section)
    forwarded = FORWARDED_CODECS[section.kind]
    chosen = next((p for p in offered if p.codec in forwarded and _is_forwarded_fmtp(p.fmtp)), None)
    if chosen is None:
        return None
    return NegotiatedCodec(chosen, next((p for p in offered if p.codec == "rtx" and p.apt == chosen.type), None))


def _is_forwarded_fmtp(fmtp: str) -> bool:
    """Return whether format parameters are safe to copy into the offers to subscribers."""
    return len(fmtp) <= MAX_FMTP and _is_printable_ascii(fmtp)


def _is_printable_ascii(text: str) -> bool:
    """Return whether a text is safe in other clients' descriptions: some parsers split lines at more than LF."""
    return text.isascii() and text.isprintable()


def _extension_ids(section: MediaSection) -> dict[str, int]:
    """Return the ids of the supported header extensions, by URI."""
    extension_ids: dict[str, int] = {}
    for value in section.attributes("extmap"):
        number, _, rest = value.partition(" ")
        uri = rest.split(" ")[0]
        extension_id = _decimal(number.partition("/")[0], MAX_EXTENSION_ID)
        if (uri in EXTENSION_IDS[section.kind] or uri in (RID, REPAIRED_RID)) and extension_id:
            extension_ids[uri] = extension_id
    return extension_ids


def _read_ssrcs(section: MediaSection) -> tuple[tuple[OfferedStream, ...], frozenset[int]]:
    """Return the RTP streams of a section by its SSRCs: one per SSRC of a SIM group, else one; and the other SSRCs."""
    listed: dict[int, None] = {}
    for value in section.attributes("ssrc"):
        ssrc = _decimal(value.split(" ")[0], MAX_SSRC)
        if ssrc is not None:
            listed[ssrc] = None
    rtx_ssrcs: dict[int, int] = {}
    primary_ssrcs: list[int] = []
    for value in section.attributes("ssrc-group"):
        semantics, _, members = value.strip().partition(" ")
        numbers = [ssrc for member in members.split() if (ssrc := _decimal(member, MAX_SSRC)) is not None]
        if semantics == "FID" and len(numbers) == 2:
            rtx_ssrcs[numbers[0]] = numbers[1]
        elif semantics == "SIM":
            primary_ssrcs = list(dict.fromkeys(numbers))[:MAX_LAYERS]
    primary_ssrcs = primary_ssrcs or list(listed)[:1]
    if len(primary_ssrcs) > 1:
        streams = tuple(
            OfferedStream(f"#{index}", ssrc, rtx_ssrcs.get(ssrc)) for index, ssrc in enumerate(primary_ssrcs)
        )
    elif primary_ssrcs:
        streams = (OfferedStream("", primary_ssrcs[0], rtx_ssrcs.get(primary_ssrcs[0])),)
    else:
        streams = (OfferedStream(),)
    return streams, frozenset(listed).difference(primary_ssrcs, [rtx_ssrcs.get(ssrc) for ssrc in primary_ssrcs])


def _decimal(text: str | None, maximum: int) -> int | None:
    """Return a number of ASCII digits; ``None`` if malformed (``int`` also accepts signs) or above ``maximum``."""
    if text is None or len(text) > MAX_DIGITS or not (text.isascii() and text.isdigit()):
        return None
    number = int(text)
    return number if number <= maximum else None


def _answered_section(answer: MediaSection, offer: SubscriberSection) -> AnsweredSection:
    if answer.rejected:
        return AnsweredSection(receives=False, rejected=True)
    if offer.codec is None:
        return AnsweredSection(receives=True)
    answered = payloads(answer)
    offered = offer.codec.payload
    same_type = (p for p in answered if p.type == offered.type and p.codec == offered.codec)
    same_codec = (p for p in answered if p.codec == offered.codec and p.clock_rate == offered.clock_rate)
    payload = next(same_type, None) or next(same_codec, None)
    if payload is None:
        return AnsweredSection(receives=False)
    rtx = next((p.type for p in answered if p.codec == "rtx" and p.apt == payload.type), None)
    return AnsweredSection(answer.direction in ("sendrecv", "recvonly"), payload.type, rtx)


def _transport(
    description: Description, sections: Sequence[MediaSection], default_setup: str = "actpass"
) -> RemoteTransportDescription:
    """Return the transport parameters of a BUNDLE group; session-level values where its sections lack them.

    Without ``a=setup`` an answer is taken as active, the value that RFC 5763 5 recommends, and an offer as actpass.
    """

    def first(name: str) -> str:
        values = (section.attribute(name) for section in (*sections, description.session))
        return next((value for value in values if value), "")

    fingerprints: dict[tuple[str, str], None] = {}
    for section in (*sections, description.session):
        for value in section.attributes("fingerprint"):
            algorithm, _, digits = value.strip().partition(" ")
            fingerprints[algorithm.lower(), digits.strip()] = None
    ufrag, password = first("ice-ufrag"), first("ice-pwd")
    if not (ufrag and password and fingerprints):
        raise Rejected("The description lacks ICE credentials or a fingerprint.")
    candidates = []
    for section in sections:
        for value in section.attributes("candidate"):
            try:
                candidates.append(parse_candidate(f"candidate:{value}"))
            except SdpError:
                continue  # a candidate of an unknown form
    application = next((section for section in sections if section.kind == "application"), None)
    sctp_port = None if application is None else _sctp_port(application)
    max_message_size = _decimal(first("max-message-size"), MAX_REMOTE_MESSAGE_SIZE)
    return RemoteTransportDescription(
        ufrag=ufrag,
        password=password,
        fingerprints=tuple(fingerprints),
        setup=first("setup") or default_setup,
        candidates=tuple(dict.fromkeys(candidates)),
        ice_lite=description.session.attribute("ice-lite") is not None,
        sctp_port=sctp_port,
        max_message_size=DEFAULT_MAX_MESSAGE_SIZE if max_message_size is None else max_message_size,
    )
