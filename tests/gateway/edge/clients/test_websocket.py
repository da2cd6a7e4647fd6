"""The clients' WebSocket over real sockets (reference 2.1; invariants 3 and 6), on both event loops."""

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

from gateway.edge.clients import websocket
from gateway.edge.clients.frames import frame
from gateway.edge.clients.websocket import WebSocketConnection, WebSocketEndpoint
from gateway.edge.http.address import TrustedProxies
from gateway.version import SERVER_HEADER
from tests.conversations.levels import socket_level
from tests.conversations.player import Conversation
from tests.gateway.certificates import make_certificate
from tests.gateway.edge.raw_client import BINARY, CLOSE, PATIENCE, PING, PONG, TEXT, Json, RawClient, masked, upgrade
from tests.gateway.edge.serving import exchange, served
from tests.gateway.flows.harness import CLOUD, FlowHarness

NOW = 1_700_000_000.25  # what the server's clock says
SMALL = 8192  # bytes of the kernel's buffers in the tests of slow clients


class Server:
    """The flows over fakes behind real sockets."""

    def __init__(self, harness: FlowHarness, endpoint: WebSocketEndpoint) -> None:
        self.harness = harness
        self.endpoint = endpoint
        self.address = ("", 0)
        self.send_buffer = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        if self.send_buffer:
            sock = request.transport.get_extra_info("socket")
            sock.setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDBUF, self.send_buffer)
        return await self.endpoint.handle(request)

    async def client(self, userid: str = "", **options: Any) -> Known:
        """Return a client that has said hello."""
        wire = await RawClient.connect(self.address, **options)
        client = Known(self, wire)
        await client.hello({"auth": {"url": CLOUD.urls[0], "params": self.harness.nextcloud.ticket(userid)}})
        return client

    async def resumed(self, client: Known, **options: Any) -> Known:
        """Return a client that took the session of another one up."""
        wire = await RawClient.connect(self.address, **options)
        again = Known(self, wire)
        await again.hello({"resumeid": client.resumeid})
        assert again.sessionid == client.sessionid
        return again


class Known:
    """A client with a session."""

    def __init__(self, server: Server, wire: RawClient) -> None:
        self.server = server
        self.wire = wire
        self.sessionid = ""
        self.resumeid = ""

    async def hello(self, body: Json) -> None:
        assert (await self.wire.receive())["type"] == "welcome"
        self.wire.send({"type": "hello", "hello": {"version": "1.0", **body}})
        reply = (await self.wire.receive())["hello"]
        self.sessionid, self.resumeid = reply["sessionid"], reply["resumeid"]

    def message(self, to: Known, data: object) -> bytes:
        """Return the octets of a message to another client, unmasked and unframed."""
        recipient = {"type": "session", "sessionid": to.sessionid}
        return json.dumps({"type": "message", "message": {"recipient": recipient, "data": data}}).encode()

    def send_message(self, to: Known, data: object) -> None:
        self.wire.send(self.message(to, data))

    async def data(self) -> Any:
        """Return the data of the next message."""
        message = await self.wire.receive()
        assert message["type"] == "message", message
        return message["message"]["data"]


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    monkeypatch.setattr(websocket, "CLOSE_TIME", 0.1)
    async with serving() as made:
        yield made


