"""The answers to publishers and the offers to subscribers.

Source: RFC 8829 5 (offers and answers), RFC 9143 (bundle), RFC 5576 and RFC 4588 (SSRCs and retransmission), RFC 8841
(data channels), RFC 8842 (DTLS roles), RFC 8853 and RFC 8851 (simulcast).
"""

from __future__ import annotations

from collections.abc import Sequence

from mcu.base import MediaKind
from mcu.inprocess.negotiation.parameters import (
    EXTENSIONS,
    MAX_MESSAGE_SIZE,
    SCTP_PORT,
    LocalTransportDescription,
    NegotiatedCodec,
    PublisherOffer,
    SubscriberSection,
)
from sdp.document import MediaSection

_NAMES = {"opus": "opus", "h264": "H264", "h265": "H265", "av1": "AV1"}  # spelled as browsers do


def write_answer(offer: PublisherOffer, local: LocalTransportDescription, *, client: bool, version: int) -> str:
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
        if medium.rids:
            lines += [f"a=rid:{rid} recv" for rid in medium.rids] + [f"a=simulcast:recv {';'.join(medium.rids)}"]
    return _text(lines)


def write_offer(
    sections: Sequence[SubscriberSection], local: LocalTransportDescription, *, setup: str, version: int
) -> str:
    """Offer a subscriber what stands in ``sections``."""
    lines = _head(local, version, [section.mid for section in sections])
    for section in sections:
        protocol = "UDP/DTLS/SCTP" if section.codec is None else "UDP/TLS/RTP/SAVPF"
        lines.append(_media_line(section.kind, protocol, section.codec))
        lines += _connection(local, setup, section.mid)
        if section.codec is None:
            lines += _channels()
            continue
        lines += [f"a=extmap:{number} {uri}" for uri, number in EXTENSIONS[section.kind.value].items()]
        lines += ["a=sendonly" if section.sends else "a=inactive", "a=rtcp-mux", "a=rtcp-rsize"]
        lines += _codec_lines(section.codec)
        lines += _source_lines(section, with_rtx=section.codec.rtx is not None)
    return _text(lines)


def _head(local: LocalTransportDescription, version: int, mids: Sequence[str]) -> list[str]:
    lines = ["v=0", f"o=- {local.session} {version} IN IP4 127.0.0.1", "s=-", "t=0 0"]
    return [*lines, f"a=group:BUNDLE {' '.join(mids)}", "a=msid-semantic: WMS *"]


def _media_line(kind: MediaKind, protocol: str, codec: NegotiatedCodec | None) -> str:
    if codec is None:
        return f"m=application 9 {protocol} webrtc-datachannel"
    formats = [codec.payload.type] + ([codec.rtx.type] if codec.rtx is not None else [])
    return f"m={kind.value} 9 {protocol} {' '.join(map(str, formats))}"


def _rejected(section: MediaSection) -> list[str]:
    lines = [f"m={section.kind} 0 {section.protocol} {' '.join(section.formats)}", "c=IN IP4 0.0.0.0", "a=inactive"]
    return lines if section.mid is None else [*lines, f"a=mid:{section.mid}"]


def _connection(local: LocalTransportDescription, setup: str, mid: str) -> list[str]:
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


def _codec_lines(codec: NegotiatedCodec) -> list[str]:
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


def _source_lines(section: SubscriberSection, *, with_rtx: bool) -> list[str]:
    sources = [section.ssrc, section.rtx_ssrc] if with_rtx else [section.ssrc]
    lines = [f"a=msid:{section.stream} {section.track}"]
    if with_rtx:
        lines.append(f"a=ssrc-group:FID {section.ssrc} {section.rtx_ssrc}")
    for ssrc in sources:
        lines += [f"a=ssrc:{ssrc} cname:{section.cname}", f"a=ssrc:{ssrc} msid:{section.stream} {section.track}"]
    return lines


def _text(lines: list[str]) -> str:
    return "\r\n".join(lines) + "\r\n"
