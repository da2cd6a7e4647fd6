"""One client reaches each limit of relayed bytes and outboxes without disturbing a call in another room.

Source: docs/protocol.md, "Limits".
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.core.acknowledged import AcknowledgedOutbox
from gateway.core.limits import Limits
from gateway.core.stalled_readers import PATIENCE
from tests.gateway.flows.limited_calls import beside_a_call, limits_met


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


TOTALS = pytest.mark.parametrize(
    ("limits", "limit"),
    [
        (Limits(outbox_bytes_room=400_000), "outbox_bytes_room"),
        (Limits(outbox_bytes_backend=400_000), "outbox_bytes_backend"),
        (Limits(outbox_bytes_process=400_000), "outbox_bytes_process"),
    ],
)


@TOTALS
async def test_sender_that_fills_the_outboxes_of_others_waits_and_ends_no_session(limits: Limits, limit: str) -> None:
    async with beside_a_call(limits) as harness:
        alice = await harness.member("alice")
        away = [await harness.member(name, features=features) for name, features in (("bob", ()), ("carol", ("ack",)))]
        for client in away:
            client.connection.lose()
            harness.dispatch.connection_closed(client.client_connection)
        for number in range(20):
            for client in away:
                alice.send_message(client, [number, "x" * 20_000])
        for _ in range(5):
            await harness.sweep(1.0)
        assert 150_000 < sum(client.session.outbox.size for client in away) < 400_000
        assert limits_met(harness)[limit] > 0
        returned = [await harness.resume(client) for client in away]
        for _ in range(10):
            for client in returned:
                if isinstance(outbox := client.session.outbox, AcknowledgedOutbox):
                    outbox.acknowledge_all()
            await harness.sweep(1.0)
        for client in returned:
            assert client.session.open
            received = [message["message"]["data"][0] for message in client.received() if "message" in message]
            assert received == list(range(20))


@TOTALS
async def test_session_that_fills_its_own_outbox_ends_before_those_that_others_fill(limits: Limits, limit: str) -> None:
    async with beside_a_call(limits) as harness:
        alice = await harness.member("alice")
        victim, attacker = [await harness.member(name, features=("ack",)) for name in ("victim", "attacker")]
        for _ in range(7):
            alice.send_message(victim, "x" * 25_000)
        await harness.sweep()
        for _ in range(5):
            attacker.send({"id": "x" * 50_000, "type": "message"})  # each is answered with an error of this id
        assert victim.session.outbox.size > 150_000
        await harness.sweep()
        assert attacker.sessionid not in harness.hub.sessions
        assert victim.session.open
        assert limits_met(harness)[limit] == 1
        assert f"its outbox and others together are full (limits.{limit})" in harness.services.refusals.recent[-1][1]


async def test_client_that_reads_nothing_ends_when_it_delays_senders() -> None:
    async with beside_a_call(Limits(outbox_bytes_room=400_000)) as harness:
        alice = await harness.member("alice")
        silent, slow = [await harness.member(name, features=("ack",)) for name in ("silent", "slow")]
        for _ in range(6):
            for client in (silent, slow):
                alice.send_message(client, "x" * 25_000)
        await harness.sweep(PATIENCE / 2)
        outbox = slow.session.outbox
        assert isinstance(outbox, AcknowledgedOutbox)
        slow.send({"type": "ack", "ack": {"received": outbox._acknowledged + 5}})
        for _ in range(2):
            await harness.sweep(PATIENCE / 2)
        assert silent.sessionid not in harness.hub.sessions
        assert slow.session.open


async def test_short_messages_count_with_their_envelope() -> None:
    async with beside_a_call(Limits(relayed_bytes_burst=20_000, relayed_bytes_per_second=1000)) as harness:
        alice, bob = [await harness.member(name) for name in ("alice", "bob")]
        bob.received()
        for _ in range(1000):
            alice.send_message({"type": "room"}, 1)
        sizes = sum(len(message) for message in bob.connection.written)
        assert 10_000 < sizes < 40_000
