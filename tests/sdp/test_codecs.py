"""Codecs are reordered and removed, together with their auxiliary payload types."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sdp.codecs import (
    CodecPreference,
    Payload,
    PayloadType,
    common_h264_profile,
    listed,
    payloads,
    prefer,
    restrict,
)
from sdp.document import Description, parse
from sdp.payloads import MAX_PARAMETERS
from sdp.profiles import OTHER_PROFILE, SAME_LEVEL, SAME_PROFILE, distance

AUDIO = """m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126
a=rtpmap:111 opus/48000/2
a=rtcp-fb:111 transport-cc
a=fmtp:111 minptime=10;useinbandfec=1
a=rtpmap:63 red/48000/2
a=fmtp:63 111/111
a=rtpmap:9 G722/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:13 CN/8000
a=rtpmap:110 telephone-event/48000
a=rtpmap:126 telephone-event/8000
"""
VIDEO = """m=video 9 UDP/TLS/RTP/SAVPF 96 97 98 99 100 101 102 103 104 105 106 107 45 46 116 117 118 35
a=rtcp-fb:* nack
a=rtpmap:96 VP8/90000
a=rtcp-fb:96 ccm fir
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
a=rtpmap:98 VP9/90000
a=fmtp:98 profile-id=0
a=rtpmap:99 rtx/90000
a=fmtp:99 apt=98
a=rtpmap:100 VP9/90000
a=fmtp:100 profile-id=2
a=rtpmap:101 rtx/90000
a=fmtp:101 apt=100
a=rtpmap:102 H264/90000
a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f
a=rtpmap:103 rtx/90000
a=fmtp:103 apt=102
a=rtpmap:104 H264/90000
a=fmtp:104 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f
a=rtpmap:105 rtx/90000
a=fmtp:105 apt=104
a=rtpmap:106 H264/90000
a=fmtp:106 level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=4D001F
a=rtpmap:107 rtx/90000
a=fmtp:107 apt=106
a=rtpmap:45 AV1X/90000
a=rtpmap:46 rtx/90000
a=fmtp:46 apt=45
a=rtpmap:116 red/90000
a=rtpmap:117 rtx/90000
a=fmtp:117 apt=116
a=rtpmap:118 ulpfec/90000
a=rtpmap:35 flexfec-03/90000
a=fmtp:35 repair-window=10000000
"""
DATA = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\na=sctp-port:5000\n"


def description(*media: str) -> Description:
    return parse("v=0\n" + "".join(media))


def formats(text: str, preference: CodecPreference) -> str:
    edited = description(text)
    prefer(edited, preference)
    assert str(edited).split("\n")[2:] == text.split("\n")[1:], "only the m= line changes"
    return " ".join(edited.media[0].formats)


def lines_left(text: str, kind: str, *codecs: str) -> list[str]:
    edited = description(text)
    restrict(edited, kind, codecs)
    return str(edited).split("\n")[1:-1]


def test_payload_has_codec_parameters_and_feedback_of_the_section() -> None:
    opus, red, g722, *_ = payloads(description(AUDIO).media[0])
    assert opus == Payload(PayloadType(111), "opus", 48000, 2, "minptime=10;useinbandfec=1", feedback=("transport-cc",))
    assert opus.parameters == {"minptime": "10", "useinbandfec": "1"}
    assert replace(opus, fmtp="a=1;" * MAX_PARAMETERS + "minptime=10").parameters == {"a": "1"}
    assert (opus.is_auxiliary, red.is_auxiliary, red.parameters) == (False, True, {})
    assert (g722.codec, g722.clock_rate, g722.channels) == ("g722", 8000, 1)
    vp8, rtx, *_ = payloads(description(VIDEO).media[0])
    assert vp8.feedback == ("ccm fir", "nack")
    assert (rtx.codec, rtx.apt) == ("rtx", 96)


def test_payload_type_is_known_by_its_rtpmap_or_static_assignment() -> None:
    text = "m=audio 9 RTP/AVP 0 0 99 128 007 8 13 1111 x 96\na=rtpmap:128 x/1\na=rtpmap:96 nonsense\na=rtpmap:8 y/1\n"
    found = payloads(description(text).media[0])
    assert [(payload.type, payload.codec) for payload in found] == [(0, "pcmu"), (8, "y"), (13, "cn")]


def test_section_that_is_not_rtp_has_no_payloads() -> None:
    assert payloads(description(DATA).media[0]) == ()


@pytest.mark.parametrize("fmtp", ["apt=", "apt=x", "apt=1111", "rtx-time=5"])
def test_rtx_with_malformed_apt_has_none(fmtp: str) -> None:
    text = f"m=video 9 RTP/AVP 97\na=rtpmap:97 rtx/90000\na=fmtp:97 {fmtp}\n"
    assert payloads(description(text).media[0])[0].apt is None


def test_preference_is_parsed_from_the_fields_of_an_offer() -> None:
    preference = CodecPreference.parse(" Opus ,PCMU,,opus", "VP9, av1x,HEVC,nonsense\ud800", " 2 ", "42E01F")
    assert preference.codecs("audio") == ("opus", "pcmu")
    assert preference.codecs("video") == ("vp9", "av1", "h265", "nonsense\ud800")
    assert preference.codecs("application") == ()
    assert (preference.profile("vp9"), preference.profile("h264"), preference.profile("vp8")) == ("2", "42e01f", "")
    assert CodecPreference.parse() == CodecPreference()


def test_preferred_codecs_come_first_in_their_order() -> None:
    assert formats(AUDIO, CodecPreference(audio=("pcma", "opus"))) == "8 111 63 9 0 13 110 126"
    assert formats(AUDIO, CodecPreference(video=("pcma",))) == "111 63 9 0 8 13 110 126"


def test_rtx_moves_with_the_payload_type_that_it_retransmits() -> None:
    preference = CodecPreference(video=("av1", "nonsense", "vp8"))
    assert formats(VIDEO, preference) == "45 46 96 97 98 99 100 101 102 103 104 105 106 107 116 117 118 35"


def test_preferred_profile_comes_first_within_its_codec() -> None:
    assert formats(VIDEO, CodecPreference(video=("vp9",), vp9profile="2")).startswith("100 101 98 99 96 97")
    assert formats(VIDEO, CodecPreference(video=("h264",), h264profile="42e01f")).startswith(
        "104 105 102 103 106 107 96"
    )
    assert formats(VIDEO, CodecPreference(video=("h264",), h264profile="4d0028")).startswith(
        "106 107 102 103 104 105 96"
    )


def test_h264_in_packetization_mode_1_comes_first_within_a_profile() -> None:
    text = VIDEO.replace("packetization-mode=1;profile-level-id=42001f", "packetization-mode=0;profile-level-id=42e01f")
    assert formats(text, CodecPreference(video=("h264",), h264profile="42e01f")).startswith("104 105 102 103")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("", "", "42e01f"),
        ("profile-level-id=42e01f", "profile-level-id=42E034", "42e034"),
        ("packetization-mode=1;profile-level-id=42e01f", "profile-level-id=42e01f", "42e01f"),
        ("packetization-mode=1;profile-level-id=42001f", "packetization-mode=0;profile-level-id=42c01f", "42e01f"),
        ("profile-level-id=42e01f", "profile-level-id=640c1f", ""),
        ("H264", "VP8", ""),
    ],
)
def test_constrained_baseline_is_the_h264_that_every_endpoint_decodes(old: str, new: str, expected: str) -> None:
    assert common_h264_profile(description(VIDEO.replace(old, new))) == expected


def test_profile_of_a_codec_that_is_not_preferred_reorders_only_that_codec() -> None:
    preference = CodecPreference(video=("vp8",), vp9profile="2", h264profile="4d001f")
    assert formats(VIDEO, preference) == "96 97 100 101 98 99 106 107 102 103 104 105 45 46 116 117 118 35"


@pytest.mark.parametrize(
    "preference",
    [
        CodecPreference(),
        CodecPreference(("x",), ("y",), "7", "nonsense"),
        CodecPreference(("",), ("",)),
        CodecPreference(video=("rtx",)),
    ],
)
def test_preference_that_is_not_offered_changes_nothing(preference: CodecPreference) -> None:
    text = AUDIO + VIDEO + DATA
    edited = description(text)
    prefer(edited, preference)
    restrict(edited, "audio", preference.audio)
    restrict(edited, "video", preference.video)
    restrict(edited, "application", ["webrtc-datachannel"])
    assert str(edited) == "v=0\n" + text


def test_unknown_formats_follow_the_preferred_codecs() -> None:
    text = "m=video 9 RTP/AVP x 98 97 96\na=rtpmap:97 rtx/90000\na=rtpmap:96 VP8/90000\n"
    assert formats(text, CodecPreference(video=("vp8",), vp9profile="2")) == "96 x 98 97"


def test_rejected_section_is_not_edited() -> None:
    text = VIDEO.replace("m=video 9", "m=video 0")
    assert formats(text, CodecPreference(video=("av1",))).startswith("96")
    assert lines_left(text, "video", "av1") == text.split("\n")[:-1]


def test_listed_codecs_are_unique_and_of_sections_that_are_not_rejected() -> None:
    offer = description(AUDIO, VIDEO, VIDEO.replace("m=video 9", "m=video 0"), DATA)
    assert listed(offer, "audio") == ("opus", "g722", "pcmu", "pcma")
    assert listed(offer, "video") == ("vp8", "vp9", "h264", "av1")
    assert listed(description(VIDEO.replace("m=video 9", "m=video 0")), "video") == ()


def test_restriction_removes_all_lines_of_all_other_codecs() -> None:
    assert lines_left(AUDIO, "audio", "G722", "nonsense") == [
        "m=audio 9 UDP/TLS/RTP/SAVPF 9 13 126",
        "a=rtpmap:9 G722/8000",
        "a=rtpmap:13 CN/8000",
        "a=rtpmap:126 telephone-event/8000",
    ]
    assert lines_left(AUDIO, "audio", "opus") == [
        "m=audio 9 UDP/TLS/RTP/SAVPF 111 63 110",
        *AUDIO.split("\n")[1:6],
        "a=rtpmap:110 telephone-event/48000",
    ]
    assert lines_left(AUDIO, "video", "opus") == AUDIO.split("\n")[:-1]


def test_restriction_keeps_rtx_fec_and_video_red() -> None:
    assert lines_left(VIDEO, "video", "av1") == [
        "m=video 9 UDP/TLS/RTP/SAVPF 45 46 116 117 118 35",
        "a=rtcp-fb:* nack",
        *VIDEO[VIDEO.index("a=rtpmap:45") :].split("\n")[:-1],
    ]


def test_audio_red_is_kept_only_with_all_payload_types_that_it_names() -> None:
    text = AUDIO.replace("111/111", "111/0")
    assert "a=rtpmap:63 red/48000/2" not in lines_left(text, "audio", "opus")
    assert "a=rtpmap:63 red/48000/2" in lines_left(text, "audio", "opus", "pcmu")


def test_restriction_to_auxiliary_payload_types_changes_nothing() -> None:
    assert lines_left(VIDEO, "video", "rtx", "red", "ulpfec") == VIDEO.split("\n")[:-1]


def test_restriction_removes_lines_of_payload_types_that_are_not_in_the_m_line() -> None:
    text = (
        "m=video 9 RTP/AVP 96 98 x\na=rtpmap:96 VP8/90000\na=fmtp:99 x\na=rtcp-fb:99 nack\na=rtcp-fb:99999 x\n"
        "a=imageattr:98 *\na=imageattr:* send *\na=fmtp:x y\n"
    )
    assert lines_left(text, "video", "vp8") == [
        "m=video 9 RTP/AVP 96",
        "a=rtpmap:96 VP8/90000",
        "a=imageattr:* send *",
        "a=fmtp:x y",
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("1 send", "1 send"),
        ("1 send pt=96", "1 send pt=96"),
        ("1 send pt=98,96", "1 send pt=96"),
        ("1 send pt=98", "1 send"),
        ("1 send max-width=9;pt=98;max-fps=5", "1 send max-width=9;max-fps=5"),
        ("1 recv  max-width=9;;pt=96;", "1 recv  max-width=9;;pt=96;"),
        ("nonsense", "nonsense"),
    ],
)
def test_rid_names_no_removed_payload_type(before: str, after: str) -> None:
    text = "m=video 9 RTP/AVP 96 98\na=rtpmap:96 VP8/90000\na=rtpmap:98 VP9/90000\n"
    assert lines_left(f"{text}a=rid:{before}\n", "video", "vp8")[-1] == f"a=rid:{after}"


@pytest.mark.parametrize(
    ("codec", "parameters", "preferred", "expected"),
    [
        ("vp8", {}, "1", SAME_LEVEL),
        ("vp9", {}, "", SAME_LEVEL),
        ("vp9", {}, "0", SAME_LEVEL),
        ("vp9", {"profile-id": "2"}, "0", OTHER_PROFILE),
        ("h264", {"profile-level-id": "42E01F"}, "42e01f", SAME_LEVEL),
        ("h264", {"profile-level-id": "42e01fff"}, "42e01f00", SAME_LEVEL),
        ("h264", {"profile-level-id": "42e01f"}, "42e034", SAME_PROFILE),
        ("h264", {"profile-level-id": "42c01f"}, "4d8034", SAME_PROFILE),
        ("h264", {"profile-level-id": "58c01f"}, "42e01f", SAME_PROFILE),
        ("h264", {"profile-level-id": "42001f"}, "42e01f", OTHER_PROFILE),
        ("h264", {"profile-level-id": "640c1f"}, "64001f", OTHER_PROFILE),
        ("h264", {"profile-level-id": "7a001f"}, "7a0034", SAME_PROFILE),
        ("h264", {"profile-level-id": "nonsen"}, "42e01f", OTHER_PROFILE),
        ("h264", {}, "42001f", SAME_PROFILE),
    ],
)
def test_profiles_are_compared_as_their_payload_formats_define(
    codec: str, parameters: dict[str, str], preferred: str, expected: int
) -> None:
    assert distance(codec, parameters, preferred) == expected


@pytest.mark.parametrize(
    ("codec", "other", "common"),
    [("VP9", "profile-id=2", "profile-id=0"), ("AV1", "profile=1", ""), ("H265", "profile-id=2", "profile-id=1")],
)
def test_profile_that_every_receiver_decodes_comes_first_without_a_preference(
    codec: str, other: str, common: str
) -> None:
    lines = ["m=video 9 UDP/TLS/RTP/SAVPF 41 42 45 46 96", "a=rtpmap:96 VP8/90000", f"a=fmtp:41 {other}"]
    lines += [f"a=rtpmap:{number} {codec}/90000" for number in (41, 45)]
    lines += [f"a=rtpmap:{number} rtx/90000\na=fmtp:{number} apt={number - 1}" for number in (42, 46)]
    offer = parse("v=0\n" + "\n".join([*lines, f"a=fmtp:45 {common}" if common else "a=x"]))
    prefer(offer, CodecPreference())
    assert offer.media[0].formats == ("45", "46", "41", "42", "96")
