"""A gateway whose SFU is away: what it announces, what it tells, and what becomes of media messages."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import aiohttp
import msgspec
import pytest

from gateway.app import Gateway
from gateway.config import Config, HttpSection, McuSection, SessionsSection
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_client import Json, RequestRefused, TalkClient
from mcu.base import Mcu
from mcu.janus.settings import JanusServerSettings
from tests.gateway.flows.media.descriptions import answer, offer
from tests.gateway.flows.media.fake_mcu import FakeMcu
from tests.janus_process import free_ports

WITH_AN_SFU = {"mcu", "offer-codecs", "republish", "simulcast", "update-sdp"}


class Away:
    """A gateway with a Janus that nobody has started."""

    def __init__(self, url: str, nextcloud: FakeNextcloud, janus: str) -> None:
        self.url, self.nextcloud, self.janus = url, nextcloud, janus

    async def get(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as http, http.get(self.url + path) as response:
            return response.status, await response.text()


@pytest.fixture
async def away() -> AsyncIterator[Away]:
    async with FakeNextcloud() as nextcloud:
        janus = f"ws://127.0.0.1:{free_ports(1)[0]}"
        gateway = Gateway(
            Config(
                sessions=SessionsSection(secret="0123456789abcdef0123456789abcdef"),
                http=HttpSection(listen=("127.0.0.1:0",)),
                backends=(nextcloud.backend(),),
                mcu=McuSection(type="janus", settings=(JanusServerSettings(janus),), timeout=1.0),
            )
        )
        (url,) = await gateway.start()
        yield Away(url, nextcloud, janus)
        await gateway.stop()


def features(message: Json) -> set[str]:
    body = message[message["type"]]
    return set(body.get("server", body)["features"])


# reference 13.1-b
async def test_an_sfu_that_is_away_stays_announced(away: Away) -> None:
    async with TalkClient(away.url, away.nextcloud.url) as alice:
        assert features(alice.messages[0]) >= WITH_AN_SFU
        assert features(await alice.hello(away.nextcloud.ticket("alice"))) >= WITH_AN_SFU
        room = await alice.join("r", "nc-alice")
        assert room["room"]["bandwidth"] == {"maxstreambitrate": 1048576, "maxscreenbitrate": 2097152}
        await alice.connect()
        assert features(await alice.resume()) >= WITH_AN_SFU
    async with aiohttp.ClientSession() as http, http.get(away.url + "/api/v1/welcome") as response:
        assert "mcu" in response.headers["X-Spreed-Signaling-Features"].split(", ")


# reference 1.1-d
async def test_media_messages_are_not_relayed_meanwhile_and_have_their_errors_in_time(away: Away) -> None:
    async with (
        TalkClient(away.url, away.nextcloud.url) as alice,
        TalkClient(away.url, away.nextcloud.url) as bob,
    ):
        for client, name in ((alice, "alice"), (bob, "bob")):
            await client.hello(away.nextcloud.ticket(name))
            await client.join("r", f"nc-{name}")
        changed = [{"sessionId": f"nc-{name}", "inCall": 7} for name in ("alice", "bob")]
        await away.nextcloud.send(away.url, "r", {"type": "incall", "incall": {"incall": 7, "changed": changed}})
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


async def test_it_is_told_wherever_one_looks(away: Away, caplog: pytest.LogCaptureFixture) -> None:
    status, reason = await away.get("/readyz")
    assert status == 503
    assert "connection refused" in reason
    assert f'portunus_sfu_up{{sfu="{away.janus}"}} 0.0' in (await away.get("/metrics"))[1]
    assert '"connected": false' in (await away.get("/api/v1/stats"))[1]
    records = caplog.get_records("setup") + caplog.get_records("call")
    assert any(it.levelno == logging.WARNING and "Janus cannot be used" in it.getMessage() for it in records)


class OverFake(Gateway):
    """A gateway over an SFU without media, which can be lost."""

    fake: FakeMcu

    def _create_mcu(self) -> Mcu:
        self.fake = FakeMcu()
        return self.fake


@pytest.mark.parametrize("configured", [True, False])
async def test_sessions_of_clients_that_cannot_be_asked_are_reset_if_that_is_configured(configured: bool) -> None:
    async with FakeNextcloud() as nextcloud:
        config = Config(
            sessions=SessionsSection(secret="0123456789abcdef0123456789abcdef"),
            http=HttpSection(listen=("127.0.0.1:0",)),
            backends=(nextcloud.backend(),),
            mcu=McuSection(type="inprocess", reset_sessions_on_loss=not configured),
        )
        gateway = OverFake(config)
        (url,) = await gateway.start()
        section = msgspec.structs.replace(config.mcu, reset_sessions_on_loss=configured)
        await gateway.reload(msgspec.structs.replace(config, mcu=section))  # the key takes effect with a reload, too
        async with TalkClient(url, nextcloud.url) as alice:
            await alice.hello(nextcloud.ticket("alice"))
            await alice.join("r", "nc-alice")
            offered = {"type": "offer", "roomType": "video", "payload": {"type": "offer", "sdp": offer("one")}}
            await alice.send_message(alice.session_id, offered)
            await alice.wait_for(lambda message: message["type"] == "message")
            gateway.fake.lose_streams()
            await gateway.fake.recover()
            if not configured:
                assert (await alice.join(""))["room"]["roomid"] == ""
            else:
                assert await alice.closed() == 1000
                await alice.connect()
                with pytest.raises(RequestRefused, match="no_such_session"):
                    await alice.resume()
                await alice.hello(nextcloud.ticket("alice"))
                assert (await alice.join("r", "nc-alice"))["room"]["roomid"] == "r"
                requests = [it.body for it in nextcloud.requests if it.type == "room"]
                assert not [it for it in requests if it.get("action") == "leave"]
                assert not [it for it in alice.messages if it["type"] == "bye"]
        await gateway.stop()
