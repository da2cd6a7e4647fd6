"""Requests to VideoRoom, and its error codes as errors of the SFU interface."""

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
from mcu.janus.connection.messages import JanusError
from mcu.janus.rooms import videoroom
from mcu.janus.rooms.videoroom import AUDIO_CODECS, VIDEO_CODECS


@pytest.mark.parametrize(
    ("preferred", "listed"),
    [
        ((), "vp8,h264,vp9,av1,h265"),
        (("h264",), "h264,vp8,vp9,av1,h265"),
        (("AV1", "vp9"), "av1,vp9,vp8,h264,h265"),
        (("theora", "vp8", "vp8"), "vp8,h264,vp9,av1,h265"),  # Janus refuses a room with a codec that it does not know
        (('vp8","secret":"x', "opus"), "vp8,h264,vp9,av1,h265"),
    ],
)
def test_the_codec_list_has_the_preferred_codecs_first(preferred: tuple[str, ...], listed: str) -> None:
    assert videoroom.codec_list(preferred, VIDEO_CODECS) == listed


# reference 9.8-a
def test_a_room_has_one_publisher_and_the_given_description() -> None:
    assert videoroom.create(7, "of the stream", PublishOptions(), "") == {
        "request": "create",
        "room": 7,
        "description": "of the stream",
        "is_private": False,
        "publishers": 1,
        "videoorient_ext": False,
        "audiocodec": ",".join(AUDIO_CODECS),
        "videocodec": ",".join(VIDEO_CODECS),
    }


def test_a_room_is_created_with_ceiling_profiles_and_key_where_they_are_given() -> None:
    options = PublishOptions(bitrate=300_000, vp9profile="2", h264profile="42E01F")
    body = videoroom.create(7, "of the stream", options, "key")
    assert body["bitrate"] == 300_000
    assert (body["vp9_profile"], body["h264_profile"]) == ("2", "42e01f")
    assert (body["admin_key"], body["is_private"]) == ("key", True)


@pytest.mark.parametrize(("vp9", "h264"), [("9", "42e0"), ("0;", "zz"), ("", "")])
def test_invalid_profiles_are_not_sent_to_janus(vp9: str, h264: str) -> None:
    body = videoroom.create(7, "of the stream", PublishOptions(vp9profile=vp9, h264profile=h264), "")
    assert not {"vp9_profile", "h264_profile"} & body.keys()


def test_only_selected_layers_and_media_are_configured() -> None:
    selection = MediaSelection(substream=0, video=False)
    assert videoroom.configure_subscriber(selection) == {"request": "configure", "substream": 0, "video": False}
    assert videoroom.configure_subscriber(MediaSelection()) == {"request": "configure"}


def test_an_added_m_line_is_subscribed_to_by_its_mid() -> None:
    assert videoroom.subscribe(1, ["2"]) == {"request": "subscribe", "streams": [{"feed": 1, "mid": "2"}]}


@pytest.mark.parametrize(
    ("code", "error"), [(426, NoSuchStream), (428, NoSuchStream), (459, McuLost), (432, Rejected), (465, Rejected)]
)
def test_error_codes_become_errors_of_the_sfu_interface(code: int, error: type[McuError]) -> None:
    assert type(videoroom.mcu_error(JanusError(code, "no"))) is error
