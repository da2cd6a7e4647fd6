"""Media attributes of an SFU's answer that the offer does not have: corrected or removed before the client gets it."""

from __future__ import annotations

import pytest

from sdp.document import Description, parse
from sdp.mending import mend, tidy
from sdp.offer_answer import bundles, violations
from tests.sdp.recorded import ALL_DESCRIPTIONS, BY_ID, Recorded
from tests.sdp.test_offer_answer import ANSWER, OFFER

VIDEO = "a=rtpmap:96 VP8/90000\n"


def corrected(offer: str, answer: str) -> Description:
    """Tidy and mend an answer, check that it then breaks no rule, and return it."""
    description = parse(answer)
    tidy(parse(offer), description)
    mend(parse(offer), description)
    assert violations(parse(offer), description) == []
    return description


@pytest.mark.parametrize(
    ("codec", "offered", "answered"),
    [
        ("H264", "profile-level-id=42e01f;level-asymmetry-allowed=1", "profile-level-id=42e01f;packetization-mode=1"),
        ("H264", "profile-level-id=640c1f;packetization-mode=1", "packetization-mode=1"),
        ("H264", "", "profile-level-id=42e01f;packetization-mode=1"),
        ("VP9", "profile-id=2", ""),
        ("AV1", "profile=1;level-idx=5", ""),
        ("H265", "profile-id=2;tx-mode=SRST", "profile-id=1"),
        ("H265", "profile-id=1;tx-mode=MRST", ""),
    ],
)
def test_parameters_of_another_profile_are_those_of_the_offer(codec: str, offered: str, answered: str) -> None:
    def with_parameters(text: str, parameters: str) -> str:
        return text.replace(VIDEO, f"a=rtpmap:96 {codec}/90000\n" + (f"a=fmtp:96 {parameters}\n" if parameters else ""))

    offer, answer = with_parameters(OFFER, offered), with_parameters(ANSWER, answered)
    assert [str(broken) for broken in violations(parse(offer), parse(answer))] == ["formats of section 1"]
    written = [value for value in corrected(offer, answer).media[1].attributes("fmtp") if value.startswith("96 ")]
    assert written == ([f"96 {offered}"] if offered else [])


@pytest.mark.parametrize("media", ["audio 0 UDP/TLS/RTP/SAVPF 0", "video 9 UDP/TLS/RTP/SAVPF 0", "application 0 x y"])
def test_rejected_section_of_another_medium_gets_that_of_the_offer(media: str) -> None:
    offer, answer = (f"{text}m={line}\na=mid:3\n" for text, line in ((OFFER, "image 0 udptl t38"), (ANSWER, media)))
    assert corrected(offer, answer).media[3].lines[0] == "m=image 0 udptl t38"


@pytest.mark.parametrize("parameters", ["profile-level-id=42e034", "profile-level-id=42E01F;x=1"])
def test_parameters_of_the_same_profile_stay(parameters: str) -> None:
    offer = OFFER.replace(VIDEO, "a=rtpmap:96 H264/90000\na=fmtp:96 profile-level-id=42e01f\n")
    answer = ANSWER.replace(VIDEO, f"a=rtpmap:96 H264/90000\na=fmtp:96 {parameters}\n")
    assert str(corrected(offer, answer)) == answer


def test_feedback_that_is_not_offered_is_removed() -> None:
    offer = OFFER.replace(VIDEO, VIDEO + "a=rtcp-fb:96 nack pli\na=rtcp-fb:* ccm fir\n")
    feedback = "a=rtcp-fb:96 nack\na=rtcp-fb:96 nack pli\na=rtcp-fb:96 ccm fir\na=rtcp-fb:* ccm fir\na=rtcp-fb:* nack\n"
    answer = corrected(offer, ANSWER.replace(VIDEO, VIDEO + feedback))
    assert answer.media[1].attributes("rtcp-fb") == ["96 nack pli", "96 ccm fir", "* ccm fir"]


def test_repeated_extension_is_removed() -> None:
    extension = "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\n"
    level = "a=extmap:5 urn:ietf:params:rtp-hdrext:ssrc-audio-level\n"
    offer = OFFER.replace(extension, extension + level + extension.replace("4", "6") + extension + "a=extmap:7\n")
    answer = ANSWER.replace(extension, extension + level + extension.replace("4", "6") + extension + "a=extmap:7\n")
    assert corrected(offer, answer).media[0].attributes("extmap") == [
        "4 urn:ietf:params:rtp-hdrext:sdes:mid",
        "5 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
        "7",
    ]


