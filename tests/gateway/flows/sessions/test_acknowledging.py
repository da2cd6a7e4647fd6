"""Acknowledged delivery in the flows (docs/protocol.md)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.core.acknowledged import AcknowledgedOutbox
from gateway.core.limits import Limits
from tests.gateway.flows.harness import FakeClient, FlowHarness
from tests.gateway.flows.virtual_time import settle


async def resume(harness: FlowHarness, client: FakeClient, **members: Any) -> list[Any]:
    """Resume on another connection and return the messages after the welcome."""
    again = harness.connect()
    again.received()
    again.send({"id": "r", "type": "hello", "hello": {"version": "1.0", "resumeid": client.resumeid, **members}})
    await settle()
    return again.received()


def numbers(messages: list[Any]) -> list[int]:
    return [message["message"]["data"] for message in messages if message["type"] == "message"]


async def test_hello_reply_says_that_no_message_was_received() -> None:
    async with FlowHarness(mcu=False) as harness:
        client = harness.connect()
        client.send_hello("alice", features=["ack"])
        await settle()
        assert client.received()[-1]["hello"]["received"] == 0


async def test_resume_replays_unacknowledged_messages_and_returns_the_number_received() -> None:
    async with FlowHarness(mcu=False) as harness:
        alice, bob = await harness.hello("alice", features=("ack",)), await harness.hello("bob")
        for number in range(5):
            bob.send_message(alice, number)
        for number in range(3):
            alice.send_message(bob, number)
        alice.disconnect()
        messages = await resume(harness, alice, received=2)
        assert messages[0]["hello"]["received"] == 3
        assert numbers(messages) == [2, 3, 4]


async def test_acknowledgement_is_answered_and_drops_the_messages() -> None:
    async with FlowHarness(mcu=False) as harness:
        alice, bob = await harness.hello("alice", features=("ack",)), await harness.hello("bob")
        for number in range(5):
            bob.send_message(alice, number)
        assert alice.session.outbox.size > 0
        alice.received()
        alice.send({"type": "ack", "ack": {"received": 5}})
        assert alice.received() == [{"type": "ack", "ack": {"received": 1}}]
        assert alice.session.outbox.size == 0


async def test_resume_without_a_count_counts_sent_messages_as_received() -> None:
    async with FlowHarness(mcu=False) as harness:
        alice, bob = await harness.hello("alice", features=("ack",)), await harness.hello("bob")
        bob.send_message(alice, 1)
        alice.disconnect()
        bob.send_message(alice, 2)
        assert numbers(await resume(harness, alice)) == [2]


@pytest.mark.parametrize("received", [-1, 20, "1", 1.5])
async def test_impossible_count_is_refused_and_the_session_stays_open(received: Any) -> None:
    async with FlowHarness(mcu=False) as harness:
        alice, bob = await harness.hello("alice", features=("ack",)), await harness.hello("bob")
        bob.send_message(alice, 1)
        alice.received()
        alice.send({"type": "ack", "ack": {"received": received}})
        assert alice.error_codes() == ["invalid_format"]
        alice.disconnect()
        (refused,) = await resume(harness, alice, received=received)
        assert refused["error"]["code"] == "invalid_format"
        assert len(await resume(harness, alice, received=0)) == 3  # hello, the message, the error


async def test_smaller_count_than_before_is_refused() -> None:
    async with FlowHarness(mcu=False) as harness:
        alice, bob = await harness.hello("alice", features=("ack",)), await harness.hello("bob")
        bob.send_message(alice, 1)
        alice.send({"type": "ack", "ack": {"received": 1}})
        alice.received()
        alice.send({"type": "ack", "ack": {"received": 0}})
        assert alice.error_codes() == ["invalid_format"]
        alice.send({"type": "ack"})
        assert alice.error_codes() == ["invalid_format"]


async def test_client_without_the_feature_has_no_acknowledged_delivery() -> None:
    async with FlowHarness(mcu=False) as harness:
        alice, bob = await harness.hello("alice"), await harness.hello("bob")
        alice.send({"type": "ack", "ack": {"received": 7}})
        assert alice.received() == []
        bob.send_message(alice, 1)
        alice.disconnect()
        bob.send_message(alice, 2)
        messages = await resume(harness, alice, received=0)
        assert "received" not in messages[0]["hello"]
        assert numbers(messages) == [2]


async def test_resume_of_a_connected_session_replays_unacknowledged_messages() -> None:
    async with FlowHarness(mcu=False) as harness:
        alice, bob = await harness.hello("alice", features=("ack",)), await harness.hello("bob")
        for number in range(3):
            bob.send_message(alice, number)
        messages = await resume(harness, alice, received=1)
        assert numbers(messages) == [1, 2]


async def test_message_beyond_the_rate_is_not_counted_as_received() -> None:
    async with FlowHarness(mcu=False) as harness:
        harness.change_settings(limits=Limits(messages_per_second=1, messages_burst=10))
        alice, bob = await harness.hello("alice", features=("ack",)), await harness.hello("bob")
        for number in range(12):
            alice.send_message(bob, number)
            if alice.connection.finished:
                break
        handled = len(numbers(bob.received()))
        assert alice.connection.finished
        alice.disconnect()
        await asyncio.sleep(10)
        assert (await resume(harness, alice, received=0))[0]["hello"]["received"] == handled == number


async def test_late_acknowledgement_of_a_replaced_connection_is_no_error() -> None:
    async with FlowHarness(mcu=False) as harness:
        alice, bob = await harness.hello("alice", features=("ack",)), await harness.hello("bob")
        bob.send_message(alice, 1)
        harness.nextcloud.gate = asyncio.Event()
        alice.join(id="join")
        alice.send({"id": "old", "type": "ack", "ack": {"received": 1}})
        bob.send_message(alice, 2)
        await settle()
        alice.disconnect()
        again = harness.connect()
        again.received()
        again.send({"type": "hello", "hello": {"version": "1.0", "resumeid": alice.resumeid, "received": 2}})
        harness.nextcloud.gate.set()
        await settle()
        messages = again.received()
        assert messages[0]["hello"]["received"] == 2
        assert [message["type"] for message in messages if message["type"] in ("error", "ack")] == []
        outbox = alice.session.outbox
        assert isinstance(outbox, AcknowledgedOutbox)
        assert not outbox.acknowledge(1)  # fewer than before
        assert outbox.acknowledge(2)


async def test_each_text_frame_after_the_hello_is_counted() -> None:
    async with FlowHarness(mcu=False) as harness:
        alice = await harness.hello("alice", features=("ack",))
        alice.send("no message")
        alice.send({"type": "hello", "hello": {"version": "1.0", "resumeid": alice.resumeid}})
        harness.dispatch.received_binary(alice.client_connection)
        alice.send({"type": "ack", "ack": {"received": 2}})  # the errors for the first text frame and the binary frame
        assert [message.get("ack") for message in alice.received()] == [None, None, {"received": 3}]
        messages = await resume(harness, alice, received=2)
        assert messages[0]["hello"]["received"] == 3
        alice.send({"type": "unknown"})  # on the replaced connection
        assert (await resume(harness, alice, received=2))[0]["hello"]["received"] == 3
