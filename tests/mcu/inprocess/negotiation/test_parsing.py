"""Parsing of offers and answers: real ones, and malformed ones."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from mcu.base import MediaKind, Rejected
from mcu.inprocess.negotiation.generation import write_offer
from mcu.inprocess.negotiation.parameters import (
    EXTENSION_IDS,
    MAX_SECTIONS,
    MID,
    REPAIRED_RID,
    RID,
    OfferedStream,
    PublisherSection,
)
from mcu.inprocess.negotiation.parsing import MAX_FMTP, read_answer, read_offer
from sdp.codecs import CodecPreference
from sdp.document import parse
from tests.mcu.descriptions import parse_frozen
from tests.mcu.inprocess.negotiation.descriptions import (
    CAMERA,
    NO_PREFERENCE,
    TRANSPORT,
    answer,
    subscriber_sections,
)
from tests.sdp.recorded import BY_ID


@pytest.mark.parametrize(
    ("codec", "profile"), [("vp8", ""), ("vp9", "2"), ("h264", "42001f"), ("h264", "4d001f"), ("av1", "")]
)
def test_preferred_codec_and_profile_are_chosen(codec: str, profile: str) -> None:
    offer = read_offer(parse_frozen(CAMERA), CodecPreference(video=(codec,), vp9profile=profile, h264profile=profile))
    video = next(section for section in offer.sections if section is not None and section.kind is MediaKind.VIDEO)
    assert video.codec is not None
    assert video.codec.payload.codec == codec
    if profile:
        assert profile in video.codec.payload.parameters.values()
    assert video.codec.rtx is not None
    assert video.codec.rtx.apt == video.codec.payload.type


def test_only_the_section_without_a_supported_codec_is_rejected() -> None:
    changed = re.sub(r"(?m)^(a=rtpmap:\d+) (VP8|VP9|H264|AV1|H265)/", r"\1 X-UNKNOWN/", CAMERA)
    text = answer(read_offer(parse_frozen(changed), NO_PREFERENCE))
    audio, video, data = parse(text).media
    assert (audio.rejected, video.rejected, data.rejected) == (False, True, False)
    assert f"a=group:BUNDLE {audio.mid} {data.mid}\r\n" in text


@pytest.mark.parametrize(("length", "codec"), [(MAX_FMTP, "vp8"), (MAX_FMTP + 1, "h264")])
def test_codec_with_long_parameters_is_not_forwarded(length: int, codec: str) -> None:
    video = "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:v\r\na=rtcp-mux\r\na=rtpmap:96 VP8/9\r\na=rtpmap:97 H264/9\r\n"
    head = re.sub(r"(?m)^a=group:BUNDLE .*\r$", "a=group:BUNDLE v\r", CAMERA.partition("m=")[0])
    transport = "a=fingerprint:sha-256 AA\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n"
    offer = read_offer(parse_frozen(f"{head}{video}{transport}a=fmtp:96 {'x' * length}\r\n"), NO_PREFERENCE)
    (section,) = offer.sections
    assert section is not None
    assert section.codec is not None
    assert section.codec.payload.codec == codec


def test_offer_with_all_sections_rejected_is_refused() -> None:
    with pytest.raises(Rejected, match="no medium"):
        read_offer(parse_frozen(re.sub(r"(?m)^m=(\w+) \d+ ", r"m=\1 0 ", CAMERA)), NO_PREFERENCE)


@pytest.mark.parametrize("line", ["ice-ufrag", "ice-pwd", "fingerprint"])
def test_offer_without_transport_parameters_is_refused(line: str) -> None:
    with pytest.raises(Rejected):
        read_offer(parse_frozen(re.sub(rf"(?m)^a={line}:.*\n", "", CAMERA)), NO_PREFERENCE)


def test_sections_outside_the_bundle_are_rejected() -> None:
    only_first = re.sub(r"(?m)^a=group:BUNDLE (\S+).*\r$", r"a=group:BUNDLE \1\r", CAMERA)
    text = answer(read_offer(parse_frozen(only_first), NO_PREFERENCE))
    assert [section.rejected for section in parse(text).media] == [False, True, True]
    text = answer(read_offer(parse_frozen(re.sub(r"(?m)^a=group:BUNDLE.*\n", "", CAMERA)), NO_PREFERENCE))
    assert [section.rejected for section in parse(text).media] == [False, True, True]


def test_two_sections_with_the_same_mid_are_refused() -> None:
    with pytest.raises(Rejected, match="same mid"):
        read_offer(parse_frozen(re.sub(r"(?m)^a=mid:.*\r$", "a=mid:0\r", CAMERA)), NO_PREFERENCE)


def test_sections_beyond_the_limit_are_rejected() -> None:
    head, _, rest = CAMERA.partition("m=audio")
    audio = "m=audio" + rest.partition("m=video")[0]
    many = [re.sub(r"(?m)^a=mid:.*\r$", f"a=mid:{n}\r", audio) for n in range(MAX_SECTIONS + 2)]
    group = "a=group:BUNDLE " + " ".join(str(n) for n in range(MAX_SECTIONS + 2)) + "\r"
    text = answer(
        read_offer(parse_frozen(re.sub(r"(?m)^a=group:BUNDLE.*\r$", group, head) + "".join(many)), NO_PREFERENCE)
    )
    assert [section.rejected for section in parse(text).media] == [False] * MAX_SECTIONS + [True] * 2


@pytest.mark.parametrize("number", ["9" * 5000, "0" * 5000 + "1", "\u00b2", "\u0663", "-1", "", " "])
@pytest.mark.parametrize(
    "line",
    ["ssrc:{} cname:x", "ssrc:{}", "ssrc-group:FID {0} {0}", "ssrc-group:SIM {0}", "ssrc-group:{}", "extmap:{} "],
)
def test_malformed_numbers_are_ignored(line: str, number: str) -> None:
    changed = line.format(number) + (MID if line.startswith("extmap") else "")
    offer = read_offer(parse_frozen(re.sub(r"(?m)^(a=mid:.*\r\n)", rf"\1a={changed}\r\n", CAMERA)), NO_PREFERENCE)
    for section, expected in zip(offer.sections, read_offer(parse_frozen(CAMERA), NO_PREFERENCE).sections, strict=True):
        assert section is not None
        assert expected is not None
        assert replace(section, section=expected.section) == expected


@pytest.mark.parametrize("line", ["group", "group:", "group: "])
def test_empty_group_is_ignored(line: str) -> None:
    with_line = parse_frozen(CAMERA.replace("a=group:", f"a={line}\r\na=group:"))
    assert answer(read_offer(with_line, NO_PREFERENCE)) == answer(read_offer(parse_frozen(CAMERA), NO_PREFERENCE))


@pytest.mark.parametrize(("port", "parsed"), [("5001", 5001), ("65536", 5000), ("9" * 5000, 5000), ("\u00b2", 5000)])
def test_malformed_sctp_port_is_replaced_by_the_default(port: str, parsed: int) -> None:
    changed = re.sub(r"(?m)^a=sctp-port:.*\r$", f"a=sctp-port:{port}\r", CAMERA)
    transport = read_offer(parse_frozen(changed), NO_PREFERENCE).transport
    assert transport is not None
    assert transport.sctp_port == parsed


def test_subscribers_answer_sets_the_payload_types_to_send() -> None:
    sections = subscriber_sections(read_offer(parse_frozen(CAMERA), CodecPreference(video=("h264",))))
    text = str(write_offer(sections, TRANSPORT, setup="actpass", version=1))
    video = sections[1].codec
    assert video is not None
    assert video.rtx is not None
    renamed = text.replace("a=sendonly", "a=recvonly")
    for before, after in ((video.payload.type, 120), (video.rtx.type, 121)):
        renamed = re.sub(rf"(?m)(^m=video.*|:|apt=)\b{before}\b", rf"\g<1>{after}", renamed)
    renamed = re.sub(r"(?m)^m=video 9 (\S+) .*\r$", r"m=video 9 \1 120 121\r", renamed)
    accepted, remote = read_answer(parse_frozen(renamed), sections)
    assert remote is not None
    assert accepted[1] is not None
    assert (accepted[1].receives, accepted[1].payload_type, accepted[1].rtx_payload_type) == (True, 120, 121)


def test_answer_that_does_not_match_the_offer_is_refused() -> None:
    sections = subscriber_sections(read_offer(parse_frozen(CAMERA), NO_PREFERENCE))
    text = write_offer(sections, TRANSPORT, setup="actpass", version=1)
    with pytest.raises(Rejected, match="more media sections"):
        read_answer(text, sections[:2])
    with pytest.raises(Rejected, match="differ in kind"):
        read_answer(text, [sections[1], sections[0], sections[2]])
    accepted, _ = read_answer(parse_frozen(str(text).partition("m=video")[0]), sections)
    assert len(accepted) == 1


def test_answer_may_reject_all_sections() -> None:
    sections = subscriber_sections(read_offer(parse_frozen(CAMERA), NO_PREFERENCE))
    offer = str(write_offer(sections, TRANSPORT, setup="actpass", version=1))
    text = re.sub(r"(?m)^m=(\w+) 9 ", r"m=\1 0 ", offer)
    accepted, remote = read_answer(parse_frozen(text), sections)
    assert remote is None
    assert all(entry is not None and entry.rejected and not entry.receives for entry in accepted)


@pytest.mark.parametrize(("line", "expected"), [("", "active"), ("a=setup:passive\r\n", "passive")])
def test_answer_without_a_dtls_role_is_active(line: str, expected: str) -> None:
    sections = subscriber_sections(read_offer(parse_frozen(CAMERA), NO_PREFERENCE))
    text = str(write_offer(sections, TRANSPORT, setup="actpass", version=1))
    _, remote = read_answer(parse_frozen(text.replace("a=setup:actpass\r\n", line)), sections)
    assert remote is not None
    assert remote.setup == expected


def test_section_of_an_answer_to_a_superseded_offer_is_skipped() -> None:
    sections = subscriber_sections(read_offer(parse_frozen(CAMERA), NO_PREFERENCE))
    text = str(write_offer(sections, TRANSPORT, setup="actpass", version=1))
    reused = [sections[0], replace(sections[1], mid="another"), sections[2]]
    stopped = [sections[0], replace(sections[1], rejected=True), sections[2]]
    for now in (reused, stopped):
        accepted, _ = read_answer(parse_frozen(text), now)
        assert [entry is None for entry in accepted] == [False, True, False]


def simulcast_section(lines: str, program: str = "chromium") -> PublisherSection:
    """Return the video section of a recorded simulcast offer whose layer lines are replaced by ``lines``."""
    text = re.sub(r"(?m)^a=(rid|simulcast|ssrc|ssrc-group):.*\n", "", BY_ID[f"{program}/simulcast.offer.sdp"].text)
    offer = read_offer(parse_frozen(text + lines.replace("\n", "\r\n")), NO_PREFERENCE)
    assert offer.sections[-1] is not None
    return offer.sections[-1]


def rid_lines(*names: str) -> str:
    """Return the lines that offer layers with these RIDs."""
    return "".join(f"a=rid:{name} send\n" for name in names) + f"a=simulcast:send {';'.join(names)}\n"


@pytest.mark.parametrize("program", ["chromium", "firefox"])
@pytest.mark.parametrize(
    ("offered", "lowest_first"),
    [
        ("h m l", "l m h"),
        ("l m h", "l m h"),
        ("q h f", "q h f"),
        ("f h q", "q h f"),
        ("h f", "h f"),
        ("h l", "l h"),
        ("high low", "low high"),
        ("one two", "one two"),
        ("1 2 3 4 5", "1 2 3 4"),
    ],
)
def test_layers_are_parsed_lowest_first(program: str, offered: str, lowest_first: str) -> None:
    section = simulcast_section(rid_lines(*offered.split()), program)
    assert [stream.name for stream in section.streams] == lowest_first.split()
    assert section.other_ssrcs == frozenset()
    assert {RID, REPAIRED_RID} <= section.extensions.keys()
    assert set(section.rids) == set(lowest_first.split())


@pytest.mark.parametrize(
    "lines",
    [
        rid_lines("only"),
        "a=rid:h send\na=simulcast:send h;l\n",
        "a=rid:h send\na=rid:l recv\na=simulcast:send h;l\n",
        "a=rid:h send\na=rid:l send\n",
        "a=rid:h send\na=rid:l send\na=simulcast:recv h;l\n",
        "a=rid:h send\na=rid:l send\na=simulcast:send\n",
        "a=rid: send\na=rid:\u00b2 send\na=simulcast:send ;\u00b2\n",
        "a=simulcast:\na=rid:\n",
    ],
)
def test_malformed_simulcast_is_ignored(lines: str) -> None:
    section = simulcast_section(lines)
    assert section.streams == (OfferedStream(),)
    assert section.rids == ()
    assert section.extensions.keys() <= EXTENSION_IDS["video"].keys()


def test_alternatives_and_paused_layers_are_parsed() -> None:
    lines = "".join(f"a=rid:{name} send\n" for name in "hjl") + "a=simulcast:recv x send h,j;~l\n"
    assert simulcast_section(lines).rids == ("h", "l")


def test_layers_of_an_ssrc_group_are_parsed_lowest_first() -> None:
    lines = "".join(f"a=ssrc:{ssrc} cname:x\n" for ssrc in (1, 2, 3, 11, 12, 13, 99))
    lines += "a=ssrc-group:SIM 1 2 3\n" + "".join(f"a=ssrc-group:FID {ssrc} {ssrc + 10}\n" for ssrc in (1, 2, 3))
    section = simulcast_section(lines)
    assert section.streams == (OfferedStream("#0", 1, 11), OfferedStream("#1", 2, 12), OfferedStream("#2", 3, 13))
    assert section.other_ssrcs == frozenset({99})
    assert section.rids == ()
