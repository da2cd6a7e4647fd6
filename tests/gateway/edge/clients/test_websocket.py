"""WebSocket connections over real sockets (reference 2.1), on both event loops."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from aiohttp.web_protocol import RequestHandler

from gateway.core.limits import Limits
from gateway.edge.clients import websocket_connection
from gateway.edge.clients.websocket_connection import WebSocketConnection
from gateway.edge.http.new_connection import NewConnection
from gateway.version import SERVER_HEADER
from tests.conversations.levels import socket_level
from tests.conversations.player import Conversation
from tests.gateway.edge.clients.flow_server import NOW, FlowServer, until
from tests.gateway.edge.raw_client import BINARY, CLOSE, PING, PONG, TEXT, RawClient, masked, upgrade
from tests.gateway.edge.serving import exchange

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


async def test_frames_may_arrive_byte_by_byte(server: FlowServer) -> None:
    alice, bob = await server.client("alice"), await server.client("bob")
    octets = masked(alice.message(bob, "ä piece at a time")) * 2
    for position in range(len(octets)):
        alice.wire.writer.write(octets[position : position + 1])
        await asyncio.sleep(0)
    assert [await bob.data(), await bob.data()] == ["ä piece at a time"] * 2


@pytest.mark.parametrize("size", [1, 7, 100])
async def test_message_in_fragments_with_pings_between_them_is_delivered(server: FlowServer, size: int) -> None:
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


async def test_too_long_frame_is_refused_at_its_head(server: FlowServer) -> None:
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
    alice.send_message(bob, "on the old connection")
    assert await alice.wire.wait_closed() == 1000
    bob.send_message(again, "to the new connection")
    assert await again.data() == "to the new connection"
    again.send_message(bob, "on the new connection")
    assert await bob.data() == "on the new connection"


async def test_shutdown_closes_all_connections_and_keeps_the_sessions(either_server: FlowServer) -> None:
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
        classes = RequestHandler | WebSocketConnection | NewConnection
        return not [instance for instance in gc.get_objects() if isinstance(instance, classes)]

    await until(are_collected)


async def test_ping_follows_each_ping_period(server: FlowServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_connection, "PING_PERIOD", 0.05)
    async with await RawClient.connect(server.address) as client:
        pings = 0
        while pings < 3:
            opcode, _ = await client.frame()
            pings += opcode == PING
