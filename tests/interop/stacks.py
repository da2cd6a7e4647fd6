"""Offers as many WebRTC stacks write them, and the sections of each that an SFU has to accept.

The forms are those of Chromium (also with Plan B), Safari, Firefox, GStreamer, libdatachannel, Pion, aiortc, werift,
Asterisk, FreeSWITCH and conference systems, and forms that RFC 8829, RFC 8830, RFC 8853, RFC 9143 and RFC 3551 allow.
"""

from __future__ import annotations

FINGERPRINT = (
    "a=fingerprint:sha-256 "
    "5A:0C:11:8E:42:9D:73:E6:1B:F0:2C:84:D7:39:60:AB:CE:15:48:97:3F:21:B6:DA:05:7C:E9:32:8B:64:F1:1D"
)
CREDENTIALS = ("a=ice-ufrag:fLdA", "a=ice-pwd:fieldfieldfieldfieldfield1")
TRANSPORT = (*CREDENTIALS, "a=ice-options:trickle", FINGERPRINT, "a=setup:actpass")
BUNDLE_ONLY = ("a=bundle-only",)
RIDS = (
    "a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
    "a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
)
OPUS = ("a=rtpmap:111 opus/48000/2", "a=fmtp:111 minptime=10;useinbandfec=1")
FEEDBACK = ("goog-remb", "transport-cc", "ccm fir", "nack", "nack pli")


def offer(
    *sections: str, session: tuple[str, ...] = (), group: str = "", origin: str = "- 1 2 IN IP4 127.0.0.1"
) -> str:
    """Return an offer of the sections; ``group``: the mids of the BUNDLE group."""
    bundle = [f"a=group:BUNDLE {group}"] if group else []
    return "\r\n".join(["v=0", f"o={origin}", "s=-", "t=0 0", *bundle, *session, *sections, ""])


def media(
    start: str, mid: str, *lines: str, direction: str = "sendonly", transport: tuple[str, ...] = TRANSPORT
) -> str:
    """Return an RTP section; ``start``: media type, port and formats; no ``a=mid`` if ``mid`` is empty."""
    kind, port, formats = start.split(" ", 2)
    named = [f"a=mid:{mid}"] if mid else []
    head = [f"m={kind} {port} UDP/TLS/RTP/SAVPF {formats}", "c=IN IP4 0.0.0.0", *transport, *named]
    multiplexed = [] if transport == BUNDLE_ONLY else ["a=rtcp-mux"]
    extension = "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid"
    return "\r\n".join([*head, extension, *([f"a={direction}"] if direction else []), *multiplexed, *lines])


def codec(number: int, name: str, parameters: str = "", rtx: int = 0, feedback: tuple[str, ...] = FEEDBACK) -> str:
    """Return the lines of a video payload type and of its retransmission."""
    lines = [f"a=rtpmap:{number} {name}/90000", *(f"a=rtcp-fb:{number} {entry}" for entry in feedback)]
    lines += [f"a=fmtp:{number} {parameters}"] if parameters else []
    lines += [f"a=rtpmap:{rtx} rtx/90000", f"a=fmtp:{rtx} apt={number}"] if rtx else []
    return "\r\n".join(lines)


def data(mid: str, protocol: str = "UDP/DTLS/SCTP", port: int = 9, transport: tuple[str, ...] = TRANSPORT) -> str:
    """Return a section of data channels."""
    head = [f"m=application {port} {protocol} webrtc-datachannel", "c=IN IP4 0.0.0.0", *transport, f"a=mid:{mid}"]
    return "\r\n".join([*head, "a=sctp-port:5000", "a=max-message-size:262144"])


VP8 = codec(96, "VP8", rtx=97)
AUDIO, VIDEO, DATA = media("audio 9 111", "0", *OPUS), media("video 9 96 97", "1", VP8), data("2")
STOPPED_VIDEO = media("video 0 96 97", "1", VP8, direction="inactive")
FULL = offer(AUDIO, VIDEO, DATA, group="0 1 2", session=("a=extmap-allow-mixed",))
BFCP = "m=application 50000 TCP/BFCP *\r\na=floorctrl:c-s\r\na=setup:actpass\r\na=connection:new"
H224 = media("application 9 125", "h", "a=rtpmap:125 H224/4800")
TEXT = media("text 9 98 99", "t", "a=rtpmap:98 t140/1000", "a=rtpmap:99 red/1000", "a=fmtp:99 98/98")
RTX = "a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96"


