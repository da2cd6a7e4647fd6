"""WebSocket connections over real sockets (reference 2.1; invariants 3 and 6), on both event loops."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import socket as sockets
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from gateway.core.limits import Limits
from gateway.edge.clients import websocket_connection
from gateway.edge.clients.frames import encode_frame
from gateway.edge.clients.websocket import WebSocketEndpoint
from gateway.edge.clients.websocket_connection import WebSocketConnection
from gateway.edge.http.address import TrustedProxies
from gateway.edge.http.new_connection import NewConnection, UpgradeRequest
from gateway.version import SERVER_HEADER
from tests.conversations.levels import socket_level
from tests.conversations.player import Conversation
from tests.gateway.certificates import make_certificate
from tests.gateway.edge.raw_client import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    WAIT_TIMEOUT,
    Json,
    RawClient,
    masked,
    upgrade,
)
from tests.gateway.edge.serving import exchange, served_with_upgrades
from tests.gateway.flows.harness import CLOUD, FlowHarness

NOW = 1_700_000_000.25  # time of the server's clock
SMALL_BUFFER = 8192  # bytes of the socket buffers in the tests of slow clients


class FlowServer:
    """The flows over fakes behind the real WebSocket endpoint."""

    def __init__(self, harness: FlowHarness, endpoint: WebSocketEndpoint) -> None:
        self.harness = harness
        self.endpoint = endpoint
        self.address = ("", 0)
        self.send_buffer = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self._set_send_buffer(request.transport)
        return await self.endpoint.handle(request)

    def upgrade(self, request: UpgradeRequest) -> bool:
        self._set_send_buffer(request.transport)
        return self.endpoint.upgrade(request)

    def _set_send_buffer(self, transport: asyncio.BaseTransport | None) -> None:
        assert transport is not None
        if self.send_buffer:
            sock = transport.get_extra_info("socket")
            sock.setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDBUF, self.send_buffer)

    async def client(self, userid: str = "", **options: Any) -> SessionClient:
        """Connect a client and open its session."""
        wire = await RawClient.connect(self.address, **options)
        client = SessionClient(self, wire)
        await client.hello({"auth": {"url": CLOUD.urls[0], "params": self.harness.nextcloud.ticket(userid)}})
        return client

    async def resumed(self, client: SessionClient, **options: Any) -> SessionClient:
        """Connect a client that resumes the session of another client."""
        wire = await RawClient.connect(self.address, **options)
        again = SessionClient(self, wire)
        await again.hello({"resumeid": client.resumeid})
        assert again.sessionid == client.sessionid
        return again


class SessionClient:
    """A client with a session."""

    def __init__(self, server: FlowServer, wire: RawClient) -> None:
        self.server = server
        self.wire = wire
        self.sessionid = ""
        self.resumeid = ""

    async def hello(self, body: Json) -> None:
        assert (await self.wire.receive())["type"] == "welcome"
        self.wire.send({"type": "hello", "hello": {"version": "1.0", **body}})
        reply = (await self.wire.receive())["hello"]
        self.sessionid, self.resumeid = reply["sessionid"], reply["resumeid"]

    def message(self, to: SessionClient, data: object) -> bytes:
        """Encode a message to another client, without a frame."""
        recipient = {"type": "session", "sessionid": to.sessionid}
        return json.dumps({"type": "message", "message": {"recipient": recipient, "data": data}}).encode()

    def send_message(self, to: SessionClient, data: object) -> None:
        self.wire.send(self.message(to, data))

    async def data(self) -> Any:
        """Return the data of the next message."""
        message = await self.wire.receive()
        assert message["type"] == "message", message
        return message["message"]["data"]


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FlowServer]:
    monkeypatch.setattr(websocket_connection, "CLOSE_TIME", 0.1)
    async with serving() as made:
        yield made


@pytest.fixture(params=["at once", "by aiohttp"])
async def either_server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FlowServer]:
    """A server that opens WebSockets at once, and one that leaves it to aiohttp's request handler."""
    monkeypatch.setattr(websocket_connection, "CLOSE_TIME", 0.1)
    async with serving(at_once=request.param == "at once") as made:
        yield made


