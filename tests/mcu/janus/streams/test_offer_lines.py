"""Lines of a client's offer in the forms that Janus parses; ``tests/interop/test_stacks.py`` sends them to Janus."""

from __future__ import annotations

import pytest

from mcu.janus.streams.offer_lines import adapt_for_janus
from sdp.document import Description, parse
from tests.sdp.recorded import ALL_DESCRIPTIONS, Recorded

OFFERS = [recorded for recorded in ALL_DESCRIPTIONS if recorded.type == "offer" and recorded.program != "janus"]


def section(formats: str, *lines: str) -> Description:
    head = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0", f"m=video 9 UDP/TLS/RTP/SAVPF {formats}"]
    return parse("\r\n".join([*head, *lines, ""]))


def values(offer: Description, name: str) -> list[str]:
    before = str(offer)
    found = adapt_for_janus(offer).media[0].attributes(name)
    assert str(offer) == before
    return found


@pytest.mark.parametrize("recorded", OFFERS, ids=[recorded.id for recorded in OFFERS])
def test_browsers_offer_keeps_all_but_the_order_of_its_mappings(recorded: Recorded) -> None:
    assert sorted(str(adapt_for_janus(parse(recorded.text))).split("\r\n")) == sorted(recorded.text.split("\r\n"))


def test_mappings_are_in_the_order_of_the_formats() -> None:
    offer = section("98 96 97", "a=rtpmap:96 VP8/90000", "a=rtpmap:97 rtx/90000", "a=rtpmap:98 VP9/90000")
    assert values(offer, "rtpmap") == ["98 VP9/90000", "96 VP8/90000", "97 rtx/90000"]
    assert str(adapt_for_janus(offer)).endswith("VP8/90000\r\na=rtpmap:97 rtx/90000\r\n")
    assert adapt_for_janus(adapt_for_janus(offer)) is not offer
    ordered = adapt_for_janus(offer)
    assert adapt_for_janus(ordered) is ordered


def test_static_payload_types_and_opus_get_complete_mappings() -> None:
    offer = section("0 8 9 13 111", "a=rtpmap:111 opus/48000")
    assert values(offer, "rtpmap") == ["0 PCMU/8000", "8 PCMA/8000", "9 G722/8000", "13 CN/8000", "111 opus/48000/2"]


def test_inactive_section_is_offered_as_receive_only_unless_it_is_rejected() -> None:
    offer = section("96", "a=rtpmap:96 VP8/90000", "a=inactive", "m=video 0 UDP/TLS/RTP/SAVPF 96", "a=inactive")
    adapted = adapt_for_janus(offer)
    assert [media.direction for media in adapted.media] == ["recvonly", "inactive"]
    assert [media.direction for media in offer.media] == ["inactive", "inactive"]


@pytest.mark.parametrize(("written", "sent"), [("-", "- -"), ("s t", "s t"), ("stream ", "stream stream")])
def test_track_gets_an_id(written: str, sent: str) -> None:
    assert values(section("96", "a=rtpmap:96 VP8/90000", f"a=msid:{written}"), "msid") == [sent]


@pytest.mark.parametrize(
    ("rids", "simulcast", "sent_rids", "sent_simulcast"),
    [
        ("h send|l send", "send ~h;l", "h send|l send", "send ~h;l"),
        ("1 send|2 send pt=96|3 send", "send 1,2;~3", "1 send|3 send", "send 1;~3"),
        ("x recv|h send|l send", "recv x send h;l", "h send|l send", "send h;l"),
        ("h send|l send", "send h;m;l", "h send|l send", "send h;l"),
        ("h send", "", "", ""),
        ("a-0 send|a-1 send", "send a-0;a-1", "", ""),
    ],
)
def test_only_layers_that_are_sent_stay(rids: str, simulcast: str, sent_rids: str, sent_simulcast: str) -> None:
    lines = [f"a=rid:{rid}" for rid in rids.split("|")] + ([f"a=simulcast:{simulcast}"] if simulcast else [])
    offer = section("96", "a=rtpmap:96 VP8/90000", *lines)
    assert values(offer, "rid") == list(filter(None, sent_rids.split("|")))
    assert values(offer, "simulcast") == list(filter(None, [sent_simulcast]))


@pytest.mark.parametrize(
    "media",
    [
        ("image 0 udptl t38", "a=T38FaxVersion:0"),
        ("text 0 UDP/TLS/RTP/SAVPF 98", "a=rtpmap:98 t140/1000"),
        ("application 0 UDP/TLS/RTP/SAVPF 125", "a=rtpmap:125 H224/4800"),
        ("video 0 x y",),
        ("video 9 UDP/TLS/RTP/SAVPF 97", "a=rtpmap:97 rtx/90000", "a=fmtp:97 apt=96"),
        ("video 9 UDP/TLS/RTP/SAVPF 97 98", "a=rtpmap:97 red/90000", "a=rtpmap:98 ulpfec/90000"),
        ("audio 9 UDP/TLS/RTP/SAVPF 101", "a=rtpmap:101 telephone-event/8000"),
    ],
)
def test_section_on_which_janus_fails_becomes_a_rejected_one(media: tuple[str, ...]) -> None:
    first = section("96", "a=rtpmap:96 VP8/90000", "a=mid:0")
    line, *attributes = media
    offer = parse(str(first) + "\r\n".join([f"m={line}", "a=mid:1", "a=ice-ufrag:abcd", *attributes, ""]))
    adapted = adapt_for_janus(offer)
    assert adapted.media[0].lines == first.media[0].lines[:-1]
    kind = "video" if "video 9" in line else "audio"
    assert [line.strip() for line in adapted.media[1].lines if not line.startswith("a=rtpmap")] == [
        f"m={kind} 0 UDP/TLS/RTP/SAVPF 0",
        "c=IN IP4 0.0.0.0",
        "a=inactive",
        "a=mid:1",
        "",
    ]


def test_sections_that_janus_rejects_by_itself_stay() -> None:
    text = str(section("96", "a=rtpmap:96 theora/90000")) + "m=video 0 UDP/TLS/RTP/SAVPF 126\r\n"
    assert str(adapt_for_janus(parse(text))) == text
