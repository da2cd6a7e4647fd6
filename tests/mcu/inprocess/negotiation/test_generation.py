"""Generation of answers to real offers, and of the offers to subscribers."""

from __future__ import annotations

import re

import pytest
from aiortc import sdp as aiortc_sdp

from mcu.base import MediaKind
from mcu.inprocess.negotiation.generation import write_offer
from mcu.inprocess.negotiation.parameters import (
    EXTENSION_IDS,
    FORWARDED_CODECS,
    ORIENTATION,
    OfferedStream,
    SubscriberSection,
)
from mcu.inprocess.negotiation.parsing import read_offer
from sdp.codecs import Payload, payloads
from sdp.document import parse
from tests.mcu.descriptions import parse_frozen
from tests.mcu.inprocess.negotiation.descriptions import (
    CAMERA,
    NO_PREFERENCE,
    OFFERS,
    TRANSPORT,
    answer,
    subscriber_sections,
)
from tests.sdp.recorded import BY_ID, Recorded

H264 = [payload for payload in payloads(parse(CAMERA).media[1]) if payload.codec == "h264"]


@pytest.mark.parametrize("recorded", OFFERS, ids=lambda recorded: recorded.id)
def test_answer_to_a_real_offer_is_a_valid_subset_of_it(recorded: Recorded) -> None:
    offer = read_offer(parse_frozen(recorded.text), NO_PREFERENCE)
    text = answer(offer)
    answered, offered_description = parse(text), offer.description
    assert [section.mid for section in answered.media] == [section.mid for section in offered_description.media]
    aiortc_sdp.SessionDescription.parse(text)
    for section, offered in zip(answered.media, offered_description.media, strict=True):
        assert section.kind == offered.kind
        assert section.protocol == offered.protocol
        assert set(section.formats) <= set(offered.formats)
        assert section.rejected == offered.rejected
        for payload in payloads(section):
            assert payload.codec in (*FORWARDED_CODECS[section.kind], "rtx")
            assert payload.fmtp == next(p.fmtp for p in payloads(offered) if p.type == payload.type)
    assert ("a=simulcast:recv h;m;l\r\n" in text) == ("a=simulcast:send h;m;l" in recorded.text)


@pytest.mark.parametrize("recorded", OFFERS, ids=lambda recorded: recorded.id)
def test_publishers_codecs_and_ssrcs_are_offered_to_subscribers(recorded: Recorded) -> None:
    offer = read_offer(parse_frozen(recorded.text), NO_PREFERENCE)
    sections = subscriber_sections(offer)
    text = write_offer(sections, TRANSPORT, setup="actpass", version=1)
    aiortc_sdp.SessionDescription.parse(str(text))
    reparsed = read_offer(text, NO_PREFERENCE)
    for section, parsed in zip(sections, reparsed.sections, strict=True):
        assert parsed is not None
        assert (parsed.kind, parsed.mid) == (section.kind, section.mid)
        if section.codec is not None:
            assert parsed.codec is not None
            assert parsed.codec.format == section.codec.format
            rtx_ssrc = section.rtx_ssrc if section.codec.rtx else None
            assert parsed.streams == (OfferedStream("", section.ssrc, rtx_ssrc),)


@pytest.mark.parametrize("preferred", H264, ids=lambda payload: payload.fmtp)
def test_h264_profile_and_packetization_mode_are_offered_unchanged(preferred: Payload) -> None:
    description = parse(CAMERA)
    video = description.media[1]
    video.formats = [str(preferred.type), *(token for token in video.formats if token != str(preferred.type))]
    section = subscriber_sections(read_offer(parse_frozen(str(description)), NO_PREFERENCE))[1]
    reparsed = read_offer(write_offer([section], TRANSPORT, setup="actpass", version=1), NO_PREFERENCE).sections[0]
    assert reparsed is not None
    assert reparsed.codec is not None
    assert (reparsed.codec.payload.type, reparsed.codec.payload.fmtp) == (preferred.type, preferred.fmtp)


@pytest.mark.parametrize("hidden", ["\r", "\x0b", "\x85", "\u2028"])
def test_line_breaks_other_than_lf_in_parameters_are_not_forwarded(hidden: str) -> None:
    changed = re.sub(r"(?m)^(a=fmtp:\d+ .*?)\r$", rf"\1{hidden}a=candidate:hidden\r", CAMERA)
    offer = read_offer(parse_frozen(changed), NO_PREFERENCE)
    assert "hidden" not in str(write_offer(subscriber_sections(offer), TRANSPORT, setup="actpass", version=1))
    assert "hidden" not in answer(offer)


@pytest.mark.parametrize(("recorded", "offered"), [("chromium/camera", True), ("firefox/camera", False)])
def test_orientation_extension_is_answered_where_offered_and_offered_to_every_subscriber(
    recorded: str, offered: bool
) -> None:
    offer = read_offer(parse_frozen(BY_ID[f"{recorded}.offer.sdp"].text), NO_PREFERENCE)
    video = next(section for section in offer.sections if section is not None and section.kind is MediaKind.VIDEO)
    assert (ORIENTATION in video.extensions) == offered
    assert (f" {ORIENTATION}" in answer(offer)) == offered
    section = SubscriberSection(MediaKind.VIDEO, "0", codec=video.codec)
    reparsed = read_offer(write_offer([section], TRANSPORT, setup="actpass", version=1), NO_PREFERENCE).sections[0]
    assert reparsed is not None
    assert reparsed.extensions == EXTENSION_IDS["video"]