def single(section: str) -> str:
    """Return an offer of one section with the mid 0."""
    return offer(section, group="0")


def layered(simulcast: str, *rids: str) -> str:
    """Return an offer of one video with layers."""
    return single(media("video 9 96 97", "0", VP8, *RIDS, *(f"a=rid:{rid}" for rid in rids), simulcast))


def h264(parameters: str) -> str:
    """Return an offer of H264 with these format parameters."""
    return single(media("video 9 97", "0", codec(97, "H264", parameters)))


# Offers of one connection, each with the sections that are to be accepted ("1") and rejected ("0").
OFFERS: dict[str, list[tuple[str, str]]] = {
    "chromium": [(FULL, "111")],
    "chromium-plan-b": [
        (
            offer(
                media("audio 9 111", "audio", *OPUS, "a=ssrc:1 cname:c", "a=ssrc:1 msid:s a", direction="sendrecv"),
                media(
                    "video 9 96 97 116 117",
                    "video",
                    VP8,
                    "a=rtpmap:116 red/90000",
                    "a=rtpmap:117 ulpfec/90000",
                    "a=ssrc-group:FID 21 22",
                    *(f"a=ssrc:{ssrc} cname:c\r\na=ssrc:{ssrc} msid:s v{ssrc}" for ssrc in (21, 22, 31)),
                    direction="sendrecv",
                ),
                group="audio video",
            ),
            "11",
        )
    ],
    "safari-h264-high-first": [
        (
            single(
                media(
                    "video 9 98 99 100 101",
                    "0",
                    codec(98, "H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=640c1f", 99),
                    codec(100, "H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f", 101),
                )
            ),
            "1",
        )
    ],
    "gstreamer-nack-pli-only": [
        (
            offer(
                media("video 9 96", "video0", codec(96, "VP8", feedback=("nack pli",)), direction="sendrecv"),
                media("audio 9 97", "audio1", "a=rtpmap:97 OPUS/48000/2", direction="sendrecv"),
                group="video0 audio1",
            ),
            "11",
        )
    ],
    "libdatachannel": [
        (
            offer(
                data("data", transport=()),
                group="data",
                session=("a=group:LS data", "a=setup:actpass", *CREDENTIALS, "a=ice-options:ice2,trickle", FINGERPRINT),
                origin="rtc 3767 0 IN IP4 127.0.0.1",
            ),
            "1",
        )
    ],
    "pion-session-fingerprint": [
        (offer(VIDEO.replace(FINGERPRINT + "\r\n", ""), AUDIO, group="1 0", session=(FINGERPRINT,)), "11")
    ],
    "asterisk": [
        (
            offer(media("audio 17512 107 0 101", "", "a=rtpmap:107 opus/48000/2", "a=rtpmap:101 telephone-event/8000")),
            "1",
        )
    ],
    "freeswitch-without-bundle": [
        (
            offer(
                media("audio 22880 102", "", "a=rtpmap:102 opus/48000/2", direction=""),
                media("video 22890 96", "", codec(96, "VP8", feedback=("ccm fir",)), direction=""),
            ),
            "10",
        )
    ],
    "partly-bundled": [(offer(AUDIO, VIDEO, media("video 9 96 97", "2", VP8), group="0 1"), "110")],
    "bundle-only-without-rtcp-mux": [
        (offer(AUDIO, media("video 0 96 97", "1", VP8, transport=BUNDLE_ONLY), group="0 1"), "11")
    ],
    "rejected-first": [(offer(AUDIO.replace("audio 9", "audio 0"), VIDEO, group="1"), "01")],
    "group-in-reverse": [(offer(AUDIO, VIDEO, group="1 0"), "11")],
    "pcmu-without-rtpmap": [(single(media("audio 9 0 8", "0", "a=ptime:20")), "1")],
    "g722": [(single(media("audio 9 9 101", "0", "a=rtpmap:9 G722/8000", "a=rtpmap:101 telephone-event/8000")), "1")],
    "opus-without-channels": [(single(media("audio 9 111", "0", "a=rtpmap:111 opus/48000")), "1")],
    "stereo-and-dtx": [(single(media("audio 9 111", "0", OPUS[0], "a=fmtp:111 stereo=1;usedtx=1;cbr=1")), "1")],
    "red-first": [
        (single(media("audio 9 63 111", "0", *OPUS, "a=rtpmap:63 red/48000/2", "a=fmtp:63 111/111")), "1"),
    ],
    "flexfec": [(single(media("video 9 35 96 97", "0", "a=rtpmap:35 flexfec-03/90000", VP8)), "1")],
    "h264-without-packetization-mode": [(h264("profile-level-id=42e01f;level-asymmetry-allowed=1"), "1")],
    "h264-packetization-mode-0": [(h264("packetization-mode=0;profile-level-id=42001f"), "1")],
    "h264-without-parameters": [(h264(""), "1")],
    "h265": [
        (single(media("video 9 49 50", "0", codec(49, "H265", "level-id=180;profile-id=1;tx-mode=SRST", 50))), "1")
    ],
    "vp9-profile-2": [(single(media("video 9 100 101", "0", codec(100, "VP9", "profile-id=2", 101))), "1")],
    "av1-profile-1": [(single(media("video 9 39", "0", codec(39, "AV1", "level-idx=5;profile=1;tier=0"))), "1")],
    "simulcast-by-ssrc": [
        (
            single(
                media(
                    "video 9 96 97",
                    "0",
                    VP8,
                    "a=ssrc-group:SIM 1 2 3",
                    *(f"a=ssrc-group:FID {ssrc} {ssrc + 3}" for ssrc in (1, 2, 3)),
                    *(f"a=ssrc:{ssrc} cname:x" for ssrc in range(1, 7)),
                )
            ),
            "1",
        )
    ],
    "layers-all-paused": [(layered("a=simulcast:send ~h;~m;~l", "h send", "m send", "l send"), "1")],
    "layers-with-alternatives": [(layered("a=simulcast:send 1,2;3", "1 send", "2 send", "3 send"), "1")],
    "layers-in-both-directions": [(layered("a=simulcast:send h;l recv x", "h send", "l send", "x recv"), "1")],
    "rid-without-simulcast": [(layered("a=x-none", "h send"), "1")],
    "rids-that-no-packet-can-carry": [(layered("a=simulcast:send a-0;a-1", "a-0 send", "a-1 send"), "1")],
    "setup-active": [(FULL.replace("setup:actpass", "setup:active"), "111")],
    "setup-passive": [(FULL.replace("setup:actpass", "setup:passive"), "111")],
    "setup-missing": [(FULL.replace("a=setup:actpass\r\n", ""), "111")],
    "ice-lite": [(FULL.replace("t=0 0\r\n", "t=0 0\r\na=ice-lite\r\n"), "111")],
    "ids-above-14": [(single(media("audio 9 111", "0", *OPUS, "a=extmap:200 urn:x", "a=extmap:4096 urn:y")), "1")],
    "extension-twice": [
        (
            single(media("audio 9 111", "0", *OPUS, "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid", "a=extmap:5 u")),
            "1",
        )
    ],
    "msid-without-track": [(single(media("audio 9 111", "0", *OPUS, "a=msid:-")), "1")],
    "msid-of-two-streams": [(single(media("audio 9 111", "0", *OPUS, "a=msid:s t", "a=msid:r")), "1")],
    "bandwidth": [(FULL.replace("IN IP4 0.0.0.0\r\n", "IN IP4 0.0.0.0\r\nb=AS:500\r\nb=TIAS:500000\r\n"), "111")],
    "line-feeds": [(FULL.replace("\r\n", "\n"), "111")],
    "no-feedback": [(single(media("video 9 96", "0", "a=rtpmap:96 VP8/90000")), "1")],
    "feedback-for-all": [(single(media("video 9 96", "0", "a=rtpmap:96 VP8/90000", "a=rtcp-fb:* nack pli")), "1")],
    "two-data-sections": [(offer(data("0"), data("1"), group="0 1"), "10")],
    "data-of-a-draft": [(single(data("0", protocol="DTLS/SCTP")), "1")],
    "unknown-video-codec": [(offer(AUDIO, media("video 9 96", "1", "a=rtpmap:96 theora/90000"), group="0 1"), "10")],
    "port-0-in-the-group": [(offer(AUDIO, VIDEO.replace("video 9", "video 0"), group="0 1"), "10")],
    "port-count": [(FULL.replace("m=audio 9", "m=audio 9/2"), "111")],
    "stop-and-recycle": [
        (offer(AUDIO, VIDEO, group="0 1"), "11"),
        (offer(AUDIO, STOPPED_VIDEO, group="0"), "10"),
        (offer(AUDIO, media("audio 9 111", "2", *OPUS), group="0 2"), "11"),
        (offer(AUDIO, media("audio 9 111", "2", *OPUS, direction="inactive"), group="0 2"), "11"),
    ],
    "stop-the-first-and-recycle": [
        (offer(AUDIO, VIDEO, group="0 1"), "11"),
        (offer(AUDIO.replace("audio 9", "audio 0"), VIDEO, group="1"), "01"),
        (offer(media("video 9 96 97", "2", VP8), VIDEO, group="1 2"), "11"),
    ],
    "sip-with-fax-and-chat": [
        (offer(AUDIO, "m=image 9 udptl t38\r\na=mid:f", VIDEO, "m=message 9 TCP/MSRP *", group="0 1"), "1010")
    ],
    "conference-system": [(offer(AUDIO, VIDEO, BFCP, H224, DATA, group="0 1 h 2"), "11001")],
    "fax-first": [(offer("m=image 0 udptl t38", AUDIO, VIDEO, group="0 1"), "011")],
    "real-time-text-in-the-group": [
        (offer(AUDIO, TEXT, VIDEO, group="0 t 1"), "101"),
        (offer(AUDIO, TEXT.replace("text 9", "text 0"), VIDEO, group="0 1"), "101"),
        (offer(AUDIO, media("video 9 96 97", "v", VP8), VIDEO, group="0 v 1"), "111"),
    ],
    "transport-in-a-section-that-is-rejected": [
        (offer(TEXT, media("video 0 96 97", "1", VP8, "a=rtcp-mux", transport=BUNDLE_ONLY), group="t 1"), "01"),
        (offer(TEXT, VIDEO, group="t 1"), "01"),
    ],
    "retransmission-only": [(offer(AUDIO, media("video 9 97", "1", RTX), group="0 1"), "10")],
    "retransmission-only-first": [(offer(media("video 9 97", "1", RTX), AUDIO, group="1 0"), "01")],
    "red-and-fec-only": [
        (
            offer(AUDIO, media("video 9 97 98", "1", "a=rtpmap:97 red/90000", "a=rtpmap:98 ulpfec/90000"), group="0 1"),
            "10",
        )
    ],
    "audio-red-only": [(offer(media("audio 9 63", "0", "a=rtpmap:63 red/48000/2"), VIDEO, group="0 1"), "01")],
    "tones-only": [(offer(media("audio 9 101", "0", "a=rtpmap:101 telephone-event/8000"), VIDEO, group="0 1"), "01")],
    "data-becomes-video": [
        (FULL, "111"),
        (offer(AUDIO, VIDEO, data("2", port=0), group="0 1"), "110"),
        (offer(AUDIO, VIDEO, media("video 9 96 97", "3", VP8), group="0 1 3"), "111"),
    ],
    "inactive-first": [
        (offer(AUDIO.replace("sendonly", "inactive"), VIDEO, group="0 1"), "11"),
        (offer(AUDIO, VIDEO, group="0 1"), "11"),
    ],
    "inactive-and-receive-only": [
        (offer(AUDIO.replace("sendonly", "recvonly"), VIDEO.replace("sendonly", "inactive"), group="0 1"), "11"),
        (FULL.replace("sendonly", "inactive"), "111"),
        (FULL, "111"),
    ],
    "hold-and-resume": [(FULL, "111"), (FULL.replace("sendonly", "inactive"), "111"), (FULL, "111")],
    "ice-restart": [(FULL, "111"), (FULL.replace("ufrag:fLdA", "ufrag:neXt"), "111")],
    "other-certificate": [(FULL, "111"), (FULL.replace("5A:0C", "5B:0C").replace("fLdA", "neXt"), "111")],
}
