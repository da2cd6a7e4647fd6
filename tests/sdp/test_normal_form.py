"""The normal form of descriptions: spellings that only some readers accept reach no SFU."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from sdp.document import SdpError, parse
from sdp.normal_form import MAX_LINES, MAX_SECTIONS, check_size, normalise
from tests.sdp.recorded import ALL, Recorded
from tests.sdp.test_properties import mutated

HEAD = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
VIDEO = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n"


def normal(text: str) -> str:
    description = parse(text)
    normalise(description)
    return str(description)


@pytest.mark.parametrize("recorded", ALL, ids=[recorded.id for recorded in ALL])
def test_descriptions_of_real_programs_are_in_normal_form(recorded: Recorded) -> None:
    assert normal(recorded.text) == recorded.text


@pytest.mark.parametrize("media_type", ["VIDEO", "Video", "vIDEO"])
def test_media_type_is_recognised_in_any_spelling(media_type: str) -> None:
    text = HEAD + VIDEO
    description = parse(text.replace("m=video", f"m={media_type}"))
    normalise(description)
    assert description.media[0].kind == "video"
    assert str(description) == text


@pytest.mark.parametrize("media_type", ["text", "image", "message", "vide", "video-", "audi\u00f6"])
def test_unknown_media_type_is_refused(media_type: str) -> None:
    with pytest.raises(SdpError):
        normal(HEAD + VIDEO.replace("video", media_type))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a=SendOnly", "a=sendonly"),
        ("a=MID:A", "a=mid:A"),
        ("a=Setup:ACTPASS", "a=setup:actpass"),
        ("a=rtpmap:96 vp8/90000", "a=rtpmap:96 VP8/90000"),
        ("a=RTPMAP:96 OPUS/48000/2", "a=rtpmap:96 opus/48000/2"),
        ("a=rtpmap:96 Unknown/90000", "a=rtpmap:96 Unknown/90000"),
        ("a=rid:H SEND", "a=rid:H send"),
        ("a=simulcast:SEND H;L Recv A", "a=simulcast:send H;L recv A"),
        ("a=GROUP:bundle A B", "a=group:BUNDLE A B"),
        ("a=Fmtp:96 x=Y", "a=fmtp:96 x=Y"),
        ("a=ice-pwd:AbC:dEf", "a=ice-pwd:AbC:dEf"),
    ],
)
def test_names_and_values_that_ignore_case_get_one_spelling(line: str, expected: str) -> None:
    assert normal(HEAD + VIDEO + line + "\r\n") == HEAD + VIDEO + expected + "\r\n"


def test_transport_protocol_gets_upper_case() -> None:
    assert normal(HEAD + VIDEO.replace("UDP/TLS", "udp/tls")) == HEAD + VIDEO


@pytest.mark.parametrize(
    "line", ["M=video 9 UDP/TLS/RTP/SAVPF 96", "A=mid:1", "a=x\rm=video", "a=x\x00", "a=\ty", "a=\x7f"]
)
def test_line_that_parsers_read_differently_is_refused(line: str) -> None:
    with pytest.raises(SdpError, match=r"Line 7"):
        normal(HEAD + VIDEO + line + "\r\n")


def test_number_of_lines_and_sections_is_bounded() -> None:
    check_size(HEAD + VIDEO * MAX_SECTIONS)
    with pytest.raises(SdpError, match="media"):
        check_size(HEAD + VIDEO * (MAX_SECTIONS + 1))
    check_size("v=0" + "\na=x" * MAX_LINES)
    with pytest.raises(SdpError, match="lines"):
        check_size("v=0" + "\na=x" * (MAX_LINES + 1))


@settings(max_examples=200)
@given(mutated())
def test_normal_form_is_reached_at_once_or_refused(text: str) -> None:
    try:
        once = normal(text)
    except SdpError:
        return
    assert normal(once) == once
    assert [len(section.lines) for section in parse(once).sections()] == [
        len(section.lines) for section in parse(text).sections()
    ]
