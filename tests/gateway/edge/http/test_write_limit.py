"""Answers that nobody reads: the time limit of writing, over real sockets on both loops (reference 1.1)."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from gateway.app import Gateway
from gateway.edge.http import write_limit
from gateway.edge.http.write_limit import WRITE_TIMEOUT
from tests.gateway.certificates import make_certificate
from tests.gateway.edge.raw_client import RawClient
from tests.gateway.test_app import config

SHORT = 0.4  # seconds, in place of the limit
BODY = 16_777_216  # bytes: more than the kernel takes on its way to somebody who does not read
CHUNK = 131_072  # bytes written at once


async def big(request: web.Request) -> web.Response:
    return web.Response(body=bytes(BODY))


async def streamed(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(BODY // CHUNK):
        await response.write(bytes(CHUNK))
    return response


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_limit, "WRITE_TIMEOUT", SHORT)


@asynccontextmanager
async def serving(certificate: str = "", key: str = "") -> AsyncIterator[tuple[str, int]]:
    gateway = Gateway(
        config(certificate=certificate, key=key), routes=[web.get("/big", big), web.get("/streamed", streamed)]
    )
    (url,) = await gateway.start()
    parts = urlsplit(url)
    try:
        yield parts.hostname or "", parts.port or 0
    finally:
        await gateway.stop()


@asynccontextmanager
async def asking(
    address: tuple[str, int], request: str, tls: ssl.SSLContext | None = None
) -> AsyncIterator[asyncio.StreamReader]:
    """Connect with a small receive buffer and send a request; what is read is the caller's business."""
    plug = socket.socket()
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plug.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plug, address)
    name = {"ssl": tls, "server_hostname": address[0]} if tls else {}
    reader, writer = await asyncio.open_connection(sock=plug, limit=4096, **name)  # type: ignore[arg-type]
    try:
        writer.write(f"GET {request} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        yield reader
    finally:
        writer.transport.abort()


async def rest(reader: asyncio.StreamReader) -> int:
    """Read to the end of the connection, whatever that is, and return the number of octets."""
    count = 0
    async with asyncio.timeout(20):
        try:
            while chunk := await reader.read(1 << 20):
                count += len(chunk)
        except (ConnectionError, ssl.SSLError):
            pass
    return count


def test_the_limit_is_the_one_of_deployed_servers() -> None:
    assert WRITE_TIMEOUT == 30


# reference 1.1-b
@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("path", ["/big", "/streamed"])
async def test_who_does_not_read_an_answer_is_left(path: str) -> None:
    async with serving() as address, asking(address, path) as reader:
        await asyncio.sleep(4 * SHORT)
        assert await rest(reader) < BODY


# reference 1.1-b
@pytest.mark.usefixtures("short")
async def test_who_does_not_read_an_answer_over_tls_is_left(tmp_path: Path) -> None:
    """What is written at once is out of sight there; for that the loop's TLS has a limit of its own."""
    certificate, key = make_certificate(tmp_path)
    tls = ssl.create_default_context(cafile=certificate)
    async with serving(str(certificate), str(key)) as address, asking(address, "/streamed", tls) as reader:
        await asyncio.sleep(4 * SHORT)
        assert await rest(reader) < BODY


@pytest.mark.usefixtures("short")
async def test_who_reads_slowly_gets_it_all_when_that_is_soon_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_limit, "WRITE_TIMEOUT", 20.0)
    async with serving() as address, asking(address, "/big") as reader:
        await asyncio.sleep(2 * SHORT)
        await reader.readuntil(b"\r\n\r\n")
        async with asyncio.timeout(20):
            await reader.readexactly(BODY)


@pytest.mark.usefixtures("short")
async def test_one_after_the_other_is_answered_on_a_connection_that_is_kept() -> None:
    async with serving() as (host, port):
        reader, writer = await asyncio.open_connection(host, port)
        for path in ("/big", "/api/v1/welcome", "/big"):
            writer.write(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
            async with asyncio.timeout(20):
                await reader.readexactly(length)
            await asyncio.sleep(1.5 * SHORT)  # nothing is due any more
        writer.close()


@pytest.mark.usefixtures("short")
async def test_a_websocket_has_a_limit_of_its_own() -> None:
    async with serving() as address, await RawClient.connect(address) as client:
        assert (await client.receive())["type"] == "welcome"
        await asyncio.sleep(3 * SHORT)
        client.send({"id": "x", "type": "room", "room": {"roomid": "r"}})
        assert (await client.receive())["error"]["code"] == "hello_expected"
