"""Answers and candidates that were on their way when their connection ended (reference 9.4)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from gateway.core.former_sids import LIFETIME
from tests.captured_log import captured_lines
from tests.gateway.flows.harness import FakeClient, FlowHarness
from tests.gateway.flows.media.calls import candidate_payload, publishing_call
from tests.gateway.flows.media.descriptions import answer
from tests.gateway.flows.virtual_time import settle

TYPES = ("answer", "candidate", "endOfCandidates")
PAYLOAD = {"sdp": answer(), **candidate_payload()}

Replacement = Callable[[FlowHarness, FakeClient, FakeClient], Awaitable[None]]


async def request_anew(harness: FlowHarness, alice: FakeClient, bob: FakeClient) -> None:
    """Let Bob request Alice's stream on another connection."""
    bob.media(alice, "requestoffer")


async def publish_anew(harness: FlowHarness, alice: FakeClient, bob: FakeClient) -> None:
    """Publish Alice's stream on another connection; Bob is offered it without a request."""
    number = len(harness.mcu.published)
    alice.offer(f"{number} more", sid=f"{number} more")


async def leave_the_call_and_return(harness: FlowHarness, alice: FakeClient, bob: FakeClient) -> None:
    """Take Bob out of the call and back into it, and let him request Alice's stream."""
    harness.set_in_call("r", "bob", flags=0)
    await settle()
    harness.set_in_call("r", "bob")
    bob.received()
    bob.media(alice, "requestoffer")


async def subscribed_sid(bob: FakeClient, alice: FakeClient) -> str:
    """Request Alice's stream for Bob and return the sid of the offer."""
    bob.media(alice, "requestoffer")
    await settle()
    return str(bob.data()[0]["sid"])


# reference 9.4-g
@pytest.mark.parametrize("replace", [request_anew, publish_anew, leave_the_call_and_return])
@pytest.mark.parametrize("repeated", [1, 20])
async def test_message_about_an_ended_subscription_is_dropped(replace: Replacement, repeated: int) -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        sids = [await subscribed_sid(bob, alice)]
        for _ in range(repeated):
            await replace(harness, alice, bob)
            await settle()
            sids.extend(str(data["sid"]) for data in bob.data() if data["type"] == "offer")
        assert len(set(sids)) == 1 + repeated
        alice.received()
        with captured_lines(logging.DEBUG) as lines:
            for type in TYPES:
                for sid in sids[:-1]:
                    bob.media(alice, type, sid=sid, payload=PAYLOAD)
                await settle()
        assert bob.received() == []
        assert [line for line in lines if "level=debug" not in line] == []
        assert len([line for line in lines if "its connection has ended" in line]) == len(TYPES) * repeated
        assert all(not subscriber.answers and not subscriber.candidates for subscriber in harness.mcu.subscribers)
        bob.media(alice, "answer", sid=sids[-1], payload=PAYLOAD)
        await settle()
        assert harness.mcu.subscribers[-1].answers


# reference 9.4-g
async def test_candidate_of_a_replaced_publication_is_dropped() -> None:
    harness, (alice,) = await publishing_call("alice")
    async with harness:
        alice.offer("two", sid="2")
        await settle()
        alice.received()
        with captured_lines(logging.INFO) as lines:
            alice.media(alice, "candidate", sid="1", payload=PAYLOAD)
            await settle()
        assert alice.received() == []
        assert lines == []
        assert [publisher.candidates for publisher in harness.mcu.published] == [[], []]


async def test_message_about_a_connection_that_ended_long_ago_is_refused() -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        sid = await subscribed_sid(bob, alice)
        await subscribed_sid(bob, alice)
        await asyncio.sleep(LIFETIME)
        bob.media(alice, "answer", sid=sid, payload=PAYLOAD)
        await settle()
        assert bob.error_codes() == ["processing_failed"]


async def test_sid_of_an_ended_connection_counts_for_its_own_session_and_stream_only() -> None:
    harness, (alice, bob, carol) = await publishing_call("alice", "bob", "carol")
    async with harness:
        alice.offer(roomType="screen")
        await settle()
        sid = await subscribed_sid(bob, alice)
        await subscribed_sid(bob, alice)
        await subscribed_sid(carol, alice)
        bob.media(alice, "requestoffer", room_type="screen")
        await settle()
        bob.received()
        bob.media(alice, "answer", room_type="screen", sid=sid, payload=PAYLOAD)
        carol.media(alice, "answer", sid=sid, payload=PAYLOAD)
        await settle()
        assert bob.error_codes() == carol.error_codes() == ["processing_failed"]


async def test_message_about_an_ended_subscription_without_a_successor_is_answered_without_a_warning() -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        sid = await subscribed_sid(bob, alice)
        harness.set_in_call("r", "alice", flags=0)
        await settle()
        bob.received()
        with captured_lines(logging.INFO) as lines:
            bob.media(alice, "answer", sid=sid, payload=PAYLOAD)
            await settle()
        assert bob.error_codes() == ["client_not_found"]
        assert lines == []