def test_encrypted_extension_is_another_one_than_the_plain() -> None:
    extension = "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\n"
    both = extension + "a=extmap:5 urn:ietf:params:rtp-hdrext:encrypt urn:ietf:params:rtp-hdrext:sdes:mid\n"
    assert violations(parse(OFFER.replace(extension, both)), parse(ANSWER.replace(extension, both))) == []


@pytest.mark.parametrize("place", ["t=0 0\n", "a=mid:1\n"])
def test_mixed_extensions_are_announced_to_clients_that_offer_them_only(place: str) -> None:
    answer = ANSWER.replace("t=0 0\n", "t=0 0\na=extmap-allow-mixed\n")
    assert "allow-mixed" not in str(corrected(OFFER, answer))
    assert "allow-mixed" in str(corrected(OFFER.replace(place, place + "a=extmap-allow-mixed\n"), answer))


def test_rejected_section_names_a_format_of_the_offer() -> None:
    answer = ANSWER.replace("m=video 9 UDP/TLS/RTP/SAVPF 96 97", "m=video 0 UDP/TLS/RTP/SAVPF 0").replace(
        "0 1 2", "0 2"
    )
    assert violations(parse(OFFER), parse(answer)) == []
    assert corrected(OFFER, answer).media[1].formats == ("96",)


def test_bundled_section_with_port_0_is_rejected_in_an_answer() -> None:
    answer = ANSWER.replace("m=video 9", "m=video 0").replace("a=mid:1\n", "a=mid:1\na=bundle-only\n")
    description = corrected(OFFER, answer)
    assert bundles(description) == [("0", "2")]
    assert "bundle-only" not in str(description)


def test_group_is_answered_in_the_order_of_the_offers() -> None:
    assert bundles(corrected(OFFER.replace("BUNDLE 0 1 2", "BUNDLE 1 0 2"), ANSWER)) == [("1", "0", "2")]


def test_bundled_section_needs_no_rtcp_mux_of_its_own() -> None:
    before, behind = OFFER.split("m=video")
    offer = before + "m=video" + behind.replace("m=video 9", "m=video 0").replace("a=rtcp-mux\n", "a=bundle-only\n")
    assert violations(parse(offer), parse(ANSWER)) == []
    assert violations(parse(offer), parse(ANSWER.replace("a=rtcp-mux\na=rtpmap:96", "a=rtpmap:96"))) == []


def test_client_that_multiplexes_only_is_answered_with_rtcp_mux() -> None:
    end = OFFER.index("m=video")
    group = "a=group:BUNDLE 0 1 2\n"
    offer, answer = (
        OFFER[:end].replace(group, ""),
        ANSWER[: ANSWER.index("m=video")].replace(group, "").replace("a=rtcp-mux\n", ""),
    )
    assert violations(parse(offer), parse(answer)) == []
    only = parse(offer.replace("a=rtcp-mux\n", "a=rtcp-mux\na=rtcp-mux-only\n"))
    assert [str(broken) for broken in violations(only, parse(answer))] == [
        "ICE, DTLS or rtcp-mux parameters of section 0"
    ]


def test_mid_of_janus_is_removed_from_the_tracks_id() -> None:
    end = OFFER.index("m=video")
    offer = OFFER[:end].replace("a=group:BUNDLE 0 1 2\n", "").replace("a=mid:0\n", "")
    answer = (
        ANSWER[: ANSWER.index("m=video")]
        .replace("a=group:BUNDLE 0 1 2\n", "")
        .replace("a=mid:0", "a=mid:(null)\na=msid:janus janus(null)")
    )
    assert corrected(offer, answer).media[0].attributes("msid") == ["janus janus"]


@pytest.mark.parametrize(
    "recorded", [recorded for recorded in ALL_DESCRIPTIONS if recorded.answers], ids=lambda found: found.id
)
def test_tidying_a_real_answer_twice_changes_nothing_more(recorded: Recorded) -> None:
    offer, answer = parse(BY_ID[recorded.answers].text), parse(recorded.text)
    tidy(offer, answer)
    once = str(answer)
    assert violations(offer, answer) == []
    assert recorded.program == "janus" or "m=video 0" in recorded.text or once == recorded.text
    tidy(offer, answer)
    assert str(answer) == once
