"""Offers and answers of the in-process SFU: what a client's description says to a forwarder, and how ours are written.

One codec is agreed per medium, the first that we can forward in the order of the offer, with its retransmission. All
media travel in one bundle; a medium outside of it, or without a codec that we forward, is rejected with port 0.

Source: RFC 8829 5 (offers and answers), RFC 9143 (bundle), RFC 5761 (rtcp-mux), RFC 5576 and RFC 4588 (SSRCs and
retransmission), RFC 8841 (data channels), RFC 8842 (DTLS roles).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mcu.base import Kind, Rejected
from sdp.candidates import Candidate
from sdp.candidates import parse as parse_candidate
from sdp.codecs import Payload, Preference, payloads, prefer
from sdp.document import Description, MediaSection, SdpError, parse

MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
AUDIO_LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
ABS_SEND_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
EXTENSIONS = {
    "audio": {MID: 1, AUDIO_LEVEL: 2},
    "video": {MID: 1, ABS_SEND_TIME: 3},
}  # the numbers stand in our own offers
FORWARDED = {
    "audio": ("opus", "g722", "pcmu", "pcma"),
    "video": ("vp8", "vp9", "h264", "av1", "h265"),
}
FEEDBACK = frozenset(("nack", "nack pli", "ccm fir", "goog-remb"))
SCTP_PORT = 5000
MAX_MESSAGE_SIZE = 65536  # bytes, what aiortc's SCTP takes
_DEFAULT_MESSAGE_SIZE = 65536  # RFC 8841, 6.1
_NAMES = {"opus": "opus", "h264": "H264", "h265": "H265", "av1": "AV1"}  # spelled as browsers do


@dataclass(frozen=True, slots=True)
class LocalTransport:
    """What a client must know to reach our side of a connection."""

    ufrag: str
    password: str
    fingerprint: str  # "sha-256 AB:CD:…"
    candidates: tuple[str, ...]  # "candidate:…"
    session: int  # number of the o= line


@dataclass(frozen=True, slots=True)
class RemoteTransport:
    """What a client says of its side of a connection."""

    ufrag: str
    password: str
    fingerprints: tuple[tuple[str, str], ...]  # algorithm and value
    setup: str  # "actpass", "active", "passive"
    candidates: tuple[Candidate, ...]
    lite: bool = False
    sctp_port: int | None = None
    max_message_size: int = _DEFAULT_MESSAGE_SIZE


@dataclass(frozen=True, slots=True)
class Codec:
    """What is agreed for a medium."""

    payload: Payload
    rtx: Payload | None = None

    @property
    def format(self) -> tuple[str, int, str]:
        """What must be the same on both sides of a forwarder."""
        return self.payload.codec, self.payload.clock_rate, self.payload.fmtp

    @property
    def feedback(self) -> tuple[str, ...]:
        """The feedback that the client offers and we give."""
        return tuple(entry for entry in dict.fromkeys(self.payload.feedback) if entry in FEEDBACK)


@dataclass(frozen=True, slots=True)
class Medium:
    """One ``m=`` line of a publisher's offer, as a forwarder sees it."""

    kind: Kind
    mid: str
    section: MediaSection
    sends: bool  # whether the client means to send
    codec: Codec | None = None  # media only
    extensions: dict[str, int] = field(default_factory=dict)  # by URI; media only
    ssrc: int | None = None  # that of the first layer, where the offer tells
    rtx_ssrc: int | None = None
    others: frozenset[int] = frozenset()  # SSRCs of further layers


@dataclass(frozen=True, slots=True)
class Offer:
    """A publisher's offer; ``None`` stands for a medium to reject."""

    description: Description
    media: tuple[Medium | None, ...]
    transport: RemoteTransport


@dataclass(frozen=True, slots=True)
class Slot:
    """One ``m=`` line of an offer to a subscriber."""

    kind: Kind
    mid: str
    sends: bool = True
    codec: Codec | None = None
    ssrc: int = 0
    rtx_ssrc: int = 0
    cname: str = ""
    stream: str = ""
    track: str = ""


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a subscriber's answer says about one slot."""

    receives: bool
    payload_type: int = 0
    rtx_payload_type: int | None = None


def read_offer(text: str, preference: Preference) -> Offer:
    """Read a publisher's offer, its codecs put into the order of ``preference``.

    Raises:
        Rejected: it is no offer that a connection could come from, or holds nothing that we forward.
    """
    description = _parse(text)
    prefer(description, preference)
    bundle = _bundle(description)
    media = tuple(_medium(section, bundle) for section in description.media)
    agreed = [medium.section for medium in media if medium is not None]
    if not agreed:
        raise Rejected("The offer has no medium that this SFU can forward.")
    return Offer(description, media, _transport(description, agreed))


