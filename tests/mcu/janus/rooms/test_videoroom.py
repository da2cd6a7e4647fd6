"""``mcu.janus.rooms.videoroom``: what is asked of VideoRoom, and what its refusals mean."""

from __future__ import annotations

import pytest

from mcu.base import (
    McuError,
    McuLost,
    MediaSelection,
    NoSuchStream,
    PublishOptions,
    Rejected,
)
from mcu.janus.connection.protocol import JanusError
from mcu.janus.rooms.videoroom import AUDIO_CODECS, VIDEO_CODECS, codecs, room, select, subscribe, typed


@pytest.mark.parametrize(
    ("preferred", "listed"),
    [
        ((), "vp8,h264,vp9,av1,h265"),
        (("h264",), "h264,vp8,vp9,av1,h265"),
        (("AV1", "vp9"), "av1,vp9,vp8,h264,h265"),
        (("theora", "vp8", "vp8"), "vp8,h264,vp9,av1,h265"),  # Janus refuses a room that names one it does not know
        (('vp8","secret":"x', "opus"), "vp8,h264,vp9,av1,h265"),
    ],
)
def test_codecs_are_the_preferred_first_and_then_the_rest(preferred: tuple[str, ...], listed: str) -> None:
    assert codecs(preferred, VIDEO_CODECS) == listed


# reference 9.8-a
def test_a_room_has_one_publisher_and_is_named_as_told() -> None:
    body = room("of the stream", 7, PublishOptions(), "")
    assert body == {
        "request": "create",
        "room": 7,
        "description": "of the stream",
        "is_private": False,
        "publishers": 1,
        "videoorient_ext": False,
        "audiocodec": ",".join(AUDIO_CODECS),
        "videocodec": ",".join(VIDEO_CODECS),
    }


def test_a_room_takes_ceiling_profiles_and_key_where_they_are_given() -> None:
    options = PublishOptions(bitrate=300_000, vp9profile="2", h264profile="42E01F")
    body = room("of the stream", 7, options, "key")
    assert body["bitrate"] == 300_000
    assert (body["vp9_profile"], body["h264_profile"]) == ("2", "42e01f")
    assert (body["admin_key"], body["is_private"]) == ("key", True)


@pytest.mark.parametrize(("vp9", "h264"), [("9", "42e0"), ("0;", "zzzzzz"), ("", "")])
def test_profiles_that_are_none_do_not_reach_janus(vp9: str, h264: str) -> None:
    assert (
        not {"vp9_profile", "h264_profile"}
        & room("of the stream", 7, PublishOptions(vp9profile=vp9, h264profile=h264), "").keys()
    )


def test_only_what_was_chosen_is_selected() -> None:
    assert select(MediaSelection(substream=0, video=False)) == {"request": "configure", "substream": 0, "video": False}
    assert select(MediaSelection()) == {"request": "configure"}


def test_added_media_is_asked_for_by_its_mid() -> None:
    assert subscribe(1, ["2"]) == {"request": "subscribe", "streams": [{"feed": 1, "mid": "2"}]}


@pytest.mark.parametrize(
    ("code", "error"), [(426, NoSuchStream), (428, NoSuchStream), (459, McuLost), (432, Rejected), (465, Rejected)]
)
def test_refusals_become_typed_errors(code: int, error: type[McuError]) -> None:
    assert type(typed(JanusError(code, "no"))) is error