class serving:  # noqa: N801 - used as a function
    """Serve the flows on a free port."""

    def __init__(self, **options: Any) -> None:
        self._options = options

    async def __aenter__(self) -> Server:
        self.harness = FlowHarness(mcu=False, **self._options)
        endpoint = WebSocketEndpoint(self.harness.dispatch, self.harness.counters, lambda: NOW, TrustedProxies(()))
        server = Server(self.harness, endpoint)
        self._served = served([web.get("/spreed", server.handle, allow_head=False)])
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
    """Wait for something that has no event of its own."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - there is none
            await asyncio.sleep(0.001)


# -- handshake


async def test_upgrade_is_answered_as_the_rfc_has_it(server: Server) -> None:
    reader, writer = await asyncio.open_connection(*server.address)
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
    ],
)
async def test_handshake_that_is_none_is_refused(server: Server, headers: dict[str, Any], status: int) -> None:
    answered, given, body = await exchange(server.address, upgrade(**headers))
    assert (answered, given["content-type"].split(";")[0]) == (status, "text/plain")
    assert body
    if "Sec_WebSocket_Version" in headers:
        assert given["sec-websocket-version"] == "13"
    assert len(server.endpoint) == 0


async def test_other_methods_are_not_allowed(server: Server) -> None:
    status, _, _ = await exchange(server.address, upgrade().replace(b"GET", b"POST", 1))
    assert status == 405


async def test_headers_are_read_as_http_has_them(server: Server) -> None:
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(upgrade(Connection="keep-alive, uPgrade", Upgrade="WebSocket"))
    assert (await reader.readline()).startswith(b"HTTP/1.1 101")
    writer.close()


@pytest.mark.parametrize("where", ["early", "later"])
async def test_data_right_behind_the_request_is_not_lost(server: Server, where: str) -> None:
    octets = masked('{"id":"1","type":"room","room":{"roomid":"r"}}') + masked("junk")[:5]
    early, later = (octets, b"") if where == "early" else (b"", octets)
    async with await RawClient.connect(server.address, early=early, later=later) as client:
        assert (await client.receive())["type"] == "welcome"
        assert (await client.receive())["error"]["code"] == "hello_expected"


# reference 1.2-b
async def test_upgrade_names_server_and_features() -> None:
    async with socket_level(Conversation("upgrade", "", False, {}, (), ())) as level:
        await level.connect()
        head = level.clients[0].head
    assert f"\r\nServer: {SERVER_HEADER}\r\n" in head
    assert "\r\nX-Spreed-Signaling-Features: ack, audio-video-permissions, " in head


# -- frames in


# reference 2.1-c
async def test_ping_comes_right_after_the_connect_with_the_time(server: Server) -> None:
    async with await RawClient.connect(server.address) as client:
        frames = [await client.frame() for _ in range(2)]
        assert [opcode for opcode, _ in frames] in ([TEXT, PING], [PING, TEXT])
        (ping,) = [payload for opcode, payload in frames if opcode == PING]
        assert ping == b"%d" % int(NOW * 1e9)
        client.send(ping, opcode=PONG)
        await until(lambda: sum(server.harness.counters.round_trip.counts) == 1)
        for odd in (b"", b"text", b"9" * 40, b"12"):
            client.send(odd, opcode=PONG)
        client.send({"type": "x"})
        await client.receive()
        assert sum(server.harness.counters.round_trip.counts) == 1


async def test_ping_of_the_client_is_answered(server: Server) -> None:
    client = await server.client()
    client.wire.send(b"are you there", opcode=PING)
    assert await client.wire.frame() == (PONG, b"are you there")


async def test_frame_split_at_every_byte(server: Server) -> None:
    alice, bob = await server.client("alice"), await server.client("bob")
    octets = masked(alice.message(bob, "ä piece at a time")) * 2
    for position in range(len(octets)):
        alice.wire.writer.write(octets[position : position + 1])
        await asyncio.sleep(0)
    assert [await bob.data(), await bob.data()] == ["ä piece at a time"] * 2


@pytest.mark.parametrize("size", [1, 7, 100])
async def test_message_in_fragments_with_a_ping_between(server: Server, size: int) -> None:
    alice, bob = await server.client("alice"), await server.client("bob")
    octets = alice.message(bob, "in pieces ä")
    pieces = [octets[start : start + size] for start in range(0, len(octets), size)]
    for number, piece in enumerate(pieces):
        alice.wire.send(piece, opcode=0 if number else TEXT, final=number == len(pieces) - 1)
        alice.wire.send(b"", opcode=PING)
    assert await bob.data() == "in pieces ä"


async def test_many_messages_in_one_packet_are_handled_in_order(server: Server) -> None:
    alice, bob = await server.client("alice"), await server.client("bob")
    alice.wire.writer.write(b"".join(masked(alice.message(bob, number)) for number in range(500)))
    assert [await bob.data() for _ in range(500)] == list(range(500))


# reference 2.1-b
async def test_binary_frame_is_answered_and_ignored(server: Server) -> None:
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
async def test_message_of_the_greatest_size_is_taken_and_a_longer_one_ends_the_connection_only(
    server: Server, fragments: int
) -> None:
    alice, bob = await server.client("alice"), await server.client("bob")

    def say(length: int) -> None:
        octets = alice.message(bob, "")
        octets = octets.replace(b'""', b'"' + b"x" * (length - len(octets)) + b'"')
        assert len(octets) == length
        size = -(-length // fragments)
        for number in range(fragments):
            piece = octets[number * size : (number + 1) * size]
            alice.wire.send(piece, opcode=0 if number else TEXT, final=number == fragments - 1)

    say(65536)
    assert len(await bob.data()) > 65000
    say(65537)
    assert await alice.wire.closed() == 1009
    again = await server.resumed(alice)
    again.send_message(bob, "back")
    assert await bob.data() == "back"


async def test_frame_that_announces_too_much_is_not_waited_for(server: Server) -> None:
    client = await server.client()
    client.wire.writer.write(b"\x81\xff" + (1 << 40).to_bytes(8) + b"mask" + b"x" * 70000)
    assert await client.wire.closed() == 1009


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        pytest.param(masked(b'"\xff"'), 1007, id="no UTF-8"),
        pytest.param(masked(b'"\xed\xa0\x80"'), 1007, id="half a surrogate pair"),
        pytest.param(masked("x", 3), 1002, id="unknown opcode"),
        pytest.param(masked("x", reserved=4), 1002, id="compressed"),
        pytest.param(masked("continued", 0), 1002, id="continues nothing"),
    ],
)
async def test_broken_rule_ends_the_connection_and_the_session_is_resumed(
    server: Server, octets: bytes, code: int
) -> None:
    client = await server.client("alice")
    client.wire.writer.write(octets + masked('{"type":"bye"}'))
    assert await client.wire.closed() == code
    assert client.sessionid in server.harness.hub.sessions
    await server.resumed(client)


# -- the end


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
async def test_close_is_answered_and_the_session_stays(server: Server, code: int) -> None:
    client = await server.client("alice")
    client.wire.send(code.to_bytes(2) + "ä".encode(), opcode=CLOSE)
    assert await client.wire.closed() == code
    await until(lambda: len(server.endpoint) == 0)
    assert client.sessionid in server.harness.hub.sessions


async def test_close_without_a_code_is_answered(server: Server) -> None:
    client = await server.client()
    client.wire.send(b"", opcode=CLOSE)
    assert await client.wire.closed() == 1000


# reference 2.1-f
async def test_bye_is_answered_before_the_close(server: Server) -> None:
    client = await server.client()
    client.wire.send({"id": "b", "type": "bye"})
    assert await client.wire.receive() == {"id": "b", "type": "bye"}
    assert await client.wire.closed() == 1000
    await until(lambda: len(server.endpoint) == 0)


async def test_client_that_does_not_answer_the_close_is_cut_off(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "CLOSE_TIME", 0.05)
    client = await server.client()
    client.wire.send({"type": "bye"})
    await client.wire.receive()
    assert (await client.wire.frame())[0] == CLOSE
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await client.wire.frame()


async def test_half_closed_connection_ends(server: Server) -> None:
    client = await server.client()
    client.wire.writer.write_eof()
    await client.wire.closed()
    await until(lambda: len(server.endpoint) == 0)


async def test_takeover_tells_the_old_connection_and_closes_it(server: Server) -> None:
    alice, bob = await server.client("alice"), await server.client("bob")
    again = await server.resumed(alice)
    assert await alice.wire.receive() == {"type": "bye", "bye": {"reason": "session_resumed"}}
    alice.send_message(bob, "from the old one")
    assert await alice.wire.closed() == 1000
    bob.send_message(again, "to the new one")
    assert await again.data() == "to the new one"
    again.send_message(bob, "from the new one")
    assert await bob.data() == "from the new one"


async def test_shutdown_closes_all_and_keeps_the_sessions(server: Server) -> None:
    clients = [await server.client(str(number)) for number in range(3)]
    server.endpoint.close()
    assert [await it.wire.closed() for it in clients] == [1000] * 3
    assert len(server.harness.hub.sessions) == 3


async def test_nothing_is_left_of_connections_that_ended(server: Server) -> None:
    for number in range(6):
        client = await server.client("alice")
        client.wire.send(b"ping", opcode=PING)
        if number % 3 == 0:
            client.wire.reset()
        elif number % 3 == 1:
            client.wire.send({"type": "bye"})
            await client.wire.closed()
        else:
            client.wire.writer.write(masked(b"\xff"))
            await client.wire.closed()
        await until(lambda: len(server.endpoint) == 0)
    del client
    assert len(server.harness.dispatch._clients) == 0
    assert server.harness.services.delivery._connections == {}

    def gone() -> bool:
        gc.collect()
        return not [it for it in gc.get_objects() if isinstance(it, RequestHandler | WebSocketConnection)]

    await until(gone)


# -- time


# reference 2.1-d
async def test_silent_client_is_cut_off_and_messages_and_pongs_renew_the_deadline(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "READ_DEADLINE", 1.0)
    talking, answering, pinging = [await server.client(name) for name in ("a", "b", "c")]
    loop = asyncio.get_running_loop()
    start = loop.time()
    while loop.time() < start + 1.5:
        talking.wire.send({"type": "nothing"})
        answering.wire.send(b"1", opcode=PONG)
        if not pinging.wire.writer.is_closing():
            pinging.wire.send(b"1", opcode=PING)
        await asyncio.sleep(0.02)
    assert await pinging.wire.closed() is None
    talking.send_message(answering, "still there")
    assert await answering.data() == "still there"
    assert len(server.endpoint) == 2
    assert pinging.sessionid in server.harness.hub.sessions


async def test_pings_are_repeated(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "PING_PERIOD", 0.05)
    async with await RawClient.connect(server.address) as client:
        pings = 0
        while pings < 3:
            opcode, _ = await client.frame()
            pings += opcode == PING


# -- TLS


@pytest.fixture
async def tls(tmp_path: Path) -> AsyncIterator[tuple[Server, ssl.SSLContext]]:
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


async def test_client_over_tls_hears_also_when_it_says_nothing(tls: tuple[Server, ssl.SSLContext]) -> None:
    server, trust = tls
    alice, bob = await server.client("alice", tls=trust), await server.client("bob", tls=trust)
    for number in range(20):
        alice.send_message(bob, [number, "x" * (number * 3000)])
        assert (await bob.data())[0] == number
    for number in range(200):
        alice.send_message(bob, [number, "x" * 3000])
    assert [(await bob.data())[0] for _ in range(200)] == list(range(200))


async def test_slow_client_over_tls_is_cut_off_after_the_write_deadline(
    tls: tuple[Server, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "WRITE_DEADLINE", 0.2)
    server, trust = tls
    server.send_buffer = SMALL
    slow = await server.client("slow", tls=trust, receive_buffer=SMALL)
    fast = await server.client("fast", tls=trust)
    slow.wire.writer.transport.pause_reading()  # type: ignore[attr-defined]  # of the reading side
    for number in range(400):
        fast.send_message(slow, [number, "x" * 4000])
    await until(lambda: len(server.endpoint) == 1)
    assert slow.sessionid in server.harness.hub.sessions


# -- slow clients (invariants 3 and 6)


async def test_slow_client_is_cut_off_after_the_write_deadline_and_resumes_without_a_gap(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "WRITE_DEADLINE", 0.2)
    server.send_buffer = SMALL
    slow, fast = await server.client("slow", receive_buffer=SMALL), await server.client("fast")
    slow.wire.writer.transport.pause_reading()  # type: ignore[attr-defined]  # of the reading side
    count = 300
    for number in range(count):
        fast.send_message(slow, [number, "x" * 4000])
    await until(lambda: slow.sessionid not in {it._client.session.id for it in server.endpoint._connections})  # type: ignore[union-attr]
    again = await server.resumed(slow)
    first = (await again.data())[0]
    assert 0 < first < count
    assert [(await again.data())[0] for _ in range(first + 1, count)] == list(range(first + 1, count))


async def test_what_the_kernel_did_not_take_is_replayed_in_order_after_a_cut(server: Server) -> None:
    server.send_buffer = SMALL
    slow, fast = await server.client("slow", receive_buffer=SMALL), await server.client("fast")
    slow.wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
    count = 200
    for number in range(count):
        fast.send_message(slow, [number, "x" * 3000])
    await until(lambda: server.harness.counters.messages_in >= count + 2)
    session = server.harness.hub.resumable(slow.resumeid)
    assert session is not None
    (connection,) = [
        it for it in server.endpoint._connections if it._client is not None and it._client.session is session
    ]
    waiting = connection._transport.get_write_buffer_size()
    kept = [len(frame(message)) for message in list(session.outbox._messages)[: session.outbox._taken]]
    assert sum(kept[1:]) < waiting <= sum(kept)  # what the kernel has not taken whole, and nothing else
    slow.wire.reset()
    await until(lambda: len(server.endpoint) == 1)
    for number in range(count, count + 3):
        fast.send_message(slow, [number, ""])
    again = await server.resumed(slow)
    first = (await again.data())[0]
    assert 0 < first < count
    assert [(await again.data())[0] for _ in range(first + 1, count + 3)] == list(range(first + 1, count + 3))


async def test_takeover_of_a_slow_connection_repeats_at_most_what_was_in_part_written(server: Server) -> None:
    server.send_buffer = SMALL
    slow, fast = await server.client("slow", receive_buffer=SMALL), await server.client("fast")
    slow.wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
    count = 200
    for number in range(count):
        fast.send_message(slow, [number, "x" * 3000])
    await until(lambda: server.harness.counters.messages_in >= count + 2)
    again = await server.resumed(slow)
    first = (await again.data())[0]
    assert [(await again.data())[0] for _ in range(first + 1, count)] == list(range(first + 1, count))
    slow.wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
    heard = []
    while (message := await slow.wire.receive())["type"] == "message":
        heard.append(message["message"]["data"][0])
    assert heard == list(range(len(heard)))
    assert len(heard) >= first
    assert message == {"type": "bye", "bye": {"reason": "session_resumed"}}


async def test_message_that_a_reset_connection_did_not_take_is_replayed(server: Server) -> None:
    for _ in range(5):
        alice, bob = await server.client("alice"), await server.client("bob")
        session = server.harness.hub.resumable(alice.resumeid)
        assert session is not None
        alice.wire.reset()
        await asyncio.sleep(0)  # the loop of the client closes its socket; the server has not looked yet
        for number in range(40):
            server.harness.services.delivery.send(session, b'{"type":"x","n":%d,"x":"%s"}' % (number, b"x" * 3000))
        await until(lambda: len(server.endpoint) == 1)
        again = await server.resumed(alice)
        assert [(await again.wire.receive())["n"] for _ in range(40)] == list(range(40))
        for it in (again, bob):
            it.wire.reset()
        await until(lambda: len(server.endpoint) == 0)


async def test_reset_connection_does_not_keep_others_from_being_written(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    clients = [await server.client(str(number)) for number in range(6)]
    sessions = list(server.harness.hub.sessions.values())
    for it in clients[::2]:
        it.wire.reset()
    await asyncio.sleep(0)
    for number in range(100):
        server.harness.services.delivery.send_all(sessions, b'{"type":"x","n":%d,"x":"%s"}' % (number, b"x" * 3000))
    for it in clients[1::2]:
        assert [(await it.wire.receive())["n"] for _ in range(100)] == list(range(100))
    assert not [it for it in caplog.records if it.levelno >= logging.WARNING]


async def test_full_outbox_ends_that_session_while_others_go_on() -> None:
    async with serving(outbox_bytes=100_000) as server:
        server.send_buffer = SMALL
        slow, fast, third = [
            await server.client(name, receive_buffer=SMALL if name == "slow" else 0)
            for name in ("slow", "fast", "third")
        ]
        slow.wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for number in range(200):
            fast.send_message(slow, "x" * 3000)
            fast.send_message(third, number)
        assert [await third.data() for _ in range(200)] == list(range(200))
        assert slow.sessionid not in server.harness.hub.sessions
        slow.wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert await slow.wire.closed() == 1000
        stranger = await RawClient.connect(server.address)
        await stranger.receive()
        stranger.send({"type": "hello", "hello": {"version": "1.0", "resumeid": slow.resumeid}})
        assert (await stranger.receive())["error"]["code"] == "no_such_session"


async def test_client_that_says_too_much_behind_a_slow_join_is_read_no_further(server: Server) -> None:
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
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    alice, bob = await server.client("alice"), await server.client("bob")
    server.harness.nextcloud.gate = asyncio.Event()
    alice.wire.send({"id": "j", "type": "room", "room": {"roomid": "r"}})
    alice.wire.writer.write(b"".join(masked(alice.message(bob, number)) for number in range(100)))
    await until(lambda: server.harness.counters.messages_in > 64)
    alice_session = server.harness.hub.resumable(alice.resumeid)
    for connection in list(server.endpoint._connections):
        if connection._client is not None and connection._client.session is alice_session:
            connection._transport.abort()
    server.harness.nextcloud.gate.set()
    assert [await bob.data() for _ in range(100)] == list(range(100))
    await until(lambda: len(server.endpoint) == 1)
    assert not [it for it in caplog.records if it.levelno >= logging.WARNING]
