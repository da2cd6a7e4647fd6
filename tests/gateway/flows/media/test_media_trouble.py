"""Media flows when things go wrong or twice: unexpected faults, revoked offers, requests that pile up."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from gateway.flows.services import MediaLimits
from mcu.base import McuError, MediaSelection
from tests.gateway.flows.house import House
from tests.gateway.flows.media.test_media import permit, publishing, subscribed
from tests.gateway.flows.virtual_time import settle


async def test_an_unexpected_fault_of_the_sfu_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    async with House() as house:
        (alice,) = await house.callers("alice")
        alice.heard()
        house.mcu.publish_error = cast(McuError, ValueError("nobody thought of this"))
        alice.offer()
        await settle()
        assert alice.errors() == ["processing_failed"]
        assert "nobody thought of this" in caplog.text
        house.mcu.publish_error = None
        alice.offer()
        await settle()
        assert [it["type"] for it in alice.data()] == ["answer"]


async def test_a_screen_that_is_forbidden_while_it_is_offered_is_answered() -> None:
    async with House() as house:
        (alice,) = await house.callers("alice")
        alice.heard()
        house.mcu.publish_gate = asyncio.Event()
        alice.offer(roomType="screen")
        await settle()
        permit(house, "alice", "publish-media")
        await settle()
        errors = [message["error"]["code"] for message in alice.heard() if message["type"] == "error"]
        assert errors == ["not_allowed"]
        house.mcu.publish_gate.set()
        await settle()
        assert house.mcu.clean


async def test_what_a_viewer_chose_outlives_the_publishers_connection() -> None:
    house, (alice, bob) = await publishing("alice", "bob")
    async with house:
        bob.media(alice, "requestoffer", payload={"substream": 0, "video": False})
        await settle()
        bob.media(alice, "selectStream", payload={"audio": False})
        await settle()
        alice.offer("two", sid="2")
        await settle()
        assert house.mcu.subscribers[-1].layer == MediaSelection(substream=0, audio=False, video=False)


async def test_a_fresh_request_begins_with_its_own_choice() -> None:
    house, (alice, bob) = await publishing("alice", "bob")
    async with house:
        bob.media(alice, "requestoffer", payload={"video": False})
        bob.heard()
        await settle()
        await subscribed(bob, alice)
        assert house.mcu.subscribers[-1].layer == MediaSelection()


async def test_requests_that_wait_together_are_served_by_one_offer() -> None:
    async with House() as house:
        alice, bob = await house.callers("alice", "bob")
        bob.heard()
        for _ in range(3):
            bob.media(alice, "requestoffer")
        bob.media(alice, "requestoffer", payload={"video": False})
        await settle()
        alice.offer()
        await settle()
        assert [it["type"] for it in bob.data()] == ["offer"]
        assert len(house.mcu.subscribed) == 1
        assert house.mcu.subscribers[0].layers[-1] == MediaSelection(video=False)


async def test_each_waiting_request_has_its_own_time_limit() -> None:
    async with House(limits=MediaLimits(timeout=10.0)) as house:
        alice, bob = await house.callers("alice", "bob")
        bob.heard()
        bob.media(alice, "requestoffer")
        await asyncio.sleep(4)
        bob.media(alice, "requestoffer")
        await asyncio.sleep(6.5)
        assert bob.errors() == ["client_not_found"]
        await asyncio.sleep(4)
        assert bob.errors() == ["client_not_found"]
        assert house.mcu.clean
