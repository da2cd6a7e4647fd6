"""Load where nobody expects it, over real sockets: everybody at once, everything at once, and one who does not read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.app import Gateway
from gateway.config import Config, Http, Sessions
from gateway.core.limits import Limits
from gateway.edge.websocket import CLOSE_TIME
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_client import TalkClient
from tests.gateway.edge.raw_client import RawClient

pytestmark = pytest.mark.full

SECRET = "6f1b0c7d9ae24835b6cf01d27e9a4488"
CROWD = 300
OUTBOX = 1_048_576  # bytes, for a reader that stops


@dataclass
class House:
    """A gateway and its Nextcloud."""

    url: str
    nextcloud: FakeNextcloud
    gateway: Gateway
    deaf: RawClient | None = None

    def client(self) -> TalkClient:
        return TalkClient(self.url, self.nextcloud.url)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with FakeNextcloud() as nextcloud:
        limits = Limits(connections_per_address=0, hellos_per_address=0)
        gateway = Gateway(
            Config(
                sessions=Sessions(secret=SECRET, outbox_bytes=OUTBOX),
                http=Http(listen=("127.0.0.1:0",)),
                backends=(nextcloud.backend(),),
                limits=limits,
            )
        )
        (url,) = await gateway.start()
        try:
            yield House(url, nextcloud, gateway)
        finally:
            await gateway.stop()


async def test_three_hundred_who_join_at_once_see_exactly_the_others(house: House) -> None:
    clients = [house.client() for _ in range(CROWD)]
    try:
        await asyncio.gather(*(client.connect() for client in clients))
        await asyncio.gather(*(client.hello(house.nextcloud.ticket(f"u{n}")) for n, client in enumerate(clients)))
        await asyncio.gather(*(client.join("crowd", f"nc-{n}") for n, client in enumerate(clients)))
        everybody = sorted(client.session_id for client in clients)
        for client in clients:
            await client.wait_for(lambda _, client=client: len(joined(client)) >= CROWD)  # type: ignore[misc]
            assert sorted(joined(client)) == everybody
    finally:
        await asyncio.gather(*(client.disconnect() for client in clients))


async def test_a_thousand_pipelined_messages_arrive_in_order(house: House) -> None:
    async with house.client() as anna, house.client() as ben:
        await anna.hello(house.nextcloud.ticket("anna"))
        await ben.hello(house.nextcloud.ticket("ben"))
        for number in range(1000):
            await anna.tell(ben.session_id, {"number": number})
        await ben.wait_for(lambda message: numbers([message]) == [999])
        assert numbers(ben.heard) == list(range(1000))


async def test_who_stops_reading_costs_the_others_nothing_and_has_bounded_memory(house: House) -> None:
    async with house.client() as anna, house.client() as ben:
        for client, name in ((anna, "anna"), (ben, "ben")):
            await client.hello(house.nextcloud.ticket(name))
            await client.join("busy", f"nc-{name}")
        deaf = await _deaf_member(house)
        hub = house.gateway.hub
        most, number = 0, 0
        while deaf in hub.sessions and number < 5000:
            message = {"recipient": {"type": "room"}, "data": {"number": number, "ballast": "x" * 16_000}}
            await anna.send({"type": "message", "message": message})
            await ben.wait_for(lambda heard, number=number: numbers([heard]) == [number], since=len(ben.heard))  # type: ignore[misc]
            held = hub.sessions.get(deaf)
            most = max(most, held.outbox.size if held is not None else 0)
            number += 1
        assert deaf not in hub.sessions  # it lost, alone
        assert OUTBOX // 2 < most <= OUTBOX
        assert numbers(ben.heard) == list(range(number))
        start = asyncio.get_running_loop().time()
        await house.gateway.stop()
        assert asyncio.get_running_loop().time() - start < 4 * CLOSE_TIME  # nobody can hold the process up


def joined(client: TalkClient) -> list[str]:
    """Return the session ids of all join events, in order."""
    return [
        entry["sessionid"]
        for message in client.heard
        if message["type"] == "event"
        for entry in message["event"].get("join", ())
    ]


def numbers(heard: list[Any]) -> list[int]:
    """Return the numbers in messages."""
    data = (message["message"]["data"] for message in heard if message["type"] == "message")
    return [it["number"] for it in data]


async def _deaf_member(house: House) -> str:
    """Let somebody join the busy room who never reads again, over a socket with a small buffer; return its session."""
    host, port = house.url.removeprefix("http://").split(":")
    raw = await RawClient.connect((host, int(port)), receive_buffer=4096)
    auth = {"url": house.nextcloud.url, "params": house.nextcloud.ticket("deaf")}
    await raw.hear()  # welcome
    raw.say({"id": "h", "type": "hello", "hello": {"version": "1.0", "auth": auth}})
    session: str = (await raw.hear())["hello"]["sessionid"]
    raw.say({"id": "j", "type": "room", "room": {"roomid": "busy", "sessionid": "nc-deaf"}})
    await raw.hear()
    house.deaf = raw  # kept open
    return session
