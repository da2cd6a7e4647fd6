"""A bitrate limit is written once, at the position of RFC 8866."""

from __future__ import annotations

import pytest

from sdp.bitrate import MAX_BITRATE, MIN_AUDIO_BITRATE, limit, limit_media
from sdp.document import parse

MEDIA = "v=0\r\nm=video 9 RTP/AVP 96\r\n{}a=mid:0\r\n"


def lines(text: str) -> list[str]:
    return [line.removesuffix("\r") for line in parse(text).media[0].lines]


def limited(between: str, rate: int) -> list[str]:
    description = parse(MEDIA.format(between))
    limit(description.media[0], rate)
    return lines(str(description))[1:-1]


@pytest.mark.parametrize("between", ["", "c=IN IP4 0.0.0.0\r\n", "i=title\r\nc=IN IP4 0.0.0.0\r\n"])
def test_limit_follows_the_connection_and_precedes_attributes(between: str) -> None:
    assert limited(between, 200_999) == [*between.split("\r\n")[:-1], "b=AS:200", "b=TIAS:200999", "a=mid:0"]


def test_limit_replaces_a_lower_and_a_higher_one() -> None:
    assert limited("b=TIAS:1\r\nb=RR:0\r\nb=AS:5000\r\n", 64_000) == ["b=AS:64", "b=TIAS:64000", "b=RR:0", "a=mid:0"]


def test_limit_below_one_kilobit_is_rounded_up() -> None:
    assert limited("", 1)[:2] == ["b=AS:1", "b=TIAS:1"]


def test_audio_is_limited_to_the_least_rate_of_opus() -> None:
    description = parse(MEDIA.format("").replace("video", "audio"))
    limit(description.media[0], 1)
    assert lines(str(description))[1:3] == ["b=AS:6", f"b=TIAS:{MIN_AUDIO_BITRATE}"]


def test_limit_beyond_32_bits_is_written_as_the_highest_one() -> None:
    assert limited("", 10**5000)[:2] == ["b=AS:2147483", f"b=TIAS:{MAX_BITRATE}"]


@pytest.mark.parametrize("rate", [0, -1])
def test_limit_that_is_not_positive_is_refused_and_changes_nothing(rate: int) -> None:
    description = parse(MEDIA.format("b=AS:5\r\n"))
    with pytest.raises(ValueError, match="positive"):
        limit(description.media[0], rate)
    assert str(description) == MEDIA.format("b=AS:5\r\n")


def test_limit_of_the_session_level_has_its_own_position() -> None:
    description = parse("v=0\r\no=-\r\ns=-\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n")
    limit(description.session, 5000)
    assert str(description) == "v=0\r\no=-\r\ns=-\r\nc=IN IP4 0.0.0.0\r\nb=AS:5\r\nb=TIAS:5000\r\nt=0 0\r\n"


def test_only_sections_of_the_given_kinds_that_are_not_rejected_are_limited() -> None:
    description = parse("v=0\nm=audio 9 RTP/AVP 0\nm=video 9 RTP/AVP 96\nm=video 0 RTP/AVP 96")
    limit_media(description, ["video"], 1000)
    assert str(description) == (
        "v=0\nm=audio 9 RTP/AVP 0\nm=video 9 RTP/AVP 96\nb=AS:1\nb=TIAS:1000\nm=video 0 RTP/AVP 96"
    )
