"""The normal form of descriptions: spellings that only some readers accept reach no SFU."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from sdp.document import SdpError, parse
from sdp.normal_form import MAX_LINES, MAX_MEDIA_LINE, MAX_SECTIONS, check_size, normalise
from sdp.payloads import payloads
from tests.sdp.recorded import ALL_DESCRIPTIONS, Recorded
from tests.sdp.test_properties import mutated_text

HEAD = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
VIDEO = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n"


def normal(text: str) -> str:
    description = parse(text)
    normalise(description)
    return str(description)


@pytest.mark.parametrize("recorded", ALL_DESCRIPTIONS, ids=[recorded.id for recorded in ALL_DESCRIPTIONS])
def test_descriptions_of_real_programs_are_in_normal_form(recorded: Recorded) -> None:
    assert normal(recorded.text) == recorded.text


@pytest.mark.parametrize("media_type", ["VIDEO", "Video", "vIDEO"])
def test_media_type_is_recognised_in_any_spelling(media_type: str) -> None:
    text = HEAD + VIDEO
    description = parse(text.replace("m=video", f"m={media_type}"))
    normalise(description)
    assert description.media[0].kind == "video"
    assert str(description) == text


@pytest.mark.parametrize("media_type", ["vide", "video-", "texts", "audi\u00f6"])
@pytest.mark.parametrize("port", ["9", "0"])
def test_media_type_that_is_not_registered_is_refused(media_type: str, port: str) -> None:
    with pytest.raises(SdpError):
        normal(HEAD + VIDEO.replace("video 9", f"{media_type} {port}"))


@pytest.mark.parametrize(
    "media",
    [
        "image 9 udptl t38",
        "text 9 UDP/TLS/RTP/SAVPF 98 99",
        "message 9 TCP/TLS/MSRP *",
        "application 50000 TCP/BFCP *",
        "application 9 UDP/TLS/BFCP *",
        "application 9 TCP/DTLS/BFCP *",
        "application 9 UDP/TLS/RTP/SAVPF 125",
        "application 9 TCP/MRCPv2 1",
        "video 9 UDP/DTLS/SCTP webrtc-datachannel",
        "audio 9 TCP/MSRP *",
    ],
)
def test_section_that_no_sfu_supports_is_rejected_and_keeps_its_line(media: str) -> None:
    kind, _, rest = media.split(" ", 2)
    rejected = f"m={kind} 0 {rest}\r\na=mid:1\r\n"
    assert normal(f"{HEAD}m={media}\r\na=mid:1\r\n{VIDEO}") == HEAD + rejected + VIDEO
    assert normal(f"{HEAD}m={kind.upper()} 0 {rest}\r\na=mid:1\r\na=bundle-only\r\n") == HEAD + rejected


@pytest.mark.parametrize("media", ["audio 0 x y", "application 0 - 0", "video 0 RTP/AVP/x *"])
def test_rejected_section_may_have_any_protocol(media: str) -> None:
    assert normal(f"{HEAD}m={media}\r\n{VIDEO}") == f"{HEAD}m={media}\r\n{VIDEO}"


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


CODECS = {name.lower(): name for name in ("opus", "PCMU", "PCMA", "G722", "VP8", "VP9", "H264", "AV1", "H265")}


def assert_codecs_are_read_alike(text: str) -> None:
    """Assert that a reader that searches all ``rtpmap`` lines for names finds no other codecs than the gateway."""
    for section in parse(text).media:
        if section.kind == "application":
            continue
        lines = [line.lower() for line in section.lines if line.startswith("a=rtpmap:")]
        found = {codec for codec in CODECS if any(f"{codec}/" in line for line in lines)}
        assert found <= {payload.codec for payload in payloads(section)}, [section.lines[0], *lines]


@pytest.mark.parametrize(
    "line",
    [
        "a=rtpmap:96 xVP8/90000",
        "a=rtpmap:96 VP8/90000/x",
        "a=rtpmap:96 x/VP8/90000",
        "a=rtpmap:96 VP8/90000 VP9/90000",
        "a=rtpmap:96,VP8/90000",
        "a=rtpmap:096 VP8/90000",
        "a=rtpmap:+96 VP8/90000",
        "a=rtpmap:97 VP8/90000",
        "a=rtpmap:x VP8/90000",
        "a=rtpmap",
    ],
)
def test_mapping_that_only_an_sfu_would_read_is_removed(line: str) -> None:
    assert normal(HEAD + VIDEO + line + "\r\na=rtpmap:96 H264/90000\r\n") == HEAD + VIDEO + "a=rtpmap:96 H264/90000\r\n"
    assert normal(HEAD + VIDEO + line + "\r\n") == HEAD + VIDEO


@pytest.mark.parametrize("line", ["a=rtpmap: 96 VP8/90000", "a=rtpmap:96   vp8/90000", "a=rtpmap:96 VP8/90000 "])
def test_mapping_with_more_blanks_is_rewritten(line: str) -> None:
    assert normal(HEAD + VIDEO + line + "\r\n") == HEAD + VIDEO + "a=rtpmap:96 VP8/90000\r\n"


def test_last_mapping_of_a_payload_type_counts() -> None:
    lines = "a=rtpmap:96 VP8/90000\r\na=x\r\na=rtpmap:96 H264/90000\r\n"
    assert normal(HEAD + VIDEO + lines) == HEAD + VIDEO + "a=x\r\na=rtpmap:96 H264/90000\r\n"


@pytest.mark.parametrize("format", ["096", "96x", "+96", "128", "-1", "*", "9.6"])
def test_format_that_is_no_payload_type_is_refused(format: str) -> None:
    with pytest.raises(SdpError, match="payload type"):
        normal(HEAD + VIDEO.replace("96", format))


@pytest.mark.parametrize(
    "media",
    [
        "video 9 UDP/TLS/RTP/SAVPFX",
        "video 9 RTP/",
        "application 9 UDP/TLS",
        "image 9 x",
        "audio 9 x",
    ],
)
def test_unknown_transport_protocol_is_refused(media: str) -> None:
    with pytest.raises(SdpError, match="transport protocol"):
        normal(HEAD + VIDEO.replace("video 9 UDP/TLS/RTP/SAVPF", media))


@pytest.mark.parametrize(
    "media", ["video  9   UDP/TLS/RTP/SAVPF 96 ", "video 9/2 UDP/TLS/RTP/SAVPF 96", "video 00009 udp/TLS/RTP/SAVPF  96"]
)
def test_media_line_is_written_as_it_is_read(media: str) -> None:
    text = HEAD + VIDEO.replace("video 9 UDP/TLS/RTP/SAVPF 96", media)
    assert normal(text) == HEAD + VIDEO


@pytest.mark.parametrize(
    ("session", "media", "expected"),
    [
        (["recvonly"], [], ["recvonly"]),
        (["recvonly"], ["sendonly"], ["sendonly"]),
        (["sendrecv"], [], []),
        ([], ["inactive", "sendonly"], ["sendonly"]),
        ([], ["sendonly", "inactive", "sendonly"], ["sendonly"]),
        ([], ["recvonly:x"], ["recvonly"]),
    ],
)
def test_section_has_one_direction_of_its_own(session: list[str], media: list[str], expected: list[str]) -> None:
    head, lines = (HEAD + "".join(f"a={name}\r\n" for name in session)), "".join(f"a={name}\r\n" for name in media)
    once = normal(head + VIDEO + lines + VIDEO + lines)
    section = "".join((VIDEO, *(f"a={name}\r\n" for name in expected)))
    assert once == head + section + section


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


def test_number_of_formats_is_bounded() -> None:
    check_size(HEAD + VIDEO.replace("96", " ".join(map(str, range(128)))))
    line = "m=video 9 UDP/TLS/RTP/SAVPF".ljust(MAX_MEDIA_LINE - 1, "9")
    check_size(f"{HEAD}{line}\r\n")
    with pytest.raises(SdpError, match="formats"):
        check_size(f"{HEAD}{line}99\r\n")


@settings(max_examples=200)
@given(mutated_text())
def test_normal_form_is_reached_at_once_or_refused(text: str) -> None:
    try:
        once = normal(text)
    except SdpError:
        return
    assert normal(once) == once
    assert [section.mid for section in parse(once).media] == [section.mid for section in parse(text).media]
    assert_codecs_are_read_alike(once)
