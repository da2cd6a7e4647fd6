"""``sendoffer``: a publisher's request to offer its stream to another session (reference 9.5)."""

from __future__ import annotations

import asyncio

import pytest

from mcu.base import Rejected
from tests.gateway.flows.harness import OTHER_CLOUD, FlowHarness
from tests.gateway.flows.media.calls import set_permissions
from tests.gateway.flows.media.descriptions import answer
from tests.gateway.flows.virtual_time import settle


# reference 9.5-a
async def test_stream_is_offered_to_the_members_of_the_call() -> None:
    async with FlowHarness() as harness:
        alice, bob, carol = await harness.callers("alice", "bob", "carol")
        alice.offer(roomType="screen")
        for client in (bob, carol):
            alice.media(client, "sendoffer", room_type="screen")
        await settle()
        assert [message["type"] for message in alice.data()] == ["answer"]
        for client in (bob, carol):
            (data,) = client.data()
            assert (data["type"], data["roomType"], data["from"], data["to"]) == (
                "offer",
                "screen",
                alice.sessionid,
                client.sessionid,
            )
            client.media(alice, "answer", room_type="screen", sid=data["sid"], payload={"sdp": answer()})
        await settle()
        assert [len(subscriber.answers) for subscriber in harness.mcu.subscribers] == [1, 1]


# reference 9.5-a
async def test_errors_of_sendoffer_are_sent_to_its_sender() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.callers("alice", "bob")
        alice.received()
        foreign = await harness.hello("foreign", OTHER_CLOUD)
        alice.media(bob, "sendoffer", id="no publication")
        await asyncio.sleep(10.1)  # the time for which a sendoffer waits for the publication
        alice.send_message(
            {"type": "session", "sessionid": "unknown"}, {"type": "sendoffer", "roomType": "video"}, id="unknown"
        )
        alice.media(foreign, "sendoffer", id="foreign")
        alice.media(alice, "sendoffer", id="own")  # ignored
        harness.mcu.subscribe_error = Rejected("no")
        alice.offer()
        alice.media(bob, "sendoffer", id="refused")
        await settle()
        set_permissions(harness, "alice")
        alice.media(bob, "sendoffer", id="forbidden")
        alice.media(bob, "sendoffer", id="forbidden screen", room_type="screen")
        errors = {message["id"]: message["error"]["code"] for message in alice.received() if message["type"] == "error"}
        assert errors == {
            "no publication": "client_not_found",
            "unknown": "client_not_found",
            "foreign": "client_not_found",
            "refused": "processing_failed",
            "forbidden": "not_allowed",
            "forbidden screen": "not_allowed",
        }
        assert [message for message in bob.received() if message["type"] != "event"] == []
        assert foreign.received() == []


# reference 9.5-b
@pytest.mark.parametrize("sender", ["in call", "in room"])
@pytest.mark.parametrize("recipient", ["in call", "in room", "elsewhere", "no room"])
async def test_stream_is_offered_within_one_call_only(sender: str, recipient: str) -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice", in_call=sender == "in call")
        if recipient == "no room":
            bob = await harness.hello("bob")
        else:
            room = "elsewhere" if recipient == "elsewhere" else "r"
            bob = await harness.member("bob", room, in_call=recipient != "in room")
        alice.received()
        alice.offer(roomType="screen")
        await settle()
        assert [message["type"] for message in alice.data()] == ["answer"]
        alice.media(bob, "sendoffer", room_type="screen")
        await settle()
        if sender == recipient == "in call":
            assert [message["type"] for message in bob.data()] == ["offer"]
        else:
            assert alice.error_codes() == ["not_allowed"]
            assert bob.received() == []
            assert harness.mcu.subscribers == []


# reference 9.5-b
async def test_internal_client_offers_its_stream_to_sessions_outside_of_the_call() -> None:
    async with FlowHarness() as harness:
        internal, bob = await harness.internal_hello(), await harness.member("bob")
        internal.offer()
        internal.media(bob, "sendoffer")
        await settle()
        assert [message["type"] for message in bob.data()] == ["offer"]


# reference 9.5-b
@pytest.mark.parametrize("leaves", ["alice", "bob"])
async def test_offer_that_waits_for_the_sfu_is_not_sent_after_either_side_left_the_call(leaves: str) -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.callers("alice", "bob")
        alice.offer()
        await settle()
        gate = harness.mcu.subscribe_gate = asyncio.Event()
        alice.media(bob, "sendoffer")
        await settle()
        harness.set_in_call("r", leaves, flags=0)
        bob.received()
        gate.set()
        await settle()
        assert [message for message in bob.received() if message["type"] == "message"] == []
        assert harness.mcu.subscribers == []


# reference 9.5-b
async def test_sendoffer_to_a_session_outside_of_the_senders_room_is_refused() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.callers("alice", "bob")
        other_room, no_room = await harness.member("other", "other room"), await harness.hello("no room")
        alice.received()
        for number, client in enumerate((other_room, no_room)):
            alice.media(client, "sendoffer", id=str(number))
        assert [(message["id"], message["error"]["code"]) for message in alice.received()] == [
            ("0", "not_allowed"),
            ("1", "not_allowed"),
        ]
        no_room.media(await harness.hello("no room either"), "sendoffer")
        assert no_room.error_codes() == ["not_allowed"]
        alice.offer()
        await settle()
        alice.media(bob, "sendoffer")
        await settle()
        assert [message["type"] for message in bob.data()] == ["offer"]
