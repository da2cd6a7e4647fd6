"""Malformed requests over raw sockets: they are refused, and none of their octets is logged."""

from __future__ import annotations

import asyncio
import logging

import pytest

from gateway import features
from gateway.version import SERVER_HEADER
from tests.captured_log import captured_lines
from tests.gateway.edge.serving import address_of, running_gateway
from tests.gateway.test_app import config

SECRET = b"5ecre7-0f-the-client"
GOOD = b"GET /api/v1/welcome HTTP/1.1\r\nHost: h\r\n\r\n"
FEATURES = ", ".join(features.announced("none"))


async def answers_to(url: str, sent: bytes) -> list[str]:
    """Send octets; return the text of each answer until the connection is closed."""
    reader, writer = await asyncio.open_connection(*address_of(url))
    writer.write(sent)
    async with asyncio.timeout(10):
        octets = await reader.read()
    writer.close()
    return [f"HTTP/1.{text}" for text in octets.decode("latin-1").split("HTTP/1.")[1:]]


def faults_in_log(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return warnings, errors and tracebacks, except the log of requests that fail authentication (reference 1.4)."""
    faults = [record for record in caplog.records if record.levelno >= logging.WARNING or record.exc_info]
    return [record.getMessage() for record in faults if record.name != "portunus.refusals"]


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: h\r\nCookie: " + SECRET + b"x" * 9000 + b"\r\n\r\n", id="long header"),
        pytest.param(b"GET /?key=" + SECRET + b"x" * 9000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", id="long URL"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: h\r\nCookie " + SECRET + b"\r\n\r\n", id="header without colon"),
        pytest.param(b"GET / HTTP/1.1\r\nSpreed-Signaling-Poll: " + SECRET + b"\x00\r\n\r\n", id="octet in a header"),
        pytest.param(b"GET /?key=" + SECRET + b" and more HTTP/1.1\r\n\r\n", id="space in the URL"),
        pytest.param(b"GET http://[" + SECRET + b" HTTP/1.1\r\n\r\n", id="invalid URL"),
        pytest.param(b"G\x01T /" + SECRET + b" HTTP/1.1\r\n\r\n", id="invalid method"),
        pytest.param(b"GET /" + SECRET + b" HTTP/9.9.9\r\n\r\n", id="invalid version"),
        pytest.param(b"\x16\x03\x01\x02\x00" + SECRET + b"\r\n\r\n", id="not HTTP"),
        pytest.param(b"GET / HTTP/1.1\r\nContent-Length: " + SECRET + b"\r\n\r\n", id="length that is not a number"),
        pytest.param(
            b"GET / HTTP/1.1\r\n" + b"X: " + SECRET + b"\r\n" + b"Y: z\r\n" * 200 + b"\r\n", id="many headers"
        ),
    ],
)
@pytest.mark.parametrize("before", [b"", GOOD], ids=["first", "second"])
async def test_malformed_head_is_refused_and_not_logged(
    before: bytes, head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with captured_lines(logging.DEBUG) as lines:
        async with running_gateway(config()) as url:
            *_, last = await answers_to(url, before + head)
    status, *rest = last.split("\r\n")
    assert " 400 " in status
    assert f"Server: {SERVER_HEADER}" in rest
    assert f"X-Spreed-Signaling-Features: {FEATURES}" in rest
    assert "aiohttp" not in last
    assert SECRET.decode() not in last
    assert [line for line in lines if SECRET.decode() in line] == []
    assert faults_in_log(caplog) == []


async def test_malformed_body_is_refused_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    head = b"POST /api/v1/room/r HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    with captured_lines(logging.DEBUG) as lines:
        async with running_gateway(config()) as url:
            (answer,) = await answers_to(url, head + SECRET + b"\r\n\r\n")
    assert " 400 " in answer.partition("\r\n")[0]
    assert f"Server: {SERVER_HEADER}" in answer
    assert [line for line in lines if SECRET.decode() in line] == []
    assert faults_in_log(caplog) == []


@pytest.mark.parametrize("path", ["/nowhere", "/api/v1/room/r"])
async def test_body_is_never_decompressed(path: str, caplog: pytest.LogCaptureFixture) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nConnection: close\r\n"
    head += "Spreed-Signaling-Random: r\r\nSpreed-Signaling-Checksum: c\r\nContent-Encoding: gzip\r\n"
    async with running_gateway(config()) as url:
        reader, writer = await asyncio.open_connection(*address_of(url))
        writer.write(f"{head}Content-Length: {len(SECRET)}\r\n\r\n".encode())
        if path == "/nowhere":
            assert b" 404 " in await reader.readline()
        writer.write(SECRET)
        async with asyncio.timeout(10):
            rest = await reader.read()
        writer.close()
    assert b" 500 " not in rest
    assert faults_in_log(caplog) == []
