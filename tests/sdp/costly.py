"""Offers that need much CPU time: each fills a message of 64 KiB, within the limits, with lines of one form."""

from __future__ import annotations

import json
from collections.abc import Callable

from sdp.normal_form import MAX_GROUPS, MAX_LINES, MAX_MEDIA_LINE, MAX_SECTIONS

SIZE = 64_000  # bytes of JSON, near the limit of a message
RID = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
SESSION = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=fingerprint:sha-256 AA:BB\r\na=setup:actpass\r\n"
    "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n"
)
MEDIA = "a=rtcp-mux\r\na=sendonly\r\na=rtpmap:96 VP8/90000\r\n"
BUNDLE_ONE = "a=group:BUNDLE 0\r\n"
MIDS = " ".join(map(str, range(MAX_SECTIONS)))
BUNDLE_ALL = f"a=group:BUNDLE {MIDS}\r\n"
TYPES = [number for number in range(128) if number != 96]


def section(mid: int, formats: str = "96", port: int = 9) -> str:
    """Return a section that both SFUs accept."""
    return f"m=video {port} UDP/TLS/RTP/SAVPF {formats}\r\na=mid:{mid}\r\n{MEDIA}"


def sections(count: int, port: int = 9) -> str:
    """Return sections with the mids from 0 on."""
    return "".join(section(mid, port=port) for mid in range(count))


def many_lines(head: str, line: Callable[[int], str], tail: str = "") -> str:
    """Return a description with as many lines, or groups of lines, as fit between ``head`` and ``tail``."""
    left, lines = SIZE - len(json.dumps(head + tail)), MAX_LINES - 1 - (head + tail).count("\n")
    added: list[str] = []
    while True:
        text = line(len(added))
        left -= len(json.dumps(text)) - 2
        lines -= text.count("\n")
        if left < 0 or lines < 0:
            return head + "".join(added) + tail
        added.append(text)


def long_line(head: str, start: str, unit: str) -> str:
    """Return a description whose last line repeats ``unit`` as often as fits."""
    left = SIZE - len(json.dumps(head + start + "\r\n"))
    return head + start + unit * (left // len(unit)) + "\r\n"


def every_section(lines: Callable[[int], str]) -> str:
    """Return a description with the most sections that are allowed, each with additional lines."""
    return SESSION + BUNDLE_ALL + "".join(section(mid) + lines(mid) for mid in range(MAX_SECTIONS))


def costly_offers() -> dict[str, str]:
    """Return the offers by a name of their form."""
    one_section = SESSION + BUNDLE_ONE + section(0)
    layers = one_section + f"a=extmap:1 {RID}\r\n"
    all_types = f"96 {' '.join(map(str, TYPES))}"
    rtx = "".join(f"a=rtpmap:{number} rtx/90000\r\na=fmtp:{number} apt=96\r\n" for number in TYPES)
    h264 = SESSION + BUNDLE_ONE + section(0, all_types).replace("VP8", "H264")
    red = "".join(f"a=rtpmap:{number} red/8000\r\n" for number in TYPES)
    unknown_lines = "".join(f"a=x:{number}\r\n" for number in range(12))
    return {
        "long fmtp of 127 rtx": long_line(h264 + rtx, "a=fmtp:96 ", "a=b;"),
        "fmtp lines of 127 rtx": many_lines(h264 + rtx, lambda _: "a=fmtp:96 a=1;b=2;c=3\r\n"),
        "feedback for all types": many_lines(h264 + rtx, lambda _: "a=rtcp-fb:* nack pli\r\n"),
        "rtpmaps": many_lines(h264, lambda index: f"a=rtpmap:{index % 128} VP8/90000\r\n"),
        "profiles": many_lines(
            h264, lambda index: f"a=rtpmap:{index % 128} H264/9\r\na=fmtp:{index % 128} x=1;y=2\r\n"
        ),
        "red of all types": long_line(h264.replace("video", "audio") + red, "a=fmtp:1 1", "/1"),
        "formats": SESSION + BUNDLE_ONE + section(0, ("96" + " 9" * MAX_MEDIA_LINE)[: MAX_MEDIA_LINE - 40]),
        "groups": SESSION + BUNDLE_ALL * MAX_GROUPS + sections(MAX_SECTIONS),
        "groups of rejected sections": SESSION + BUNDLE_ALL * MAX_GROUPS + sections(MAX_SECTIONS, port=0),
        "sections": every_section(lambda _: ""),
        "sections with lines": every_section(lambda _: unknown_lines),
        "sections with formats": every_section(lambda _: "").replace("SAVPF 96", f"SAVPF {all_types[:150]}"),
        "sections with candidates": every_section(
            lambda mid: "".join(f"a=candidate:{index} 1 udp 1 192.0.2.{mid} 1 typ host\r\n" for index in range(7))
        ),
        "sections with layers": every_section(
            lambda _: f"a=extmap:1 {RID}\r\na=simulcast:send 1;2;3\r\na=rid:1 send\r\na=rid:2 send\r\na=rid:3 send\r\n"
        ),
        "session-level extensions": many_lines(
            SESSION + BUNDLE_ALL, lambda index: f"a=extmap:{index} a\r\n", sections(MAX_SECTIONS - 1)
        ),
        "candidates": many_lines(
            one_section, lambda index: f"a=candidate:{index} 1 udp 1 192.0.2.1 {index + 1} typ host\r\n"
        ),
        "fingerprints": many_lines(one_section, lambda index: f"a=fingerprint:sha-256 {index}\r\n"),
        "ssrcs": many_lines(one_section, lambda index: f"a=ssrc:{index} cname:x\r\n"),
        "ssrc groups": many_lines(one_section, lambda index: f"a=ssrc-group:FID {index} {index + 1}\r\n"),
        "long ssrc group": long_line(one_section, "a=ssrc-group:SIM 1", " 1"),
        "extensions": many_lines(one_section, lambda index: f"a=extmap:{index} urn:x\r\n"),
        "rids": many_lines(layers, lambda index: f"a=rid:{index} send pt=96;a=b\r\n"),
        "long rid": long_line(layers, "a=rid:1 send pt=", ",96"),
        "layers": many_lines(
            layers + "a=simulcast:send " + ";".join(map(str, range(2000))) + "\r\n", "a=rid:{} send\r\n".format
        ),
        "long simulcast": long_line(layers + "a=rid:1 send\r\na=rid:2 send\r\n", "a=simulcast:send 1;2", ";3"),
        "simulcast lines": many_lines(layers, lambda index: f"a=simulcast:send {index};a;b recv c\r\n"),
        "short lines": many_lines(one_section, lambda _: "a=x\r\n"),
        "spellings": many_lines(one_section, lambda index: f"a=RTPMAP:{index % 128} vp8/9\r\n"),
    }
