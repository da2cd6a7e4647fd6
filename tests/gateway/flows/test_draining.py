"""Draining: new sessions are refused, calls go on, and the process has to end with the last one or at the deadline."""

from __future__ import annotations

import asyncio

import pytest

from gateway.flows.draining import NotDraining
from tests.gateway.flows.harness import FlowHarness
from tests.gateway.flows.virtual_time import settle

REFUSED_HELLO = {
    "id": "hello",
    "type": "error",
    "error": {"code": "shutdown_scheduled", "message": "This server is about to end; connect again."},
}


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "portunus"]


# reference 2.5-h
async def test_new_session_is_refused_and_the_call_goes_on() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.callers("alice", "bob")
        harness.flows.draining.begin(60.0)
        late = harness.connect()
        late.received()
        late.send_hello("carol")
        await settle()
        assert late.received() == [REFUSED_HELLO]
        assert len(harness.hub.sessions) == 2
        alice.offer()
        await settle()
        assert harness.publisher(alice) is not None
        alice.send_message(bob, 1)
        await settle()
        assert any(message["type"] == "message" for message in bob.received())
        assert not harness.flows.draining.over.is_set()


# reference 2.5-h
async def test_session_is_resumed_while_the_gateway_drains() -> None:
    async with FlowHarness() as harness:
        (alice,) = await harness.callers("alice")
        harness.flows.draining.begin(60.0)
        alice.disconnect()
        again = await harness.resume(alice)
        assert again.received()[0]["hello"]["sessionid"] == alice.sessionid


# reference 2.5-h
async def test_hello_that_nextcloud_answers_after_the_begin_of_the_drain_opens_no_session() -> None:
    async with FlowHarness() as harness:
        await harness.callers("alice")
        harness.nextcloud.gate = asyncio.Event()
        late = harness.connect()
        late.received()
        late.send_hello("bob")
        await settle()
        harness.flows.draining.begin(60.0)
        harness.nextcloud.gate.set()
        await settle()
        assert late.received() == [REFUSED_HELLO]
        assert len(harness.hub.sessions) == 1


async def test_refused_client_may_say_hello_again_on_its_connection_after_a_cancel() -> None:
    async with FlowHarness() as harness:
        await harness.callers("alice")
        harness.flows.draining.begin(60.0)
        late = harness.connect()
        late.received()
        late.send_hello("bob")
        await settle()
        harness.flows.draining.cancel()
        late.received()
        late.send_hello("bob")
        await settle()
        assert late.received()[0]["type"] == "hello"


async def test_drain_without_a_call_is_over_at_once() -> None:
    async with FlowHarness() as harness:
        await harness.member("alice")  # in a room, not in its call
        recorder = await harness.internal_hello()
        recorder.join()
        await settle()
        harness.flows.draining.begin(60.0)
        assert harness.flows.draining.over.is_set()


async def test_drain_is_over_when_the_last_session_has_left_its_call() -> None:
    async with FlowHarness() as harness:
        alice, _ = await harness.callers("alice", "bob")
        recorder = await harness.internal_hello()
        recorder.join()
        await settle()
        draining = harness.flows.draining
        draining.begin(3600.0)
        await asyncio.sleep(100.0)
        harness.set_in_call("r", "bob", flags=0)
        await asyncio.sleep(2.0)
        assert not draining.over.is_set()
        alice.send({"type": "bye"})
        await asyncio.sleep(2.0)
        assert draining.over.is_set()


async def test_call_of_a_lost_client_counts_until_its_session_expires() -> None:
    async with FlowHarness() as harness:
        (alice,) = await harness.callers("alice")
        draining = harness.flows.draining
        draining.begin(3600.0)
        alice.disconnect()
        await harness.sweep(29.0)
        await asyncio.sleep(0.5)
        assert not draining.over.is_set()
        await harness.sweep(1.0)
        await asyncio.sleep(1.5)
        assert draining.over.is_set()


async def test_drain_is_over_at_its_deadline(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with FlowHarness() as harness:
        await harness.callers("alice", "bob")
        draining = harness.flows.draining
        draining.begin(25.0)
        late = harness.connect()
        late.received()
        late.send_hello("carol")
        await asyncio.sleep(24.0)
        assert not draining.over.is_set()
        await asyncio.sleep(1.5)
        assert draining.over.is_set()
    assert messages(caplog) == [
        "draining: no new sessions are accepted; sessions in calls: 2; the process ends with the last one, in 25 s at"
        " the latest",
        "draining: sessions in calls: 2; the process ends with the last one, in 15 s at the latest; new sessions"
        " refused: 1",
        "draining: sessions in calls: 2; the process ends with the last one, in 5 s at the latest; new sessions"
        " refused: 1",
        "drained: the time is over, sessions in calls: 2",
    ]


@pytest.mark.parametrize("seconds", [0.0, 60.0])
async def test_second_request_to_end_is_carried_out_at_once(seconds: float) -> None:
    async with FlowHarness() as harness:
        await harness.callers("alice")
        draining = harness.flows.draining
        draining.end(seconds)
        assert draining.over.is_set() == (seconds == 0.0)
        draining.end(seconds)
        assert draining.over.is_set()


async def test_request_to_end_shortens_a_drain_and_never_extends_it() -> None:
    async with FlowHarness() as harness:
        await harness.callers("alice")
        draining, drain = harness.flows.draining, harness.services.drain
        for begun, left in ((3600.0, 60.0), (20.0, 20.0)):
            draining.begin(begun)
            draining.end(60.0)
            assert drain.seconds_left(harness.services.clock()) == left
            draining.cancel()
        draining.end(60.0)  # the first one again, after the cancel
        assert not draining.over.is_set()


async def test_cancelled_drain_never_ends_the_process() -> None:
    async with FlowHarness() as harness:
        (alice,) = await harness.callers("alice")
        draining = harness.flows.draining
        with pytest.raises(NotDraining, match="not being drained"):
            draining.cancel()
        draining.begin(20.0)
        draining.cancel()
        alice.send({"type": "bye"})
        await asyncio.sleep(60.0)
        assert not draining.over.is_set()
        await harness.hello("bob")
        draining.begin(20.0)
        assert draining.over.is_set()


# reference 2.5-f
async def test_drain_until_the_last_session_waits_for_sessions_outside_of_calls() -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        await harness.internal_hello()
        draining = harness.flows.draining
        draining.begin_until_last_session()
        with pytest.raises(NotDraining, match="closed its addresses"):
            draining.cancel()
        await asyncio.sleep(3600.0)
        assert not draining.over.is_set()
        alice.send({"type": "bye"})
        await asyncio.sleep(2.0)
        assert draining.over.is_set()
