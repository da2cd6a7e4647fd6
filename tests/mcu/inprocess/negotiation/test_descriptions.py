"""What is agreed with real offers, and what is not agreed with strange ones."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from aiortc import sdp as other

from mcu.base import MediaKind, Rejected
from mcu.inprocess.negotiation.generation import write_answer, write_offer
from mcu.inprocess.negotiation.parameters import (
    EXTENSIONS,
    FORWARDED,
    MAX_MEDIA,
    MID,
    REPAIRED_RID,
    RID,
    LocalTransportDescription,
    OfferedStream,
    PublisherOffer,
    PublisherSection,
    SubscriberSection,
)
from mcu.inprocess.negotiation.parsing import read_answer, read_offer
from sdp.codecs import CodecPreference, Payload, payloads
from sdp.document import parse
from tests.sdp.recorded import ALL, BY_ID, Recorded

LOCAL = LocalTransportDescription(
    "ufrag", "password", "sha-256 AB:CD", ("candidate:1 1 udp 1 192.0.2.1 5000 typ host",), 7
)
OFFERS = [recorded for recorded in ALL if recorded.type == "offer" and recorded.program != "janus"]
CAMERA = BY_ID["chromium/camera.offer.sdp"].text
NO_WISH = CodecPreference()


def answer(offer: PublisherOffer) -> str:
    """Return our answer."""
    return write_answer(offer, LOCAL, client=True, version=1)


def slots_of(offer: PublisherOffer) -> list[SubscriberSection]:
    """Return what a subscriber is offered of an offer's media."""
    media = [medium for medium in offer.media if medium is not None]
    return [
        SubscriberSection(
            medium.kind, str(place), True, medium.codec, 10 + place, 20 + place, "cname", "stream", f"track{place}"
        )
        for place, medium in enumerate(media)
    ]


@pytest.mark.parametrize("recorded", OFFERS, ids=lambda recorded: recorded.id)
def test_real_offer_is_answered_in_kind(recorded: Recorded) -> None:
    offer = read_offer(recorded.text, NO_WISH)
    text = answer(offer)
    ours, theirs = parse(text), offer.description
    assert [section.mid for section in ours.media] == [section.mid for section in theirs.media]
    other.SessionDescription.parse(text)
    for section, offered in zip(ours.media, theirs.media, strict=True):
        assert section.kind == offered.kind
        assert section.protocol == offered.protocol
        assert set(section.formats) <= set(offered.formats)
        assert section.rejected == offered.rejected
        for payload in payloads(section):
            assert payload.codec in (*FORWARDED[section.kind], "rtx")
            assert payload.fmtp == next(p.fmtp for p in payloads(offered) if p.type == payload.type)
    assert ("a=simulcast:recv h;m;l\r\n" in text) == ("a=simulcast:send h;m;l" in recorded.text)


@pytest.mark.parametrize("recorded", OFFERS, ids=lambda recorded: recorded.id)
def test_what_is_agreed_with_the_publisher_is_offered_to_subscribers(recorded: Recorded) -> None:
    offer = read_offer(recorded.text, NO_WISH)
    sections = slots_of(offer)
    text = write_offer(sections, LOCAL, setup="actpass", version=1)
    other.SessionDescription.parse(text)
    read = read_offer(text, NO_WISH)
    for section, medium in zip(sections, read.media, strict=True):
        assert medium is not None
        assert (medium.kind, medium.mid) == (section.kind, section.mid)
        if section.codec is not None:
            assert medium.codec is not None
            assert medium.codec.format == section.codec.format
            assert medium.sources == (OfferedStream("", section.ssrc, section.rtx_ssrc if section.codec.rtx else None),)


@pytest.mark.parametrize(
    ("codec", "wish"), [("vp8", ""), ("vp9", "2"), ("h264", "42001f"), ("h264", "4d001f"), ("av1", "")]
)
def test_wished_codec_and_profile_are_agreed(codec: str, wish: str) -> None:
    offer = read_offer(CAMERA, CodecPreference(video=(codec,), vp9profile=wish, h264profile=wish))
    video = next(medium for medium in offer.media if medium is not None and medium.kind is MediaKind.VIDEO)
    assert video.codec is not None
    assert video.codec.payload.codec == codec
    if wish:
        assert wish in video.codec.payload.parameters.values()
    assert video.codec.rtx is not None
    assert video.codec.rtx.apt == video.codec.payload.type


H264 = [payload for payload in payloads(parse(CAMERA).media[1]) if payload.codec == "h264"]


@pytest.mark.parametrize("wanted", H264, ids=lambda payload: payload.fmtp)
def test_profiles_and_packetization_modes_of_h264_are_kept_apart(wanted: Payload) -> None:
    description = parse(CAMERA)
    video = description.media[1]
    video.formats = [str(wanted.type), *(token for token in video.formats if token != str(wanted.type))]
    section = slots_of(read_offer(str(description), NO_WISH))[1]
    again = read_offer(write_offer([section], LOCAL, setup="actpass", version=1), NO_WISH).media[0]
    assert again is not None
    assert again.codec is not None
    assert (again.codec.payload.type, again.codec.payload.fmtp) == (wanted.type, wanted.fmtp)


