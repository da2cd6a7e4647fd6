"""Answers of real programs, each changed in one way: a wrong one breaks the named rule, a harmless one no rule.

Each change is applied to every recorded answer that has the line in question; a test fails if no answer has it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from sdp.document import parse
from sdp.offer_answer import Rule, violations
from tests.sdp.recorded import ALL_DESCRIPTIONS, BY_ID, Recorded

ANSWERS = [recorded for recorded in ALL_DESCRIPTIONS if recorded.answers]


def line(pattern: str, replacement: str, count: int = 0) -> Callable[[str], str]:
    """Replace the lines that match, the first ``count`` of them; 0 = all."""
    return lambda text: re.sub(rf"(?m)^{pattern}$", replacement, text, count=count)


def cut(pattern: str, count: int = 0) -> Callable[[str], str]:
    """Remove the lines that match."""
    return lambda text: re.sub(rf"(?m)^{pattern}\n", "", text, count=count)


def behind(pattern: str, addition: str) -> Callable[[str], str]:
    """Write a line behind the first one that matches."""
    return lambda text: re.sub(rf"(?m)^({pattern}\n)", rf"\g<1>{addition}\n", text, count=1)


REST = r"[^\n]*"
CHANGES: dict[str, tuple[Rule, Callable[[str], str]]] = {
    "no origin": (Rule.LINES, cut(f"o={REST}")),
    "no session name": (Rule.LINES, cut(f"s={REST}")),
    "no time": (Rule.LINES, cut(f"t={REST}")),
    "a section less": (Rule.SECTIONS, lambda text: text[: text.rindex("m=")]),
    "a section more": (Rule.SECTIONS, lambda text: text + text[text.rindex("m=") :]),
    "sections without order": (
        Rule.MEDIA_TYPE,
        lambda text: re.sub(r"(?s)(m=audio.*?)(m=video.*?)(?=m=|\Z)", r"\2\1", text),
    ),
    "another media type": (Rule.MEDIA_TYPE, line(f"m=audio ({REST})", r"m=video \1", 1)),
    "another protocol": (Rule.PROTOCOL, line(f"(m={REST}) UDP/({REST})", r"\1 TCP/\2", 1)),
    "an older protocol": (Rule.PROTOCOL, line(f"(m={REST}) UDP/TLS/RTP/SAVPF({REST})", r"\1 RTP/SAVPF\2", 1)),
    "no mid": (Rule.MID, cut(f"a=mid:{REST}", 1)),
    "another mid": (Rule.MID, line(f"a=mid:{REST}", "a=mid:other", 1)),
    "two mids": (Rule.MID, behind(f"a=mid:{REST}", "a=mid:second")),
    "a group with an unknown mid": (Rule.BUNDLE, line(f"(a=group:BUNDLE{REST})", r"\1 other")),
    "a group with a mid twice": (Rule.BUNDLE, line(r"(a=group:BUNDLE) (\w+)", r"\1 \2 \2")),
    "a group without mids": (Rule.BUNDLE, line(f"a=group:BUNDLE{REST}", "a=group:BUNDLE")),
    "a group in reverse": (Rule.BUNDLE, line(r"a=group:BUNDLE (\w+) (\w+)", r"a=group:BUNDLE \2 \1")),
    "a rejected section in the group": (Rule.BUNDLE, line(r"(m=\w+) [0-9]+( UDP/TLS.*)", r"\1 0\2", 1)),
    "a bundled section with port 0": (
        Rule.BUNDLE,
        lambda text: re.sub(r"(m=video) [1-9][0-9]*([^\n]*\n)", r"\1 0\2a=bundle-only\n", text, count=1),
    ),
    "no ufrag": (Rule.TRANSPORT, cut(f"a=ice-ufrag:{REST}")),
    "a short ufrag": (Rule.TRANSPORT, line(f"a=ice-ufrag:{REST}", "a=ice-ufrag:abc")),
    "no password": (Rule.TRANSPORT, cut(f"a=ice-pwd:{REST}")),
    "a password of Janus' null": (Rule.TRANSPORT, line(f"a=ice-pwd:{REST}", "a=ice-pwd:(null)")),
    "two ufrags": (Rule.TRANSPORT, behind(f"a=ice-ufrag:{REST}", "a=ice-ufrag:another")),
    "no fingerprint": (Rule.TRANSPORT, cut(f"a=fingerprint:{REST}")),
    "a fingerprint without digits": (Rule.TRANSPORT, line(f"a=fingerprint:{REST}", "a=fingerprint:sha-256")),
    "no setup": (Rule.TRANSPORT, cut(f"a=setup:{REST}")),
    "setup actpass": (Rule.TRANSPORT, line("a=setup:active", "a=setup:actpass")),
    "setup holdconn": (Rule.TRANSPORT, line("a=setup:active", "a=setup:holdconn")),
    "no rtcp-mux": (Rule.TRANSPORT, cut("a=rtcp-mux")),
    "a format that is not offered": (Rule.FORMATS, line(f"(m=video [1-9]{REST})", r"\1 77", 1)),
    "no format of the offer": (Rule.FORMATS, line(r"(m=audio [1-9][0-9]* \S+) [0-9 ]+", r"\1 77", 1)),
    "a format twice": (Rule.FORMATS, line(r"(m=video [1-9][0-9]* \S+) (\d+)([0-9 ]*)", r"\1 \2 \2\3", 1)),
    "a format without its codec": (Rule.FORMATS, cut(f"a=rtpmap:[0-9]+ VP8/90000{REST}")),
    "another codec for the payload type": (
        Rule.FORMATS,
        line(f"a=rtpmap:([0-9]+) VP8/{REST}", r"a=rtpmap:\1 VP9/90000"),
    ),
    "another clock rate": (Rule.FORMATS, line("a=rtpmap:([0-9]+) opus/48000/2", r"a=rtpmap:\1 opus/16000/2")),
    "another number of channels": (Rule.FORMATS, line("a=rtpmap:([0-9]+) G722/8000(/1)?", r"a=rtpmap:\1 G722/8000/2")),
    "retransmission alone": (
        Rule.FORMATS,
        lambda text: re.sub(r"(m=video [1-9]\d* \S+) [^\n]*((?s:.*?)a=fmtp:(\d+) apt)", r"\1 \3\2", text, count=1),
    ),
    "retransmission of another format": (Rule.FORMATS, line("a=fmtp:([0-9]+) apt=[0-9]+", r"a=fmtp:\1 apt=0")),
    "another packetization mode": (Rule.FORMATS, line(f"(a=fmtp:{REST})packetization-mode=1({REST})", r"\1x=1\2")),
    "another profile of H264": (Rule.FORMATS, line(f"(a=fmtp:{REST}profile-level-id=)42({REST})", r"\g<1>64\2")),
    "another profile of VP9": (Rule.FORMATS, line("a=fmtp:([0-9]+) profile-id=0", r"a=fmtp:\1 profile-id=2")),
    "another profile of AV1": (Rule.FORMATS, line(f"(a=fmtp:[0-9]+ level-idx=5;profile=)0({REST})", r"\g<1>1\2")),
    "sendonly to sendonly": (Rule.DIRECTION, line("a=recvonly", "a=sendonly")),
    "sendrecv to sendonly": (Rule.DIRECTION, line("a=recvonly", "a=sendrecv")),
    "two directions": (Rule.DIRECTION, behind("a=recvonly", "a=inactive")),
    "an extension that is not offered": (Rule.EXTENSIONS, behind("a=rtcp-mux", "a=extmap:13 urn:example")),
    "another id of an extension": (Rule.EXTENSIONS, line(f"a=extmap:[0-9]+({REST}) ({REST})", r"a=extmap:99\1 \2", 1)),
    "an extension twice": (Rule.EXTENSIONS, line(f"a=extmap:{REST}", "\\g<0>\n\\g<0>", 1)),
    "a layer that is not offered": (
        Rule.RIDS,
        line(r"a=simulcast:recv ([\w;]+)", "a=rid:new recv\na=simulcast:recv \\1;new"),
    ),
    "a layer without its rid": (Rule.RIDS, cut(rf"a=rid:\w+ recv{REST}", 1)),
    "the direction of the offer's layers": (Rule.RIDS, line(f"a=simulcast:recv ({REST})", r"a=simulcast:send \1")),
    "a layer twice": (Rule.RIDS, line(r"a=simulcast:recv (\w+)([\w;]*)", r"a=simulcast:recv \1;\1\2")),
}


@pytest.mark.parametrize("name", CHANGES)
def test_wrong_answer_breaks_the_rule(name: str) -> None:
    rule, change = CHANGES[name]
    changed = 0
    for recorded in ANSWERS:
        text = change(with_lf(recorded))
        if text != with_lf(recorded) and applies(name, recorded):
            changed += 1
            found = {violation.rule for violation in violations(parse(BY_ID[recorded.answers].text), parse(text))}
            assert rule in found, recorded.id
    assert changed, "no recorded answer has the line"


def with_lf(recorded: Recorded) -> str:
    return recorded.text.replace("\r\n", "\n")


def applies(name: str, recorded: Recorded) -> bool:
    """Return whether a change makes the answer wrong: some are allowed in answers to an offer of one media kind."""
    offer = BY_ID[recorded.answers].text
    if name in ("sendonly to sendonly", "sendrecv to sendonly"):
        return "a=sendrecv" not in offer
    if name == "no rtcp-mux":
        return recorded.text.count("m=audio") + recorded.text.count("m=video") > 1 and "m=video 0" not in recorded.text
    return "codec" not in name or "m=video 0" not in recorded.text


HARMLESS: dict[str, Callable[[str], str]] = {
    "other candidates": cut(f"a=candidate:{REST}"),
    "no end of candidates": cut("a=end-of-candidates"),
    "lines of other names": behind("a=rtcp-mux", "a=x-unknown:1"),
    "a bandwidth": behind("c=IN IP4 [0-9.]+", "b=AS:500"),
    "no streams": cut(f"a=(?:msid|ssrc){REST}"),
    "passive": line("a=setup:active", "a=setup:passive"),
    "inactive": line("a=(?:recvonly|sendrecv)", "a=inactive"),
    "no extensions": cut(f"a=extmap:{REST}"),
    "no feedback": cut(f"a=rtcp-fb:{REST}"),
    "no simulcast": cut(f"a=(?:simulcast|rid):{REST}"),
    "no reduced-size RTCP": cut("a=rtcp-rsize"),
    "line ends with CR": lambda text: text.replace("\n", "\r\n"),
    "another level of H264": line(f"(a=fmtp:{REST}profile-level-id=42[0-9a-f]{{2}})1f({REST})", r"\g<1>2a\2"),
    "G722 with its number of channels": line("a=rtpmap:([0-9]+) G722/8000", r"a=rtpmap:\1 G722/8000/1"),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_change_of_an_answer_breaks_no_rule(name: str) -> None:
    changed = 0
    for recorded in ANSWERS:
        text = HARMLESS[name](with_lf(recorded))
        changed += text != with_lf(recorded)
        assert violations(parse(BY_ID[recorded.answers].text), parse(text)) == [], recorded.id
    assert changed, "no recorded answer has the line"
