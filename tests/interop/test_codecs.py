"""The codec policy with real media: what the server allows, and what the room can decode."""

from __future__ import annotations

import re

import pytest

from gateway.core.limits import Quality
from tests.interop.conftest import SFUS, House, open_house
from tests.interop.member import Member

pytestmark = pytest.mark.full


def codec_of(watcher: Member, publisher: Member) -> str:
    """Return the first codec of the picture that the SFU offers a watcher."""
    sdp: str = watcher.watched[publisher.id, "video"].peer.pc.remoteDescription.sdp
    picture = sdp[sdp.index("m=video") :]
    first = picture.split()[3]
    match = re.search(rf"a=rtpmap:{first} (\w+)/", picture)
    assert match is not None
    return match[1]


@pytest.mark.parametrize("sfu", SFUS)
async def test_a_codec_that_the_server_does_not_allow_is_not_used(sfu: str, loopback: None) -> None:
    async with open_house(sfu, Quality(videocodecs=("h264",))) as house:
        anna, ben = await house.enter("anna", 1), await house.enter("ben", 2)
        await anna.publish(fields={"videocodec": "vp8"})
        await ben.ask(anna)
        await ben.wait_for_picture(anna)
        assert codec_of(ben, anna) == "H264"


async def test_what_one_in_the_room_cannot_decode_is_not_sent(house: House) -> None:
    anna, ben = await house.enter("anna", 1), await house.enter("ben", 2)
    await ben.publish(video_codec="video/VP8")  # that is all that it decodes
    await anna.publish(fields={"videocodec": "h264,vp8"})
    await ben.ask(anna)
    await ben.wait_for_picture(anna)
    assert codec_of(ben, anna) == "VP8"