def test_medium_without_a_codec_of_ours_is_rejected_alone() -> None:
    strange = re.sub(r"(?m)^(a=rtpmap:\d+) (VP8|VP9|H264|AV1|H265)/", r"\1 X-UNKNOWN/", CAMERA)
    text = answer(read_offer(strange, NO_WISH))
    audio, video, data = parse(text).media
    assert (audio.rejected, video.rejected, data.rejected) == (False, True, False)
    assert f"a=group:BUNDLE {audio.mid} {data.mid}\r\n" in text


def test_offer_without_anything_to_forward_is_refused() -> None:
    with pytest.raises(Rejected, match="no medium"):
        read_offer(re.sub(r"(?m)^m=(\w+) \d+ ", r"m=\1 0 ", CAMERA), NO_WISH)


@pytest.mark.parametrize("line", ["ice-ufrag", "ice-pwd", "fingerprint"])
def test_offer_without_what_a_connection_needs_is_refused(line: str) -> None:
    with pytest.raises(Rejected):
        read_offer(re.sub(rf"(?m)^a={line}:.*\n", "", CAMERA), NO_WISH)


def test_media_outside_of_the_bundle_are_rejected() -> None:
    text = answer(read_offer(re.sub(r"(?m)^a=group:BUNDLE (\S+).*\r$", r"a=group:BUNDLE \1\r", CAMERA), NO_WISH))
    assert [section.rejected for section in parse(text).media] == [False, True, True]
    text = answer(read_offer(re.sub(r"(?m)^a=group:BUNDLE.*\n", "", CAMERA), NO_WISH))
    assert [section.rejected for section in parse(text).media] == [False, True, True]


def test_two_media_of_one_name_are_refused() -> None:
    with pytest.raises(Rejected, match="same identification"):
        read_offer(re.sub(r"(?m)^a=mid:.*\r$", "a=mid:0\r", CAMERA), NO_WISH)


def test_more_media_than_a_report_holds_are_rejected() -> None:
    head, _, rest = CAMERA.partition("m=audio")
    audio = "m=audio" + rest.partition("m=video")[0]
    many = [re.sub(r"(?m)^a=mid:.*\r$", f"a=mid:{n}\r", audio) for n in range(MAX_MEDIA + 2)]
    group = "a=group:BUNDLE " + " ".join(str(n) for n in range(MAX_MEDIA + 2)) + "\r"
    text = answer(read_offer(re.sub(r"(?m)^a=group:BUNDLE.*\r$", group, head) + "".join(many), NO_WISH))
    assert [section.rejected for section in parse(text).media] == [False] * MAX_MEDIA + [True] * 2


@pytest.mark.parametrize("number", ["9" * 5000, "0" * 5000 + "1", "\u00b2", "\u0663", "-1", "", " "])
@pytest.mark.parametrize(
    "line",
    ["ssrc:{} cname:x", "ssrc:{}", "ssrc-group:FID {0} {0}", "ssrc-group:SIM {0}", "ssrc-group:{}", "extmap:{} "],
)
def test_numbers_that_make_no_sense_are_ignored(line: str, number: str) -> None:
    odd = line.format(number) + (MID if line.startswith("extmap") else "")
    offer = read_offer(re.sub(r"(?m)^(a=mid:.*\r\n)", rf"\1a={odd}\r\n", CAMERA), NO_WISH)
    for ours, theirs in zip(offer.media, read_offer(CAMERA, NO_WISH).media, strict=True):
        assert ours is not None
        assert theirs is not None
        assert replace(ours, section=theirs.section) == theirs


@pytest.mark.parametrize("line", ["group", "group:", "group: "])
def test_group_of_nothing_is_ignored(line: str) -> None:
    assert answer(read_offer(CAMERA.replace("a=group:", f"a={line}\r\na=group:"), NO_WISH)) == answer(
        read_offer(CAMERA, NO_WISH)
    )


@pytest.mark.parametrize(("port", "read"), [("5001", 5001), ("65536", 5000), ("9" * 5000, 5000), ("\u00b2", 5000)])
def test_port_of_data_channels_is_read_or_the_usual_one(port: str, read: int) -> None:
    odd = re.sub(r"(?m)^a=sctp-port:.*\r$", f"a=sctp-port:{port}\r", CAMERA)
    assert read_offer(odd, NO_WISH).transport.sctp_port == read


@pytest.mark.parametrize("hidden", ["\r", "\x0b", "\x85", "\u2028"])
def test_lines_hidden_in_parameters_do_not_reach_others(hidden: str) -> None:
    strange = re.sub(r"(?m)^(a=fmtp:\d+ .*?)\r$", rf"\1{hidden}a=candidate:hidden\r", CAMERA)
    offer = read_offer(strange, NO_WISH)
    assert "hidden" not in write_offer(slots_of(offer), LOCAL, setup="actpass", version=1)
    assert "hidden" not in answer(offer)


