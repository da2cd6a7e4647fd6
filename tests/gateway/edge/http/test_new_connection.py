"""WebSockets opened without aiohttp: the same answers as by aiohttp's request handler, and the same limits."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest
from msgspec import structs

from gateway.app import Gateway
from gateway.core.limits import Limits
from gateway.edge import janus_events
from gateway.edge.clients import websocket_connection
from gateway.edge.clients.websocket import WebSocketEndpoint
from gateway.edge.http.descriptors import DescriptorReserve
from gateway.edge.http.new_connection import NewConnection, UpgradeRequest
from gateway.edge.http.receive_buffer import WEBSOCKET_SIZE
from tests.gateway.certificates import make_certificate
from tests.gateway.edge.http.handshakes import KEY, REQUEST_LINE, answer, head, normalised
from tests.gateway.edge.raw_client import CLOSE, PING, PONG, WAIT_TIMEOUT, RawClient, masked
from tests.gateway.edge.serving import address_of, running_gateway
from tests.gateway.test_app import config

METRICS = b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n"
ROOM = masked('{"id":"early","type":"room","room":{"roomid":"r"}}')
MAX_LENGTH = 8190  # octets of a header, or of the request's target


AT_ONCE = {
    "plain": head(),
    "behind a prefix": head("GET /standalone-signaling/spreed HTTP/1.1"),
    "names in lower case": head().replace(b"Upgrade:", b"upgrade:").replace(b"Connection:", b"CONNECTION:"),
    "list of connection options": head(Connection="keep-alive, Upgrade"),
    "connection options on two lines": head(Connection="keep-alive\r\nConnection: upgrade"),
    "close after the upgrade": head(Connection="close, Upgrade"),
    "headers of a browser": head(
        REQUEST_LINE, "Origin: https://cloud.example", "User-Agent: Mozilla/5.0", "Cookie: a=b"
    ),
    "extension": head(REQUEST_LINE, "Sec-WebSocket-Extensions: permessage-deflate"),
    "subprotocol": head(REQUEST_LINE, "Sec-WebSocket-Protocol: other"),
    "headers of proxies": head(REQUEST_LINE, "X-Forwarded-For: 192.0.2.1, 127.0.0.1", "X-Real-IP: 192.0.2.7"),
    "longest header": head(REQUEST_LINE, f"X: {'x' * (MAX_LENGTH - 1)}"),
    "most headers": head(REQUEST_LINE, *(f"X{n}: y" for n in range(128 - 5))),
    "message behind the head": head() + ROOM,
    "half a message behind the head": head() + ROOM[:9],
    "request behind the head": head() + head(),
    "header that is no UTF-8": head(REQUEST_LINE).replace(b"gateway.example", b"gateway.example\r\nX: \xff\xfe"),
}
BY_AIOHTTP = {
    "other path": head("GET /nowhere HTTP/1.1"),
    "slash behind the path": head("GET /spreed/ HTTP/1.1"),
    "two slashes": head("GET //spreed HTTP/1.1"),
    "query": head("GET /spreed?a=b HTTP/1.1"),
    "fragment": head("GET /spreed#a HTTP/1.1"),
    "percent-encoded path": head("GET /%73preed HTTP/1.1"),
    "absolute form": head("GET http://gateway.example/spreed HTTP/1.1"),
    "absolute form of another host": head("GET http://other.example/nowhere HTTP/1.1"),
    "path with dots": head("GET /x/../spreed HTTP/1.1"),
    "POST": head("POST /spreed HTTP/1.1"),
    "HEAD": head("HEAD /spreed HTTP/1.1"),
    "method in lower case": head("get /spreed HTTP/1.1"),
    "CONNECT": head("CONNECT /spreed HTTP/1.1"),
    "HTTP/1.0": head("GET /spreed HTTP/1.0"),
    "HTTP/1.0 with keep-alive": head("GET /spreed HTTP/1.0", Connection="keep-alive, Upgrade"),
    "HTTP/2.0": head("GET /spreed HTTP/2.0"),
    "no version": head("GET /spreed"),
    "empty line first": b"\r\n" + head(),
    "lines without CR": head().replace(b"\r\n", b"\n"),
    "no host": head(omit="Host"),
    "no upgrade": head(omit="Upgrade"),
    "no connection option": head(omit="Connection"),
    "other upgrade": head(Upgrade="h2c"),
    "list of upgrades": head(Upgrade="h2c, websocket"),
    "upgrades on two lines": head(Upgrade="h2c\r\nUpgrade: websocket"),
    "upgrade that is not ASCII": head(Upgrade="websoc\u212aet"),
    "no key": head(omit="Sec-WebSocket-Key"),
    "two keys": head(REQUEST_LINE, f"Sec-WebSocket-Key: {KEY}"),
    "short key": head(omit="Sec-WebSocket-Key").replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Key: c2hvcnQ=\r\n\r\n"),
    "no version of WebSocket": head(omit="Sec-WebSocket-Version"),
    "version 8": head(Sec_WebSocket_Version="8"),
    "two versions": head(REQUEST_LINE, "Sec-WebSocket-Version: 13"),
    "old version of WebSocket": head(REQUEST_LINE, "Sec-WebSocket-Key1: x"),
    "event feed of Janus": head(REQUEST_LINE, "Sec-WebSocket-Protocol: janus-events"),
    "length 0": head(REQUEST_LINE, "Content-Length: 0"),
    "body": head(REQUEST_LINE, "Content-Length: 5") + b"12345",
    "incomplete body": head(REQUEST_LINE, "Content-Length: 9") + b"12345",
    "request in a body": head(REQUEST_LINE, f"Content-Length: {len(head())}") + head(),
    "two lengths": head(REQUEST_LINE, "Content-Length: 5", "Content-Length: 6") + b"12345",
    "length that is not a number": head(REQUEST_LINE, "Content-Length: +5") + b"12345",
    "chunked body": head(REQUEST_LINE, "Transfer-Encoding: chunked") + b"5\r\n12345\r\n0\r\n\r\n",
    "length and chunked body": head(REQUEST_LINE, "Content-Length: 4", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "unknown transfer coding": head(REQUEST_LINE, "Transfer-Encoding: xchunked"),
    "expectation": head(REQUEST_LINE, "Expect: 100-continue"),
    "unknown expectation": head(REQUEST_LINE, "Expect: x"),
    "space before the colon": head(REQUEST_LINE, "Content-Length : 5"),
    "folded header": head(REQUEST_LINE, "X: y", " z"),
    "header without colon": head(REQUEST_LINE, "X"),
    "header with NUL": head(REQUEST_LINE, "X: \0"),
    "header with CR": head(REQUEST_LINE, "X: y\rz"),
    "header too long": head(REQUEST_LINE, f"X: {'x' * (MAX_LENGTH + 1)}"),
    "too many headers": head(REQUEST_LINE, *(f"X{n}: y" for n in range(130))),
    "target too long": head(f"GET /{'x' * (MAX_LENGTH + 1)} HTTP/1.1"),
    "TLS": b"\x16\x03\x01\x02\x00\r\n\r\n",
    "other request first": b"GET /api/v1/welcome HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" + head(),
}


@pytest.fixture
def opened_at_once(monkeypatch: pytest.MonkeyPatch) -> list[UpgradeRequest]:
    """Record the handshakes whose WebSockets are opened at once."""
    requests: list[UpgradeRequest] = []
    original = WebSocketEndpoint.upgrade

    def recording(endpoint: WebSocketEndpoint, request: UpgradeRequest) -> bool:
        accepted = original(endpoint, request)
        if accepted:
            requests.append(request)
        return accepted

    monkeypatch.setattr(WebSocketEndpoint, "upgrade", recording)
    return requests


@pytest.mark.parametrize("name", [*AT_ONCE, *BY_AIOHTTP])
async def test_answer_is_the_same_as_by_aiohttp(
    name: str, opened_at_once: list[UpgradeRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each request is sent to two gateways, one of which leaves all connections to aiohttp."""
    monkeypatch.setattr(janus_events, "CLOSE_TIME", 0.1)
    sent = AT_ONCE.get(name) or BY_AIOHTTP[name]
    async with running_gateway(config()) as url, running_gateway(config(), at_once=False) as other:
        received = await answer(url, sent)
        assert len(opened_at_once) == (1 if name in AT_ONCE else 0)
        assert received == await answer(other, sent)
        assert len(opened_at_once) == (1 if name in AT_ONCE else 0)
    if name in AT_ONCE:
        assert received.startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize("cut", [1, 4, 20, -30, -4, -1])
