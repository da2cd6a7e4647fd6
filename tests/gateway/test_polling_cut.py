"""Long polling through a proxy that cuts answers after a pseudo-random number of bytes."""

from __future__ import annotations

import asyncio
import random

import pytest

from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.poll_client import PollClient
from gateway.tools.talk_client import TalkClient
from tests.gateway.cutting_proxy import CuttingProxy
from tests.gateway.numbered_messages import has_number, received_numbers
from tests.gateway.running import running_gateway

COUNT = 200  # messages in each direction


@pytest.mark.parametrize("seed", range(4))
async def test_no_message_is_lost_or_duplicated_when_answers_are_cut(seed: int) -> None:
    rng = random.Random(seed)
    async with FakeNextcloud() as nextcloud, running_gateway(nextcloud) as (_, url):
        proxy = CuttingProxy(url, lambda: rng.randrange(100, 5000))
        async with proxy, TalkClient(url, nextcloud.url) as bob, PollClient(proxy.url) as alice, asyncio.timeout(60):
            await bob.hello(nextcloud.ticket("bob"))
            await alice.receive()
            auth = {"url": nextcloud.url, "params": nextcloud.ticket("alice")}
            alice.send({"type": "hello", "hello": {"version": "1.0", "auth": auth}})
            session = (await alice.receive())["hello"]["sessionid"]
            numbers = []
            for number in range(COUNT):
                await bob.send_message(session, {"n": number})
                recipient = {"type": "session", "sessionid": bob.session_id}
                alice.send({"type": "message", "message": {"recipient": recipient, "data": {"n": number}}})
                if number % 10 == 9:  # a cut loses part of these, and more follow
                    numbers += [(await alice.receive())["message"]["data"]["n"] for _ in range(10)]
            await bob.wait_for(has_number(COUNT - 1))
            assert numbers == list(range(COUNT))
            assert received_numbers(bob) == list(range(COUNT))
            assert alice.failed >= 5
