"""Throttling of forged resume ids: late answers, then blocked addresses (reference 2.8, 14.1)."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.throttle import ThrottledAction
from tests.gateway.flows.fakes import FakeConnection
from tests.gateway.flows.harness import FakeClient, FlowHarness
from tests.gateway.flows.virtual_time import settle


def guess(client: FakeClient, resumeid: str = "forged") -> None:
    client.send({"id": "1", "type": "hello", "hello": {"version": "1.0", "resumeid": resumeid}})


def codes(client: FakeClient) -> list[str]:
    return [message["error"]["code"] for message in client.received() if message["type"] == "error"]


# reference 2.8-b
async def test_forged_resume_id_is_answered_after_the_delay() -> None:
    async with FlowHarness() as harness:
        for delay in (0.1, 0.2, 0.4):
            client = harness.connect()
            client.received()
            guess(client)
            await asyncio.sleep(delay - 0.01)
            assert codes(client) == []
            await asyncio.sleep(0.02)
            assert codes(client) == ["no_such_session"]
        assert dict(harness.counters.throttle_delayed) == {
            ("HelloResume", 100): 1,
            ("HelloResume", 200): 1,
            ("HelloResume", 400): 1,
        }


# reference 2.8-c
async def test_resume_id_of_an_ended_session_is_no_failure() -> None:
    async with FlowHarness() as harness:
        gone = await harness.hello("alice")
        gone.send({"type": "bye"})
        for _ in range(20):
            client = harness.connect()
            client.received()
            guess(client, gone.resumeid)
            assert codes(client) == ["no_such_session"]
        assert not harness.counters.throttle_delayed


async def test_public_session_id_counts_as_a_forged_resume_id() -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        guess(harness.connect(), alice.sessionid)
        await settle()
        assert sum(harness.counters.throttle_delayed.values()) == 1


# reference 2.8-a
async def test_after_ten_failures_even_a_valid_resume_id_is_refused_for_this_address() -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        alice.disconnect()
        for _ in range(10):
            guess(harness.connect())
        await settle()
        client = harness.connect()
        client.received()
        guess(client, alice.resumeid)
        assert codes(client) == ["too_many_requests"]
        assert harness.counters.throttle_bruteforce == {"HelloResume": 1}
        elsewhere = harness.connect("192.0.2.2")
        elsewhere.received()
        guess(elsewhere, alice.resumeid)
        assert [message["type"] for message in elsewhere.received()] == ["hello"]


async def test_blocked_address_may_open_a_new_session() -> None:
    async with FlowHarness() as harness:
        for _ in range(10):
            guess(harness.connect())
        assert (await harness.hello("alice")).sessionid


# reference 14.1-a
async def test_delay_ends_when_the_caller_disconnects() -> None:
    async with FlowHarness() as harness:
        for _ in range(8):
            guess(harness.connect())
        client = harness.connect()
        guess(client)
        await asyncio.sleep(20)  # of 25 seconds
        waiting = len(harness.services.tasks)
        client.disconnect()
        await settle()
        assert len(harness.services.tasks) == waiting - 1


async def test_delay_of_a_disconnected_caller_ends_at_once() -> None:
    async with FlowHarness() as harness:
        client = harness.connect()
        client.disconnect()
        async with asyncio.timeout(0.01):
            await harness.services.throttling.failed(client.client_connection, ThrottledAction.HELLO_INTERNAL)
        assert harness.counters.throttle_delayed == {("HelloInternal", 100): 1}


async def test_hello_timeout_keeps_running_while_a_forged_id_waits() -> None:
    async with FlowHarness() as harness:
        for _ in range(8):
            guess(harness.connect())
        client = harness.connect()
        guess(client)
        await harness.sweep(2.0)
        assert isinstance(client.connection, FakeConnection)
        assert client.connection.finished
        assert [message.get("bye") for message in client.received()][-1] == {"reason": "hello_timeout"}


@pytest.mark.parametrize("version", ["", "3.0"])
async def test_wrong_version_is_no_failure(version: str) -> None:
    async with FlowHarness() as harness:
        client = harness.connect()
        client.received()
        client.send({"type": "hello", "hello": {"version": version, "resumeid": "forged"}})
        assert codes(client) == ["invalid_hello_version"]
        assert not harness.counters.throttle_delayed
