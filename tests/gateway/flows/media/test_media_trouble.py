"""Media flows when things go wrong or twice: unexpected faults, revoked offers, requests that pile up."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from gateway.flows.settings import MediaLimits
from mcu.base import McuError, MediaSelection
from tests.gateway.flows.harness import FlowHarness
from tests.gateway.flows.media.test_media import permit, publishing, subscribed
from tests.gateway.flows.virtual_time import settle


async def test_an_unexpected_fault_of_the_sfu_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    async with FlowHarness() as harness:
        (alice,) = await harness.callers("alice")
        alice.received()
        harness.mcu.publish_error = cast(McuError, ValueError("nobody thought of this"))
        alice.offer()
        await settle()
        assert alice.error_codes() == ["processing_failed"]
        assert "nobody thought of this" in caplog.text
        harness.mcu.publish_error = None
        alice.offer()
        await settle()
        assert [it["type"] for it in alice.data()] == ["answer"]


async def test_a_screen_that_is_forbidden_while_it_is_offered_is_answered() -> None:
    async with FlowHarness() as harness:
        (alice,) = await harness.callers("alice")
        alice.received()
        harness.mcu.publish_gate = asyncio.Event()
        alice.offer(roomType="screen")
        await settle()
        permit(harness, "alice", "publish-media")
        await settle()
        errors = [message["error"]["code"] for message in alice.received() if message["type"] == "error"]
        assert errors == ["not_allowed"]
        harness.mcu.publish_gate.set()
        await settle()
        assert harness.mcu.is_empty


async def test_what_a_viewer_chose_outlives_the_publishers_connection() -> None:
    harness, (alice, bob) = await publishing("alice", "bob")
    async with harness:
        bob.media(alice, "requestoffer", payload={"substream": 0, "video": False})
        await settle()
        bob.media(alice, "selectStream", payload={"audio": False})
        await settle()
        alice.offer("two", sid="2")
        await settle()
        assert harness.mcu.subscribers[-1].first_selection == MediaSelection(substream=0, audio=False, video=False)


async def test_a_fresh_request_begins_with_its_own_choice() -> None:
    harness, (alice, bob) = await publishing("alice", "bob")
    async with harness:
        bob.media(alice, "requestoffer", payload={"video": False})
        bob.received()
        await settle()
        await subscribed(bob, alice)
        assert harness.mcu.subscribers[-1].first_selection == MediaSelection()


async def test_requests_that_wait_together_are_served_by_one_offer() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.callers("alice", "bob")
        bob.received()
        for _ in range(3):
            bob.media(alice, "requestoffer")
        bob.media(alice, "requestoffer", payload={"video": False})
        await settle()
        alice.offer()
        await settle()
        assert [it["type"] for it in bob.data()] == ["offer"]
        assert len(harness.mcu.subscribed) == 1
        assert harness.mcu.subscribers[0].selections[-1] == MediaSelection(video=False)


async def test_each_waiting_request_has_its_own_time_limit() -> None:
    async with FlowHarness(limits=MediaLimits(timeout=10.0)) as harness:
        alice, bob = await harness.callers("alice", "bob")
        bob.received()
        bob.media(alice, "requestoffer")
        await asyncio.sleep(4)
        bob.media(alice, "requestoffer")
        await asyncio.sleep(6.5)
        assert bob.error_codes() == ["client_not_found"]
        await asyncio.sleep(4)
        assert bob.error_codes() == ["client_not_found"]
        assert harness.mcu.is_empty
