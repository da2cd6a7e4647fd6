"""The rules between an offer and its answer, and the mending of answers (RFC 3264, RFC 8829 5.3, RFC 9143)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdp.document import Description, SdpError, parse
from sdp.mending import mend, reject, rejection
from sdp.offer_answer import (
    Rule,
    bundles,
    is_valid_answer,
    offer_violations,
    stops_all_media,
    transport_mid,
    unusable_parts,
    violations,
)
from tests.sdp.recorded import ALL_DESCRIPTIONS, BY_ID, Recorded
from tests.sdp.test_properties import mutated_text

ANSWERS = [recorded for recorded in ALL_DESCRIPTIONS if recorded.answers]

OFFER = """\
v=0
o=- 1 1 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1 2
a=fingerprint:sha-256 AA:BB
m=audio 9 UDP/TLS/RTP/SAVPF 111 0
a=mid:0
a=ice-ufrag:abcd
a=ice-pwd:abcdefghijklmnopqrstuv
a=setup:actpass
a=sendonly
a=rtcp-mux
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid
a=rtpmap:111 opus/48000/2
m=video 9 UDP/TLS/RTP/SAVPF 96 97
a=mid:1
a=ice-ufrag:abcd
a=ice-pwd:abcdefghijklmnopqrstuv
a=setup:actpass
a=sendonly
a=rtcp-mux
a=rtpmap:96 VP8/90000
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
a=rid:h send
a=rid:l send
a=simulcast:send ~h;l
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
a=mid:2
a=ice-ufrag:abcd
a=ice-pwd:abcdefghijklmnopqrstuv
a=setup:actpass
"""
ANSWER = (
    OFFER.replace("actpass", "active")
    .replace("sendonly", "recvonly")
    .replace("h send", "h recv")
    .replace("l send", "l recv")
    .replace("simulcast:send", "simulcast:recv")
)


def broken_rules(offer: str, answer: str) -> list[str]:
    found = [str(violation) for violation in violations(parse(offer), parse(answer))]
    assert is_valid_answer(parse(offer), parse(answer)) is (not found)
    return found


def mended_answer(offer: str, answer: str) -> Description:
    """Mend an answer, check that it then breaks no rule, and return it."""
    description = parse(answer)
    mend(parse(offer), description)
    assert violations(parse(offer), description) == []
    return description


def sections(description: Description) -> list[tuple[str, int, str | None]]:
    return [(section.kind, section.port, section.mid) for section in description.media]


@pytest.mark.parametrize("recorded", ANSWERS, ids=[recorded.id for recorded in ANSWERS])
def test_answers_of_real_programs_break_no_rule_and_are_not_changed(recorded: Recorded) -> None:
    offer, answer = parse(BY_ID[recorded.answers].text), parse(recorded.text)
    assert violations(offer, answer) == []
    mend(offer, answer)
    assert str(answer) == recorded.text


def test_valid_answer_breaks_no_rule() -> None:
    assert broken_rules(OFFER, ANSWER) == []
    assert is_valid_answer(parse(OFFER), parse(ANSWER))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("m=audio 9", "m=video 9", "media type of section 0"),
        ("m=audio 9 UDP/TLS/RTP/SAVPF", "m=audio 9 UDP/TLS/RTP/SAVP", "transport protocol of section 0"),
        ("a=mid:1", "a=mid:one", "BUNDLE group|mid of section 1"),
        ("a=mid:1\n", "", "BUNDLE group|mid of section 1"),
        ("BUNDLE 0 1 2", "BUNDLE 0 1 3", "BUNDLE group"),
        ("BUNDLE 0 1 2", "BUNDLE 0 1 1", "BUNDLE group"),
        ("BUNDLE 0 1 2", "BUNDLE", "BUNDLE group"),
        ("m=video 9", "m=video 0", "BUNDLE group"),
        ("a=setup:active\na=recvonly\na=rtcp-mux\na=extmap", "a=setup:actpass\na=recvonly\na=extmap", None),
        ("a=ice-ufrag:abcd\n", "", None),
        ("a=fingerprint:sha-256 AA:BB\n", "", None),
        ("SAVPF 111 0", "SAVPF 111 8", "formats of section 0"),
        ("a=rtpmap:111 opus/48000/2", "a=rtpmap:111 PCMA/8000", "formats of section 0"),
        ("SAVPF 96 97", "SAVPF 97", "formats of section 1"),
        ("webrtc-datachannel", "5000", "formats of section 2"),
        ("a=recvonly", "a=sendrecv", None),
        ("a=extmap:4", "a=extmap:5", "header extensions of section 0"),
        ("sdes:mid", "ssrc-audio-level", "header extensions of section 0"),
        (
            "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
            "a=extmap:4\na=extmap:9 urn:x",
            "header extensions of section 0",
        ),
        ("recv ~h;l", "recv h;l", "rids of section 1"),
        ("recv ~h;l", "recv ~h;m", "rids of section 1"),
        ("simulcast:recv", "simulcast:send", "rids of section 1"),
        ("a=rid:l recv", "a=rid:l send", "rids of section 1"),
    ],
)
def test_each_broken_rule_is_named(old: str, new: str, expected: str | None) -> None:
    answer = ANSWER.replace(old, new)
    assert answer != ANSWER
    found = "|".join(broken_rules(OFFER, answer))
    assert found if expected is None else found == expected
    assert not is_valid_answer(parse(OFFER), parse(answer))


def test_other_number_of_sections_is_the_only_violation_named() -> None:
    assert broken_rules(OFFER, ANSWER[: ANSWER.index("m=application")]) == ["number of media sections"]


def test_answer_without_the_offers_rtcp_mux_and_groups_is_valid() -> None:
    assert broken_rules(OFFER, ANSWER.replace("a=rtcp-mux\n", "").replace("a=group:BUNDLE 0 1 2\n", "")) == []


def test_setup_of_the_answer_must_complete_the_offers() -> None:
    assert broken_rules(OFFER.replace("actpass", "active"), ANSWER.replace("setup:active", "setup:passive")) == []
    assert broken_rules(OFFER.replace("actpass", "active"), ANSWER) == [
        f"ICE, DTLS or rtcp-mux parameters of section {index}" for index in range(3)
    ]


def test_section_that_the_offer_rejects_stays_rejected() -> None:
    offer = OFFER.replace("m=video 9", "m=video 0").replace("BUNDLE 0 1 2", "BUNDLE 0 2")
    assert broken_rules(offer, ANSWER) == ["BUNDLE group", "accepted section that the offer rejects of section 1"]
    answer = mended_answer(offer, ANSWER)
    assert sections(answer) == [("audio", 9, "0"), ("video", 0, "1"), ("application", 9, "2")]
    assert bundles(answer) == [("0", "2")]
    assert answer.media[1].direction == "inactive"


def test_section_with_port_0_in_the_offers_bundle_is_rejected() -> None:
    answer = mended_answer(OFFER.replace("m=video 9", "m=video 0"), ANSWER.replace("a=mid:1", "a=mid:1\na=bundle-only"))
    assert [port for _, port, _ in sections(answer)] == [9, 0, 9]
    assert bundles(answer) == [("0", "2")]
    assert "bundle-only" not in str(answer)


def test_no_group_is_left_when_the_only_section_is_stopped() -> None:
    offer = OFFER[: OFFER.index("m=video")].replace("BUNDLE 0 1 2", "LS 0").replace("m=audio 9", "m=audio 0")
    answer = ANSWER[: ANSWER.index("m=video")].replace("BUNDLE 0 1 2", "BUNDLE 0")
    description = mended_answer(offer, answer)
    assert sections(description) == [("audio", 0, "0")]
    assert bundles(description) == []


def test_bundle_only_section_outside_of_every_group_is_rejected() -> None:
    offer = OFFER.replace("m=audio 9", "m=audio 0").replace("a=mid:0", "a=mid:0\na=bundle-only")
    offer = offer.replace("BUNDLE 0 1 2", "BUNDLE 1 2")
    assert sections(mended_answer(offer, ANSWER))[0] == ("audio", 0, "0")


def test_section_with_formats_that_were_not_offered_is_rejected_with_one_of_the_offer() -> None:
    offer = OFFER.replace("SAVPF 111 0", "SAVPF 103 104").replace("rtpmap:111 opus", "rtpmap:103 ISAC")
    answer = mended_answer(offer, ANSWER.replace("SAVPF 111 0", "SAVPF 0"))
    assert answer.media[0].formats == ("103",)
    assert sections(answer)[0] == ("audio", 0, "0")
    assert bundles(answer) == [("1", "2")]


def test_offer_without_bundle_is_answered_with_its_first_acceptable_section() -> None:
    offer = OFFER.replace("a=group:BUNDLE 0 1 2\n", "")
    answer = mended_answer(offer, ANSWER)
    assert [port for _, port, _ in sections(answer)] == [9, 0, 0]
    assert bundles(answer) == []


def test_section_outside_of_the_offers_group_is_rejected() -> None:
    answer = mended_answer(OFFER.replace("BUNDLE 0 1 2", "BUNDLE 0 1"), ANSWER)
    assert [port for _, port, _ in sections(answer)] == [9, 9, 0]
    assert bundles(answer) == [("0", "1")]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_offer_without_mids_is_answered_without_mids_and_group(ending: str) -> None:
    offer = OFFER[: OFFER.index("m=video")].replace("a=group:BUNDLE 0 1 2\n", "").replace("a=mid:0\n", "")
    answer = ANSWER[: ANSWER.index("m=video")].replace("BUNDLE 0 1 2", "BUNDLE (null)").replace("mid:0", "mid:(null)")
    description = mended_answer(offer.replace("\n", ending), answer.replace("\n", ending))
    assert "null" not in str(description)
    assert str(description).count(ending) == str(description).count("\n")


def test_missing_mid_and_group_are_added_to_the_answer() -> None:
    answer = mended_answer(OFFER, ANSWER.replace("a=mid:1\n", "").replace("BUNDLE 0 1 2", "BUNDLE (null) 1"))
    assert [mid for _, _, mid in sections(answer)] == ["0", "1", "2"]
    assert bundles(answer) == [("0", "1", "2")]


def test_data_channels_in_the_older_notation_share_a_format_whatever_their_ports() -> None:
    old = "a=sctpmap:5001 webrtc-datachannel 1024\n"
    offer = OFFER.replace("UDP/DTLS/SCTP webrtc-datachannel\n", "DTLS/SCTP 5001\n" + old)
    answer = ANSWER.replace("UDP/DTLS/SCTP webrtc-datachannel\n", "DTLS/SCTP 5000\n" + old.replace("5001", "5000"))
    assert broken_rules(offer, answer) == []
    assert broken_rules(offer, answer.replace("a=sctpmap", "a=x")) == ["formats of section 2"]


def test_answer_with_other_sections_than_the_offer_is_not_changed() -> None:
    answer = parse(ANSWER)
    mend(parse(OFFER[: OFFER.index("m=application")]), answer)
    assert str(answer) == ANSWER


def test_rejecting_twice_changes_nothing() -> None:
    offer, answer = parse(OFFER), parse(ANSWER)
    reject(answer.media[0], offer.media[0])
    once = str(answer)
    reject(answer.media[0], offer.media[0])
    assert str(answer) == once


@settings(max_examples=300)
@given(st.sampled_from(ANSWERS), mutated_text(), mutated_text())
def test_any_pair_of_descriptions_is_checked_and_mended_without_an_exception(
    recorded: Recorded, offer: str, answer: str
) -> None:
    for offer_text, answer_text in ((BY_ID[recorded.answers].text, answer), (offer, recorded.text), (offer, answer)):
        try:
            offered, answered = parse(offer_text), parse(answer_text)
        except SdpError:
            continue
        mend(offered, answered)
        once = str(answered)
        assert str(parse(once)) == once
        mend(offered, answered)
        assert str(answered) == once
        left = {violation.rule for violation in violations(offered, answered)}
        assert Rule.SECTIONS in left or Rule.REJECTED not in left


OFFERS = [recorded for recorded in ALL_DESCRIPTIONS if recorded.type == "offer"]


@pytest.mark.parametrize("recorded", OFFERS, ids=[recorded.id for recorded in OFFERS])
def test_offers_of_real_programs_break_no_rule(recorded: Recorded) -> None:
    assert offer_violations(parse(recorded.text)) == []
    assert offer_violations(parse(recorded.text), parse(recorded.text)) == []


def broken_offer(offer: str, previous: str | None = None) -> list[str]:
    before = None if previous is None else parse(previous)
    return [str(violation) for violation in offer_violations(parse(offer), before)]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("a=mid:1\n", "", ["BUNDLE group", "mid of section 1"]),
        ("a=mid:1\n", "a=mid:0\n", ["BUNDLE group", "mid of section 0", "mid of section 1"]),
        ("BUNDLE 0 1 2", "BUNDLE 0 1 1", ["BUNDLE group"]),
        ("m=video 9", "m=video 0", ["BUNDLE group"]),
        ("a=fingerprint:sha-256 AA:BB\n", "", [f"{Rule.TRANSPORT.value} of section {index}" for index in range(3)]),
    ],
)
def test_each_rule_that_an_offer_breaks_by_itself_is_named(old: str, new: str, expected: list[str]) -> None:
    assert broken_offer(OFFER.replace(old, new)) == expected


def test_offer_without_sections_is_broken() -> None:
    assert broken_offer(OFFER[: OFFER.index("m=audio")].replace("a=group:BUNDLE 0 1 2\n", "")) == [
        "number of media sections"
    ]


def test_next_offer_keeps_its_sections_and_recycles_rejected_ones_only() -> None:
    shorter = OFFER[: OFFER.index("m=application")].replace("BUNDLE 0 1 2", "BUNDLE 0 1")
    assert broken_offer(shorter, OFFER) == ["number of media sections"]
    changed = OFFER.replace("m=audio 9", "m=video 9").replace("a=mid:0", "a=mid:7").replace("BUNDLE 0", "BUNDLE 7")
    assert broken_offer(changed, OFFER) == ["media type of section 0", "mid of section 0"]
    stopped = OFFER.replace("m=audio 9", "m=audio 0").replace("BUNDLE 0 1 2", "BUNDLE 1 2")
    assert broken_offer(stopped, OFFER) == []
    assert broken_offer(changed, stopped) == []


@settings(max_examples=200)
@given(mutated_text(), mutated_text())
def test_any_offers_are_checked_without_an_exception(offer: str, previous: str) -> None:
    try:
        offered, before = parse(offer), parse(previous)
    except SdpError:
        return
    offer_violations(offered, before)


def test_transport_is_that_of_the_first_accepted_section_of_the_group() -> None:
    offer = parse(OFFER)
    assert transport_mid(offer) == "0"
    offer.media[0].port = 0
    assert transport_mid(parse(str(offer).replace("BUNDLE 0 1 2", "BUNDLE 2 1"))) == "2"
    assert transport_mid(parse(str(offer).replace("a=group:BUNDLE 0 1 2\n", ""))) == "1"
    for section in offer.media:
        section.port = 0
    assert transport_mid(offer) is None


@pytest.mark.parametrize(
    "recorded", [recorded for recorded in ALL_DESCRIPTIONS if not recorded.answers], ids=lambda recorded: recorded.id
)
def test_rejection_of_every_section_is_a_valid_answer(recorded: Recorded) -> None:
    offer = parse(recorded.text)
    answer = rejection(offer)
    assert violations(offer, answer) == []
    assert all(section.rejected for section in answer.media)


@pytest.mark.parametrize(
    ("group", "attribute", "stops"),
    [("0 1 2", "", True), ("0 1 2", "a=bundle-only\n", False), ("7", "a=bundle-only\n", True)],
)
def test_offer_stops_all_media_if_no_section_has_a_port_or_a_bundled_transport(
    group: str, attribute: str, stops: bool
) -> None:
    offer = OFFER.replace("BUNDLE 0 1 2", f"BUNDLE {group}").replace(" 9 UDP", " 0 UDP")
    assert stops_all_media(parse(offer.replace("a=setup", f"{attribute}a=setup"))) is stops
    assert not stops_all_media(parse(OFFER))


CREDENTIALS = "a=ice-ufrag:abcd\na=ice-pwd:abcdefghijklmnopqrstuv\n"
TRANSPORT = "ICE, DTLS or rtcp-mux parameters"


def unusable(answer: str) -> list[str]:
    return [str(violation) for violation in unusable_parts(parse(OFFER), parse(answer))]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("SAVPF 96 97", "SAVPF 97", ["formats of section 1"]),  # Janus would crash
        ("a=rtpmap:97 rtx/90000\na=fmtp:97 apt=96", "a=rtpmap:97 VP8/90000", ["formats of section 1"]),
        ("SAVPF 111 0", "SAVPF 13", ["formats of section 0"]),
        ("m=audio", "m=video", ["media type of section 0"]),
        ("a=mid:1", "a=mid:x", ["mid of section 1"]),
        ("a=ice-ufrag:abcd", "a=ice-ufrag:abc", [TRANSPORT]),
        ("a=setup:active", "a=setup:holdconn", [TRANSPORT]),
        ("a=setup:active", "a=setup:actpass", [TRANSPORT]),
        (f"a=mid:2\n{CREDENTIALS}a=setup:active", "a=mid:2\na=setup:actpass", [TRANSPORT]),
        (f"a=mid:2\n{CREDENTIALS}a=setup:active", "a=mid:2\na=setup:passive", [TRANSPORT]),
    ],
)
def test_answer_of_a_client_that_an_sfu_must_not_use_is_named(old: str, new: str, expected: list[str]) -> None:
    assert unusable(ANSWER) == []
    assert unusable(ANSWER.replace(old, new)) == expected
    assert unusable(ANSWER[: ANSWER.index("m=application")]) == ["number of media sections"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a=mid:0\n", ""),
        ("UDP/TLS/RTP/SAVPF", "RTP/SAVPF"),
        ("SAVPF 96 97", "SAVPF 100\na=rtpmap:100 VP8/90000"),
        ("a=recvonly", "a=sendrecv"),
        ("a=rtcp-mux\n", ""),
        ("a=group:BUNDLE 0 1 2\n", ""),
        ("a=ice-ufrag:abcd\n", ""),
        ("m=video 9 UDP/TLS/RTP/SAVPF 96 97", "m=video 0 UDP/TLS/RTP/SAVPF 0"),
        (" 9 UDP", " 0 UDP"),
    ],
)
def test_harmless_faults_of_clients_are_tolerated(old: str, new: str) -> None:
    assert ANSWER.replace(old, new) != ANSWER
    assert unusable(ANSWER.replace(old, new)) == []


@pytest.mark.parametrize("recorded", ANSWERS, ids=[recorded.id for recorded in ANSWERS])
def test_answers_of_real_programs_are_usable(recorded: Recorded) -> None:
    assert unusable_parts(parse(BY_ID[recorded.answers].text), parse(recorded.text)) == []
