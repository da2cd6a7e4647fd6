"""Codecs are ordered and taken out as a client wishes, with all that belongs to them."""

from __future__ import annotations

import pytest

from sdp.codecs import Payload, PayloadType, Preference, listed, payloads, prefer, restrict
from sdp.document import Description, parse
from sdp.profiles import OTHER, SAME, SAME_PROFILE, mismatch

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


def formats(text: str, preference: Preference) -> str:
    edited = description(text)
    prefer(edited, preference)
    assert str(edited).split("\n")[2:] == text.split("\n")[1:], "only the m= line changes"
    return " ".join(edited.media[0].formats)


def left(text: str, kind: str, *codecs: str) -> list[str]:
    edited = description(text)
    restrict(edited, kind, codecs)
    return str(edited).split("\n")[1:-1]


def test_payloads_carry_all_that_the_section_says_of_them() -> None:
    opus, red, g722, *_ = payloads(description(AUDIO).media[0])
    assert opus == Payload(PayloadType(111), "opus", 48000, 2, "minptime=10;useinbandfec=1", feedback=("transport-cc",))
    assert opus.parameters == {"minptime": "10", "useinbandfec": "1"}
    assert (opus.is_helper, red.is_helper, red.parameters) == (False, True, {})
    assert (g722.codec, g722.clock_rate, g722.channels) == ("g722", 8000, 1)
    vp8, rtx, *_ = payloads(description(VIDEO).media[0])
    assert vp8.feedback == ("ccm fir", "nack")
    assert (rtx.codec, rtx.apt) == ("rtx", 96)


def test_a_payload_type_is_known_by_its_rtpmap_or_by_assignment_or_not_at_all() -> None:
    text = "m=audio 9 RTP/AVP 0 0 99 128 007 8 13 1111 x 96\na=rtpmap:128 x/1\na=rtpmap:96 nonsense\na=rtpmap:8 y/1\n"
    found = payloads(description(text).media[0])
    assert [(payload.type, payload.codec) for payload in found] == [(0, "pcmu"), (8, "y"), (13, "cn")]


def test_sections_that_are_not_rtp_have_no_payloads() -> None:
    assert payloads(description(DATA).media[0]) == []


@pytest.mark.parametrize("fmtp", ["apt=", "apt=x", "apt=1111", "rtx-time=5"])
def test_rtx_that_points_nowhere_has_no_apt(fmtp: str) -> None:
    text = f"m=video 9 RTP/AVP 97\na=rtpmap:97 rtx/90000\na=fmtp:97 {fmtp}\n"
    assert payloads(description(text).media[0])[0].apt is None


def test_a_preference_reads_the_texts_of_an_offer() -> None:
    wish = Preference.parse(" Opus ,PCMU,,opus", "VP9, av1x,HEVC,nonsense\ud800", " 2 ", "42E01F")
    assert wish.codecs("audio") == ("opus", "pcmu")
    assert wish.codecs("video") == ("vp9", "av1", "h265", "nonsense\ud800")
    assert wish.codecs("application") == ()
    assert (wish.profile("vp9"), wish.profile("h264"), wish.profile("vp8")) == ("2", "42e01f", "")
    assert Preference.parse() == Preference()


def test_wished_codecs_come_first_in_the_order_of_the_wish() -> None:
    assert formats(AUDIO, Preference(audio=("pcma", "opus"))) == "8 111 63 9 0 13 110 126"
    assert formats(AUDIO, Preference(video=("pcma",))) == "111 63 9 0 8 13 110 126"


def test_retransmission_goes_with_what_it_retransmits() -> None:
    wish = Preference(video=("av1", "nonsense", "vp8"))
    assert formats(VIDEO, wish) == "45 46 96 97 98 99 100 101 102 103 104 105 106 107 116 117 118 35"


def test_the_wished_profile_comes_first_within_its_codec() -> None:
    assert formats(VIDEO, Preference(video=("vp9",), vp9profile="2")).startswith("100 101 98 99 96 97")
    assert formats(VIDEO, Preference(video=("h264",), h264profile="42e01f")).startswith("104 105 102 103 106 107 96")
    assert formats(VIDEO, Preference(video=("h264",), h264profile="4d0028")).startswith("106 107 102 103 104 105 96")


def test_a_wished_profile_of_a_codec_that_is_not_wished_changes_only_the_codecs_own_places() -> None:
    wish = Preference(video=("vp8",), vp9profile="2", h264profile="4d001f")
    assert formats(VIDEO, wish) == "96 97 100 101 98 99 106 107 102 103 104 105 45 46 116 117 118 35"


@pytest.mark.parametrize(
    "wish",
    [Preference(), Preference(("x",), ("y",), "7", "nonsense"), Preference(("",), ("",)), Preference(video=("rtx",))],
)
def test_a_wish_nobody_offers_changes_nothing(wish: Preference) -> None:
    text = AUDIO + VIDEO + DATA
    edited = description(text)
    prefer(edited, wish)
    restrict(edited, "audio", wish.audio)
    restrict(edited, "video", wish.video)
    restrict(edited, "application", ["webrtc-datachannel"])
    assert str(edited) == "v=0\n" + text


