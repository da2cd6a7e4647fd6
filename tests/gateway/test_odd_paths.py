"""Unusual load over real sockets: many joins at once, many messages at once, and clients that stop reading."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.app import Gateway
from gateway.config import SessionsSection
from gateway.core.limits import Limits
from gateway.edge.clients.websocket_connection import CLOSE_TIME
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_client import TalkClient
from gateway.tools.talk_rooms import nextcloud_session
from tests.gateway.running import SECRET, running_gateway
from tests.gateway.served import NO_RATE_LIMITS, PORTUNUS, configuration_for
from tests.gateway.stalled_member import stalled_member

pytestmark = pytest.mark.full

CROWD_SIZE = 300
MEBI = 1_048_576
OUTBOX = 4 * MEBI  # bytes, for a client that stops reading
STALLED_CLIENTS = 4  # clients that stop reading
BALLAST = 16_000  # bytes of a message
BATCH = 40  # messages that are sent at once; far fewer than an outbox holds
WARM_UP = 400  # messages
SLACK = 6 * MEBI  # for the allocator and the buffers of the connections


@dataclass
class GatewayUnderLoad:
    """A gateway and its Nextcloud."""

    url: str
    nextcloud: FakeNextcloud
    gateway: Gateway

    def client(self) -> TalkClient:
        return TalkClient(self.url, self.nextcloud.url)


@pytest.fixture
async def loaded_gateway() -> AsyncIterator[GatewayUnderLoad]:
    async with FakeNextcloud() as nextcloud:
        limits = Limits(
            connections_per_address=0,
            hellos_per_address=0,
            messages_per_second=0,
            bytes_per_second=0,
            relayed_bytes_per_second=0,
        )
        sessions = SessionsSection(secret=SECRET, outbox_bytes=OUTBOX)
        async with running_gateway(nextcloud, sessions=sessions, limits=limits) as (gateway, url):
            yield GatewayUnderLoad(url, nextcloud, gateway)


async def test_three_hundred_clients_that_join_at_once_receive_exactly_the_others(
    loaded_gateway: GatewayUnderLoad,
) -> None:
    clients = [loaded_gateway.client() for _ in range(CROWD_SIZE)]
    try:
        for n, client in enumerate(clients):  # one by one: each has 2 s for its hello, also on a busy machine
            await client.connect()
            await client.hello(loaded_gateway.nextcloud.ticket(f"u{n}"))
        await asyncio.gather(*(client.join("crowd", nextcloud_session(f"{n}")) for n, client in enumerate(clients)))
        all_ids = sorted(client.session_id for client in clients)
        for client in clients:
            await client.wait_for(lambda _, client=client: len(joined(client)) >= CROWD_SIZE)  # type: ignore[misc]
            assert sorted(joined(client)) == all_ids
    finally:
        await asyncio.gather(*(client.disconnect() for client in clients))


async def test_a_thousand_pipelined_messages_arrive_in_order(loaded_gateway: GatewayUnderLoad) -> None:
    async with loaded_gateway.client() as anna, loaded_gateway.client() as ben:
        await anna.hello(loaded_gateway.nextcloud.ticket("anna"))
        await ben.hello(loaded_gateway.nextcloud.ticket("ben"))
        for number in range(1000):
            await anna.send_message(ben.session_id, {"number": number})
        await ben.wait_for(lambda message: numbers([message]) == [999])
        assert numbers(ben.messages) == list(range(1000))


async def test_client_that_stops_reading_delays_no_others_and_has_bounded_memory(
    loaded_gateway: GatewayUnderLoad,
) -> None:
    async with loaded_gateway.client() as anna, loaded_gateway.client() as ben:
        for client, name in ((anna, "anna"), (ben, "ben")):
            await client.hello(loaded_gateway.nextcloud.ticket(name))
            await client.join("busy", nextcloud_session(name))
        raw, stalled = await stalled_member(loaded_gateway.url, loaded_gateway.nextcloud, "busy", "stalled")
        hub = loaded_gateway.gateway.hub
        most, number = 0, 0
        while stalled in hub.sessions and number < 5000:
            message = {"recipient": {"type": "room"}, "data": {"number": number, "ballast": "x" * BALLAST}}
            await anna.send({"type": "message", "message": message})
            await ben.wait_for(lambda message, number=number: numbers([message]) == [number], since=len(ben.messages))  # type: ignore[misc]
            held = hub.sessions.get(stalled)
            most = max(most, held.outbox.size if held is not None else 0)
            number += 1
        assert stalled not in hub.sessions  # it was ended, and no other
        assert OUTBOX // 2 < most <= OUTBOX
        assert numbers(ben.messages) == list(range(number))
        start = asyncio.get_running_loop().time()
        await loaded_gateway.gateway.stop()
        assert asyncio.get_running_loop().time() - start < 4 * CLOSE_TIME  # a client cannot delay the stop
        raw.writer.transport.abort()


@pytest.mark.parametrize("to", ["room", "session"])
async def test_memory_of_the_process_is_bounded_when_clients_stop_reading(tmp_path: Path, to: str) -> None:
    """A message to the room is kept once for all stalled clients, messages to single sessions once for each.

    The other members receive all messages in order meanwhile. The gateway runs in a process of its own.
    """
    async with FakeNextcloud() as nextcloud, _process(tmp_path, nextcloud) as (pid, url):
        listeners = [Listener(url, nextcloud, name) for name in ("ben", "carl")]
        async with TalkClient(url, nextcloud.url) as anna, listeners[0], listeners[1]:
            await anna.hello(nextcloud.ticket("anna"))
            await anna.join("busy", nextcloud_session("anna"))
            before = await _send_to(pid, anna, listeners, [], range(WARM_UP))
            stalled = [
                await stalled_member(url, nextcloud, "busy", f"stalled{number}") for number in range(STALLED_CLIENTS)
            ]
            sessions = [session for _, session in stalled] if to == "session" else []
            end = WARM_UP + 3 * OUTBOX // BALLAST  # three times the limit of an outbox
            most = await _send_to(pid, anna, listeners, sessions, range(WARM_UP, end))
            kept = OUTBOX * (STALLED_CLIENTS if to == "session" else 1)
            assert most - before < kept + SLACK
            if to == "session":
                assert most - before > kept / 2  # the messages were kept, and the measurement shows it
            late = await _send_to(pid, anna, listeners, [], range(end, end + WARM_UP))
            assert late - most < SLACK  # ended sessions keep no messages
            async with aiohttp.ClientSession() as http, http.get(f"{url}/api/v1/stats") as response:
                assert (await response.json())["sessions"] == 3  # the stalled sessions were ended, and no others
            for raw, _ in stalled:
                raw.writer.transport.abort()


def joined(client: TalkClient) -> list[str]:
    """Return the session ids of all join events, in order."""
    return [
        entry["sessionid"]
        for message in client.messages
        if message["type"] == "event"
        for entry in message["event"].get("join", ())
    ]


def numbers(messages: list[Any]) -> list[int]:
    """Return the numbers in the data of messages."""
    data = (message["message"]["data"] for message in messages if message["type"] == "message")
    return [numbered["number"] for numbered in data]


class Listener:
    """A member of the busy room that records the numbers of received messages, and nothing else."""

    def __init__(self, url: str, nextcloud: FakeNextcloud, name: str) -> None:
        self.numbers: list[int] = []
        self._client = TalkClient(url, nextcloud.url)
        self._ticket = nextcloud.ticket(name)
        self._name = name
        self._news = asyncio.Event()

    async def __aenter__(self) -> Listener:
        await self._client.connect()
        await self._client.hello(self._ticket)
        await self._client.join("busy", nextcloud_session(self._name))
        self._client.on_message = self._receive
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._client.disconnect()

    async def wait_until(self, number: int) -> None:
        """Wait for the message before this number, and check that none was missed."""
        async with asyncio.timeout(30):
            while len(self.numbers) < number:
                self._news.clear()
                await self._news.wait()
        assert self.numbers == list(range(number))

    def _receive(self, message: Any) -> None:
        self.numbers += numbers([message])
        self._client.messages.clear()
        self._news.set()


async def _send_to(
    pid: int, anna: TalkClient, listeners: list[Listener], sessions: list[str], numbers_sent: range
) -> int:
    """Send numbers to the room; send ballast to each of ``sessions``, or with the numbers if there are none.

    Wait for the listeners after each batch, and return the greatest resident memory of the process.
    """
    most = 0
    for number in numbers_sent:
        data = {"number": number} | ({} if sessions else {"ballast": "x" * BALLAST})
        await anna.send({"type": "message", "message": {"recipient": {"type": "room"}, "data": data}})
        for session in sessions:
            await anna.send_message(session, {"ballast": f"{number:{BALLAST}}"})
        if number % BATCH == 0 or number + 1 == numbers_sent.stop:
            for listener in listeners:
                await listener.wait_until(number + 1)
            most = max(most, _resident(pid))
    return most


@asynccontextmanager
async def _process(path: Path, nextcloud: FakeNextcloud) -> AsyncIterator[tuple[int, str]]:
    """Run a gateway in a process of its own; yield its process id and URL."""
    file = path / "portunus.toml"
    file.write_text(configuration_for(nextcloud, NO_RATE_LIMITS, sessions=f"outbox_bytes = {OUTBOX}\n"))
    command = [PORTUNUS, "serve", "-c", str(file)]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        yield process.pid, (await process.stdout.readline()).decode().split()[-1]
    finally:
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 20) == 0


def _resident(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024
