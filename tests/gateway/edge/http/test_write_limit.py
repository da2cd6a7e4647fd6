"""The write timeout for clients that do not read, over real sockets on both loops (reference 1.1)."""

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
from gateway.edge.http.write_limit import WRITE_TIMEOUT, WriteTimeoutHandler
from tests.gateway.certificates import make_certificate
from tests.gateway.test_app import config

SHORT_TIMEOUT = 0.1  # seconds, instead of WRITE_TIMEOUT
BODY = 16_777_216  # bytes: more than the kernel buffers for a client that does not read
CHUNK = 131_072  # bytes written at once


async def answer_in_one_write(request: web.Request) -> web.Response:
    return web.Response(body=bytes(BODY))


async def answer_in_chunks(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(BODY // CHUNK):
        await response.write(bytes(CHUNK))
    return response


@pytest.fixture
def short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_limit, "WRITE_TIMEOUT", SHORT_TIMEOUT)


@asynccontextmanager
async def served_application(certificate: str = "", key: str = "") -> AsyncIterator[tuple[str, int]]:
    gateway = Gateway(
        config(certificate=certificate, key=key),
        routes=[web.get("/big", answer_in_one_write), web.get("/streamed", answer_in_chunks)],
    )
    (url,) = await gateway.start()
    parts = urlsplit(url)
    try:
        yield parts.hostname or "", parts.port or 0
    finally:
        await gateway.stop()


@asynccontextmanager
async def send_request(
    address: tuple[str, int], request: str, tls: ssl.SSLContext | None = None
) -> AsyncIterator[asyncio.StreamReader]:
    """Connect with a small receive buffer and send a request; yield the stream of its answer, unread."""
    client_socket = socket.socket()
    client_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client_socket.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client_socket, address)
    name = {"ssl": tls, "server_hostname": address[0]} if tls else {}
    reader, writer = await asyncio.open_connection(sock=client_socket, limit=4096, **name)  # type: ignore[arg-type]
    try:
        writer.write(f"GET {request} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        yield reader
    finally:
        writer.transport.abort()


async def count_remaining(reader: asyncio.StreamReader) -> int:
    """Read until the connection is closed or reset; return the number of bytes."""
    count = 0
    async with asyncio.timeout(20):
        try:
            while chunk := await reader.read(1 << 20):
                count += len(chunk)
        except (ConnectionError, ssl.SSLError):
            pass
    return count


def test_write_timeout_is_that_of_the_reference() -> None:
    assert WRITE_TIMEOUT == 30


# reference 1.1-b
@pytest.mark.usefixtures("short_timeout")
@pytest.mark.parametrize("path", ["/big", "/streamed"])
async def test_connection_of_a_client_that_does_not_read_is_aborted(path: str) -> None:
    async with served_application() as address, send_request(address, path) as reader:
        await asyncio.sleep(4 * SHORT_TIMEOUT)
        assert await count_remaining(reader) < BODY


# reference 1.1-b
@pytest.mark.usefixtures("short_timeout")
async def test_tls_connection_of_a_client_that_does_not_read_is_aborted(tmp_path: Path) -> None:
    """A single write is not visible above TLS; asyncio's own TLS timeout bounds it."""
    certificate, key = make_certificate(tmp_path)
    tls = ssl.create_default_context(cafile=certificate)
    async with (
        served_application(str(certificate), str(key)) as address,
        send_request(address, "/streamed", tls) as reader,
    ):
        await asyncio.sleep(4 * SHORT_TIMEOUT)
        assert await count_remaining(reader) < BODY


async def test_slow_client_gets_the_whole_answer_within_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_limit, "WRITE_TIMEOUT", 20.0)
    async with served_application() as address, send_request(address, "/big") as reader:
        await asyncio.sleep(2 * SHORT_TIMEOUT)
        await reader.readuntil(b"\r\n\r\n")
        async with asyncio.timeout(20):
            await reader.readexactly(BODY)


async def test_timer_does_not_run_between_requests_of_a_kept_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_limit, "WRITE_TIMEOUT", timeout := 0.4)
    async with served_application() as (host, port):
        reader, writer = await asyncio.open_connection(host, port)
        for path in ("/big", "/api/v1/welcome", "/big"):
            await asyncio.sleep(1.5 * timeout)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
            async with asyncio.timeout(20):
                await reader.readexactly(length)
        writer.close()


class FullTransport(asyncio.Transport):
    """Transport whose write buffer does not drain."""

    def __init__(self) -> None:
        super().__init__()
        self.protocol: asyncio.BaseProtocol | None = None
        self.aborted = asyncio.Event()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self.protocol is not None
        return self.protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        return

    def is_closing(self) -> bool:
        return self.aborted.is_set()

    def abort(self) -> None:
        self.aborted.set()

    close = abort


@pytest.mark.usefixtures("short_timeout")
@pytest.mark.parametrize("is_websocket", [True, False])
async def test_write_timeout_ends_when_a_websocket_takes_over_the_transport(is_websocket: bool) -> None:
    async def never(request: web.BaseRequest) -> web.StreamResponse:
        raise AssertionError("no request is sent")

    handler = WriteTimeoutHandler(web.Server(never), loop=asyncio.get_running_loop())
    transport = FullTransport()
    transport.set_protocol(handler)
    handler.connection_made(transport)
    handler.pause_writing()
    if is_websocket:
        transport.set_protocol(asyncio.Protocol())
    await asyncio.sleep(2 * SHORT_TIMEOUT)
    assert transport.aborted.is_set() is not is_websocket
    handler.connection_lost(None)
