"""The codec policy with real media: codecs that the server allows, and codecs that all sessions in the room decode."""

from __future__ import annotations

import re

import pytest

from gateway.core.limits import QualityRules
from tests.interop.conftest import SFUS, CallGateway, start_gateway
from tests.interop.member import Member

pytestmark = pytest.mark.full


def offered_codec(subscriber: Member, publisher: Member) -> str:
    """Return the first video codec that the SFU offers a subscriber."""
    sdp: str = subscriber.received[publisher.id, "video"].peer.pc.remoteDescription.sdp
    video = sdp[sdp.index("m=video") :]
    first = video.split()[3]
    match = re.search(rf"a=rtpmap:{first} (\w+)/", video)
    assert match is not None
    return match[1]


@pytest.mark.parametrize("sfu", SFUS)
async def test_codec_that_the_server_does_not_allow_is_not_used(sfu: str, loopback: None) -> None:
    async with start_gateway(sfu, QualityRules(videocodecs=("h264",))) as gateway:
        anna, ben = await gateway.join("anna", 1), await gateway.join("ben", 2)
        await anna.publish(fields={"videocodec": "vp8"})
        await ben.request_offer(anna)
        await ben.wait_for_picture(anna)
        assert offered_codec(ben, anna) == "H264"


async def test_codec_that_a_session_in_the_room_cannot_decode_is_not_used(gateway: CallGateway) -> None:
    anna, ben = await gateway.join("anna", 1), await gateway.join("ben", 2)
    await ben.publish(video_codec="video/VP8")  # the only codec that ben decodes
    await anna.publish(fields={"videocodec": "h264,vp8"})
    await ben.request_offer(anna)
    await ben.wait_for_picture(anna)
    assert offered_codec(ben, anna) == "VP8"