def test_formats_that_are_unknown_stay_behind_what_is_preferred() -> None:
    text = "m=video 9 RTP/AVP x 98 97 96\na=rtpmap:97 rtx/90000\na=rtpmap:96 VP8/90000\n"
    assert formats(text, Preference(video=("vp8",), vp9profile="2")) == "96 x 98 97"


def test_rejected_sections_stay_as_they_are() -> None:
    text = VIDEO.replace("m=video 9", "m=video 0")
    assert formats(text, Preference(video=("av1",))).startswith("96")
    assert left(text, "video", "av1") == text.split("\n")[:-1]


def test_listed_are_the_codecs_of_what_is_not_rejected_once_each() -> None:
    offer = description(AUDIO, VIDEO, VIDEO.replace("m=video 9", "m=video 0"), DATA)
    assert listed(offer, "audio") == ("opus", "g722", "pcmu", "pcma")
    assert listed(offer, "video") == ("vp8", "vp9", "h264", "av1")
    assert listed(description(VIDEO.replace("m=video 9", "m=video 0")), "video") == ()


def test_restriction_takes_out_all_lines_of_all_other_codecs() -> None:
    assert left(AUDIO, "audio", "G722", "nonsense") == [
        "m=audio 9 UDP/TLS/RTP/SAVPF 9 13 126",
        "a=rtpmap:9 G722/8000",
        "a=rtpmap:13 CN/8000",
        "a=rtpmap:126 telephone-event/8000",
    ]
    assert left(AUDIO, "audio", "opus") == [
        "m=audio 9 UDP/TLS/RTP/SAVPF 111 63 110",
        *AUDIO.split("\n")[1:6],
        "a=rtpmap:110 telephone-event/48000",
    ]
    assert left(AUDIO, "video", "opus") == AUDIO.split("\n")[:-1]


def test_restriction_keeps_rtx_repair_and_video_red() -> None:
    assert left(VIDEO, "video", "av1") == [
        "m=video 9 UDP/TLS/RTP/SAVPF 45 46 116 117 118 35",
        "a=rtcp-fb:* nack",
        *VIDEO[VIDEO.index("a=rtpmap:45") :].split("\n")[:-1],
    ]


def test_audio_red_stays_only_with_all_that_it_names() -> None:
    text = AUDIO.replace("111/111", "111/0")
    assert "a=rtpmap:63 red/48000/2" not in left(text, "audio", "opus")
    assert "a=rtpmap:63 red/48000/2" in left(text, "audio", "opus", "pcmu")


def test_a_helper_alone_is_no_restriction() -> None:
    assert left(VIDEO, "video", "rtx", "red", "ulpfec") == VIDEO.split("\n")[:-1]


def test_restriction_takes_dangling_lines_and_formats_along() -> None:
    text = (
        "m=video 9 RTP/AVP 96 98 x\na=rtpmap:96 VP8/90000\na=fmtp:99 x\na=rtcp-fb:99 nack\na=rtcp-fb:99999 x\n"
        "a=imageattr:98 *\na=imageattr:* send *\na=fmtp:x y\n"
    )
    assert left(text, "video", "vp8") == [
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
def test_restricted_layers_name_no_payload_type_that_is_gone(before: str, after: str) -> None:
    text = "m=video 9 RTP/AVP 96 98\na=rtpmap:96 VP8/90000\na=rtpmap:98 VP9/90000\n"
    assert left(f"{text}a=rid:{before}\n", "video", "vp8")[-1] == f"a=rid:{after}"


@pytest.mark.parametrize(
    ("codec", "parameters", "wish", "distance"),
    [
        ("vp8", {}, "1", SAME),
        ("vp9", {}, "", SAME),
        ("vp9", {}, "0", SAME),
        ("vp9", {"profile-id": "2"}, "0", OTHER),
        ("h264", {"profile-level-id": "42E01F"}, "42e01f", SAME),
        ("h264", {"profile-level-id": "42e01fff"}, "42e01f00", SAME),
        ("h264", {"profile-level-id": "42e01f"}, "42e034", SAME_PROFILE),
        ("h264", {"profile-level-id": "42c01f"}, "4d8034", SAME_PROFILE),
        ("h264", {"profile-level-id": "58c01f"}, "42e01f", SAME_PROFILE),
        ("h264", {"profile-level-id": "42001f"}, "42e01f", OTHER),
        ("h264", {"profile-level-id": "640c1f"}, "64001f", OTHER),
        ("h264", {"profile-level-id": "7a001f"}, "7a0034", SAME_PROFILE),
        ("h264", {"profile-level-id": "nonsen"}, "42e01f", OTHER),
        ("h264", {}, "42001f", SAME_PROFILE),
    ],
)
def test_profiles_are_compared_as_their_payload_formats_define(
    codec: str, parameters: dict[str, str], wish: str, distance: int
) -> None:
    assert mismatch(codec, parameters, wish) == distance
