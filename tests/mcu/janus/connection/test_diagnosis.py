"""The reasons of failed connections to Janus: the server at the port is recognised, and no address is named."""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from mcu.janus.connection.admin_api import connect_admin_api, reason_of
from mcu.janus.connection.diagnosis import ADMIN_PORT, API_PORT, WS_TO_TLS, WSS_TO_PLAIN, describe, explain, refusal
from mcu.janus.connection.messages import SUBPROTOCOL, JanusError
from mcu.janus.settings import JanusServerSettings
from tests.gateway.certificates import make_certificate
from tests.janus_process import JanusProcess
from tests.ports import free_ports


async def reason(url: str) -> str:
    """Connect to a URL that is not that of Janus' WebSocket API, and return the reason of the failure."""
    async with aiohttp.ClientSession() as http:
        with pytest.raises((OSError, aiohttp.ClientError)) as caught:
            await http.ws_connect(url, protocols=[SUBPROTOCOL])
        text = await explain(http, url, SUBPROTOCOL, caught.value)
    assert "127.0.0.1" not in text
    return text


@asynccontextmanager
async def listening_server(status: int = 0, certificate: tuple[Path, Path] | None = None) -> AsyncIterator[str]:
    """Listen, and answer with an HTTP status, or close each connection if it is 0; yield host and port."""
    context = None
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*certificate)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if certificate is None:
            with suppress(asyncio.IncompleteReadError):  # TLS is tried as well
                await reader.readuntil(b"\r\n\r\n")
        if status:
            writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_port_of_the_other_api_of_janus_is_recognised(janus: JanusProcess) -> None:
    assert await reason(janus.admin_url) == ADMIN_PORT
    async with aiohttp.ClientSession() as http:
        with pytest.raises(OSError, match="not its admin port") as caught:
            async with connect_admin_api(http, JanusServerSettings(janus.url, admin_url=janus.url)):
                pass
    assert reason_of(caught.value) == API_PORT
    assert await reason(janus.url.replace("ws:", "wss:")) == WSS_TO_PLAIN


async def test_port_with_tls_is_recognised(tmp_path: Path) -> None:
    async with listening_server(certificate=make_certificate(tmp_path)) as address:
        assert await reason(f"ws://{address}") == WS_TO_TLS
        assert await reason(f"wss://{address}") == describe(
            aiohttp.ClientConnectorCertificateError(None, ssl.CertificateError())  # type: ignore[arg-type]  # unused
        )


@pytest.mark.parametrize(("status", "text"), [(0, "closes the connection"), (404, "does not speak"), (200, "200")])
async def test_other_server_is_described_by_its_answer(status: int, text: str) -> None:
    async with listening_server(status) as address:
        assert text in await reason(f"ws://{address}")


async def test_port_without_a_server_is_refused() -> None:
    assert await reason(f"ws://127.0.0.1:{free_ports(1)[0]}") == "connection refused"


async def test_server_that_accepts_any_subprotocol_but_janus_is_no_admin_port() -> None:
    async def upgrade(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Sec-WebSocket-Protocol") == SUBPROTOCOL:
            raise web.HTTPForbidden
        socket = web.WebSocketResponse(protocols=["chat"])
        await socket.prepare(request)
        return socket

    app = web.Application()
    app.router.add_get("/", upgrade)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        assert "HTTP status 403" in await reason(f"ws://127.0.0.1:{runner.addresses[0][1]}")
    finally:
        await runner.cleanup()


def test_refusal_names_the_settings_to_compare() -> None:
    assert "compare mcu.janus.api_secret with the api_secret in janus.jcfg" in refusal(JanusError(403, "Unauthorized"))
    assert refusal(JanusError(490, "Unknown")) == "it refuses this gateway: Janus: Unknown (490)"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.EHOSTUNREACH, "192.0.2.1"), "no route to host"),
        (aiohttp.ClientConnectorDNSError(None, OSError(-2, "x")), "its name does not resolve"),  # type: ignore[arg-type]
        (ValueError("192.0.2.1"), "ValueError"),
        (JanusError(403, "Unauthorized request"), "Unauthorized"),
    ],
)
def test_description_has_no_address(error: Exception, text: str) -> None:
    assert text in (reason_of(error) if isinstance(error, JanusError) else describe(error))
