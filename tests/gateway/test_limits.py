"""Limits of HTTP and of connections, over real sockets (behaviour reference 1.1; design, limits)."""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import urlsplit

import aiohttp
import msgspec
import pytest

from gateway import app
from gateway.app import Gateway
from gateway.core.limits import Limits
from gateway.version import SERVER_HEADER
from tests.gateway.test_app import config


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(url)
    return await asyncio.open_connection(parts.hostname, parts.port)


async def running(limits: Limits | None = None) -> tuple[Gateway, str]:
    gateway = Gateway(msgspec.structs.replace(config(), limits=limits or Limits()))
    (url,) = await gateway.start()
    return gateway, url


@pytest.mark.parametrize("sent", [b"", b"GET /api/v1/welcome HTTP/1.1\r\nHost: h\r\nX: y"])
async def test_connection_whose_request_does_not_come_is_closed(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "HEADER_TIMEOUT", 0.2)
    gateway, url = await running()
    try:
        reader, writer = await connect(url)
        writer.write(sent)
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
    finally:
        await gateway.stop()


async def test_header_that_drips_does_not_hold_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "HEADER_TIMEOUT", 0.3)
    gateway, url = await running()
    try:
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
    finally:
        await gateway.stop()


async def test_connections_beyond_the_limit_get_429_and_the_others_go_on() -> None:
    gateway, url = await running(Limits(connections_per_address=2))
    try:
        async with aiohttp.ClientSession() as http:
            first, second = [await http.ws_connect(url + "/spreed") for _ in range(2)]
            await first.receive_json()
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await http.ws_connect(url + "/spreed")
            assert refused.value.status == 429
            assert refused.value.headers is not None
            assert refused.value.headers["Server"] == SERVER_HEADER
            await first.send_str("{")
            assert (await first.receive_json())["error"]["code"] == "invalid_format"
            await second.close()
            async with http.ws_connect(url + "/spreed") as third:
                assert (await third.receive_json())["type"] == "welcome"
            async with http.get(url + "/metrics") as metrics:
                assert 'signaling_limits_met_total{limit="connections_per_address"} 1.0' in await metrics.text()
            await first.close()
    finally:
        await gateway.stop()


async def test_client_behind_a_trusted_proxy_counts_by_its_own_address() -> None:
    gateway, url = await running(Limits(connections_per_address=1))
    try:
        async with aiohttp.ClientSession() as http:
            forwarded = [{"X-Forwarded-For": f"192.0.2.{number}"} for number in range(3)]
            clients = [await http.ws_connect(url + "/spreed", headers=headers) for headers in forwarded]
            assert len(clients) == 3
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await http.ws_connect(url + "/spreed", headers={"X-Real-IP": "192.0.2.1"})
    finally:
        await gateway.stop()


async def test_flood_is_answered_and_the_connection_closed() -> None:
    gateway, url = await running(Limits(messages_per_second=5, messages_burst=10))
    try:
        async with aiohttp.ClientSession() as http, http.ws_connect(url + "/spreed") as client:
            await client.receive_json()
            for _ in range(15):
                await client.send_str("{")
            codes = []
            async for frame in client:
                codes.append(frame.json()["error"]["code"])
            assert codes == ["invalid_format"] * 10 + ["too_many_requests"]
            assert client.close_code == 1000
    finally:
        await gateway.stop()
