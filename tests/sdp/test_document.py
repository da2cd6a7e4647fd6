"""A description keeps every line, and says who and what it is."""

from __future__ import annotations

import pytest

from sdp.document import Identity, MediaSection, SdpError, identity, kinds, parse

SMALL = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
AUDIO = "m=audio 9 UDP/TLS/RTP/SAVPF 111 63\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendonly\r\n"
DATA = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:1\r\n"


def section(line: str) -> MediaSection:
    return parse(f"v=0\r\n{line}\r\n").media[0]


@pytest.mark.parametrize(
    "text",
    [
        SMALL + AUDIO,
        SMALL.replace("\r", "") + AUDIO,
        SMALL + AUDIO.rstrip("\r\n"),
        SMALL + AUDIO + "\r\n\r\n",
        SMALL + "\r\n" + AUDIO,
        SMALL + "a=x\rb=y\x0bz\x85\u2028\x00\ud800\r\r\n" + AUDIO,
        "v=",
        "v=0\nx=\ny=\u0669",
    ],
)
def test_what_is_not_edited_is_written_back(text: str) -> None:
    assert str(parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\r\n",
        "hello",
        "o=- 1 2 IN IP4 127.0.0.1\r\nv=0\r\n",
        "v=0\r\nhello\r\n",
        "v=0\r\n =x\r\n",
        "v=0\r\n٣=x\r\n",
        "v=0\r\nm=\r\n",
        "v=0\r\nm=audio\r\n",
        "v=0\r\nm=audio 9 RTP/AVP\r\n",
        "v=0\r\nm=audio x RTP/AVP 0\r\n",
        "v=0\r\nm=audio 65536 RTP/AVP 0\r\n",
        "v=0\r\nm=audio -1 RTP/AVP 0\r\n",
        "v=0\r\nm=audio ٩ RTP/AVP 0\r\n",
        "v=0\r\nm=audio 9/ RTP/AVP 0\r\n",
        "v=0\r\nm=audio " + "9" * 9999 + " RTP/AVP 0\r\n",
        "v=0\r\nm=audio 9 RTP/AVP \ud800\r\n",
        "v=0\r\nm=audio 9 RTP/AVP 0\x00\r\n",
        "v=0\r\nm=audio 9 RTP/AVP 0\r1\r\n",
    ],
)
def test_what_is_no_description_is_refused(text: str) -> None:
    with pytest.raises(SdpError):
        parse(text)


def test_the_error_names_the_line_and_not_its_content() -> None:
    with pytest.raises(SdpError, match=r"^Line 3: ") as caught:
        parse("v=0\r\ns=-\r\nsecret\r\n")
    assert "secret" not in str(caught.value)


def test_a_media_section_says_what_its_line_says() -> None:
    audio, data = parse(SMALL + AUDIO + DATA).media
    assert (audio.kind, audio.port, audio.protocol, audio.formats) == ("audio", 9, "UDP/TLS/RTP/SAVPF", ("111", "63"))
    assert (audio.mid, audio.direction, audio.is_rtp) == ("0", "sendonly", True)
    assert (data.mid, data.direction, data.is_rtp, data.formats) == ("1", "sendrecv", False, ("webrtc-datachannel",))


def test_the_session_level_says_the_direction_where_a_section_does_not() -> None:
    first, second = parse(SMALL + "a=recvonly\r\n" + AUDIO + DATA).media
    assert (first.direction, second.direction) == ("sendonly", "recvonly")


def test_a_port_may_have_a_count_and_keeps_it_in_an_edited_line() -> None:
    media = section("m=audio 9/2  RTP/AVP 0 8 ")
    assert (media.port, media.formats) == (9, ("0", "8"))
    media.formats = ("8",)
    assert media.lines[0] == "m=audio 9/2 RTP/AVP 8\r"


def test_writing_the_same_formats_touches_nothing() -> None:
    media = section("m=audio 9  RTP/AVP 0 8 ")
    media.formats = ["0", "8"]
    assert media.lines[0] == "m=audio 9  RTP/AVP 0 8 \r"


def test_a_media_section_cannot_be_left_without_formats() -> None:
    media = section("m=audio 9 RTP/AVP 0")
    with pytest.raises(ValueError, match="needs a format"):
        media.formats = ()
    assert media.formats == ("0",)


def test_port_0_is_a_rejected_section_unless_it_is_bundled() -> None:
    assert section("m=audio 0 RTP/AVP 0").rejected
    assert not section("m=audio 9 RTP/AVP 0").rejected
    assert not section("m=audio 0 RTP/AVP 0\r\na=bundle-only").rejected


def test_attributes_are_found_by_their_whole_name_in_order() -> None:
    session = parse("v=0\r\na=x:1\r\na=xy:2\r\na=x\r\na=x:\r\na=x:1:2\r\nb=x:9\r\n").session
    assert session.attributes("x") == ["1", "", "", "1:2"]
    assert session.attribute("xy") == "2"
    assert session.attribute("y") is None


def test_lines_put_in_end_as_their_section_does() -> None:
    crlf, bare = parse("v=0\r\nm=a 9 RTP/AVP 0\r\n").media[0], parse("v=0\nm=a 9 RTP/AVP 0").media[0]
    for media in (crlf, bare):
        media.insert(1, ["a=x"])
    assert (crlf.lines, bare.lines) == (["m=a 9 RTP/AVP 0\r", "a=x\r", ""], ["m=a 9 RTP/AVP 0", "a=x"])


def test_removing_spares_the_first_line() -> None:
    media = section("m=audio 9 RTP/AVP 0\r\na=x\r\na=y")
    assert media.remove(lambda line: line != "a=y") == 2
    assert media.lines == ["m=audio 9 RTP/AVP 0\r", "a=y\r"]


def test_kinds_are_those_of_all_sections_even_rejected_ones() -> None:
    assert kinds(parse(SMALL + AUDIO + DATA + "m=video 0 RTP/AVP 96\r\n")) == {"audio", "application", "video"}
    assert kinds(parse(SMALL)) == frozenset()


def test_identity_gathers_both_levels_and_normalises_fingerprints() -> None:
    text = SMALL + "a=fingerprint:SHA-256 ab:CD\r\n" + AUDIO + "a=ice-ufrag:u1\r\na=fingerprint:sha-256  AB:cd\r\n"
    assert identity(parse(text)) == Identity(frozenset({"u1"}), frozenset({"sha-256 AB:CD"}))


def person(ufrag: str, fingerprint: str) -> Identity:
    return identity(parse(f"v=0\r\na=ice-ufrag:{ufrag}\r\na=fingerprint:sha-256 {fingerprint}\r\n"))


@pytest.mark.parametrize(
    ("later", "same", "restarted"),
    [
        (person("u", "AA"), True, False),
        (person("w", "AA"), True, True),
        (person("u", "BB"), True, False),
        (person("w", "BB"), False, False),
    ],
)
def test_a_new_peer_connection_is_one_with_new_fragment_and_new_fingerprint(
    later: Identity, same: bool, restarted: bool
) -> None:
    earlier = person("u", "AA")
    assert later.same_peer_connection(earlier) is same
    assert later.restarts_ice(earlier) is restarted


def test_descriptions_without_any_identity_are_no_different_peer_connections() -> None:
    nobody = identity(parse(SMALL))
    assert nobody.same_peer_connection(nobody)
    assert not person("u", "AA").same_peer_connection(nobody)


def test_identities_are_values() -> None:
    assert len({person("u", "AA"), person("u", "aa"), person("w", "AA")}) == 2
