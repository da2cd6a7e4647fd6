"""``sendoffer``: a publisher has its stream offered to another session (reference 9.5)."""

from __future__ import annotations

import asyncio

from mcu.base import (
    Rejected,
)
from tests.gateway.flows.harness import OTHER, FlowHarness
from tests.gateway.flows.media.calls import set_permissions
from tests.gateway.flows.media.descriptions import answer
from tests.gateway.flows.virtual_time import settle


# reference 9.5-a
async def test_stream_is_offered_to_sessions_outside_of_the_call() -> None:
    async with FlowHarness() as harness:
        alice, bob, carol = [await harness.member(name) for name in ("alice", "bob", "carol")]
        for it in (alice, bob):
            it.received()
        alice.offer(roomType="screen")
        for it in (bob, carol):
            alice.media(it, "sendoffer", room_type="screen")
        await settle()
        assert [it["type"] for it in alice.data()] == ["answer"]
        for it in (bob, carol):
            (data,) = it.data()
            assert (data["type"], data["roomType"], data["from"], data["to"]) == (
                "offer",
                "screen",
                alice.sessionid,
                it.sessionid,
            )
            it.media(alice, "answer", room_type="screen", sid=data["sid"], payload={"sdp": answer()})
        await settle()
        assert [len(it.answers) for it in harness.mcu.subscribers] == [1, 1]


# reference 9.5-a
async def test_errors_of_sendoffer_are_sent_to_its_sender() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.callers("alice", "bob")
        alice.received()
        foreign = await harness.hello("x", OTHER)
        alice.media(bob, "sendoffer", id="late")
        await asyncio.sleep(10.1)
        alice.send_message(
            {"type": "session", "sessionid": "unknown"}, {"type": "sendoffer", "roomType": "video"}, id="unknown"
        )
        alice.media(foreign, "sendoffer", id="foreign")
        alice.media(alice, "sendoffer", id="own")
        harness.mcu.subscribe_error = Rejected("no")
        alice.offer()
        alice.media(bob, "sendoffer", id="refused")
        await settle()
        set_permissions(harness, "alice")
        alice.media(bob, "sendoffer", id="forbidden")
        alice.media(bob, "sendoffer", id="forbidden screen", room_type="screen")
        errors = {it["id"]: it["error"]["code"] for it in alice.received() if it["type"] == "error"}
        assert errors == {
            "late": "client_not_found",
            "unknown": "client_not_found",
            "foreign": "client_not_found",
            "refused": "processing_failed",
            "forbidden": "not_allowed",
            "forbidden screen": "not_allowed",
        }
        assert [it for it in bob.received() if it["type"] != "event"] == []
        assert foreign.received() == []
