"""The simulcast layers and media that a subscriber selects (reference 9.6)."""

from __future__ import annotations

from mcu.base import MediaSelection
from tests.gateway.flows.media.calls import publishing_call, subscribe
from tests.gateway.flows.virtual_time import settle


# reference 9.6-a
async def test_selection_is_passed_to_the_sfu_and_wrong_types_are_refused() -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        subscriber = await subscribe(bob, alice)
        for payload in ({"substream": 2, "temporal": 1, "audio": True, "video": False}, {"video": None}, {}):
            bob.media(alice, "selectStream", payload=payload)
        bob.media(alice, "selectStream")
        await settle()
        assert bob.received() == []
        assert subscriber.selections[0] == MediaSelection(2, 1, True, False)
        for bad in ({"substream": "1"}, {"video": 1}, {"temporal": 1.5}, {"substream": 10**30}):
            bob.media(alice, "selectStream", payload=bad)
        await settle()
        assert bob.error_codes() == ["processing_failed"] * 4


async def test_selection_applies_to_the_publishers_next_connection() -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        bob.media(alice, "requestoffer", payload={"substream": 0, "video": False})
        await settle()
        bob.media(alice, "selectStream", payload={"audio": False})
        await settle()
        alice.offer("two", sid="2")
        await settle()
        assert harness.mcu.subscribers[-1].first_selection == MediaSelection(substream=0, audio=False, video=False)


async def test_new_request_replaces_the_earlier_selection() -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        bob.media(alice, "requestoffer", payload={"video": False})
        bob.received()
        await settle()
        await subscribe(bob, alice)
        assert harness.mcu.subscribers[-1].first_selection == MediaSelection()
