"""A description keeps every line; sections, media kinds and identity are read from it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sdp.document import FrozenError, Identity, MediaSection, SdpError, identity, kinds, parse

BASE = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
AUDIO = "m=audio 9 UDP/TLS/RTP/SAVPF 111 63\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendonly\r\n"
DATA = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:1\r\n"


def section(line: str) -> MediaSection:
    return parse(f"v=0\r\n{line}\r\n").media[0]


@pytest.mark.parametrize(
    "text",
    [
        BASE + AUDIO,
        BASE.replace("\r", "") + AUDIO,
        BASE + AUDIO.rstrip("\r\n"),
        BASE + AUDIO + "\r\n\r\n",
        BASE + "\r\n" + AUDIO,
        BASE + "a=x\rb=y\x0bz\x85\u2028\x00\ud800\r\r\n" + AUDIO,
        "v=",
        "v=0\nx=\ny=\u0669",
    ],
)
def test_unedited_description_is_serialised_byte_for_byte(text: str) -> None:
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
def test_malformed_description_is_refused(text: str) -> None:
    with pytest.raises(SdpError):
        parse(text)


def test_error_names_the_line_and_not_its_content() -> None:
    with pytest.raises(SdpError, match=r"^Line 3: ") as caught:
        parse("v=0\r\ns=-\r\nsecret\r\n")
    assert "secret" not in str(caught.value)


def test_media_section_has_the_fields_of_its_m_line() -> None:
    audio, data = parse(BASE + AUDIO + DATA).media
    assert (audio.kind, audio.port, audio.protocol, audio.formats) == ("audio", 9, "UDP/TLS/RTP/SAVPF", ("111", "63"))
    assert (audio.mid, audio.direction, audio.is_rtp) == ("0", "sendonly", True)
    assert (data.mid, data.direction, data.is_rtp, data.formats) == ("1", "sendrecv", False, ("webrtc-datachannel",))


def test_direction_of_the_session_level_is_the_default() -> None:
    first, second = parse(BASE + "a=recvonly\r\n" + AUDIO + DATA).media
    assert (first.direction, second.direction) == ("sendonly", "recvonly")


def test_number_of_ports_is_kept_in_an_edited_m_line() -> None:
    media = section("m=audio 9/2  RTP/AVP 0 8 ")
    assert (media.port, media.formats) == (9, ("0", "8"))
    media.formats = ("8",)
    assert media.lines[0] == "m=audio 9/2 RTP/AVP 8\r"


def test_setting_the_same_formats_changes_nothing() -> None:
    media = section("m=audio 9  RTP/AVP 0 8 ")
    media.formats = ["0", "8"]
    assert media.lines[0] == "m=audio 9  RTP/AVP 0 8 \r"


def test_media_section_needs_a_format() -> None:
    media = section("m=audio 9 RTP/AVP 0")
    with pytest.raises(ValueError, match="needs a format"):
        media.formats = ()
    assert media.formats == ("0",)


def test_section_with_port_0_is_rejected_unless_it_is_bundle_only() -> None:
    assert section("m=audio 0 RTP/AVP 0").rejected
    assert not section("m=audio 9 RTP/AVP 0").rejected
    assert not section("m=audio 0 RTP/AVP 0\r\na=bundle-only").rejected


def test_attributes_are_found_by_their_whole_name_in_order() -> None:
    session = parse("v=0\r\na=x:1\r\na=xy:2\r\na=x\r\na=x:\r\na=x:1:2\r\nb=x:9\r\n").session
    assert session.attributes("x") == ["1", "", "", "1:2"]
    assert session.attribute("xy") == "2"
    assert session.attribute("y") is None


def test_results_of_a_section_are_kept_until_a_line_changes() -> None:
    section = parse(BASE + AUDIO + "a=x:1\r\n").media[0]
    calls: list[str | None] = []

    def first(section: MediaSection) -> str | None:
        calls.append(section.attribute("x"))
        return calls[-1]

    for removed, value, count in (("a=y", "1", 1), ("a=x:1", None, 2)):
        assert section.derive(first) == section.derive(first)
        section.remove(lambda line, removed=removed: line == removed)  # type: ignore[misc]
        assert (section.derive(first), len(calls)) == (value, count)


def test_inserted_lines_have_the_line_ending_of_their_section() -> None:
    crlf, bare = parse("v=0\r\nm=a 9 RTP/AVP 0\r\n").media[0], parse("v=0\nm=a 9 RTP/AVP 0").media[0]
    for media in (crlf, bare):
        media.insert(1, ["a=x"])
    assert (crlf.lines, bare.lines) == (["m=a 9 RTP/AVP 0\r", "a=x\r", ""], ["m=a 9 RTP/AVP 0", "a=x"])


def test_remove_keeps_the_first_line() -> None:
    media = section("m=audio 9 RTP/AVP 0\r\na=x\r\na=y")
    assert media.remove(lambda line: line != "a=y") == 2
    assert media.lines == ["m=audio 9 RTP/AVP 0\r", "a=y\r"]


def test_kinds_are_those_of_all_sections_even_rejected_ones() -> None:
    assert kinds(parse(BASE + AUDIO + DATA + "m=video 0 RTP/AVP 96\r\n")) == {
        "audio",
        "application",
        "video",
    }
    assert kinds(parse(BASE)) == frozenset()


def test_identity_has_both_levels_and_normalised_fingerprints() -> None:
    text = BASE + "a=fingerprint:SHA-256 ab:CD\r\n" + AUDIO + "a=ice-ufrag:u1\r\na=fingerprint:sha-256  AB:cd\r\n"
    assert identity(parse(text)) == Identity(frozenset({"u1"}), frozenset({"sha-256 AB:CD"}))


def peer_connection(ufrag: str, fingerprint: str) -> Identity:
    return identity(parse(f"v=0\r\na=ice-ufrag:{ufrag}\r\na=fingerprint:sha-256 {fingerprint}\r\n"))


@pytest.mark.parametrize(
    ("later", "same", "restarted"),
    [
        (peer_connection("u", "AA"), True, False),
        (peer_connection("w", "AA"), True, True),
        (peer_connection("u", "BB"), True, False),
        (peer_connection("w", "BB"), False, False),
    ],
)
def test_new_peer_connection_has_another_ufrag_and_another_fingerprint(
    later: Identity, same: bool, restarted: bool
) -> None:
    earlier = peer_connection("u", "AA")
    assert later.same_peer_connection(earlier) is same
    assert later.restarts_ice(earlier) is restarted


def test_descriptions_without_identity_are_of_the_same_peer_connection() -> None:
    empty = identity(parse(BASE))
    assert empty.same_peer_connection(empty)
    assert not peer_connection("u", "AA").same_peer_connection(empty)


def test_identities_are_values() -> None:
    assert len({peer_connection("u", "AA"), peer_connection("u", "aa"), peer_connection("w", "AA")}) == 2


def set_formats(section: MediaSection) -> None:
    section.formats = ("63",)


@pytest.mark.parametrize(
    "edit",
    [
        lambda section: section.remove(lambda line: line == "a=sendonly"),
        lambda section: section.insert(1, ["a=x"]),
        lambda section: section.replace(1, "a=x"),
        set_formats,
    ],
)
def test_frozen_description_cannot_be_edited_and_its_copy_can(edit: Callable[[MediaSection], object]) -> None:
    frozen = parse(BASE + AUDIO).freeze()
    copy = frozen.copy()
    with pytest.raises(FrozenError):
        edit(frozen.media[0])
    edit(copy.media[0])
    assert str(frozen) == BASE + AUDIO
    assert frozen.media[0].formats == ("111", "63")
    assert str(copy) != BASE + AUDIO


def test_frozen_description_has_a_frozen_session_level() -> None:
    with pytest.raises(FrozenError):
        parse(BASE).freeze().session.insert(1, ["a=x"])


def test_copy_of_a_section_is_edited_alone() -> None:
    description = parse(BASE + AUDIO)
    copy = description.copy()
    copy.media[0].formats = ("63",)
    assert str(description) == BASE + AUDIO
    assert description.media[0].formats == ("111", "63")
    assert copy.media[0].formats == ("63",)


def test_description_without_credentials_restarts_no_ice() -> None:
    running = Identity(frozenset(["abcd"]), frozenset(["sha-256 AA"]))
    stopped = Identity(frozenset(), frozenset(["sha-256 AA"]))  # Firefox, once everything is stopped
    assert not stopped.restarts_ice(running)
    assert stopped.same_peer_connection(running)
