"""Long polling over lines that break: answers are cut off at seeded octets, and nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import random

import pytest

from gateway.tools.poll_client import PollClient
from gateway.tools.talk_client import TalkClient
from tests.gateway.cutting import CuttingLine
from tests.gateway.test_acknowledged_delivery import running

COUNT = 200  # messages in each direction


@pytest.mark.parametrize("seed", range(4))
async def test_nothing_is_lost_or_doubled_when_answers_are_cut_off(seed: int) -> None:
    chance = random.Random(seed)
    async with running() as (url, nextcloud):
        line = CuttingLine(url, lambda: chance.randrange(100, 5000))
        async with line, TalkClient(url, nextcloud.url) as bob, PollClient(line.url) as alice, asyncio.timeout(60):
            await bob.hello(nextcloud.ticket("bob"))
            await alice.receive()
            auth = {"url": nextcloud.url, "params": nextcloud.ticket("alice")}
            alice.send({"type": "hello", "hello": {"version": "1.0", "auth": auth}})
            session = (await alice.receive())["hello"]["sessionid"]
            heard = []
            for number in range(COUNT):
                await bob.send_message(session, {"n": number})
                recipient = {"type": "session", "sessionid": bob.session_id}
                alice.send({"type": "message", "message": {"recipient": recipient, "data": {"n": number}}})
                if number % 10 == 9:  # what was on its way is cut in the middle, and more follows
                    heard += [(await alice.receive())["message"]["data"]["n"] for _ in range(10)]
            await bob.wait_for(lambda it: it["type"] == "message" and it["message"]["data"]["n"] == COUNT - 1)
            assert heard == list(range(COUNT))
            assert [it["message"]["data"]["n"] for it in bob.messages if it["type"] == "message"] == list(range(COUNT))
            assert alice.failed >= 5
