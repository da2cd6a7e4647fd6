"""Messages of a client that wait for the answer to a join of a room of another server.

Source: reference 12.3-e.
"""

from __future__ import annotations

import asyncio

from gateway.flows.dispatch import PAUSE_AT, PAUSE_JOIN_AT, PAUSE_JOIN_AT_SIZE
from tests.gateway.flows.federation.seats import harness_with, request_join
from tests.gateway.flows.federation.test_withdrawn_joins import WITHDRAWN_ERROR, accept, leave, replies, silent_host
from tests.gateway.flows.harness import FakeClient
from tests.gateway.flows.virtual_time import settle


def numbers(client: FakeClient) -> list[int]:
    return [message["message"]["data"] for message in client.received() if message["type"] == "message"]


async def test_leave_behind_many_messages_withdraws_the_join() -> None:
    async with harness_with(silent_host("join")) as harness:
        alice, bob = await harness.hello("alice"), await harness.hello("bob")
        request_join(alice)
        for number in range(PAUSE_JOIN_AT - 1):
            alice.send_message(bob, number)
        await settle()
        assert (alice.connection.paused, numbers(bob)) == (False, [])
        leave(alice)
        await settle()
        assert replies(alice) == [WITHDRAWN_ERROR]  # a session in no room gets no reply to a leave (4.2)
        assert numbers(bob) == list(range(PAUSE_JOIN_AT - 1))
        assert not alice.connection.paused


async def test_reading_goes_on_when_the_join_begins_behind_many_messages() -> None:
    async with harness_with(silent_host("join")) as harness:
        alice, bob = await harness.hello("alice"), await harness.hello("bob")
        harness.nextcloud.gate = asyncio.Event()
        alice.join("r", "nc-local", id="r")
        request_join(alice)
        for number in range(PAUSE_AT):
            alice.send_message(bob, number)
        assert alice.connection.paused
        harness.nextcloud.gate.set()
        await settle()
        assert (alice.connection.paused, numbers(bob)) == (False, [])
        leave(alice)
        await settle()
        assert replies(alice) == [("r", "r"), WITHDRAWN_ERROR, ("l", "")]
        assert numbers(bob) == list(range(PAUSE_AT))


async def test_reading_pauses_behind_too_many_messages() -> None:
    host = silent_host("join")
    async with harness_with(host) as harness:
        for text, count in (
            ('{"type":"unknown"}', PAUSE_JOIN_AT),
            ('"' + "x" * 4094 + '"', PAUSE_JOIN_AT_SIZE // 4096),
        ):
            alice = await harness.hello("alice")
            request_join(alice)
            await settle()
            for _ in range(count - 1):
                alice.send(text)
            assert not alice.connection.paused
            alice.send(text)
            assert alice.connection.paused
            accept(host)
            await settle()
            assert not alice.connection.paused
