"""Time limits of a whole gateway (reference 17), in virtual time over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from gateway import app
from gateway.app import Gateway
from gateway.config import Config, HttpSection, InternalSection, McuSection, SessionsSection
from gateway.tools import fake_nextcloud, talk_client
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_client import TalkClient
from gateway.tools.talk_rooms import nextcloud_session
from gateway.wire import checksum
from mcu.inprocess.settings import InprocessSettings
from tests.gateway.flows.harness import INTERNAL_SECRET, internal_params

SECRET = "6f1b0c7d9ae24835b6cf01d27e9a4488"
RANDOM = "r" * 64
TOLERANCE = 0.5  # seconds that the sockets may need
SWEEP = 1.0  # seconds that a limit may be late if a sweep applies it
LONG_TIME = 1000.0  # seconds

Json = dict[str, Any]


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.fixture(autouse=True)
def long_wait_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (talk_client, fake_nextcloud):
        monkeypatch.setattr(module, "WAIT_TIMEOUT", LONG_TIME)


class VirtualTimeGateway:
    """Gateway that runs in virtual time, and its Nextcloud."""

    def __init__(self, url: str, cloud: FakeNextcloud) -> None:
        self.url = url
        self.cloud = cloud

    def client(self, *features: str) -> TalkClient:
        return TalkClient(self.url, self.cloud.url, features=features)

    async def join(self, client: TalkClient, userid: str) -> None:
        """Open a session of the user, and join the room ``r``."""
        await client.hello(self.cloud.ticket(userid))
        await client.join("r", nextcloud_session(userid))

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        parts = urlsplit(self.url)
        return await asyncio.open_connection(parts.hostname, parts.port)


@pytest.fixture
async def virtual_gateway(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[VirtualTimeGateway]:
    monkeypatch.setattr(app, "time", SimpleNamespace(monotonic=now, time=lambda: 1_700_000_000.0 + now()))
    async with FakeNextcloud(secret=SECRET) as cloud:
        gateway = Gateway(
            Config(
                sessions=SessionsSection(secret=SECRET),
                http=HttpSection(listen=("127.0.0.1:0",)),
                internal=InternalSection(INTERNAL_SECRET),
                backends=(cloud.backend(),),
                mcu=McuSection("inprocess", settings=InprocessSettings()),
            )
        )
        (url,) = await gateway.start()
        cloud.gateway = url
        try:
            yield VirtualTimeGateway(url, cloud)
        finally:
            await gateway.stop()


@asynccontextmanager
async def assert_lasts(seconds: float, more: float = 0.0) -> AsyncIterator[None]:
    """Assert that the block takes ``seconds``, or up to ``more`` longer."""
    start = now()
    yield
    assert seconds - TOLERANCE <= now() - start <= seconds + more + TOLERANCE


async def wait_for_bye(client: TalkClient, reason: str) -> None:
    """Wait until the gateway says goodbye for a reason and closes the connection."""
    await client.wait_for(lambda message: message == {"type": "bye", "bye": {"reason": reason}}, limit=LONG_TIME)
    assert await client.wait_closed() == 1000


async def test_hello_must_come_in_2_seconds(virtual_gateway: VirtualTimeGateway) -> None:
    async with assert_lasts(2, SWEEP), virtual_gateway.client() as silent:
        await wait_for_bye(silent, "hello_timeout")


async def test_anonymous_client_must_join_in_10_seconds(virtual_gateway: VirtualTimeGateway) -> None:
    async with virtual_gateway.client() as guest:
        await guest.hello(virtual_gateway.cloud.ticket(""))
        async with assert_lasts(10, SWEEP):
            await wait_for_bye(guest, "room_join_timeout")


async def test_session_ends_30_seconds_after_its_connection(virtual_gateway: VirtualTimeGateway) -> None:
    async with virtual_gateway.client() as anna, virtual_gateway.client() as ben:
        for name, client in (("anna", anna), ("ben", ben)):
            await virtual_gateway.join(client, name)
        async with assert_lasts(30, SWEEP):
            await anna.disconnect()
            left = await ben.wait_for(lambda message: message.get("event", {}).get("type") == "leave", limit=LONG_TIME)
        assert left["event"]["leave"] == [anna.session_id]


async def test_keep_alive_ping_is_sent_every_10_seconds(virtual_gateway: VirtualTimeGateway) -> None:
    async with virtual_gateway.client() as anna:
        await anna.hello(virtual_gateway.cloud.ticket("anna"))
        async with assert_lasts(10, SWEEP):
            await anna.join("r", nextcloud_session("anna"))
            await virtual_gateway.cloud.wait_for(lambda seen: seen.type == "ping")
        async with assert_lasts(10, SWEEP):
            await virtual_gateway.cloud.wait_for(lambda seen: seen.type == "ping", 2)


# reference 1.1-a
@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /api/v1/welcome HTTP/1.1\r\nHost: h\r\nX: y", b"GET /api/v1/welcome HTTP/1.1\r\nHost: h\r\n\r\n"],
)
async def test_head_of_a_request_must_come_in_15_seconds(virtual_gateway: VirtualTimeGateway, sent: bytes) -> None:
    """The time counts from the connect, or from the previous answer."""
    reader, writer = await virtual_gateway.connect()
    async with assert_lasts(15):
        writer.write(sent)
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ") is sent.endswith(b"\r\n\r\n")
    writer.close()


# reference 1.1-a
@pytest.mark.parametrize("sent", [b"G", b"GET /spreed HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"])
async def test_first_octets_of_a_request_do_not_renew_its_15_seconds(
    virtual_gateway: VirtualTimeGateway, sent: bytes
) -> None:
    reader, writer = await virtual_gateway.connect()
    async with assert_lasts(15):
        await asyncio.sleep(10)
        writer.write(sent)
        assert await reader.read() == b""
    writer.close()


# reference 1.1-a
async def test_body_of_a_request_must_come_in_15_seconds(virtual_gateway: VirtualTimeGateway) -> None:
    head = {
        "Host": "h",
        "Content-Type": "application/json",
        "Content-Length": "100",
        "Spreed-Signaling-Random": RANDOM,
        "Spreed-Signaling-Checksum": checksum.sign(SECRET, RANDOM, b"{"),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    reader, writer = await virtual_gateway.connect()
    async with assert_lasts(15):
        writer.write(f"POST /api/v1/room/r HTTP/1.1\r\n{lines}\r\n{{".encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    writer.close()


async def test_requestoffer_waits_10_seconds_for_the_stream(virtual_gateway: VirtualTimeGateway) -> None:
    async with virtual_gateway.client() as anna, virtual_gateway.client() as ben:
        for name, client in (("anna", anna), ("ben", ben)):
            await virtual_gateway.join(client, name)
        for name in ("anna", "ben"):
            await virtual_gateway.cloud.talk.set_in_call("r", nextcloud_session(name), 3)
        async with assert_lasts(10):
            await ben.send_message(anna.session_id, {"type": "requestoffer", "roomType": "video"}, "q")
            answer = await ben.wait_for(lambda message: message.get("id") == "q", limit=LONG_TIME)
        assert answer["error"]["code"] == "client_not_found"


async def test_phone_call_must_be_accepted_in_25_seconds(virtual_gateway: VirtualTimeGateway) -> None:
    async with virtual_gateway.client("start-dialout") as bridge:
        await bridge.hello_internal(internal_params(virtual_gateway.cloud.url))
        async with assert_lasts(25):
            status, answer = await post_to_room(
                virtual_gateway, "12", b'{"type":"dialout","dialout":{"number":"+4930123"}}'
            )
        assert (status, answer["dialout"]["error"]["code"]) == (502, "timeout")


async def test_call_that_is_not_accepted_is_answered_before_talk_gives_up_and_repeats_it(
    virtual_gateway: VirtualTimeGateway,
) -> None:
    async with virtual_gateway.client("start-dialout") as bridge:
        await bridge.hello_internal(internal_params(virtual_gateway.cloud.url))
        async with assert_lasts(25):
            answer = await virtual_gateway.cloud.talk.dial("12", "+4930123")
        assert answer.status == 502
        assert len([message for message in bridge.messages if message["type"] == "internal"]) == 1


async def post_to_room(virtual_gateway: VirtualTimeGateway, room: str, body: bytes) -> tuple[int, Json]:
    headers = {
        "Content-Type": "application/json",
        "Spreed-Signaling-Random": RANDOM,
        "Spreed-Signaling-Checksum": checksum.sign(SECRET, RANDOM, body),
        "Spreed-Signaling-Backend": virtual_gateway.cloud.url,
    }
    async with aiohttp.ClientSession() as http:
        url = f"{virtual_gateway.url}/api/v1/room/{room}"
        async with http.post(url, data=body, headers=headers, timeout=aiohttp.ClientTimeout(LONG_TIME)) as response:
            return response.status, await response.json()
