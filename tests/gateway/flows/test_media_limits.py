"""One client reaches each limit of media without disturbing a call in another room (docs/protocol.md, "Limits")."""

from __future__ import annotations

import asyncio
import json

from gateway.core.limits import Limits
from gateway.core.relay_budget import OFFER_COST
from mcu.base import CloseReason
from tests.gateway.flows.harness import FlowHarness
from tests.gateway.flows.limited_calls import beside_a_call, limits_met
from tests.gateway.flows.media.calls import subscribe
from tests.gateway.flows.media.descriptions import offer
from tests.gateway.flows.virtual_time import settle


async def test_descriptions_count_by_their_size() -> None:
    limits = Limits(description_bytes_per_second=1000, description_bytes_burst=10_000)
    async with beside_a_call(limits) as harness:
        alice, bob = await harness.callers("alice", "bob")
        size = len(json.dumps(offer("one")))
        for _ in range(12_000 // size):
            alice.offer("one")
        await settle()
        errors = alice.error_codes(among_others=True)
        assert errors == ["too_many_requests"] * (12_000 // size - 10_000 // size)
        assert set(limits_met(harness)) == {"description_bytes_per_second"}
        assert not alice.connection.finished
        alice.send_message(bob, {"type": "other"})
        alice.send_message({"type": "room"}, {"type": "offer", "payload": {"type": "offer", "sdp": offer("one")}})
        assert alice.error_codes() == ["too_many_requests"]
        assert [message["message"]["data"] for message in bob.received()] == [{"type": "other"}]
        await asyncio.sleep(10)
        alice.offer("one")
        await settle()
        assert [data["type"] for data in alice.data()] == ["answer"]


async def test_offers_have_a_rate_of_their_own() -> None:
    async with beside_a_call(Limits(offers_per_second=1, offers_burst=3)) as harness:
        alice = await harness.member("alice", in_call=True)
        for _ in range(4):
            alice.offer("one")
        await settle()
        messages = alice.received()
        errors = [message["error"]["code"] for message in messages if message["type"] == "error"]
        assert errors == ["too_many_requests"]
        assert limits_met(harness) == {"offers_per_second": 1}
        assert not alice.connection.finished
        await asyncio.sleep(1)
        alice.offer("one")
        await settle()
        assert [data["type"] for data in alice.data()] == ["answer"]


async def test_requests_for_streams_have_a_rate_of_their_own() -> None:
    async with beside_a_call(Limits(stream_requests_per_second=1, stream_requests_burst=3)) as harness:
        alice, bob = await harness.callers("alice", "bob")
        bob.offer()
        await settle()
        for _ in range(2):
            bob.send_message(alice, {"type": "sendoffer", "roomType": "video"})
            alice.send_message(bob, {"type": "requestoffer", "roomType": "video"})
        alice.send_message(bob, {"type": "requestoffer", "roomType": "video"})
        alice.send_message(bob, {"type": "requestoffer", "roomType": "video"})
        await settle()
        errors = alice.error_codes(among_others=True)
        assert errors == ["too_many_requests"]
        assert limits_met(harness) == {"stream_requests_per_second": 1}
        await asyncio.sleep(1)
        alice.send_message(bob, {"type": "requestoffer", "roomType": "video"})
        await settle()
        assert [data["type"] for data in alice.data()] == ["offer"]


async def test_publishers_of_a_session_are_limited() -> None:
    async with beside_a_call(Limits(publishers=1)) as harness:
        (alice,) = await harness.callers("alice")
        alice.offer()
        await settle()
        assert [message["type"] for message in alice.data()] == ["answer"]
        alice.offer("screen", roomType="screen")
        await settle()
        assert alice.error_codes() == ["limit_exceeded"]
        alice.offer("one", sid="2", media=("audio", "video"))  # the existing publisher may be renegotiated
        await settle()
        assert [message["type"] for message in alice.data()] == ["answer"]
        assert limits_met(harness) == {"publishers": 1}


async def test_subscriptions_of_a_session_are_limited() -> None:
    async with beside_a_call(Limits(subscriptions=1)) as harness:
        alice, bob, carol = await harness.callers("alice", "bob", "carol")
        for publisher in (bob, carol):
            publisher.offer()
            await settle()
            publisher.received()
            alice.media(publisher, "requestoffer")
            await settle()
        messages = alice.received()
        assert [message["type"] for message in messages] == ["message", "error"]
        assert messages[1]["error"]["code"] == "limit_exceeded"
        assert limits_met(harness) == {"subscriptions": 1}


async def test_clients_of_a_room_or_an_address_do_not_get_all_connections_of_the_sfu() -> None:
    async with beside_a_call(Limits()) as harness:
        alice, bob, carol = await harness.callers("alice", "bob", "carol")
        harness.mcu.capacity = 7  # of which an address gets 6
        for client in (alice, bob, carol):
            client.offer()
        await settle()
        for subscriber, publisher in ((alice, bob), (alice, carol), (bob, alice), (bob, carol), (carol, alice)):
            subscriber.media(publisher, "requestoffer")
        await settle()
        assert [client.error_codes(among_others=True) for client in (alice, bob, carol)] == [
            [],
            ["limit_exceeded"],
            ["limit_exceeded"],
        ]
        assert limits_met(harness) == {"peer_connections": 2}
        alice.send({"type": "bye"})  # ends four of them
        await settle()
        carol.media(bob, "requestoffer")
        await settle()
        assert carol.error_codes(among_others=True) == []
        harness.mcu.capacity = 0


async def test_connections_of_the_sfu_are_limited_in_all() -> None:
    async with beside_a_call(Limits()) as harness:
        alice, bob = await harness.callers("alice", "bob")
        harness.mcu.capacity = 1
        alice.offer()
        bob.offer()
        await settle()
        assert (alice.error_codes(among_others=True), bob.error_codes(among_others=True)) == ([], ["limit_exceeded"])
        harness.mcu.capacity = 0


async def test_requests_of_a_session_that_wait_for_the_sfu_are_limited() -> None:
    async with beside_a_call(Limits(waiting_requests=5)) as harness:
        alice, bob = await harness.callers("alice", "bob")
        harness.mcu.publish_gate = asyncio.Event()
        alice.offer()
        await settle()  # the offer is with the SFU
        for _ in range(8):
            alice.media(alice, "endOfCandidates")
        assert alice.error_codes() == ["limit_exceeded"] * 3
        assert limits_met(harness) == {"waiting_requests": 3}
        bob.send_message(alice, {"type": "hi"})
        assert alice.data() == [{"type": "hi"}]
        harness.mcu.publish_gate.set()
        await settle()
        assert [message["type"] for message in alice.data()] == ["answer"]
        alice.media(alice, "endOfCandidates")
        assert alice.error_codes() == []


async def test_request_that_waited_for_an_ended_stream_no_longer_counts() -> None:
    async with beside_a_call(Limits(waiting_requests=5)) as harness:
        alice, bob = await harness.callers("alice", "bob")
        harness.mcu.publish_gate = asyncio.Event()
        alice.offer()
        await settle()
        for _ in range(5):
            alice.media(alice, "endOfCandidates")
        harness.set_in_call("r", "alice", flags=0)
        harness.set_in_call("r", "alice")
        harness.mcu.publish_gate.set()
        await settle()
        for client in (alice, bob):
            client.received()
        alice.offer("two")
        for _ in range(4):
            alice.media(alice, "endOfCandidates")
        await settle()
        assert [message["type"] for message in alice.data()] == ["answer"]


def _lengthen(description: str) -> str:
    """Return a description that is as long as one with the greatest number of sections."""
    return description + "".join(f"a=x-padding:{'x' * 980}\r\n" for _ in range(30))


async def test_offers_of_others_do_not_fill_the_outbox_of_a_member_that_is_away() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.callers("alice", "bob")
        alice.offer()
        await settle()
        harness.mcu.edit_description = _lengthen
        bob.disconnect()
        for _ in range(300):
            alice.media(bob, "sendoffer")
            await settle()
        assert bob.session.open
        assert 0 < bob.session.outbox.size < harness.services.outbox_bytes / 2


async def test_replaced_publications_do_not_fill_the_outbox_of_a_subscriber_that_is_away() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.callers("alice", "bob")
        alice.offer("0")
        await settle()
        await subscribe(bob, alice)
        harness.mcu.edit_description = _lengthen
        bob.disconnect()
        for number in range(1, 300):
            alice.offer(str(number), sid=str(number))
            await settle()
        assert bob.session.open
        assert 0 < bob.session.outbox.size < harness.services.outbox_bytes / 2


async def test_offer_beyond_the_budget_is_sent_later_once_for_all_requests() -> None:
    async with beside_a_call(
        Limits(relayed_bytes_per_second=2 * OFFER_COST, relayed_bytes_burst=OFFER_COST)
    ) as harness:
        alice, bob = await harness.callers("alice", "bob")
        alice.offer()
        for _ in range(5):
            alice.media(bob, "sendoffer")
            await settle()
        assert [data["type"] for data in bob.data()] == ["offer", "offer"]
        alice.send_message(bob, {"type": "short"})
        assert [data["type"] for data in bob.data()] == ["short"]
        await asyncio.sleep(2)
        assert [data["type"] for data in bob.data()] == ["offer"]
        assert alice.error_codes(among_others=True) == []
        assert limits_met(harness)["relayed_bytes_per_second"] > 0


async def test_offer_that_is_longer_than_usual_delays_later_messages() -> None:
    async with beside_a_call(Limits(relayed_bytes_per_second=1000, relayed_bytes_burst=2 * OFFER_COST)) as harness:
        alice, bob = await harness.callers("alice", "bob")
        alice.offer()
        harness.mcu.edit_description = lambda description: _lengthen(_lengthen(_lengthen(description)))
        alice.media(bob, "sendoffer")
        await settle()
        bob.received()
        alice.send_message(bob, {"type": "x", "padding": "x" * 5000})
        assert bob.received() == []


async def test_request_of_the_recipient_ends_the_wait_for_an_offer() -> None:
    async with beside_a_call(Limits(relayed_bytes_per_second=10, relayed_bytes_burst=OFFER_COST)) as harness:
        alice, bob = await harness.callers("alice", "bob")
        alice.offer()
        for _ in range(3):
            alice.media(bob, "sendoffer")
            await settle()
        await asyncio.sleep(10)
        assert [data["type"] for data in bob.data()] == ["offer", "offer"]
        bob.media(alice, "requestoffer")
        await asyncio.sleep(1)
        assert [data["type"] for data in bob.data()] == ["offer"]


async def test_screen_is_offered_to_a_hundred_members_at_once() -> None:
    async with FlowHarness() as harness:
        alice, *others = await harness.callers("alice", *(f"member{number}" for number in range(100)))
        for client in others:
            client.received()
        alice.offer(roomType="screen")
        for client in others:
            alice.media(client, "sendoffer", room_type="screen")
        await settle()
        assert {len(client.data()) for client in others} == {1}
        assert limits_met(harness) == {}


async def test_many_members_offer_their_screens_to_a_new_one_at_once() -> None:
    async with FlowHarness() as harness:
        new, *others = await harness.callers("new", *(f"member{number}" for number in range(50)))
        for client in others:
            client.offer(roomType="screen")
        await settle()
        new.received()
        for client in others:
            client.media(new, "sendoffer", room_type="screen")
        await settle()
        assert len(new.data()) == 50
        assert limits_met(harness) == {}


async def test_streams_that_the_sfu_lost_are_offered_again_at_once() -> None:
    async with beside_a_call(Limits(relayed_bytes_per_second=10, relayed_bytes_burst=OFFER_COST)) as harness:
        bob, *publishers = await harness.callers("bob", *(f"publisher{number}" for number in range(5)))
        for publisher in publishers:
            publisher.offer()
            await settle()
            await subscribe(bob, publisher)
        for running in list(harness.mcu.publishers.values()):
            running.end(CloseReason.LOST, CloseReason.LOST)
        for publisher in publishers:
            publisher.offer("again", sid="2")
        await settle()
        assert [data["type"] for data in bob.data()] == ["offer"] * 5
        assert limits_met(harness) == {}
