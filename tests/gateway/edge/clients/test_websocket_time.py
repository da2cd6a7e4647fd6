"""The time limits of a WebSocket connection, in virtual time over real sockets (reference 2.1)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.core.limits import Limits
from gateway.tools.talk_rooms import nextcloud_session
from tests.gateway.edge import raw_client
from tests.gateway.edge.clients import flow_server
from tests.gateway.edge.clients.flow_server import FlowServer, SessionClient, serving
from tests.gateway.edge.raw_client import PING, PONG, RawClient
from tests.gateway.flows.virtual_time import VirtualLoop

TOLERANCE = 0.5  # seconds that the sockets may need


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FlowServer]:
    for module in (raw_client, flow_server):
        monkeypatch.setattr(module, "WAIT_TIMEOUT", 1000.0)
    async with serving() as made:
        yield made


def now() -> float:
    return asyncio.get_running_loop().time()


# reference 2.1-c
async def test_client_receives_a_ping_every_54_seconds(server: FlowServer) -> None:
    start = now()
    async with await RawClient.connect(server.address) as client:
        times: list[float] = []
        while len(times) < 4:
            opcode, payload = await client.frame()
            if opcode == PING:
                times.append(now() - start)
                client.send(payload, opcode=PONG)
    assert times == pytest.approx([0, 54, 108, 162], abs=TOLERANCE)


async def test_pings_behind_chat_messages_are_a_second_apart(server: FlowServer) -> None:
    client = await server.client("alice")
    client.wire.send({"type": "room", "room": {"roomid": "r", "sessionid": nextcloud_session("alice")}})
    while (await client.wire.receive()).get("event", {}).get("type") != "join":
        pass
    start, times, number = now(), list[float](), 0
    while now() - start < 5:
        data = {"type": "chat", "chat": {"comment": {"id": (number := number + 1)}}}
        server.harness.rooms_api("r", {"type": "message", "message": {"data": data}})
        opcode, payload = await client.wire.frame()
        if opcode == PING:
            times.append(now() - start)
            client.wire.send(payload, opcode=PONG)
            continue
        await asyncio.sleep(0.1)
    assert times == pytest.approx([1, 2, 3, 4, 5][: len(times)], abs=TOLERANCE)
    assert len(times) >= 4


# reference 2.1-d
async def test_silence_of_60_seconds_ends_the_connection(server: FlowServer) -> None:
    start = now()
    silent = await server.client("silent")
    assert await silent.wire.wait_closed() is None
    assert now() - start == pytest.approx(60, abs=TOLERANCE)
    assert silent.sessionid in server.harness.hub.sessions


# reference 2.1-d
async def test_message_renews_the_read_deadline(server: FlowServer) -> None:
    client = await server.client("talking")
    await asyncio.sleep(50)
    client.wire.send({"type": "nothing"})
    start = now()
    assert await client.wire.wait_closed() is None
    assert now() - start == pytest.approx(60, abs=TOLERANCE)


# reference 2.1-d
async def test_read_deadline_is_renewed_by_messages_and_pongs_only(server: FlowServer) -> None:
    sending, ponging, pinging = [await server.client(name) for name in ("sending", "ponging", "pinging")]
    for _ in range(4):
        sending.wire.send({"type": "nothing"})
        ponging.wire.send(b"1", opcode=PONG)
        if not pinging.wire.writer.is_closing():
            pinging.wire.send(b"1", opcode=PING)
        await asyncio.sleep(20)
    assert await pinging.wire.wait_closed() is None
    sending.send_message(ponging, "still connected")
    assert await ponging.data() == "still connected"
    assert len(server.endpoint) == 2
    assert pinging.sessionid in server.harness.hub.sessions


# reference 2.1-e
async def test_write_that_does_not_end_in_10_seconds_ends_the_connection(server: FlowServer) -> None:
    slow, fast = await server.slow_client(), await server.client("fast")
    start = now()
    for number in range(300):
        fast.send_message(slow, [number, "x" * 4000])
    while is_connected(server, slow):  # noqa: ASYNC110 - the end of a connection has no event
        await asyncio.sleep(0.01)
    assert now() - start == pytest.approx(10, abs=TOLERANCE)


def is_connected(server: FlowServer, client: SessionClient) -> bool:
    """Return whether the gateway has a connection with the client's session."""
    sessions = [
        connection._client.session for connection in server.endpoint._connections if connection._client is not None
    ]
    return client.sessionid in {session.id for session in sessions if session is not None}


# -- a standstill of the process


def stand_still(seconds: float) -> None:
    """Advance the loop's clock without running the loop, as in a process that stands still."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.advance(seconds)


# reference 2.1-o
@pytest.mark.parametrize("after", [10, 46, 50, 55, 59.9])
async def test_answer_that_waited_while_the_process_stood_still_keeps_the_connection(
    server: FlowServer, after: float
) -> None:
    client = await server.client("alice")
    await asyncio.sleep(after)
    client.wire.send({"type": "nothing"})  # waits in the kernel: the server does not run before the jump
    stand_still(15)
    for connection in server.endpoint._connections:
        connection._tick()  # as in libuv's loop, which runs timers before it reads
    assert len(server.endpoint) == 1
    start = now()
    assert await client.wire.wait_closed() is None
    assert now() - start == pytest.approx(60, abs=TOLERANCE)


# reference 2.1-o
async def test_silent_client_is_disconnected_soon_after_a_standstill(server: FlowServer) -> None:
    client = await server.client("alice")
    await asyncio.sleep(55)
    stand_still(20)
    start = now()
    assert await client.wire.wait_closed() is None
    assert 2 <= now() - start <= 20


# reference 2.1-o
async def test_ping_that_a_standstill_delayed_can_be_answered(server: FlowServer) -> None:
    client = await server.client("alice")
    await asyncio.sleep(50)
    stand_still(15)
    opcode, payload = await client.wire.frame()
    assert opcode == PING
    await asyncio.sleep(5)
    client.wire.send(payload, opcode=PONG)
    start = now()
    assert await client.wire.wait_closed() is None
    assert now() - start == pytest.approx(60, abs=TOLERANCE)


async def test_client_is_not_silent_while_its_frames_are_not_read(server: FlowServer) -> None:
    # Each message to the room after the first waits for 30 s; during the first three waits, the input is held.
    server.harness.change_settings(limits=Limits(relayed_bytes_per_second=2000, relayed_bytes_burst=1))
    start, client = now(), await server.client("alice")
    client.wire.send({"type": "room", "room": {"roomid": "r", "sessionid": nextcloud_session("alice")}})
    for _ in range(5):
        client.wire.send({"type": "message", "message": {"recipient": {"type": "room"}, "data": "x" * 60_000}})
    assert await client.wire.wait_closed() is None
    assert now() - start == pytest.approx(150, abs=5)
