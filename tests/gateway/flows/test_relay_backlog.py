"""Sessions that read slowly, or not at all, harm only those that send them more than they take.

Source: docs/protocol.md, "Limits".
"""

from __future__ import annotations

import pytest

from gateway.core.acknowledged import AcknowledgedOutbox
from gateway.core.limits import Limits
from gateway.core.relay_budget import GRANT
from gateway.core.stalled_readers import PATIENCE
from gateway.flows.traffic import Traffic
from tests.gateway.flows.harness import FakeClient, FlowHarness
from tests.gateway.flows.limited_calls import beside_a_call, limits_met

ACK = ("ack",)
LONG = "x" * 25_000


def acknowledge(client: FakeClient, count: int | None = None) -> None:
    """Acknowledge ``count`` further messages, or all."""
    outbox = client.session.outbox
    assert isinstance(outbox, AcknowledgedOutbox)
    received = outbox._acknowledged + (len(list(outbox)) if count is None else count)
    client.send({"type": "ack", "ack": {"received": received}})


async def fill(harness: FlowHarness, room: str, names: list[str]) -> list[FakeClient]:
    """Let members of a room that never acknowledge have as long a backlog as possible."""
    full = [await harness.member(name, room, features=ACK) for name in names]
    for number in range(24):
        sender = await harness.member(f"{room} sender {number}", room)
        for client in full:
            sender.send_message(client, LONG)
    return full


async def test_clients_that_send_to_each_other_and_acknowledge_get_all_messages() -> None:
    async with beside_a_call(Limits(outbox_bytes_room=400_000)) as harness:
        alice, bob = [await harness.member(name, features=ACK) for name in ("alice", "bob")]
        for client in (alice, bob):
            acknowledge(client)
            client.received()
        for number in range(8):
            alice.send_message(bob, [number, LONG])
            bob.send_message(alice, [number, LONG])
        assert limits_met(harness)["outbox_bytes_room"] > 0
        received = {client.sessionid: list[int]() for client in (alice, bob)}
        for _ in range(10):
            for client in (alice, bob):
                messages = [message for message in client.received() if message["type"] == "message"]
                received[client.sessionid] += [message["message"]["data"][0] for message in messages]
                acknowledge(client)
            await harness.sweep(1.0)
        assert list(received.values()) == [list(range(8))] * 2
        assert alice.session.outbox.size == bob.session.outbox.size == 0


async def test_client_that_acknowledges_hardly_anything_ends_and_its_sender_stays() -> None:
    async with beside_a_call(Limits(outbox_bytes_room=400_000)) as harness:
        alice, mallory = [await harness.member(name, features=ACK) for name in ("alice", "mallory")]
        carol = await harness.member("carol")
        for _ in range(20):
            alice.send_message(mallory, LONG)
        carol.send_message(alice, "x" * 60_000)
        for second in range(1, 121):
            await harness.sweep(1.0)
            acknowledge(alice)
            if second % 50 == 0 and mallory.sessionid in harness.hub.sessions:
                acknowledge(mallory, 1)
        assert mallory.sessionid not in harness.hub.sessions
        assert alice.session.open
        assert not alice.connection.paused


async def test_client_whose_input_is_held_does_not_end_because_it_cannot_acknowledge() -> None:
    async with beside_a_call(Limits(outbox_bytes_room=1_000_000)) as harness:
        alice, bob = [await harness.member(name, features=ACK) for name in ("alice", "bob")]
        for _ in range(40):
            alice.send_message(bob, LONG)
            bob.send_message(alice, LONG)
        assert alice.connection.paused
        assert bob.connection.paused
        before = bob.session.outbox.size
        for _ in range(int(4 * PATIENCE)):
            await harness.sweep(1.0)
        assert alice.session.open
        assert bob.session.open
        assert bob.session.outbox.size > before  # messages pass slowly, so that neither waits for ever


async def test_clients_whose_input_is_held_end_when_they_take_relayed_messages_near_the_limit() -> None:
    async with beside_a_call(Limits(outbox_bytes_room=400_000)) as harness:
        mallory, accomplice = [await harness.member(name, features=ACK) for name in ("mallory", "accomplice")]
        for _ in range(40):
            mallory.send_message(accomplice, LONG)
            accomplice.send_message(mallory, LONG)
        assert mallory.connection.paused
        seconds = 0
        while mallory.sessionid in harness.hub.sessions and accomplice.sessionid in harness.hub.sessions:
            await harness.sweep(1.0)
            seconds += 1
        assert PATIENCE <= seconds < 4 * PATIENCE


async def test_clients_with_short_backlogs_that_read_nothing_end_when_they_take_relayed_messages_near_the_limit() -> (
    None
):
    async with beside_a_call(Limits(outbox_bytes_room=400_000)) as harness:
        silent = [await harness.member(f"silent {number}", features=ACK) for number in range(14)]
        senders = [await harness.member(f"sender {number}") for number in range(2)]
        for client in silent:
            acknowledge(client)
            for sender in senders:
                sender.send_message(client, "x" * 13_000)
        assert all(client.session.outbox.size < GRANT for client in silent)
        for _ in range(int(PATIENCE) + 2):
            await harness.sweep(1.0)
        assert any(client.sessionid not in harness.hub.sessions for client in silent)
        assert all(sender.session.open for sender in senders)


@pytest.mark.parametrize("limits", [Limits(outbox_bytes_backend=8_000_000), Limits(outbox_bytes_process=8_000_000)])
async def test_slow_readers_of_one_room_delay_nobody_in_another(limits: Limits) -> None:
    async with beside_a_call(limits) as harness:
        await fill(harness, "evil", [f"mallory {number}" for number in range(12)])
        assert sum(limits_met(harness).values()) > 0
        alice, bob = await harness.member("alice", "honest"), await harness.member("bob", "honest", features=ACK)
        bob.received()
        alice.send_message(bob, "short")
        alice.send_message(bob, "x" * 60_000)
        assert len(bob.received()) == 2
        acknowledge(bob, 0)
        for _ in range(10):
            await harness.sweep(1.0)
            acknowledge(bob)
            alice.send_message(bob, "x" * 32_768)
            alice.send_message(bob, "x" * 32_768)
        assert sum(message["type"] == "message" for message in bob.received()) == 20
        alice.send_message(bob, "waits in the outbox")
        assert Traffic(harness.services).take_offer(bob.session) == 0


async def test_client_that_reads_nothing_stays_while_it_delays_nobody() -> None:
    async with beside_a_call(Limits(outbox_bytes_room=400_000)) as harness:
        silent = await harness.member("silent", features=ACK)
        silent.send({"id": LONG * 2, "type": "message"})  # is answered with an error of this id
        for _ in range(3):
            await harness.sweep(PATIENCE)
        assert silent.session.outbox.size > len(LONG * 2)
