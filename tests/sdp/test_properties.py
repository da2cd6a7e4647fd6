"""Any text is parsed or refused with ``SdpError``, and an edit changes only the lines that it concerns."""

from __future__ import annotations

import re
from contextlib import suppress

from hypothesis import example, given, settings
from hypothesis import strategies as st

from sdp.bitrate import limit
from sdp.candidates import CandidateFilter, check
from sdp.candidates import parse as parse_candidate
from sdp.codecs import CodecPreference, payloads, prefer
from sdp.document import DIRECTIONS, SdpError, identity, kinds, parse
from tests.sdp.edits import EDITS, Edit
from tests.sdp.recorded import ALL_DESCRIPTIONS, Recorded
from tests.sdp.test_fixtures import check_edit

anything = st.text(st.characters(exclude_categories=()), max_size=60)
critical = st.sampled_from(
    [
        "\r",
        "\r\r",
        "\x00",
        "\x0b",
        "\x85",
        "\u2028",
        "\ud800",
        "٣",
        "²",
        "9" * 30,
        "9" * 5000,
        " ",
        "/",
        "=",
        ":",
        ";",
        "*",
    ]
)
fragments = st.sampled_from(
    """v=0|o=- 1 1 IN IP4 0.0.0.0|s=-|t=0 0|c=IN IP4 0.0.0.0|b=AS:5|b=TIAS:5|b=RR:0|i=x|k=x|a=sendonly|a=mid:0
    m=audio 9 UDP/TLS/RTP/SAVPF 111 63 0|m=video 9 UDP/TLS/RTP/SAVPF 96 97 98 118|m=video 0 RTP/AVP 96
    m=application 9 UDP/DTLS/SCTP webrtc-datachannel|a=rtpmap:111 opus/48000/2|a=rtpmap:63 red/48000/2|a=fmtp:63 111/111
    a=rtpmap:96 VP8/90000|a=rtpmap:97 rtx/90000|a=fmtp:97 apt=96|a=rtpmap:98 H264/90000|a=rtpmap:118 red/90000
    a=fmtp:98 profile-level-id=42e01f|a=rtcp-fb:* nack|a=rtcp-fb:96 nack pli|a=rid:1 send pt=96,98|a=imageattr:96 *
    a=candidate:1 1 udp 1 192.0.2.1 1 typ host|a=candidate:x|a=ice-ufrag:x|a=fingerprint:sha-256 AA|a=bundle-only
    """.replace("\n", "|").split("|")
)
assembled = st.builds(
    lambda lines, end: "v=0" + end + end.join(line.strip() for line in lines),
    st.lists(fragments | critical | anything, max_size=30),
    st.sampled_from(["\r\n", "\n"]),
)


@st.composite
def mutated_text(draw: st.DrawFn) -> str:
    """Draw a fixture with a few lines removed, duplicated, moved or overwritten."""
    lines = draw(st.sampled_from(ALL_DESCRIPTIONS)).text.split("\n")
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(("drop", "double", "move", "write", "number", "cut"))):
            case "drop" if len(lines) > 1:
                del lines[place]
            case "double":
                lines.insert(draw(st.integers(0, len(lines))), lines[place])
            case "move":
                lines.insert(draw(st.integers(0, len(lines) - 1)), lines.pop(place))
            case "write":
                start = draw(st.integers(0, len(lines[place])))
                end = draw(st.integers(start, len(lines[place])))
                lines[place] = lines[place][:start] + draw(critical | anything) + lines[place][end:]
            case "number":
                number = draw(st.sampled_from(("96", "97", "111", "0", "-1", "256", "٣", "9" * 30)))
                lines[place] = re.sub(r"\d+", number, lines[place], count=draw(st.integers(0, 3)))
            case _:
                lines[place] = lines[place][: draw(st.integers(0, len(lines[place])))]
    return "\n".join(lines)


def read(text: str) -> None:
    """Read a text with every function of the package: it is refused, or serialised unchanged."""
    try:
        description = parse(text)
    except SdpError:
        return
    assert str(description) == text
    identity(description).same_peer_connection(identity(description))
    assert len(kinds(description)) <= len(description.media)
    for section in description.media:
        payloads(section)
        assert section.direction in DIRECTIONS
        assert 0 <= section.port <= 65535
        assert section.formats
        assert section.mid is None or section.mid in text
    with suppress(SdpError):
        check(description)


@given(anything | assembled | st.text(st.sampled_from("vmab=: 019/\r\n\x00٣"), max_size=40))
@example("v=0\nm=audio 9 RTP/AVP 0\na=rtpmap:" + "9" * 5000 + " x/" + "9" * 5000)
@example("v=0\nm=audio " + "9" * 5000 + " RTP/AVP " + "9" * 5000)
@example("v=0\nm=video 9 RTP/AVP 97\na=rtpmap:97 rtx/1\na=fmtp:97 apt=" + "9" * 5000)
def test_no_text_raises_anything_but_an_sdp_error(text: str) -> None:
    read(text)


@settings(max_examples=300)
@given(mutated_text())
def test_no_mutation_of_a_real_description_raises_anything_but_an_sdp_error(text: str) -> None:
    read(text)


@settings(max_examples=300)
@given(mutated_text() | assembled, st.sampled_from(EDITS))
def test_edits_of_any_text_that_parses_change_only_the_lines_that_they_concern(text: str, edit: Edit) -> None:
    try:
        parse(text)
    except SdpError:
        return
    check_edit(text, edit)


@given(anything, anything, anything, anything, st.sampled_from(ALL_DESCRIPTIONS))
def test_any_preference_only_reorders(audio: str, video: str, vp9: str, h264: str, recorded: Recorded) -> None:
    description = parse(recorded.text)
    prefer(description, CodecPreference.parse(audio, video, vp9, h264))
    assert sorted(str(description)) == sorted(recorded.text)


@given(anything | st.builds("candidate:{} {} udp {} {} {} typ host".format, *[anything | critical | st.just("1")] * 5))
def test_any_candidate_is_parsed_or_refused(text: str) -> None:
    accepted = CandidateFilter(blocked=["198.51.100.0/24"]).accepts(text)
    try:
        parse_candidate(text)
    except SdpError:
        assert accepted is (text == "")


@given(st.integers(min_value=1), st.sampled_from(ALL_DESCRIPTIONS))
def test_limit_is_written_exactly_once(rate: int, recorded: Recorded) -> None:
    section = parse(recorded.text).media[0]
    limit(section, rate)
    limit(section, rate)
    assert sum(line.startswith("b=") for line in section.lines) == 2