class serving:  # noqa: N801 - used as a function
    """Serve the flows on a free port; ``at_once``: WebSockets are opened without aiohttp's request handler."""

    def __init__(self, *, at_once: bool = True, **options: Any) -> None:
        self._at_once = at_once
        self._options = options

    async def __aenter__(self) -> FlowServer:
        self.harness = FlowHarness(mcu=False, **self._options)
        endpoint = WebSocketEndpoint(self.harness.dispatch, self.harness.counters, lambda: NOW, TrustedProxies(()), {})
        server = FlowServer(self.harness, endpoint)
        self._served = served_with_upgrades(
            [web.get("/spreed", server.handle, allow_head=False)],
            lambda request: self._at_once and server.upgrade(request),
            self.harness.services.clock,
        )
        server.address = await self._served.__aenter__()
        self.server = server
        return server

    async def __aexit__(self, *error: object) -> None:
        for connection in list(self.server.endpoint._connections):
            connection._transport.abort()
        await until(lambda: len(self.server.endpoint) == 0)
        await self._served.__aexit__(None, None, None)
        await self.harness.services.tasks.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition is true, by polling."""
    async with asyncio.timeout(WAIT_TIMEOUT):
        while not condition():  # noqa: ASYNC110 - conditions have no event
            await asyncio.sleep(0.001)


# -- handshake


async def test_upgrade_is_answered_as_in_rfc_6455(either_server: FlowServer) -> None:
    reader, writer = await asyncio.open_connection(*either_server.address)
    writer.write(upgrade(Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ=="))
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    assert head.startswith("HTTP/1.1 101 ")
    assert "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
    assert "Sec-WebSocket-Extensions" not in head
    writer.close()


# reference 2.1-g
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Upgrade": None}, 400),
        ({"Upgrade": "h2c"}, 400),
        ({"Connection": "keep-alive"}, 400),
        ({"Connection": None}, 400),
        ({"Sec_WebSocket_Version": "12"}, 400),
        ({"Sec_WebSocket_Version": None}, 400),
        ({"Sec_WebSocket_Key": None}, 400),
        ({"Sec_WebSocket_Key": "c2hvcnQ="}, 400),
        ({"Sec_WebSocket_Key": "not base64 at all!!!!!!!"}, 400),
        ({"Sec_WebSocket_Key": "ä"}, 400),
        ({"Connection": "xupgrade"}, 400),
        ({"Connection": "upgrade-insecure, keep-alive"}, 400),
        ({"Connection": "keep-alive upgrade"}, 400),
        ({"Upgrade": "websockets"}, 400),
        ({"Upgrade": "xwebsocket"}, 400),
        ({"Sec_WebSocket_Version": "13, 8"}, 400),
        ({"Sec_WebSocket_Version": "8\r\nSec-WebSocket-Version: 13"}, 400),
        ({"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}, 400),
    ],
)
async def test_invalid_handshake_is_refused(either_server: FlowServer, headers: dict[str, Any], status: int) -> None:
    answered, given, body = await exchange(either_server.address, upgrade(**headers))
    assert (answered, given["content-type"].split(";")[0]) == (status, "text/plain")
    assert body
    if "Sec_WebSocket_Version" in headers:
        assert given["sec-websocket-version"] == "13"
    assert len(either_server.endpoint) == 0


async def test_other_methods_are_not_allowed(server: FlowServer) -> None:
    status, _, _ = await exchange(server.address, upgrade().replace(b"GET", b"POST", 1))
    assert status == 405


# reference 2.1-n
@pytest.mark.parametrize(
    "headers",
    [
        {"Connection": "keep-alive, uPgrade", "Upgrade": "WebSocket"},
        {"Connection": "keep-alive\r\nConnection: Upgrade"},
        {"Connection": "Upgrade\r\nConnection: keep-alive"},
        {"Connection": ",\tUpgrade ,, keep-alive"},
        {"Upgrade": "h2c, websocket"},
        {"Upgrade": "h2c\r\nUpgrade: websocket"},
    ],
)
async def test_headers_that_are_lists_are_compared_member_by_member(
    server: FlowServer, headers: dict[str, Any]
) -> None:
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(upgrade(**headers))
    assert (await reader.readline()).startswith(b"HTTP/1.1 101")
    writer.close()


async def test_upgrade_in_http_1_0_is_refused(either_server: FlowServer) -> None:
    status, _, _ = await exchange(either_server.address, upgrade().replace(b"HTTP/1.1", b"HTTP/1.0", 1))
    assert status == 400


@pytest.mark.parametrize("where", ["early", "later"])
async def test_data_right_behind_the_request_is_not_lost(either_server: FlowServer, where: str) -> None:
    octets = masked('{"id":"1","type":"room","room":{"roomid":"r"}}') + masked("junk")[:5]
    early, later = (octets, b"") if where == "early" else (b"", octets)
    async with await RawClient.connect(either_server.address, early=early, later=later) as client:
        assert (await client.receive())["type"] == "welcome"
        assert (await client.receive())["error"]["code"] == "hello_expected"


# reference 1.2-b
async def test_upgrade_has_server_and_feature_headers() -> None:
    async with socket_level(Conversation("upgrade", "", False, {}, (), ())) as level:
        await level.connect()
        head = level.clients[0].head
    assert f"\r\nServer: {SERVER_HEADER}\r\n" in head
    assert "\r\nX-Spreed-Signaling-Features: ack, audio-video-permissions, " in head


# -- incoming frames


# reference 2.1-c
async def test_ping_with_the_time_follows_the_upgrade(either_server: FlowServer) -> None:
    async with await RawClient.connect(either_server.address) as client:
        frames = [await client.frame() for _ in range(2)]
        assert [opcode for opcode, _ in frames] in ([TEXT, PING], [PING, TEXT])
        (ping,) = [payload for opcode, payload in frames if opcode == PING]
        assert ping == b"%d" % int(NOW * 1e9)
        client.send(ping, opcode=PONG)
        await until(lambda: sum(either_server.harness.counters.round_trip.counts) == 1)
        for odd in (b"", b"text", b"9" * 40, b"12"):
            client.send(odd, opcode=PONG)
        client.send({"type": "x"})
        await client.receive()
        assert sum(either_server.harness.counters.round_trip.counts) == 1


async def test_ping_of_the_client_is_answered(server: FlowServer) -> None:
    client = await server.client()
    client.wire.send(b"are you there", opcode=PING)
    assert await client.wire.frame() == (PONG, b"are you there")


async def test_frame_split_at_every_byte(server: FlowServer) -> None:
    alice, bob = await server.client("alice"), await server.client("bob")
    octets = masked(alice.message(bob, "ä piece at a time")) * 2
    for position in range(len(octets)):
        alice.wire.writer.write(octets[position : position + 1])
        await asyncio.sleep(0)
    assert [await bob.data(), await bob.data()] == ["ä piece at a time"] * 2


@pytest.mark.parametrize("size", [1, 7, 100])
async def test_message_in_fragments_with_a_ping_between(server: FlowServer, size: int) -> None:
    alice, bob = await server.client("alice"), await server.client("bob")
    octets = alice.message(bob, "in pieces ä")
    pieces = [octets[start : start + size] for start in range(0, len(octets), size)]
    for number, piece in enumerate(pieces):
        alice.wire.send(piece, opcode=0 if number else TEXT, final=number == len(pieces) - 1)
        alice.wire.send(b"", opcode=PING)
    assert await bob.data() == "in pieces ä"


@pytest.mark.parametrize("pieces", [1, 2, 9])
async def test_octets_of_a_message_count_once_however_it_is_fragmented(server: FlowServer, pieces: int) -> None:
    bob = await server.client("bob")
    text = "x" * 900
    length = len(bob.message(bob, text))
    server.harness.change_settings(limits=Limits(bytes_per_second=1, bytes_burst=length))  # one message
    alice, counters = await server.client("alice"), server.harness.counters
    octets, size, before = alice.message(bob, text), -(-length // pieces), counters.bytes_in
    for start in range(0, length, size):
        alice.wire.send(octets[start : start + size], opcode=0 if start else TEXT, final=start + size >= length)
    assert await bob.data() == text
    assert counters.bytes_in - before == length
    assert not counters.limits_met


async def test_many_messages_in_one_packet_are_handled_in_order(server: FlowServer) -> None:
    alice, bob = await server.client("alice"), await server.client("bob")
    alice.wire.writer.write(b"".join(masked(alice.message(bob, number)) for number in range(500)))
    assert [await bob.data() for _ in range(500)] == list(range(500))


# reference 2.1-b
async def test_binary_frame_is_answered_and_ignored(server: FlowServer) -> None:
    client = await server.client()
    client.wire.send(b'{"id":"1","type":"bye"}', opcode=BINARY)
    assert await client.wire.receive() == {
        "type": "error",
        "error": {"code": "invalid_format", "message": "Invalid data format."},
    }
    stranger = await RawClient.connect(server.address)
    await stranger.receive()
    stranger.send(b"\x00\xff", opcode=BINARY)
    assert (await stranger.receive())["error"]["code"] == "invalid_format"


# reference 2.1-a
@pytest.mark.parametrize("fragments", [1, 3])
async def test_message_of_the_greatest_size_is_accepted_and_a_longer_message_ends_only_the_connection(
    server: FlowServer, fragments: int
) -> None:
    alice, bob = await server.client("alice"), await server.client("bob")

    def send_message_of(length: int) -> None:
        octets = alice.message(bob, "")
        octets = octets.replace(b'""', b'"' + b"x" * (length - len(octets)) + b'"')
        assert len(octets) == length
        size = -(-length // fragments)
        for number in range(fragments):
            piece = octets[number * size : (number + 1) * size]
            alice.wire.send(piece, opcode=0 if number else TEXT, final=number == fragments - 1)

    send_message_of(65536)
    assert len(await bob.data()) > 65000
    send_message_of(65537)
    assert await alice.wire.wait_closed() == 1009
    again = await server.resumed(alice)
    again.send_message(bob, "back")
    assert await bob.data() == "back"


async def test_too_long_frame_is_refused_by_its_header(server: FlowServer) -> None:
    client = await server.client()
    client.wire.writer.write(b"\x81\xff" + (1 << 40).to_bytes(8) + b"mask" + b"x" * 70000)
    assert await client.wire.wait_closed() == 1009


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        pytest.param(masked(b'"\xff"'), 1007, id="no UTF-8"),
        pytest.param(masked(b'"\xed\xa0\x80"'), 1007, id="half a surrogate pair"),
        pytest.param(masked("x", 3), 1002, id="unknown opcode"),
        pytest.param(masked("x", reserved=4), 1002, id="compressed"),
        pytest.param(masked("continued", 0), 1002, id="continues nothing"),
        pytest.param(b'\x81\x0e{"type":"bye"}', 1002, id="unmasked"),
        pytest.param(b"\x89\x00", 1002, id="unmasked ping"),
        pytest.param(masked("", final=False) + masked('{"type":"bye"}'), 1002, id="message within a message"),
        pytest.param(masked((1006).to_bytes(2), CLOSE), 1002, id="reserved close code"),
        pytest.param(masked((5000).to_bytes(2), CLOSE), 1002, id="unassigned close code"),
    ],
)
async def test_protocol_error_ends_the_connection_and_the_session_can_be_resumed(
    server: FlowServer, octets: bytes, code: int
) -> None:
    client = await server.client("alice")
    client.wire.writer.write(octets + masked('{"type":"bye"}'))
    assert await client.wire.wait_closed() == code
    assert client.sessionid in server.harness.hub.sessions
    await server.resumed(client)


# -- the end


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
async def test_close_is_answered_and_the_session_stays(server: FlowServer, code: int) -> None:
    client = await server.client("alice")
    client.wire.send(code.to_bytes(2) + "ä".encode(), opcode=CLOSE)
    assert await client.wire.wait_closed() == code
    await until(lambda: len(server.endpoint) == 0)
    assert client.sessionid in server.harness.hub.sessions


async def test_close_without_a_code_is_answered(either_server: FlowServer) -> None:
    client = await either_server.client()
    client.wire.send(b"", opcode=CLOSE)
    assert await client.wire.wait_closed() == 1000


# reference 2.1-f
async def test_bye_is_answered_before_the_close(either_server: FlowServer) -> None:
    client = await either_server.client()
    client.wire.send({"id": "b", "type": "bye"})
    assert await client.wire.receive() == {"id": "b", "type": "bye"}
    assert await client.wire.wait_closed() == 1000
    await until(lambda: len(either_server.endpoint) == 0)


async def test_connection_is_aborted_if_the_client_does_not_answer_the_close(
    server: FlowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket_connection, "CLOSE_TIME", 0.05)
    client = await server.client()
    client.wire.send({"type": "bye"})
    await client.wire.receive()
    assert (await client.wire.frame())[0] == CLOSE
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await client.wire.frame()


async def test_half_closed_connection_ends(either_server: FlowServer) -> None:
    client = await either_server.client()
    client.wire.writer.write_eof()
    await client.wire.wait_closed()
    await until(lambda: len(either_server.endpoint) == 0)


async def test_resume_elsewhere_closes_the_old_connection_with_a_bye(server: FlowServer) -> None:
    alice, bob = await server.client("alice"), await server.client("bob")
    again = await server.resumed(alice)
    assert await alice.wire.receive() == {"type": "bye", "bye": {"reason": "session_resumed"}}
    alice.send_message(bob, "from the old one")
    assert await alice.wire.wait_closed() == 1000
    bob.send_message(again, "to the new one")
    assert await again.data() == "to the new one"
    again.send_message(bob, "from the new one")
    assert await bob.data() == "from the new one"


async def test_shutdown_closes_all_and_keeps_the_sessions(either_server: FlowServer) -> None:
    clients = [await either_server.client(str(number)) for number in range(3)]
    either_server.endpoint.close()
    assert [await client.wire.wait_closed() for client in clients] == [1000] * 3
    assert len(either_server.harness.hub.sessions) == 3


async def test_ended_connections_are_garbage_collected(either_server: FlowServer) -> None:
    for number in range(6):
        client = await either_server.client("alice")
        client.wire.send(b"ping", opcode=PING)
        if number % 3 == 0:
            client.wire.reset()
        elif number % 3 == 1:
            client.wire.send({"type": "bye"})
            await client.wire.wait_closed()
        else:
            client.wire.writer.write(masked(b"\xff"))
            await client.wire.wait_closed()
        await until(lambda: len(either_server.endpoint) == 0)
    del client
    assert len(either_server.harness.dispatch._clients) == 0
    assert either_server.harness.services.delivery._connections == {}

    def are_collected() -> bool:
        gc.collect()
        kinds = RequestHandler | WebSocketConnection | NewConnection
        return not [instance for instance in gc.get_objects() if isinstance(instance, kinds)]

    await until(are_collected)


# -- time


# reference 2.1-d
async def test_read_deadline_is_renewed_by_messages_and_pongs_only(
    server: FlowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket_connection, "READ_DEADLINE", 1.0)
    sending, ponging, pinging = [await server.client(name) for name in ("a", "b", "c")]
    loop = asyncio.get_running_loop()
    start = loop.time()
    while loop.time() < start + 1.5:
        sending.wire.send({"type": "nothing"})
        ponging.wire.send(b"1", opcode=PONG)
        if not pinging.wire.writer.is_closing():
            pinging.wire.send(b"1", opcode=PING)
        await asyncio.sleep(0.02)
    assert await pinging.wire.wait_closed() is None
    sending.send_message(ponging, "still there")
    assert await ponging.data() == "still there"
    assert len(server.endpoint) == 2
    assert pinging.sessionid in server.harness.hub.sessions


async def test_pings_are_repeated(server: FlowServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_connection, "PING_PERIOD", 0.05)
    async with await RawClient.connect(server.address) as client:
        pings = 0
        while pings < 3:
            opcode, _ = await client.frame()
            pings += opcode == PING


# -- TLS


@pytest.fixture
async def tls(tmp_path: Path) -> AsyncIterator[tuple[FlowServer, ssl.SSLContext]]:
    certificate, key = make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    async with serving() as server:
        app = web.Application()
        app.router.add_get("/spreed", server.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        server.address = runner.addresses[0][:2]
        yield server, ssl.create_default_context(cafile=str(certificate))
        for connection in list(server.endpoint._connections):
            connection._transport.abort()
        await runner.cleanup()


async def test_idle_client_over_tls_receives_messages(tls: tuple[FlowServer, ssl.SSLContext]) -> None:
    server, trust = tls
    alice, bob = await server.client("alice", tls=trust), await server.client("bob", tls=trust)
    for number in range(20):
        alice.send_message(bob, [number, "x" * (number * 3000)])
        assert (await bob.data())[0] == number
    for number in range(200):
        alice.send_message(bob, [number, "x" * 3000])
    assert [(await bob.data())[0] for _ in range(200)] == list(range(200))


async def test_slow_client_over_tls_is_aborted_after_the_write_deadline(
    tls: tuple[FlowServer, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket_connection, "WRITE_DEADLINE", 0.2)
    server, trust = tls
    server.send_buffer = SMALL_BUFFER
    slow = await server.client("slow", tls=trust, receive_buffer=SMALL_BUFFER)
    fast = await server.client("fast", tls=trust)
    slow.wire.writer.transport.pause_reading()  # type: ignore[attr-defined]  # of the reading side
    for number in range(400):
        fast.send_message(slow, [number, "x" * 4000])
    await until(lambda: len(server.endpoint) == 1)
    assert slow.sessionid in server.harness.hub.sessions


# -- slow clients (invariants 3 and 6)


async def test_slow_client_is_aborted_after_the_write_deadline_and_resumes_without_a_gap(
    server: FlowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket_connection, "WRITE_DEADLINE", 0.2)
    server.send_buffer = SMALL_BUFFER
    slow, fast = await server.client("slow", receive_buffer=SMALL_BUFFER), await server.client("fast")
    slow.wire.writer.transport.pause_reading()  # type: ignore[attr-defined]  # of the reading side
    count = 300
    for number in range(count):
        fast.send_message(slow, [number, "x" * 4000])
    await until(
        lambda: slow.sessionid not in {connection._client.session.id for connection in server.endpoint._connections}  # type: ignore[union-attr]
    )
    again = await server.resumed(slow)
    first = (await again.data())[0]
    assert 0 < first < count
    assert [(await again.data())[0] for _ in range(first + 1, count)] == list(range(first + 1, count))


async def test_messages_that_the_kernel_did_not_accept_are_replayed_in_order(
    server: FlowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = []  # bytes that the kernel has not accepted at the end of a write; it accepts some of them later
    undelivered = WebSocketConnection._count_undelivered

    def recorded(connection: WebSocketConnection, batch: list[bytes]) -> int:
        waiting.append(connection._transport.get_write_buffer_size())
        return undelivered(connection, batch)

    monkeypatch.setattr(WebSocketConnection, "_count_undelivered", recorded)
    server.send_buffer = SMALL_BUFFER
    slow, fast = await server.client("slow", receive_buffer=SMALL_BUFFER), await server.client("fast")
    slow.wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
    count = 200
    for number in range(count):
        fast.send_message(slow, [number, "x" * 3000])
    await until(lambda: server.harness.counters.messages_in >= count + 2)
    session = server.harness.hub.find_resumable(slow.resumeid)
    assert session is not None
    kept = [len(encode_frame(message)) for message in list(session.outbox._messages)[: session.outbox._taken]]
    assert sum(kept[1:]) < waiting[-1] <= sum(kept)  # exactly the messages that the kernel has not accepted in full
    slow.wire.reset()
    await until(lambda: len(server.endpoint) == 1)
    for number in range(count, count + 3):
        fast.send_message(slow, [number, ""])
    again = await server.resumed(slow)
    first = (await again.data())[0]
    assert 0 < first < count
    assert [(await again.data())[0] for _ in range(first + 1, count + 3)] == list(range(first + 1, count + 3))


async def test_resume_of_a_slow_connection_repeats_at_most_the_partly_written_message(server: FlowServer) -> None:
    server.send_buffer = SMALL_BUFFER
    slow, fast = await server.client("slow", receive_buffer=SMALL_BUFFER), await server.client("fast")
    slow.wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
    count = 200
    for number in range(count):
        fast.send_message(slow, [number, "x" * 3000])
    await until(lambda: server.harness.counters.messages_in >= count + 2)
    again = await server.resumed(slow)
    first = (await again.data())[0]
    assert [(await again.data())[0] for _ in range(first + 1, count)] == list(range(first + 1, count))
    slow.wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
    received = []
    while (message := await slow.wire.receive())["type"] == "message":
        received.append(message["message"]["data"][0])
    assert received == list(range(len(received)))
    assert len(received) >= first
    assert message == {"type": "bye", "bye": {"reason": "session_resumed"}}


async def test_message_lost_with_a_reset_connection_is_replayed(server: FlowServer) -> None:
    for _ in range(5):
        alice, bob = await server.client("alice"), await server.client("bob")
        session = server.harness.hub.find_resumable(alice.resumeid)
        assert session is not None
        alice.wire.reset()
        await asyncio.sleep(0)  # the client's loop closes its socket; the server has not noticed
        for number in range(40):
            server.harness.services.delivery.send(session, b'{"type":"x","n":%d,"x":"%s"}' % (number, b"x" * 3000))
        await until(lambda: len(server.endpoint) == 1)
        again = await server.resumed(alice)
        assert [(await again.wire.receive())["n"] for _ in range(40)] == list(range(40))
        for client in (again, bob):
            client.wire.reset()
        await until(lambda: len(server.endpoint) == 0)


async def test_reset_connection_does_not_stop_writes_to_others(
    server: FlowServer, caplog: pytest.LogCaptureFixture
) -> None:
    clients = [await server.client(str(number)) for number in range(6)]
    sessions = list(server.harness.hub.sessions.values())
    for client in clients[::2]:
        client.wire.reset()
    await asyncio.sleep(0)
    for number in range(100):
        server.harness.services.delivery.send_all(sessions, b'{"type":"x","n":%d,"x":"%s"}' % (number, b"x" * 3000))
    for client in clients[1::2]:
        assert [(await client.wire.receive())["n"] for _ in range(100)] == list(range(100))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_full_outbox_ends_its_session_only() -> None:
    async with serving(outbox_bytes=100_000) as server:
        server.send_buffer = SMALL_BUFFER
        slow, fast, third = [
            await server.client(name, receive_buffer=SMALL_BUFFER if name == "slow" else 0)
            for name in ("slow", "fast", "third")
        ]
        slow.wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for number in range(200):
            fast.send_message(slow, "x" * 3000)
            fast.send_message(third, number)
        assert [await third.data() for _ in range(200)] == list(range(200))
        assert slow.sessionid not in server.harness.hub.sessions
        slow.wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert await slow.wire.wait_closed() == 1000
        stranger = await RawClient.connect(server.address)
        await stranger.receive()
        stranger.send({"type": "hello", "hello": {"version": "1.0", "resumeid": slow.resumeid}})
        assert (await stranger.receive())["error"]["code"] == "no_such_session"


async def test_reading_is_paused_while_many_messages_wait_for_a_slow_join(server: FlowServer) -> None:
    alice, bob = await server.client("alice"), await server.client("bob")
    server.harness.nextcloud.gate = asyncio.Event()
    alice.wire.send({"id": "j", "type": "room", "room": {"roomid": "r"}})
    octets = b"".join(masked(alice.message(bob, [number, "x" * 1000])) for number in range(2000))
    alice.wire.writer.write(octets)
    await until(lambda: server.harness.counters.messages_in > 60)
    await asyncio.sleep(0.05)
    assert server.harness.counters.messages_in < 1500
    server.harness.nextcloud.gate.set()
    assert [(await bob.data())[0] for _ in range(2000)] == list(range(2000))
    assert (await alice.wire.receive())["id"] == "j"


async def test_connection_lost_while_reading_is_paused_is_forgotten(
    server: FlowServer, caplog: pytest.LogCaptureFixture
) -> None:
    alice, bob = await server.client("alice"), await server.client("bob")
    server.harness.nextcloud.gate = asyncio.Event()
    alice.wire.send({"id": "j", "type": "room", "room": {"roomid": "r"}})
    alice.wire.writer.write(b"".join(masked(alice.message(bob, number)) for number in range(100)))
    await until(lambda: server.harness.counters.messages_in > 64)
    alice_session = server.harness.hub.find_resumable(alice.resumeid)
    for connection in list(server.endpoint._connections):
        if connection._client is not None and connection._client.session is alice_session:
            connection._transport.abort()
    server.harness.nextcloud.gate.set()
    assert [await bob.data() for _ in range(64)] == list(range(64))  # the messages that were read
    await until(lambda: len(server.endpoint) == 1)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