def read_answer(text: str, slots: Sequence[Slot]) -> tuple[tuple[Accepted, ...], RemoteTransport | None]:
    """Read a subscriber's answer; it may end early, where it answers an offer that has been superseded.

    Without a transport the client has rejected everything.

    Raises:
        Rejected: it does not fit the offer, or is no description that a connection could come from.
    """
    description = _parse(text)
    if len(description.media) > len(slots):
        raise Rejected("The answer has more media than the offer.")
    accepted = []
    for section, slot in zip(description.media, slots, strict=False):
        if section.kind != ("application" if slot.kind is Kind.DATA else slot.kind.value):
            raise Rejected("The answer's media are not those of the offer.")
        accepted.append(_accepted(section, slot))
    agreed = [section for section in description.media if not section.rejected]
    return tuple(accepted), _transport(description, agreed) if agreed else None


def write_answer(offer: Offer, local: LocalTransport, *, client: bool, version: int) -> str:
    """Answer a publisher's offer: we receive what it sends; ``client`` is our role in DTLS."""
    media = [medium for medium in offer.media if medium is not None]
    lines = _head(local, version, [medium.mid for medium in media])
    setup = "active" if client else "passive"
    for section, medium in zip(offer.description.media, offer.media, strict=True):
        if medium is None:
            lines += _rejected(section)
            continue
        lines.append(_media_line(medium.kind, section.protocol, medium.codec))
        lines += _connection(local, setup, medium.mid)
        if medium.codec is None:
            lines += _channels()
            continue
        lines += [f"a=extmap:{number} {uri}" for uri, number in medium.extensions.items()]
        lines += ["a=recvonly" if medium.sends else "a=inactive", "a=rtcp-mux", "a=rtcp-rsize"]
        lines += _codec_lines(medium.codec)
    return _text(lines)


def write_offer(slots: Sequence[Slot], local: LocalTransport, *, setup: str, version: int) -> str:
    """Offer a subscriber what stands in ``slots``."""
    lines = _head(local, version, [slot.mid for slot in slots])
    for slot in slots:
        protocol = "UDP/DTLS/SCTP" if slot.codec is None else "UDP/TLS/RTP/SAVPF"
        lines.append(_media_line(slot.kind, protocol, slot.codec))
        lines += _connection(local, setup, slot.mid)
        if slot.codec is None:
            lines += _channels()
            continue
        lines += [f"a=extmap:{number} {uri}" for uri, number in EXTENSIONS[slot.kind.value].items()]
        lines += ["a=sendonly" if slot.sends else "a=inactive", "a=rtcp-mux", "a=rtcp-rsize"]
        lines += _codec_lines(slot.codec)
        lines += _source_lines(slot, with_rtx=slot.codec.rtx is not None)
    return _text(lines)


def _parse(text: str) -> Description:
    try:
        return parse(text)
    except SdpError as error:
        raise Rejected(f"The description does not parse: {error}") from None


def _bundle(description: Description) -> frozenset[str]:
    """Return the media identifications that share one transport: those bundled, or the only one."""
    for value in description.session.attributes("group"):
        semantics, *mids = value.split()
        if semantics == "BUNDLE" and mids:
            return frozenset(mids)
    alive = [section.mid for section in description.media if not section.rejected and section.mid]
    return frozenset(alive[:1])


def _medium(section: MediaSection, bundle: frozenset[str]) -> Medium | None:
    mid = section.mid
    if section.rejected or not mid or mid not in bundle:
        return None
    if section.kind == "application":
        usable = section.protocol in ("UDP/DTLS/SCTP", "TCP/DTLS/SCTP") and "webrtc-datachannel" in section.formats
        return Medium(Kind.DATA, mid, section, sends=True) if usable else None
    codec = _choose(section)
    if codec is None or section.attribute("rtcp-mux") is None:
        return None
    primary, rtx, others = _sources(section)
    return Medium(
        kind=Kind(section.kind),
        mid=mid,
        section=section,
        sends=section.direction in ("sendrecv", "sendonly"),
        codec=codec,
        extensions=_extensions(section),
        ssrc=primary,
        rtx_ssrc=rtx,
        others=others,
    )


def _choose(section: MediaSection) -> Codec | None:
    if not section.is_rtp or section.kind not in FORWARDED:
        return None
    found = payloads(section)
    main = next((payload for payload in found if payload.codec in FORWARDED[section.kind]), None)
    if main is None:
        return None
    return Codec(
        main, next((payload for payload in found if payload.codec == "rtx" and payload.apt == main.type), None)
    )


def _extensions(section: MediaSection) -> dict[str, int]:
    found: dict[str, int] = {}
    for value in section.attributes("extmap"):
        number, _, rest = value.partition(" ")
        uri = rest.split(" ")[0]
        ident = number.partition("/")[0]
        if uri in EXTENSIONS[section.kind] and ident.isascii() and ident.isdigit() and 0 < int(ident) < 256:
            found[uri] = int(ident)
    return found


