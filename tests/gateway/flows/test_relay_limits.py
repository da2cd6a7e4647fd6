"""One client reaches each limit of relayed bytes and outboxes without disturbing a call in another room.

Source: docs/protocol.md, "Limits".
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.core.limits import Limits
from tests.gateway.flows.limited_calls import beside_a_call, limits_met
from tests.gateway.flows.virtual_time import settle


@pytest.mark.parametrize("limits", [Limits(relayed_bytes_per_second=10_000, relayed_bytes_burst=20_000)])
@pytest.mark.parametrize("to", [{"type": "room"}, None], ids=["room", "session"])
async def test_sender_that_relays_too_much_is_slowed_down_and_loses_nothing(limits: Limits, to: Any) -> None:
    async with beside_a_call(limits) as harness:
        alice, bob = [await harness.member(name) for name in ("alice", "bob")]
        bob.received()
        for number in range(10):
            alice.send_message(to or bob, {"type": "x", "n": number, "padding": "x" * 9000})
        alice.send_message(to or bob, {"type": "x", "n": 10})
        assert len(bob.data()) == 3
        await asyncio.sleep(20)
        assert [data["n"] for data in bob.data()] == [*range(3, 11)]
        assert limits_met(harness)["relayed_bytes_per_second"] > 0
        assert not alice.connection.finished


async def test_short_messages_pass_a_flood_of_others() -> None:
    async with beside_a_call(Limits(relayed_bytes_burst=20_000, relayed_bytes_per_second=1000)) as harness:
        alice, bob, carol = [await harness.member(name) for name in ("alice", "bob", "carol")]
        carol.received()
        for _ in range(10):
            alice.send_message({"type": "room"}, {"type": "x", "padding": "x" * 9000})
        bob.send_message({"type": "room"}, {"type": "short"})
        assert carol.data()[-1] == {"type": "short"}


async def test_reading_is_paused_when_long_messages_wait() -> None:
    async with beside_a_call(Limits(relayed_bytes_burst=20_000, relayed_bytes_per_second=1000)) as harness:
        alice = await harness.member("alice")
        for _ in range(5):
            alice.send_message({"type": "room"}, {"type": "x", "padding": "x" * 60_000})
        assert alice.connection.paused


async def test_transient_data_count_as_relayed() -> None:
    async with beside_a_call(Limits(relayed_bytes_burst=20_000, relayed_bytes_per_second=1000)) as harness:
        alice = await harness.member("alice")
        alice.received()
        for number in range(10):
            body = {"type": "set", "key": "k", "value": [number, "x" * 9000]}
            alice.send({"type": "transient", "transient": body})
        assert len(alice.received()) == 2


async def test_transient_data_count_with_their_key_and_their_removal() -> None:
    async with beside_a_call(Limits(relayed_bytes_burst=20_000, relayed_bytes_per_second=1000)) as harness:
        alice, bob = [await harness.member(name) for name in ("alice", "bob")]
        bob.received()
        written = len(bob.connection.written)
        for number in range(200):
            for body in ({"type": "set", "key": "k" * 900, "value": number}, {"type": "remove", "key": "k" * 900}):
                alice.send({"type": "transient", "transient": body})
        sizes = sum(len(message) for message in bob.connection.written[written:])
        assert 10_000 < sizes < 30_000


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        (Limits(outbox_bytes_room=100_000), "outbox_bytes_room"),
        (Limits(outbox_bytes_backend=100_000), "outbox_bytes_backend"),
        (Limits(outbox_bytes_process=100_000), "outbox_bytes_process"),
    ],
)
async def test_session_with_the_largest_outbox_ends_when_the_total_is_too_large(limits: Limits, limit: str) -> None:
    async with beside_a_call(limits) as harness:
        alice = await harness.member("alice")
        largest, smaller = [await harness.member(name, features=("ack",)) for name in ("largest", "smaller")]
        for recipient in (largest, largest, largest, smaller):
            alice.send_message(recipient, "x" * 30_000)
        await harness.sweep()
        await settle()
        assert largest.sessionid not in harness.hub.sessions
        assert smaller.session.open
        assert limits_met(harness) == {limit: 1}


async def test_short_messages_count_with_their_envelope() -> None:
    async with beside_a_call(Limits(relayed_bytes_burst=20_000, relayed_bytes_per_second=1000)) as harness:
        alice, bob = [await harness.member(name) for name in ("alice", "bob")]
        bob.received()
        for _ in range(1000):
            alice.send_message({"type": "room"}, 1)
        sizes = sum(len(message) for message in bob.connection.written)
        assert 10_000 < sizes < 40_000
