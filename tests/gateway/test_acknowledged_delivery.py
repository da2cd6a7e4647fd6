"""Connections that break after pseudo-random bytes: with ``ack`` no message is lost or duplicated either way."""

from __future__ import annotations

import asyncio
import random

import aiohttp
import pytest

from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_client import TalkClient
from tests.gateway.cutting_proxy import CuttingProxy
from tests.gateway.numbered_messages import has_number, received_numbers, send_numbers
from tests.gateway.running import running_gateway

COUNT = 400  # messages in each direction


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


async def exchange(seed: int, features: tuple[str, ...], limit: float) -> tuple[list[int], list[int], int]:
    """Exchange messages between two clients, one of which has a breaking connection.

    Return the numbers that each client received, and how often the connection broke.
    """
    rng = random.Random(seed)
    async with FakeNextcloud() as nextcloud, running_gateway(nextcloud) as (_, url):
        proxy = CuttingProxy(url, lambda: rng.randrange(1500, 12_000))
        async with proxy, TalkClient(url, nextcloud.url) as bob:
            alice = TalkClient(proxy.url, nextcloud.url, features=features)
            await bob.hello(nextcloud.ticket("bob"))
            await alice.connect()
            await alice.hello(nextcloud.ticket("alice"))
            keeping = asyncio.create_task(keep_connected(alice))
            try:
                async with asyncio.timeout(limit):
                    await asyncio.gather(
                        send_numbers(bob, alice.session_id, COUNT), send_numbers(alice, bob.session_id, COUNT)
                    )
                    await asyncio.gather(
                        alice.wait_for(has_number(COUNT - 1), limit=limit),
                        bob.wait_for(has_number(COUNT - 1), limit=limit),
                    )
            except (TimeoutError, ConnectionError):
                pass
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            await alice.disconnect()
            return received_numbers(alice), received_numbers(bob), proxy.cuts


@pytest.mark.parametrize("seed", range(4))
async def test_no_message_is_lost_or_duplicated_when_the_connection_breaks(seed: int) -> None:
    alice, bob, cuts = await exchange(seed, ("ack",), 30.0)
    assert cuts >= 5
    assert alice == list(range(COUNT))
    assert bob == list(range(COUNT))


async def test_without_acknowledgements_a_broken_connection_loses_messages() -> None:
    alice, _, cuts = await exchange(1, (), 3.0)
    assert cuts >= 1
    assert alice != list(range(COUNT))
