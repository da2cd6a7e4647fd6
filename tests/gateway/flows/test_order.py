"""The messages of one session are handled in order, on whichever connection they arrive (invariants 2 and 5)."""

from __future__ import annotations

import asyncio
import logging

import pytest

from gateway.flows.dispatch import PAUSE_AT
from tests.gateway.flows.harness import FakeClient, FlowHarness
from tests.gateway.flows.virtual_time import settle


def ids(client: FakeClient) -> list[str]:
    return [message["id"] for message in client.received() if "id" in message]


# reference 2.1-i
async def test_messages_wait_behind_a_slow_join() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.hello("alice"), await harness.member("bob", "r")
        harness.nextcloud.gate = asyncio.Event()
        alice.join("r", id="1")
        alice.send_message({"type": "room"}, "hello")
        alice.send("junk")
        alice.leave(id="3")
        await settle()
        assert alice.received() == []
        harness.nextcloud.gate.set()
        await settle()
        messages = alice.received()
        assert [message["type"] for message in messages] == ["room", "event", "event", "error", "room"]
        assert [message["type"] for message in bob.received()] == ["event", "message", "event"]


async def test_messages_of_other_sessions_do_not_wait() -> None:
    async with FlowHarness() as harness:
        alice, bob, carol = [await harness.hello(name) for name in ("alice", "bob", "carol")]
        harness.nextcloud.gate = asyncio.Event()
        alice.join("r")
        bob.send_message(carol, "quick")
        assert carol.received()[0]["message"]["data"] == "quick"


async def test_reading_pauses_while_many_messages_wait() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.hello("alice"), await harness.hello("bob")
        harness.nextcloud.gate = asyncio.Event()
        alice.join("r")
        for number in range(PAUSE_AT):
            assert not alice.connection.paused
            alice.send_message(bob, number)
        assert alice.connection.paused
        harness.nextcloud.gate.set()
        await settle()
        assert not alice.connection.paused
        assert [message["message"]["data"] for message in bob.received()] == list(range(PAUSE_AT))


async def test_messages_before_a_broken_connection_are_handled_before_those_after_the_resume() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.hello("alice"), await harness.hello("bob")
        harness.nextcloud.gate = asyncio.Event()
        alice.join("r", id="1")
        alice.send_message(bob, "before")
        await settle()
        alice.disconnect()
        again = await harness.resume(alice)
        assert again.received()[0]["type"] == "hello"
        again.send_message(bob, "after")
        await settle()
        assert bob.received() == []
        harness.nextcloud.gate.set()
        await settle()
        assert [message["message"]["data"] for message in bob.received()] == ["before", "after"]
        assert ids(again) == ["1"]


async def test_messages_of_a_replaced_connection_are_handled_before_those_of_the_next() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.hello("alice"), await harness.hello("bob")
        harness.nextcloud.gate = asyncio.Event()
        alice.join("r", id="1")
        alice.send_message(bob, "before")
        alice.send({"id": "bad", "type": "message", "message": {}})
        await settle()
        again = await harness.resume(alice)
        again.send_message(bob, "after")
        harness.nextcloud.gate.set()
        await settle()
        assert [message["message"]["data"] for message in bob.received()] == ["before", "after"]
        assert ids(again) == ["1", "bad"]
        alice.received()
        alice.send_message(bob, "from the replaced connection")
        alice.send("junk")
        harness.dispatch.received_binary(alice.client_connection)
        assert bob.received() == alice.received() == []
        assert [message for message in again.received() if message["type"] == "error"] == []


async def test_join_that_ends_after_its_session_is_undone(caplog: pytest.LogCaptureFixture) -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.hello("alice"), await harness.member("bob", "r")
        bob.received()
        harness.nextcloud.gate = asyncio.Event()
        alice.join("r", nc="nc-alice")
        alice.send("junk")
        alice.send({"type": "bye"})
        await settle()
        alice.disconnect()
        await harness.sweep(31.0)
        harness.nextcloud.gate.set()
        await settle()
        assert bob.received() == []
        assert [request.sessionid for request in harness.nextcloud.leaves()] == ["nc-alice"]
        assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_messages_behind_a_hello_and_a_resume_on_the_same_connection_keep_their_order() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.hello("alice"), await harness.hello("bob")
        harness.nextcloud.gate = asyncio.Event()
        alice.join("r", id="1")
        alice.send_message(bob, "before")
        await settle()
        alice.disconnect()
        again = harness.connect()
        again.received()
        auth = {"url": "https://cloud.example/", "params": {"userid": "forged"}}
        again.send({"id": "h", "type": "hello", "hello": {"version": "1.0", "auth": auth}})
        again.send({"id": "r", "type": "hello", "hello": {"version": "1.0", "resumeid": alice.resumeid}})
        again.send_message(bob, "after")
        await settle()
        harness.nextcloud.gate.set()
        await settle()
        assert [message["message"]["data"] for message in bob.received()] == ["before", "after"]
        assert [message["id"] for message in again.received() if "id" in message][:2] in (["h", "r"], ["r", "1"])


async def test_ended_sessions_leave_no_state_behind() -> None:
    async with FlowHarness() as harness:
        for _ in range(3):
            alice, bob = await harness.hello("alice"), await harness.hello("bob")
            alice.join("r")
            await settle()
            alice.send({"type": "bye"})
            alice.disconnect()
            bob.disconnect()
            await harness.sweep(31.0)
        assert harness.hub.sessions == {}
        assert harness.dispatch._clients == {}
        assert harness.dispatch._awaiting_hello == set()
        assert harness.dispatch._inboxes == {}
        assert harness.services.delivery._connections == {}
        assert len(harness.services.tasks) == 0


async def test_message_behind_a_join_of_a_session_that_was_closed_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.hello("alice"), await harness.hello("alice")
        alice.join("r", nc="same")
        await settle()
        harness.nextcloud.gate = asyncio.Event()
        bob.join("r", nc="same")
        await settle()
        first, harness.nextcloud.gate = harness.nextcloud.gate, asyncio.Event()
        alice.join("other", nc="same")
        alice.send("junk")
        await settle()
        alice.received()
        first.set()
        await settle()
        assert alice.received()[-1]["bye"]["reason"] == "room_session_reconnected"
        alice.disconnect()
        harness.nextcloud.gate.set()
        await settle()
        assert list(harness.hub.sessions) == [bob.sessionid]
        assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
