"""Limits of HTTP and of connections over real sockets, beside an undisturbed call (docs/protocol.md, "Limits")."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import aiohttp
import pytest

from gateway.core.limits import Limits
from gateway.edge.clients.polling import SECRET_HEADER
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_client import RequestRefused, TalkClient
from gateway.tools.talk_rooms import nextcloud_session
from gateway.version import SERVER_HEADER
from gateway.wire import checksum
from tests.gateway.federated import two_servers
from tests.gateway.running import SECRET, running_gateway

RANDOM = "r" * 64
MAX_GAP = 2.0  # seconds between two messages of the call; a disturbed call is silent for the 5 s of these tests
QUICK_TIMEOUT = 0.3  # seconds


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(url)
    return await asyncio.open_connection(parts.hostname, parts.port)


@asynccontextmanager
async def gateway_with_call(limits: Limits | None = None) -> AsyncIterator[str]:
    """Run a gateway with a call of two clients that exchange messages all the time."""
    async with (
        FakeNextcloud(secret=SECRET) as cloud,
        running_gateway(cloud, limits=limits or Limits()) as (_, url),
        TalkClient(url, cloud.url) as anna,
        TalkClient(url, cloud.url) as ben,
    ):
        for name, client in (("anna", anna), ("ben", ben)):
            await client.hello(cloud.ticket(name))
            await client.join("elsewhere", nextcloud_session(name))
        for name in ("anna", "ben"):
            await cloud.talk.set_in_call("elsewhere", nextcloud_session(name), 3)
        talking = asyncio.create_task(talk(anna, ben))
        yield url
        talking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await talking
        count = [message["message"]["data"] for message in ben.messages if message["type"] == "message"]
        assert count == list(range(len(count)))
        assert count


async def talk(anna: TalkClient, ben: TalkClient) -> None:
    """Send numbers from one client to the other without end; each must arrive within ``MAX_GAP``."""
    number = 0
    while True:
        message = {"type": "message", "message": {"recipient": {"type": "call"}, "data": number}}
        await anna.send(message)
        await ben.wait_for(lambda message, n=number: message.get("message", {}).get("data") == n, limit=MAX_GAP)  # type: ignore[misc]
        number += 1
        await asyncio.sleep(0.02)


async def times_met(url: str, limit: str) -> int:
    """Return how often a limit was reached according to the metrics."""
    async with aiohttp.ClientSession() as http, http.get(url + "/metrics") as metrics:
        name = f'signaling_limits_met_total{{limit="{limit}"}} '
        rows = [line for line in (await metrics.text()).splitlines() if line.startswith(name)]
    return int(float(rows[0].removeprefix(name))) if rows else 0


@pytest.mark.parametrize("sent", [b"", b"GET /api/v1/welcome HTTP/1.1\r\nHost: h\r\nX: y"])
async def test_connection_without_a_request_is_closed(sent: bytes) -> None:
    async with gateway_with_call(Limits(http_read_timeout=QUICK_TIMEOUT)) as url:
        reader, writer = await connect(url)
        writer.write(sent)
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
        assert await times_met(url, "http_read_timeout") == 1


async def test_slow_header_does_not_hold_the_connection() -> None:
    async with gateway_with_call(Limits(http_read_timeout=QUICK_TIMEOUT)) as url:
        reader, writer = await connect(url)
        writer.write(b"GET /api/v1/welcome HTTP/1.1\r\nHost: h\r\nX: ")

        async def drip() -> None:
            while not writer.is_closing():
                writer.write(b"x")
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):  # closed with octets unread is a reset
                assert await reader.read() == b""
        dripping.cancel()
        writer.close()
        assert await times_met(url, "http_read_timeout") == 1


async def test_idle_connection_is_closed_after_its_response_without_counting_an_excess() -> None:
    async with gateway_with_call(Limits(http_read_timeout=QUICK_TIMEOUT)) as url:
        reader, writer = await connect(url)
        writer.write(b"GET /api/v1/welcome HTTP/1.1\r\nHost: h\r\n\r\n")
        async with asyncio.timeout(5):
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        assert await times_met(url, "http_read_timeout") == 0


@pytest.mark.parametrize("path", ["/api/v1/room/r", "/spreed/poll"])
async def test_missing_body_is_answered_with_400(path: str) -> None:
    async with gateway_with_call(Limits(http_read_timeout=QUICK_TIMEOUT)) as url:
        async with aiohttp.ClientSession() as http, http.post(url + "/spreed/poll") as opened:
            secret = (await opened.json())["secret"]
        head = {
            "Content-Type": "application/json",
            "Content-Length": "100",
            "Spreed-Signaling-Random": RANDOM,
            "Spreed-Signaling-Checksum": checksum.sign(SECRET, RANDOM, b"{"),
            SECRET_HEADER: secret,
        }
        reader, writer = await connect(url)
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        writer.write(f"POST {path} HTTP/1.1\r\nHost: h\r\n{lines}\r\n{{".encode())
        async with asyncio.timeout(5):
            answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert SERVER_HEADER.encode() in answer
        writer.close()
        assert await times_met(url, "http_read_timeout") == 1


async def test_oldest_connection_without_a_request_is_closed_beyond_the_limit() -> None:
    async with gateway_with_call(Limits(idle_connections_per_address=10)) as url:
        silent = [await connect(url) for _ in range(20)]
        async with asyncio.timeout(5):
            for reader, _ in silent[:5]:
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
        async with aiohttp.ClientSession() as http, http.get(url + "/healthz") as answer:
            assert answer.status == 200
        assert await times_met(url, "idle_connections_per_address") >= 10
        for _, writer in silent:
            writer.close()


async def test_request_of_nextcloud_beyond_the_limit_is_answered_with_413() -> None:
    async with gateway_with_call(Limits(backend_request_bytes=10_000)) as url:
        head = {
            "Content-Type": "application/json",
            "Spreed-Signaling-Random": RANDOM,
            "Spreed-Signaling-Checksum": checksum.sign(SECRET, RANDOM, b"{" * 10_001),
            "Spreed-Signaling-Backend": "http://127.0.0.1/",
        }
        room = url + "/api/v1/room/r"
        async with aiohttp.ClientSession() as http, http.post(room, data=b"{" * 10_001, headers=head) as answer:
            assert answer.status == 413
        assert await times_met(url, "backend_request_bytes") == 1


async def test_read_timeout_can_be_switched_off() -> None:
    async with gateway_with_call(Limits(http_read_timeout=0)) as url:
        reader, writer = await connect(url)
        for _ in range(2):  # the connection is kept behind an answer, too
            await asyncio.sleep(QUICK_TIMEOUT)
            writer.write(b"GET /api/v1/welcome HTTP/1.1\r\nHost: h\r\n\r\n")
            async with asyncio.timeout(5):
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
                await reader.readuntil(b"}\n")
        writer.close()


async def test_connections_beyond_the_limit_get_429_and_others_stay_open() -> None:
    async with gateway_with_call(Limits(connections_per_address=4)) as url, aiohttp.ClientSession() as http:
        first, second = [await http.ws_connect(url + "/spreed") for _ in range(2)]
        await first.receive_json()
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect(url + "/spreed")
        assert refused.value.status == 429
        assert refused.value.headers is not None
        assert refused.value.headers["Server"] == SERVER_HEADER
        async with http.post(url + "/spreed/poll") as poll:
            assert poll.status == 429
        await first.send_str("{")
        assert (await first.receive_json())["error"]["code"] == "invalid_format"
        await second.close()
        async with http.ws_connect(url + "/spreed") as third:
            assert (await third.receive_json())["type"] == "welcome"
        assert await times_met(url, "connections_per_address") == 2
        await first.close()


async def test_connections_without_a_hello_beyond_the_limit_get_429() -> None:
    async with gateway_with_call(Limits(hellos_per_address=2)) as url, aiohttp.ClientSession() as http:
        silent = [await http.ws_connect(url + "/spreed") for _ in range(2)]
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect(url + "/spreed")
        assert refused.value.status == 429
        assert await times_met(url, "hellos_per_address") == 1
        for one in silent:
            await one.close()


async def test_client_behind_a_trusted_proxy_is_limited_by_its_own_address() -> None:
    async with gateway_with_call(Limits(connections_per_address=2)) as url, aiohttp.ClientSession() as http:
        forwarded = [{"X-Forwarded-For": f"192.0.2.{number}"} for number in (1, 1, 2, 3)]
        clients = [await http.ws_connect(url + "/spreed", headers=headers) for headers in forwarded]
        assert len(clients) == 4
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await http.ws_connect(url + "/spreed", headers={"X-Real-IP": "192.0.2.1"})


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        (Limits(federated_rooms_per_user=1), "federated_rooms_per_user"),
        (Limits(federated_rooms_per_server=1), "federated_rooms_per_server"),
        (Limits(federated_rooms_per_backend=1), "federated_rooms_per_backend"),
    ],
)
async def test_federated_rooms_are_limited_and_may_be_replaced(limits: Limits, limit: str) -> None:
    async with (
        two_servers(limits=limits) as servers,
        servers.federated("alice") as alice,
        servers.at_home("alice") as again,
    ):
        with pytest.raises(RequestRefused) as refused:
            await servers.join(again, "alice")
        assert refused.value.code == "limit_exceeded"
        assert await times_met(servers.home_url, limit)
        await alice.join("")
        while True:  # until the host has closed the connection
            with contextlib.suppress(RequestRefused):
                await servers.join(again, "alice")
                break


@pytest.mark.parametrize(
    ("limits", "message", "limit"),
    [
        (Limits(messages_before_hello=300), "{", "messages_before_hello"),
        (Limits(bytes_before_hello=300_000), "{".ljust(30_000), "bytes_before_hello"),
    ],
)
async def test_flood_is_answered_and_the_connection_closed(limits: Limits, message: str, limit: str) -> None:
    async with (
        gateway_with_call(limits) as url,
        aiohttp.ClientSession() as http,
        http.ws_connect(url + "/spreed") as client,
    ):
        await client.receive_json()

        async def flood() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    await client.send_str(message)
                    await asyncio.sleep(0)  # the gateway is in the same loop

        flooding = asyncio.create_task(flood())
        codes = [frame.json()["error"]["code"] async for frame in client]
        flooding.cancel()
        assert set(codes[:-1]) == {"invalid_format"}
        assert codes[-1] == "too_many_requests"
        assert client.close_code == 1000
        assert await times_met(url, limit) == 1
