"""Calls with faults: an SFU that starts later, revoked permissions, bitrate limits, refused requests."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from gateway.app import Gateway
from gateway.config import Config, HttpSection, McuSection, SessionsSection
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_rooms import Permission
from mcu.janus.settings import JanusServerSettings
from tests.interop.conftest import SECRET, CallGateway
from tests.interop.member import ROOM, Member
from tests.janus_process import ADMIN_KEY, API_SECRET, JanusProcess

AIORTC_MINIMUM = 250_000  # bit/s, the lowest target of aiortc's VP8 encoder; the first is 500000

pytestmark = pytest.mark.full


async def test_publishing_waits_for_a_janus_that_starts_later(loopback: None) -> None:
    janus = JanusProcess()
    settings = (JanusServerSettings(janus.url, api_secret=API_SECRET, admin_key=ADMIN_KEY),)
    async with FakeNextcloud() as nextcloud:
        gateway = Gateway(
            Config(
                sessions=SessionsSection(secret=SECRET),
                http=HttpSection(listen=("127.0.0.1:0",)),
                backends=(nextcloud.backend(),),
                mcu=McuSection(type="janus", settings=settings),
            )
        )
        (url,) = await gateway.start()
        nextcloud.gateway = url
        try:
            assert await readiness_status(url) == 503
            async with Member(url, nextcloud, "anna", 1) as anna:
                publishing = asyncio.create_task(anna.publish())
                await anna.client.send("{}")
                await anna.client.wait_for(lambda message: message["type"] == "error")  # still answered
                await janus.start()
                await publishing
                assert await readiness_status(url) == 200
                assert len(await janus.rooms()) == 1
        finally:
            await gateway.stop()
            assert await janus.rooms() == []
            await janus.stop()


async def test_revoked_permission_ends_the_stream_on_the_sfu(gateway: CallGateway) -> None:
    anna, ben = await gateway.join("anna", 1), await gateway.join("ben", 2)
    await anna.publish()
    await ben.request_offer(anna)
    received = await ben.wait_for_picture(anna)
    permitted = Permission.CUSTOM | Permission.AUDIO | Permission.SCREEN
    await gateway.nextcloud.talk.set_permissions(ROOM, anna.room_session, permitted)
    await received.peer.wait_until_ended()
    await gateway.wait_for_streams(0)
    with pytest.raises(AssertionError, match="not_allowed"):
        await anna.offer_new_connection(sid="second")
    await anna.publish(sid="third", video=False)
    await ben.request_offer(anna)
    await (await ben.wait_for_stream(anna, other_than=received.sid)).peer.wait_for_tone(anna.frequency)


async def test_bitrate_limit_is_in_the_answer_and_applied_by_the_encoder(gateway: CallGateway) -> None:
    anna = await gateway.join("anna", 1)
    publisher = await anna.publish(fields={"bitrate": 200_000})
    answer = await anna.client.wait_for(lambda message: message["type"] == "message")
    video = answer["message"]["data"]["payload"]["sdp"].partition("m=video")[2].partition("m=")[0]
    assert "b=AS:200\r\nb=TIAS:200000\r\n" in video
    async with asyncio.timeout(60):
        while publisher.video_bitrate != AIORTC_MINIMUM:  # noqa: ASYNC110 - an encoder has no event for it
            await asyncio.sleep(0.1)


async def test_requestoffer_of_a_session_outside_the_call_is_refused(gateway: CallGateway) -> None:
    anna, ben = await gateway.join("anna", 1), await gateway.join("ben", 2, in_call=False)
    await anna.publish(video=False)
    await ben.request_offer(anna)
    error = await ben.client.wait_for(lambda message: message["type"] == "error")
    assert (error["id"], error["error"]["code"]) == ("request", "not_allowed")
    await gateway.wait_for_streams(1)


async def test_requestoffer_without_a_publisher_fails_after_the_timeout(gateway: CallGateway) -> None:
    anna, ben = await gateway.join("anna", 1), await gateway.join("ben", 2)
    await ben.request_offer(anna)
    error = await ben.client.wait_for(lambda message: message["type"] == "error")
    assert (error["id"], error["error"]["code"]) == ("request", "client_not_found")
    await gateway.wait_for_streams(0)


async def readiness_status(url: str) -> int:
    """Return the status of the readiness check."""
    async with aiohttp.ClientSession() as http, http.get(url + "/readyz") as response:
        return response.status
