"""Connections that break at seeded octets: with ``ack`` no message is lost or doubled in either direction."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from gateway.app import Gateway
from gateway.config import Config, HttpSection, SessionsSection
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_client import TalkClient
from tests.gateway.cutting_proxy import CuttingProxy

SECRET = "6f1b0c7d9ae24835b6cf01d27e9a4488"
COUNT = 400  # messages in each direction
PADDING = "x" * 100
SLICE = 5  # messages sent at once


@asynccontextmanager
async def running_gateway() -> AsyncIterator[tuple[str, FakeNextcloud]]:
    async with FakeNextcloud(secret=SECRET) as nextcloud:
        sessions, http = SessionsSection(secret=SECRET), HttpSection(listen=("127.0.0.1:0",))
        gateway = Gateway(Config(sessions=sessions, http=http, backends=(nextcloud.backend(),)))
        (url,) = await gateway.start()
        nextcloud.gateway = url
        try:
            yield url, nextcloud
        finally:
            await gateway.stop()


def numbers(client: TalkClient) -> list[int]:
    """Return the numbers in the messages that a client received, in order."""
    return [message["message"]["data"]["n"] for message in client.messages if message["type"] == "message"]


async def keep_connected(client: TalkClient) -> None:
    """Resume the session whenever its connection breaks."""
    while True:
        await client.wait_closed()
        try:
            async with asyncio.timeout(0.5):
                await client.connect()
                await client.resume()
        except (TimeoutError, aiohttp.ClientError, OSError):
            client.close_code = 1006


async def talk(sender: TalkClient, to: str) -> None:
    for number in range(COUNT):
        await sender.send_message(to, {"n": number, "padding": PADDING})
        if number % SLICE == 0:
            await asyncio.sleep(0.002)


async def exchange(seed: int, features: tuple[str, ...], limit: float) -> tuple[list[int], list[int], int]:
    """Exchange messages between two clients, one of which has a breaking connection.

    Return the numbers that each received, and how often the connection broke.
    """
    rng = random.Random(seed)
    async with running_gateway() as (url, nextcloud):
        line = CuttingProxy(url, lambda: rng.randrange(1500, 12_000))
        async with line, TalkClient(url, nextcloud.url) as bob:
            alice = TalkClient(line.url, nextcloud.url, features=features)
            await bob.hello(nextcloud.ticket("bob"))
            await alice.connect()
            await alice.hello(nextcloud.ticket("alice"))
            keeping = asyncio.create_task(keep_connected(alice))
            try:
                async with asyncio.timeout(limit):
                    await asyncio.gather(talk(bob, alice.session_id), talk(alice, bob.session_id))
                    last = lambda m: m["type"] == "message" and m["message"]["data"]["n"] == COUNT - 1  # noqa: E731
                    await asyncio.gather(alice.wait_for(last, limit=limit), bob.wait_for(last, limit=limit))
            except (TimeoutError, ConnectionError):
                pass
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            await alice.disconnect()
            return numbers(alice), numbers(bob), line.cuts


@pytest.mark.parametrize("seed", range(4))
async def test_no_message_is_lost_or_doubled_when_the_connection_breaks(seed: int) -> None:
    alice, bob, cuts = await exchange(seed, ("ack",), 30.0)
    assert cuts >= 5
    assert alice == list(range(COUNT))
    assert bob == list(range(COUNT))


async def test_without_acknowledgements_a_broken_connection_loses_messages() -> None:
    alice, _, cuts = await exchange(1, (), 3.0)
    assert cuts >= 1
    assert alice != list(range(COUNT))