def test_answer_tells_which_payload_types_to_send() -> None:
    sections = slots_of(read_offer(CAMERA, CodecPreference(video=("h264",))))
    text = write_offer(sections, LOCAL, setup="actpass", version=1)
    video = sections[1].codec
    assert video is not None
    assert video.rtx is not None
    renamed = text.replace("a=sendonly", "a=recvonly")
    for before, after in ((video.payload.type, 120), (video.rtx.type, 121)):
        renamed = re.sub(rf"(?m)(^m=video.*|:|apt=)\b{before}\b", rf"\g<1>{after}", renamed)
    renamed = re.sub(r"(?m)^m=video 9 (\S+) .*\r$", r"m=video 9 \1 120 121\r", renamed)
    accepted, remote = read_answer(renamed, sections)
    assert remote is not None
    assert (accepted[1].receives, accepted[1].payload_type, accepted[1].rtx_payload_type) == (True, 120, 121)


def test_answer_that_does_not_fit_is_refused() -> None:
    sections = slots_of(read_offer(CAMERA, NO_WISH))
    text = write_offer(sections, LOCAL, setup="actpass", version=1)
    with pytest.raises(Rejected, match="more media"):
        read_answer(text, sections[:2])
    with pytest.raises(Rejected, match="not those of the offer"):
        read_answer(text, [sections[1], sections[0], sections[2]])
    accepted, _ = read_answer(text.partition("m=video")[0], sections)
    assert len(accepted) == 1


def test_answer_may_reject_everything() -> None:
    sections = slots_of(read_offer(CAMERA, NO_WISH))
    text = re.sub(r"(?m)^m=(\w+) 9 ", r"m=\1 0 ", write_offer(sections, LOCAL, setup="actpass", version=1))
    accepted, remote = read_answer(text, sections)
    assert remote is None
    assert not any(entry.receives for entry in accepted)


def layered(lines: str, program: str = "chromium") -> PublisherSection:
    """Read an offer of simulcast whose layers are described otherwise."""
    text = re.sub(r"(?m)^a=(rid|simulcast|ssrc|ssrc-group):.*\n", "", BY_ID[f"{program}/simulcast.offer.sdp"].text)
    offer = read_offer(text + lines.replace("\n", "\r\n"), NO_WISH)
    assert offer.media[-1] is not None
    return offer.media[-1]


def rids(*names: str) -> str:
    """Return the lines that offer layers of these names."""
    return "".join(f"a=rid:{name} send\n" for name in names) + f"a=simulcast:send {';'.join(names)}\n"


@pytest.mark.parametrize("program", ["chromium", "firefox"])
@pytest.mark.parametrize(
    ("offered", "ranked"),
    [
        ("h m l", "l m h"),
        ("l m h", "l m h"),
        ("q h f", "q h f"),
        ("f h q", "q h f"),
        ("h f", "h f"),
        ("h l", "l h"),
        ("high low", "low high"),
        ("one two", "two one"),
        ("1 2 3 4 5", "4 3 2 1"),
    ],
)
def test_layers_are_agreed_and_put_in_order(program: str, offered: str, ranked: str) -> None:
    medium = layered(rids(*offered.split()), program)
    assert [source.name for source in medium.sources] == ranked.split()
    assert medium.others == frozenset()
    assert {RID, REPAIRED_RID} <= medium.extensions.keys()
    assert set(medium.rids) == set(ranked.split())


@pytest.mark.parametrize(
    "lines",
    [
        rids("only"),
        "a=rid:h send\na=simulcast:send h;l\n",
        "a=rid:h send\na=rid:l recv\na=simulcast:send h;l\n",
        "a=rid:h send\na=rid:l send\n",
        "a=rid:h send\na=rid:l send\na=simulcast:recv h;l\n",
        "a=rid:h send\na=rid:l send\na=simulcast:send\n",
        "a=rid: send\na=rid:\u00b2 send\na=simulcast:send ;\u00b2\n",
        "a=simulcast:\na=rid:\n",
    ],
)
def test_layers_that_are_none_are_not_agreed(lines: str) -> None:
    medium = layered(lines)
    assert medium.sources == (OfferedStream(),)
    assert medium.rids == ()
    assert medium.extensions.keys() <= EXTENSIONS["video"].keys()


def test_layers_with_alternatives_and_both_directions_are_agreed() -> None:
    lines = "".join(f"a=rid:{name} send\n" for name in "hjl") + "a=simulcast:recv x send h,j;~l\n"
    assert layered(lines).rids == ("h", "l")


def test_group_of_ssrcs_makes_layers_lowest_first() -> None:
    lines = "".join(f"a=ssrc:{ssrc} cname:x\n" for ssrc in (1, 2, 3, 11, 12, 13, 99))
    lines += "a=ssrc-group:SIM 1 2 3\n" + "".join(f"a=ssrc-group:FID {ssrc} {ssrc + 10}\n" for ssrc in (1, 2, 3))
    medium = layered(lines)
    assert medium.sources == (OfferedStream("#0", 1, 11), OfferedStream("#1", 2, 12), OfferedStream("#2", 3, 13))
    assert medium.others == frozenset({99})
    assert medium.rids == ()
