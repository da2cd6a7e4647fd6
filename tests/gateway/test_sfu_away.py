"""A gateway whose SFU is unavailable: announced features, media messages, status, and sessions that are ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import aiohttp
import msgspec
import pytest

from gateway.config import Config, HttpSection, McuSection, SessionsSection
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_client import Json, RequestRefused, TalkClient
from gateway.tools.talk_rooms import nextcloud_session
from mcu.janus.settings import JanusServerSettings
from tests.gateway.fake_sfu import GatewayWithFakeSfu
from tests.gateway.flows.media.descriptions import answer, offer
from tests.gateway.running import running_gateway
from tests.ports import free_ports

SFU_FEATURES = {"mcu", "offer-codecs", "republish", "simulcast", "update-sdp"}


class GatewayWithoutJanus:
    """The URL of a gateway, its Nextcloud, and the URL of its Janus, at which nothing listens."""

    def __init__(self, url: str, nextcloud: FakeNextcloud, janus: str) -> None:
        self.url, self.nextcloud, self.janus = url, nextcloud, janus

    async def get(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as http, http.get(self.url + path) as response:
            return response.status, await response.text()


@pytest.fixture
async def gateway() -> AsyncIterator[GatewayWithoutJanus]:
    async with FakeNextcloud() as nextcloud:
        janus = f"ws://127.0.0.1:{free_ports(1)[0]}"
        mcu = McuSection(type="janus", settings=(JanusServerSettings(janus),), timeout=1.0)
        async with running_gateway(nextcloud, mcu=mcu) as (_, url):
            yield GatewayWithoutJanus(url, nextcloud, janus)


def features(message: Json) -> set[str]:
    body = message[message["type"]]
    return set(body.get("server", body)["features"])


# reference 13.1-b
async def test_features_of_an_unavailable_sfu_are_announced(gateway: GatewayWithoutJanus) -> None:
    async with TalkClient(gateway.url, gateway.nextcloud.url) as alice:
        assert features(alice.messages[0]) >= SFU_FEATURES
        assert features(await alice.hello(gateway.nextcloud.ticket("alice"))) >= SFU_FEATURES
        room = await alice.join("r", nextcloud_session("alice"))
        assert room["room"]["bandwidth"] == {"maxstreambitrate": 1048576, "maxscreenbitrate": 2097152}
        await alice.connect()
        assert features(await alice.resume()) >= SFU_FEATURES
    async with aiohttp.ClientSession() as http, http.get(gateway.url + "/api/v1/welcome") as response:
        assert "mcu" in response.headers["X-Spreed-Signaling-Features"].split(", ")


# reference 1.1-d
async def test_media_messages_are_answered_with_errors_and_not_relayed(gateway: GatewayWithoutJanus) -> None:
    async with (
        TalkClient(gateway.url, gateway.nextcloud.url) as alice,
        TalkClient(gateway.url, gateway.nextcloud.url) as bob,
    ):
        for client, name in ((alice, "alice"), (bob, "bob")):
            await client.hello(gateway.nextcloud.ticket(name))
            await client.join("r", nextcloud_session(name))
        for name in ("alice", "bob"):
            await gateway.nextcloud.talk.set_in_call("r", nextcloud_session(name), 7)
        described = {"type": "offer", "sdp": offer("one")}
        await alice.send_message(bob.session_id, {"type": "offer", "roomType": "video", "payload": described}, "offer")
        await alice.send_message(bob.session_id, {"type": "sendoffer", "roomType": "screen"}, "send")
        await alice.send_message(bob.session_id, {"type": "requestoffer", "roomType": "video"}, "request")
        described = {"type": "answer", "sdp": answer()}
        started = asyncio.get_running_loop().time()
        for request in ("offer", "send", "request"):
            error = await alice.wait_for(lambda message, id=request: message.get("id") == id)  # type: ignore[misc]
            assert error["error"]["code"] == "client_not_found"
        assert asyncio.get_running_loop().time() - started > 0.5
        await alice.send_message(
            bob.session_id, {"type": "answer", "roomType": "video", "payload": described}, "answer"
        )
        error = await alice.wait_for(lambda message: message.get("id") == "answer")
        assert error["error"]["code"] == "client_not_found"
        await alice.send_message(bob.session_id, {"type": "hi"})
        await bob.wait_for(lambda message: message["type"] == "message")
        assert [it["message"]["data"]["type"] for it in bob.messages if it["type"] == "message"] == ["hi"]


async def test_unavailable_sfu_is_reported_by_readyz_metrics_stats_and_log(
    gateway: GatewayWithoutJanus, caplog: pytest.LogCaptureFixture
) -> None:
    status, reason = await gateway.get("/readyz")
    assert status == 503
    assert "connection refused" in reason
    assert f'portunus_sfu_up{{sfu="{gateway.janus}"}} 0.0' in (await gateway.get("/metrics"))[1]
    assert '"connected": false' in (await gateway.get("/api/v1/stats"))[1]
    records = caplog.get_records("setup") + caplog.get_records("call")
    assert any(it.levelno == logging.WARNING and "Janus cannot be used" in it.getMessage() for it in records)


@pytest.mark.parametrize("configured", [True, False])
async def test_sessions_of_clients_without_republish_are_ended_if_that_is_configured(configured: bool) -> None:
    async with FakeNextcloud() as nextcloud:
        config = Config(
            sessions=SessionsSection(secret="0123456789abcdef0123456789abcdef"),
            http=HttpSection(listen=("127.0.0.1:0",)),
            backends=(nextcloud.backend(),),
            mcu=McuSection(type="inprocess", reset_sessions_on_loss=not configured),
        )
        gateway = GatewayWithFakeSfu(config)
        (url,) = await gateway.start()
        nextcloud.gateway = url
        section = msgspec.structs.replace(config.mcu, reset_sessions_on_loss=configured)
        await gateway.reload(msgspec.structs.replace(config, mcu=section))  # a reload applies the key
        async with TalkClient(url, nextcloud.url) as alice:
            await alice.hello(nextcloud.ticket("alice"))
            await alice.join("r", nextcloud_session("alice"))
            offered = {"type": "offer", "roomType": "video", "payload": {"type": "offer", "sdp": offer("one")}}
            await alice.send_message(alice.session_id, offered)
            await alice.wait_for(lambda message: message["type"] == "message")
            gateway.fake.lose_streams()
            await gateway.fake.recover()
            if not configured:
                assert (await alice.join(""))["room"]["roomid"] == ""
            else:
                assert await alice.wait_closed() == 1000
                await alice.connect()
                with pytest.raises(RequestRefused, match="no_such_session"):
                    await alice.resume()
                await alice.hello(nextcloud.ticket("alice"))
                assert (await alice.join("r", nextcloud_session("alice")))["room"]["roomid"] == "r"
                requests = [it.body for it in nextcloud.requests if it.type == "room"]
                assert not [it for it in requests if it.get("action") == "leave"]
                assert not [it for it in alice.messages if it["type"] == "bye"]
        await gateway.stop()