async def test_head_in_two_parts_is_handled_by_aiohttp(
    cut: int, opened_at_once: list[UpgradeRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived = asyncio.Event()
    original = NewConnection.data_received

    def received(connection: NewConnection, data: bytes) -> None:
        original(connection, data)
        arrived.set()

    async with running_gateway(config()) as url:
        whole = await answer(url, head())
        assert len(opened_at_once) == 1
        monkeypatch.setattr(NewConnection, "data_received", received)
        async with asyncio.timeout(WAIT_TIMEOUT):
            reader, writer = await asyncio.open_connection(*address_of(url))
            writer.write(head()[:cut])
            await arrived.wait()
            writer.write(head()[cut:])
            octets = await reader.readuntil(b'"welcome"]}}')
            writer.transport.abort()
    assert normalised(octets) == whole[: len(normalised(octets))]
    assert len(opened_at_once) == 1


# -- limits


# reference 1.1-a
@pytest.mark.parametrize("sent", [b"", b"G", head()[:-1]], ids=["nothing", "an octet", "an incomplete handshake"])
async def test_connection_whose_handshake_does_not_end_in_time_is_closed_and_counted(sent: bytes) -> None:
    async with running_gateway(structs.replace(config(), limits=Limits(http_read_timeout=0.2))) as url:
        assert await answer(url, sent) == b""
        assert b'signaling_limits_met_total{limit="http_read_timeout"} 1.0' in await answer(url, METRICS)


async def test_handshake_in_time_is_not_counted_and_its_connection_stays(opened_at_once: list[UpgradeRequest]) -> None:
    async with running_gateway(structs.replace(config(), limits=Limits(http_read_timeout=0.2))) as url:
        async with await RawClient.connect(address_of(url)) as client:
            await client.receive()
            await asyncio.sleep(0.5)
            client.send({"id": "x", "type": "room", "room": {"roomid": "r"}})
            assert (await client.receive())["error"]["code"] == "hello_expected"
        assert len(opened_at_once) == 1
        assert b'limit="http_read_timeout"' not in await answer(url, METRICS)


async def test_upgraded_connections_are_not_idle(opened_at_once: list[UpgradeRequest]) -> None:
    """The number of upgraded connections has a limit of its own."""
    async with running_gateway(structs.replace(config(), limits=Limits(idle_connections_per_address=2))) as url:
        clients = [await RawClient.connect(address_of(url)) for _ in range(5)]
        idle = [await asyncio.open_connection(*address_of(url)) for _ in range(2)]
        idle[1][1].write(b"G")  # handed to aiohttp: its age still counts from the connect
        newest = [await asyncio.open_connection(*address_of(url)) for _ in range(2)]
        async with asyncio.timeout(WAIT_TIMEOUT):
            for reader, _ in idle:
                assert await is_closed(reader)
            for client in clients:
                await client.receive()
                client.send(b"connected", opcode=PING)
                assert await client.frame() == (PONG, b"connected")
        assert not any(reader.at_eof() for reader, _ in newest)
        for writer in [writer for _, writer in (*idle, *newest)] + [client.writer for client in clients]:
            writer.transport.abort()
    assert len(opened_at_once) == 5


async def test_refused_client_is_counted_once(opened_at_once: list[UpgradeRequest]) -> None:
    async with running_gateway(structs.replace(config(), limits=Limits(connections_per_address=1))) as url:
        async with await RawClient.connect(address_of(url)) as client:
            assert (await answer(url, head())).startswith(b"HTTP/1.1 429 ")
            assert (await client.receive())["type"] == "welcome"
            of_other_client = head(REQUEST_LINE, "X-Forwarded-For: 192.0.2.1")
            assert (await answer(url, of_other_client)).startswith(b"HTTP/1.1 101 ")
        assert b'signaling_limits_met_total{limit="connections_per_address"} 1.0' in await answer(url, METRICS)
    assert len(opened_at_once) == 2


async def test_connection_with_a_descriptor_of_the_reserve_is_refused(
    opened_at_once: list[UpgradeRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DescriptorReserve, "is_used_by", lambda self, transport: True)
    async with running_gateway(config()) as url:
        assert (await answer(url, head())).startswith(b"HTTP/1.1 503 ")
        assert b'signaling_limits_met_total{limit="descriptors"} 1.0' in await answer(url, METRICS)
    assert opened_at_once == []


# -- transports


async def test_socket_of_a_websocket_has_the_options_of_other_connections(opened_at_once: list[UpgradeRequest]) -> None:
    async with running_gateway(config()) as url, await RawClient.connect(address_of(url)):
        (request,) = opened_at_once
        sock = request.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * WEBSOCKET_SIZE  # Linux doubles it


async def test_websocket_is_opened_at_once_over_tls(tmp_path: Path, opened_at_once: list[UpgradeRequest]) -> None:
    certificate, key = make_certificate(tmp_path)
    trust = ssl.create_default_context(cafile=certificate)
    async with (
        running_gateway(config(certificate=str(certificate), key=str(key))) as url,
        await RawClient.connect(address_of(url), tls=trust, early=ROOM) as client,
    ):
        assert (await client.receive())["type"] == "welcome"
        assert (await client.receive())["error"]["code"] == "hello_expected"
        client.send(b"", opcode=CLOSE)
        assert await client.wait_closed() == 1000
    assert len(opened_at_once) == 1


async def test_websocket_is_opened_at_once_over_a_unix_socket(
    tmp_path: Path, opened_at_once: list[UpgradeRequest]
) -> None:
    path = tmp_path / "portunus.sock"
    async with running_gateway(config(str(path))), asyncio.timeout(WAIT_TIMEOUT):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(head(REQUEST_LINE, "X-Real-IP: 192.0.2.1"))
        assert (await reader.readuntil(b'"welcome"]}}')).startswith(b"HTTP/1.1 101 ")
        writer.transport.abort()
    assert [request.remote for request in opened_at_once] == [""]


# -- the end


async def test_stop_closes_connections_that_have_sent_nothing_and_websockets(
    opened_at_once: list[UpgradeRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket_connection, "CLOSE_TIME", 0.3)
    gateway = Gateway(config())
    (url,) = await gateway.start()
    async with asyncio.timeout(WAIT_TIMEOUT):
        client = await RawClient.connect(address_of(url))
        await client.receive()
        silent, writer = await asyncio.open_connection(*address_of(url))
        await answer(url, METRICS)  # the silent connection is accepted before this one
        await gateway.stop()
        assert len(gateway._websocket) == 0  # it waited for a close frame, which this client does not send in time
        assert await client.wait_closed() == 1000
        assert await is_closed(silent)
    writer.transport.abort()
    assert len(opened_at_once) == 1


async def is_closed(reader: asyncio.StreamReader) -> bool:
    """Wait until a connection is closed or reset; return whether nothing was received on it."""
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True
