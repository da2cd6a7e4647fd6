"""Generation of descriptions: the answers to publishers and the offers to subscribers.

Source: RFC 8829 5 (offers and answers), RFC 9143 (bundle), RFC 5576 and RFC 4588 (SSRCs and retransmission), RFC 8841
(data channels), RFC 8842 (DTLS roles), RFC 8853 and RFC 8851 (simulcast).
"""

from __future__ import annotations

from collections.abc import Sequence

from mcu.base import MediaKind
from mcu.inprocess.negotiation.parameters import (
    EXTENSION_IDS,
    MAX_MESSAGE_SIZE,
    SCTP_PORT,
    LocalTransportDescription,
    NegotiatedCodec,
    PublisherOffer,
    SubscriberSection,
)
from sdp.document import Description, MediaSection, parse
from sdp.offer_answer import bundles

_ENCODING_NAMES = {"opus": "opus", "h264": "H264", "h265": "H265", "av1": "AV1"}  # spelled as browsers do


def write_answer(
    offer: PublisherOffer, local: LocalTransportDescription, *, dtls_client: bool, version: int
) -> Description:
    """Return the answer to a publisher's offer, receive-only; ``dtls_client``: whether the SFU is the DTLS client."""
    accepted = [section for section in offer.sections if section is not None]
    mids = {section.section.mid for section in accepted}
    grouped = [mid for group in bundles(offer.description) for mid in dict.fromkeys(group) if mid in mids]
    lines = _session_lines(local, version, grouped)
    setup = "active" if dtls_client else "passive"
    for offered, section in zip(offer.description.media, offer.sections, strict=True):
        if section is None:
            lines += _rejected_lines(offered)
            continue
        old_sctp = offered.attribute("sctpmap") is not None
        lines.append(_media_line(section.kind, offered.protocol, section.codec, old_sctp=old_sctp))
        lines += _transport_lines(local, setup, offered.mid)
        if section.codec is None:
            lines += _data_channel_lines(old_sctp=old_sctp)
            continue
        lines += [f"a=extmap:{extension_id} {uri}" for uri, extension_id in section.extensions.items()]
        lines += ["a=recvonly" if section.sends else "a=inactive", "a=rtcp-mux"]
        lines += ["a=rtcp-rsize"] if offered.attribute("rtcp-rsize") is not None else []  # RFC 5506 5.1
        lines += _codec_lines(section.codec)
        if section.rids:
            streams = (f"~{rid}" if rid in section.paused_rids else rid for rid in section.rids)
            lines += [f"a=rid:{rid} recv" for rid in section.rids] + [f"a=simulcast:recv {';'.join(streams)}"]
    return _description(lines)


def write_offer(
    sections: Sequence[SubscriberSection], local: LocalTransportDescription, *, setup: str, version: int
) -> Description:
    """Return the offer of ``sections`` to a subscriber, send-only."""
    lines = _session_lines(local, version, [section.mid for section in sections if not section.rejected])
    for section in sections:
        protocol = "UDP/DTLS/SCTP" if section.codec is None else "UDP/TLS/RTP/SAVPF"
        media_line = _media_line(section.kind, protocol, section.codec)
        if section.rejected:
            kind, _, rest = media_line.partition(" 9 ")
            lines += [f"{kind} 0 {rest}", "c=IN IP4 0.0.0.0", "a=inactive", f"a=mid:{section.mid}"]
            continue
        lines.append(media_line)
        lines += _transport_lines(local, setup, section.mid)
        if section.codec is None:
            lines += _data_channel_lines()
            continue
        lines += [f"a=extmap:{extension_id} {uri}" for uri, extension_id in EXTENSION_IDS[section.kind.value].items()]
        lines += ["a=sendonly" if section.sends else "a=inactive", "a=rtcp-mux", "a=rtcp-rsize"]
        lines += _codec_lines(section.codec)
        lines += _ssrc_lines(section, with_rtx=section.codec.rtx is not None)
    return _description(lines)


def _session_lines(local: LocalTransportDescription, version: int, mids: Sequence[str]) -> list[str]:
    lines = ["v=0", f"o=- {local.session_id} {version} IN IP4 127.0.0.1", "s=-", "t=0 0"]
    group = [f"a=group:BUNDLE {' '.join(mids)}"] if mids else []
    return [*lines, *group, "a=msid-semantic: WMS *"]


def _media_line(kind: MediaKind, protocol: str, codec: NegotiatedCodec | None, *, old_sctp: bool = False) -> str:
    if codec is None:
        return f"m=application 9 {protocol} {SCTP_PORT if old_sctp else 'webrtc-datachannel'}"
    formats = [codec.payload.type] + ([codec.rtx.type] if codec.rtx is not None else [])
    return f"m={kind.value} 9 {protocol} {' '.join(map(str, formats))}"


def _rejected_lines(section: MediaSection) -> list[str]:
    lines = [f"m={section.kind} 0 {section.protocol} {' '.join(section.formats)}", "c=IN IP4 0.0.0.0", "a=inactive"]
    return lines if section.mid is None else [*lines, f"a=mid:{section.mid}"]


def _transport_lines(local: LocalTransportDescription, setup: str, mid: str | None) -> list[str]:
    return [
        "c=IN IP4 0.0.0.0",
        *(f"a={candidate}" for candidate in local.candidates),
        "a=end-of-candidates",
        f"a=ice-ufrag:{local.ufrag}",
        f"a=ice-pwd:{local.password}",
        f"a=fingerprint:{local.fingerprint}",
        f"a=setup:{setup}",
        *([] if mid is None else [f"a=mid:{mid}"]),
    ]


def _data_channel_lines(*, old_sctp: bool = False) -> list[str]:
    if old_sctp:
        return [f"a=sctpmap:{SCTP_PORT} webrtc-datachannel 65535", f"a=max-message-size:{MAX_MESSAGE_SIZE}"]
    return [f"a=sctp-port:{SCTP_PORT}", f"a=max-message-size:{MAX_MESSAGE_SIZE}"]


def _codec_lines(codec: NegotiatedCodec) -> list[str]:
    payload = codec.payload
    name = _ENCODING_NAMES.get(payload.codec, payload.codec.upper())
    channels = f"/{payload.channels}" if payload.channels > 1 else ""
    lines = [f"a=rtpmap:{payload.type} {name}/{payload.clock_rate}{channels}"]
    lines += [f"a=rtcp-fb:{payload.type} {entry}" for entry in codec.feedback]
    if payload.fmtp:
        lines.append(f"a=fmtp:{payload.type} {payload.fmtp}")
    if codec.rtx is not None:
        rtx = codec.rtx
        lines += [f"a=rtpmap:{rtx.type} rtx/{rtx.clock_rate}", f"a=fmtp:{rtx.type} apt={payload.type}"]
    return lines


def _ssrc_lines(section: SubscriberSection, *, with_rtx: bool) -> list[str]:
    ssrcs = [section.ssrc, section.rtx_ssrc] if with_rtx else [section.ssrc]
    msid = f"msid:{section.stream_id} {section.track_id}"
    lines = [f"a={msid}"]
    if with_rtx:
        lines.append(f"a=ssrc-group:FID {section.ssrc} {section.rtx_ssrc}")
    for ssrc in ssrcs:
        lines += [f"a=ssrc:{ssrc} cname:{section.cname}", f"a=ssrc:{ssrc} {msid}"]
    return lines


def _description(lines: list[str]) -> Description:
    return parse("\r\n".join(lines) + "\r\n").freeze()
