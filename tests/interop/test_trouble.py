"""What goes wrong around a call: an SFU that is not there yet, permissions that are taken away, limits."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from gateway.app import Gateway
from gateway.config import Config, HttpSection, McuSection, SessionsSection
from gateway.tools.fake_nextcloud import FakeNextcloud
from mcu.janus.settings import JanusServerSettings
from tests.interop.conftest import SECRET, House
from tests.interop.member import ROOM, Member
from tests.janus_process import ADMIN_KEY, API_SECRET, JanusProcess

AIORTC_LEAST = 250_000  # bit/s that aiortc's VP8 encoder goes down to; it begins with 500000

pytestmark = pytest.mark.full


async def test_a_janus_that_comes_later_is_waited_for(loopback: None) -> None:
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
        try:
            assert await ready(url) == 503
            async with Member(url, nextcloud, "anna", 1) as anna:
                publishing = asyncio.create_task(anna.publish())
                await anna.client.send("{}")
                await anna.client.wait_for(lambda message: message["type"] == "error")  # served meanwhile
                await janus.start()
                await publishing
                assert await ready(url) == 200
                assert len(await janus.rooms()) == 1
        finally:
            await gateway.stop()
            assert await janus.rooms() == []
            await janus.stop()


async def test_taking_a_permission_away_ends_the_stream_on_the_sfu(house: House) -> None:
    anna, ben = await house.enter("anna", 1), await house.enter("ben", 2)
    await anna.publish()
    await ben.ask(anna)
    watched = await ben.wait_for_picture(anna)
    await allow(house, anna, ["publish-audio", "publish-screen"])
    await watched.peer.ended()
    await house.has_streams(0)
    with pytest.raises(AssertionError, match="not_allowed"):
        await anna.offer_anew(sid="second")
    await anna.publish(sid="third", video=False)
    await ben.ask(anna)
    await (await ben.watching(anna, other_than=watched.sid)).peer.wait_for_tone(anna.frequency)


async def test_a_video_bitrate_is_written_into_the_answer_and_obeyed(house: House) -> None:
    anna = await house.enter("anna", 1)
    publisher = await anna.publish(fields={"bitrate": 200_000})
    answer = await anna.client.wait_for(lambda message: message["type"] == "message")
    video = answer["message"]["data"]["payload"]["sdp"].partition("m=video")[2].partition("m=")[0]
    assert "b=AS:200\r\nb=TIAS:200000\r\n" in video
    async with asyncio.timeout(15):
        while publisher.video_bitrate != AIORTC_LEAST:  # noqa: ASYNC110 - an encoder can only be asked
            await asyncio.sleep(0.1)


async def test_requesting_from_outside_of_the_call_is_refused(house: House) -> None:
    anna, ben = await house.enter("anna", 1), await house.enter("ben", 2, in_call=False)
    await anna.publish(video=False)
    await ben.ask(anna)
    error = await ben.client.wait_for(lambda message: message["type"] == "error")
    assert (error["id"], error["error"]["code"]) == ("ask", "not_allowed")
    await house.has_streams(1)


async def test_nobody_publishes_and_the_asker_is_told_in_the_end(house: House) -> None:
    anna, ben = await house.enter("anna", 1), await house.enter("ben", 2)
    await ben.ask(anna)
    error = await ben.client.wait_for(lambda message: message["type"] == "error")
    assert (error["id"], error["error"]["code"]) == ("ask", "client_not_found")
    await house.has_streams(0)


async def allow(house: House, member: Member, permissions: list[str]) -> None:
    """Have Nextcloud say what a member may do."""
    entry = {"sessionId": member.room_session, "permissions": permissions}
    body = {"type": "participants", "participants": {"changed": [entry], "users": [entry]}}
    status, _ = await house.nextcloud.send(house.url, ROOM, body)
    assert status == 200


async def ready(url: str) -> int:
    """Return the status of the readiness check."""
    async with aiohttp.ClientSession() as http, http.get(url + "/readyz") as response:
        return response.status
