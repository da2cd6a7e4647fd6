"""The end of streams: unshareScreen, the end of a call, a room or a session, and ends by the SFU (reference 9.7)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mcu.base import CloseReason, IceCandidate, StreamType
from tests.gateway.flows.harness import FakeClient, FlowHarness
from tests.gateway.flows.media.calls import candidate_payload, publishing_call, subscribe
from tests.gateway.flows.media.descriptions import CANDIDATE, subscriber_offer
from tests.gateway.flows.virtual_time import settle
from tests.mcu.descriptions import parse_frozen


# reference 9.7-a
async def test_unshared_screen_ends_a_second_later() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.callers("alice", "bob")
        alice.offer(roomType="screen")
        await settle()
        alice.media(alice, "unshareScreen", room_type="screen")
        await asyncio.sleep(0.9)
        assert harness.publisher(alice, StreamType.SCREEN) is not None
        await asyncio.sleep(0.2)
        assert harness.publisher(alice, StreamType.SCREEN) is None
        bob.received()
        alice.media(bob, "unshareScreen", room_type="screen")
        assert bob.data()[0]["type"] == "unshareScreen"


async def test_unshare_without_a_screen_is_ignored() -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        alice.media(alice, "unshareScreen")
        await asyncio.sleep(1.1)
        assert alice.received() == []


# reference 9.7-d
@pytest.mark.parametrize("connection", ["one", "two"])
@pytest.mark.parametrize("late", [False, True])
async def test_unshare_does_not_end_a_screen_that_is_offered_afterwards(connection: str, late: bool) -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        alice.offer(roomType="screen")
        await settle()
        alice.media(alice, "unshareScreen", room_type="screen")
        await asyncio.sleep(0.5)
        gate = asyncio.Event()
        if late:
            harness.mcu.publish_gate = harness.mcu.published[0].gate = gate
        alice.offer(connection, roomType="screen")
        await asyncio.sleep(1)
        gate.set()
        await settle()
        assert harness.publisher(alice, StreamType.SCREEN) is not None
        assert [message["type"] for message in alice.data()] == ["answer"] * 2


async def test_screen_that_is_unshared_during_its_offer_ends() -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        harness.mcu.publish_gate = asyncio.Event()
        alice.offer(roomType="screen")
        await settle()
        alice.media(alice, "unshareScreen", room_type="screen")
        await asyncio.sleep(0.5)
        harness.mcu.publish_gate.set()
        await asyncio.sleep(1)
        assert harness.mcu.is_empty
        assert harness.media.open_streams == (0, 0)


# reference 9.7-b
@pytest.mark.parametrize("reason", [CloseReason.LOST, CloseReason.FAILED, CloseReason.DRAINED])
async def test_stream_that_the_sfu_closes_ends_without_a_message_to_the_clients(reason: CloseReason) -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        await subscribe(bob, alice)
        harness.mcu.published[0].end(CloseReason.PUBLISHER_GONE, reason)
        await settle()
        assert alice.received() == bob.received() == []
        assert harness.media.open_streams == (0, 0)
        alice.offer("two")
        bob.media(alice, "requestoffer")
        await settle()
        assert [message["type"] for message in alice.data()] == ["answer"]
        assert [message["type"] for message in bob.data()] == ["offer"]


def leave_room(harness: FlowHarness, alice: FakeClient) -> None:
    alice.leave()


def change_room(harness: FlowHarness, alice: FakeClient) -> None:
    alice.join("other")


def leave_call(harness: FlowHarness, alice: FakeClient) -> None:
    harness.set_in_call("r", "alice", flags=0)


def say_bye(harness: FlowHarness, alice: FakeClient) -> None:
    alice.send({"type": "bye"})


# reference 9.7-c
@pytest.mark.parametrize("end", [leave_room, change_room, leave_call, say_bye])
@pytest.mark.parametrize("negotiating", [False, True])
async def test_all_streams_end_when_their_session_leaves_the_call(end: Any, negotiating: bool) -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        bob.offer()
        await subscribe(bob, alice)
        await subscribe(alice, bob)
        if negotiating:
            harness.mcu.publish_gate = harness.mcu.subscribe_gate = asyncio.Event()
            alice.offer("two")
            alice.offer("three", roomType="screen")
            alice.media(bob, "requestoffer", room_type="screen")
            alice.media(bob, "requestoffer")
            await settle()
        end(harness, alice)
        await settle()
        if harness.mcu.publish_gate is not None:
            harness.mcu.publish_gate.set()
        await asyncio.sleep(11)
        left = [key.publisher for key in harness.mcu.publishers]
        assert left == [bob.sessionid]
        assert harness.mcu.subscribers == []
        assert harness.mcu.pending_calls == 0
        assert harness.media.open_streams == (1, 0)


# reference 2.8-g, 9-a
async def test_streams_and_negotiations_outlive_the_loss_of_the_connection() -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        await subscribe(bob, alice)
        harness.mcu.publish_gate = asyncio.Event()
        alice.offer("two", roomType="screen", sid="9")
        alice.media(alice, "candidate", room_type="screen", sid="9", payload=candidate_payload())
        await settle()
        alice.disconnect()
        again = await harness.resume(alice)
        again.media(alice, "endOfCandidates", room_type="screen", sid="9")
        await settle()
        assert [message["type"] for message in again.received() if message["type"] != "event"] == ["hello"]
        harness.mcu.publish_gate.set()
        await settle()
        assert [message["sid"] for message in again.data()] == ["9"]
        assert harness.mcu.published[1].candidates == [IceCandidate(CANDIDATE), None]
        assert harness.media.open_streams == (2, 1)


# reference 9.7-c
async def test_expired_session_leaves_nothing_on_the_sfu() -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        await subscribe(bob, alice)
        alice.disconnect()
        bob.disconnect()
        await harness.sweep(31)
        assert harness.mcu.is_empty
        assert harness.media.open_streams == (0, 0)
        assert harness.hub.sessions == {}


@pytest.mark.parametrize("replaced", [False, True])
async def test_events_of_a_replaced_connection_are_ignored(replaced: bool) -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        await subscribe(bob, alice)
        if replaced:
            alice.offer("two", sid="2")
        else:
            bob.media(alice, "requestoffer")
        await settle()
        alice.received()
        bob.received()
        for old in (
            harness.mcu.subscribed[0].listener,
            *(publisher.listener for publisher in harness.mcu.published[:-1]),
        ):
            old.on_candidate(IceCandidate(CANDIDATE))
            old.on_offer(parse_frozen(subscriber_offer("late")))
            old.on_closed(CloseReason.PUBLISHER_GONE)
        await settle()
        assert alice.received() == bob.received() == []
        assert harness.media.open_streams == (1, 1)
        assert harness.publisher(alice) is harness.mcu.published[-1]