def _sources(section: MediaSection) -> tuple[int | None, int | None, frozenset[int]]:
    """Return the SSRC of the first layer, that of its retransmission, and those of the other layers."""
    listed: dict[int, None] = {}
    for value in section.attributes("ssrc"):
        number = value.split(" ")[0]
        if _is_ssrc(number):
            listed[int(number)] = None
    repairs: dict[int, int] = {}
    primary = next(iter(listed), None)
    for value in section.attributes("ssrc-group"):
        semantics, *members = value.split()
        numbers = [int(member) for member in members if _is_ssrc(member)]
        if semantics == "FID" and len(numbers) == 2:
            repairs[numbers[0]] = numbers[1]
        elif semantics == "SIM" and numbers:
            primary = numbers[0]
    if primary is None:
        return None, None, frozenset()
    rtx = repairs.get(primary)
    return primary, rtx, frozenset(listed) - {primary, rtx}


def _is_ssrc(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) < 1 << 32


def _accepted(section: MediaSection, slot: Slot) -> Accepted:
    if section.rejected:
        return Accepted(receives=False)
    if slot.codec is None:
        return Accepted(receives=True)
    found = payloads(section)
    wanted = slot.codec.payload
    main = next((p for p in found if p.type == wanted.type and p.codec == wanted.codec), None)
    main = main or next((p for p in found if p.codec == wanted.codec and p.clock_rate == wanted.clock_rate), None)
    if main is None:
        return Accepted(receives=False)
    rtx = next((p.type for p in found if p.codec == "rtx" and p.apt == main.type), None)
    return Accepted(section.direction in ("sendrecv", "recvonly"), main.type, rtx)


def _transport(description: Description, sections: Sequence[MediaSection]) -> RemoteTransport:
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
    return RemoteTransport(
        ufrag=ufrag,
        password=password,
        fingerprints=tuple(prints),
        setup=first("setup") or "actpass",
        candidates=tuple(dict.fromkeys(candidates)),
        lite=description.session.attribute("ice-lite") is not None,
        sctp_port=None if channels is None else _number(channels.attribute("sctp-port"), SCTP_PORT),
        max_message_size=_number(first("max-message-size"), _DEFAULT_MESSAGE_SIZE),
    )


def _number(text: str | None, default: int) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else default


def _head(local: LocalTransport, version: int, mids: Sequence[str]) -> list[str]:
    lines = ["v=0", f"o=- {local.session} {version} IN IP4 127.0.0.1", "s=-", "t=0 0"]
    return [*lines, f"a=group:BUNDLE {' '.join(mids)}", "a=msid-semantic: WMS *"]


def _media_line(kind: Kind, protocol: str, codec: Codec | None) -> str:
    if codec is None:
        return f"m=application 9 {protocol} webrtc-datachannel"
    formats = [codec.payload.type] + ([codec.rtx.type] if codec.rtx is not None else [])
    return f"m={kind.value} 9 {protocol} {' '.join(map(str, formats))}"


def _rejected(section: MediaSection) -> list[str]:
    lines = [f"m={section.kind} 0 {section.protocol} {' '.join(section.formats)}", "c=IN IP4 0.0.0.0", "a=inactive"]
    return lines if section.mid is None else [*lines, f"a=mid:{section.mid}"]


def _connection(local: LocalTransport, setup: str, mid: str) -> list[str]:
    return [
        "c=IN IP4 0.0.0.0",
        *(f"a={candidate}" for candidate in local.candidates),
        "a=end-of-candidates",
        f"a=ice-ufrag:{local.ufrag}",
        f"a=ice-pwd:{local.password}",
        f"a=fingerprint:{local.fingerprint}",
        f"a=setup:{setup}",
        f"a=mid:{mid}",
    ]


def _channels() -> list[str]:
    return [f"a=sctp-port:{SCTP_PORT}", f"a=max-message-size:{MAX_MESSAGE_SIZE}"]


def _codec_lines(codec: Codec) -> list[str]:
    main = codec.payload
    name = _NAMES.get(main.codec, main.codec.upper())
    channels = f"/{main.channels}" if main.channels > 1 else ""
    lines = [f"a=rtpmap:{main.type} {name}/{main.clock_rate}{channels}"]
    lines += [f"a=rtcp-fb:{main.type} {entry}" for entry in codec.feedback]
    if main.fmtp:
        lines.append(f"a=fmtp:{main.type} {main.fmtp}")
    if codec.rtx is not None:
        lines += [f"a=rtpmap:{codec.rtx.type} rtx/{codec.rtx.clock_rate}", f"a=fmtp:{codec.rtx.type} apt={main.type}"]
    return lines


def _source_lines(slot: Slot, *, with_rtx: bool) -> list[str]:
    sources = [slot.ssrc, slot.rtx_ssrc] if with_rtx else [slot.ssrc]
    lines = [f"a=msid:{slot.stream} {slot.track}"]
    if with_rtx:
        lines.append(f"a=ssrc-group:FID {slot.ssrc} {slot.rtx_ssrc}")
    for ssrc in sources:
        lines += [f"a=ssrc:{ssrc} cname:{slot.cname}", f"a=ssrc:{ssrc} msid:{slot.stream} {slot.track}"]
    return lines


def _text(lines: list[str]) -> str:
    return "\r\n".join(lines) + "\r\n"
