"""Recovery of lost subscriptions (docs/mcu.md, "When streams are lost")."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gateway.core.limits import Limits
from gateway.flows.settings import MediaLimits
from mcu.base import CloseReason, MediaKind, MediaSelection, Rejected
from tests.gateway.flows.harness import FakeClient, FlowHarness
from tests.gateway.flows.media.calls import call_of, publish, send_answer, set_permissions, subscribe
from tests.gateway.flows.virtual_time import settle

REPUBLISH = ("republish",)


# reference 9.3-i
@pytest.mark.parametrize("reason", [CloseReason.LOST, CloseReason.DRAINED])
@pytest.mark.parametrize("away", [0, 60, 3600])
async def test_subscriber_is_offered_the_stream_once_it_is_published_again(reason: CloseReason, away: float) -> None:
    async with FlowHarness() as harness:
        alice, bob, carol = await call_of(harness, (), (), ())
        await publish(alice)
        await subscribe(bob, alice)
        (before,) = harness.media._streams.streams_of(bob.session).subscriptions.values()
        old = before.sid
        harness.mcu.lose_streams(reason)
        await harness.mcu.recover()
        await asyncio.sleep(away)
        assert bob.received() == []
        assert harness.media.open_streams == (0, 0)
        await publish(alice, "two", sid="2")
        (offer,) = bob.data()
        assert (offer["type"], offer["from"], offer["roomType"]) == ("offer", alice.sessionid, "video")
        assert offer["sid"] not in ("", old)
        assert [subscriber.publisher for subscriber in harness.mcu.subscribers] == [harness.mcu.published[1]]
        assert carol.received() == []
        send_answer(bob, alice, offer["sid"])
        await settle()
        assert bob.received() == []
        assert len(harness.mcu.subscribers[0].answers) == 1


async def test_subscriber_is_offered_the_stream_after_a_failure_of_the_publisher() -> None:
    async with FlowHarness() as harness:
        alice, bob = await call_of(harness, (), ())
        await publish(alice)
        await subscribe(bob, alice)
        harness.mcu.published[0].end(CloseReason.PUBLISHER_GONE, CloseReason.FAILED)
        await settle()
        await publish(alice, "two", sid="2")
        assert [message["type"] for message in bob.data()] == ["offer"]


async def test_subscriber_whose_own_connection_failed_is_not_offered_another() -> None:
    async with FlowHarness() as harness:
        alice, bob = await call_of(harness, (), ())
        await publish(alice)
        (await subscribe(bob, alice)).end(CloseReason.FAILED)  # as when its client closes it
        await settle()
        await publish(alice, "two", sid="2")
        assert bob.received() == []
        assert list(harness.media._streams.subscriptions()) == []


async def test_stream_whose_publisher_is_still_there_is_offered_at_once() -> None:
    async with FlowHarness() as harness:
        alice, bob = await call_of(harness, (), ())
        await publish(alice)
        (await subscribe(bob, alice)).end(CloseReason.LOST)  # Bob's SFU, not Alice's
        await settle()
        assert [message["type"] for message in bob.data()] == ["offer"]
        assert len(harness.mcu.subscribers) == 1


async def test_stream_that_outlives_an_outage_of_the_sfu_is_offered_after_it() -> None:
    async with FlowHarness(media_limits=MediaLimits(timeout=10.0)) as harness:
        alice, bob = await call_of(harness, (), ())
        await publish(alice)
        (await subscribe(bob, alice)).end(CloseReason.REPLACED)
        harness.mcu.unavailable = True
        await asyncio.sleep(11)
        assert bob.received() == []
        await harness.mcu.recover()
        await settle()
        assert [message["type"] for message in bob.data()] == ["offer"]
        assert len(harness.mcu.subscribers) == 1


# reference 9.6-b
async def test_selection_during_the_outage_applies_to_the_next_connection() -> None:
    async with FlowHarness() as harness:
        alice, bob = await call_of(harness, (), ())
        await publish(alice)
        await subscribe(bob, alice)
        bob.media(alice, "selectStream", payload={"substream": 0})
        await settle()
        harness.mcu.lose_streams(recovers=True)
        bob.media(alice, "selectStream", payload={"video": False})
        await settle()
        assert bob.received() == []
        await publish(alice, "two", sid="2")
        assert harness.mcu.subscribers[0].first_selection == MediaSelection(substream=0, video=False)


async def test_request_during_the_outage_is_served_by_one_offer() -> None:
    async with FlowHarness() as harness:
        alice, bob = await call_of(harness, (), ())
        await publish(alice)
        await subscribe(bob, alice)
        harness.mcu.lose_streams()
        bob.media(alice, "requestoffer")
        await asyncio.sleep(3)
        await harness.mcu.recover()
        await asyncio.sleep(1)
        await publish(alice, "two", sid="2")
        await asyncio.sleep(5)
        assert [message["type"] for message in bob.data()] == ["offer"]
        assert len(harness.mcu.subscribed) == 2


async def test_stream_is_offered_although_requests_for_it_failed() -> None:
    async with FlowHarness(media_limits=MediaLimits(timeout=10.0)) as harness:
        alice, bob = await call_of(harness, (), ())
        await publish(alice)
        await subscribe(bob, alice)
        harness.mcu.lose_streams()
        bob.media(alice, "requestoffer")
        await asyncio.sleep(10.5)
        assert bob.error_codes() == ["client_not_found"]
        await harness.mcu.recover()
        bob.media(alice, "requestoffer")
        await asyncio.sleep(10.5)
        assert bob.error_codes() == ["client_not_found"]
        await publish(alice, "two", sid="2")
        assert [message["type"] for message in bob.data()] == ["offer"]


async def test_stream_whose_first_request_failed_during_the_outage_is_offered_later() -> None:
    async with FlowHarness(media_limits=MediaLimits(timeout=10.0)) as harness:
        alice, bob = await call_of(harness, (), ())
        await publish(alice)
        harness.mcu.lose_streams()
        bob.media(alice, "requestoffer")
        await asyncio.sleep(10.5)
        assert bob.error_codes() == ["client_not_found"]
        await harness.mcu.recover()
        await publish(alice, "two", sid="2")
        assert [message["type"] for message in bob.data()] == ["offer"]


# reference 9.3-j
@pytest.mark.parametrize("type", ["requestoffer", "sendoffer"])
@pytest.mark.parametrize("crossed", [True, False])
async def test_request_that_crosses_an_unrequested_offer_is_served_by_it(type: str, crossed: bool) -> None:
    async with FlowHarness() as harness:
        alice, bob = await call_of(harness, (), ())
        await publish(alice)
        await subscribe(bob, alice)
        harness.mcu.lose_streams(recovers=True)
        await publish(alice, "two", sid="2")
        (unrequested,) = bob.data()
        if not crossed:
            send_answer(bob, alice, unrequested["sid"])
            await settle()
        if type == "requestoffer":
            bob.media(alice, type)
        else:
            alice.media(bob, type)
        await settle()
        assert [message["type"] for message in bob.data()] == ([] if crossed else ["offer"])
        assert len(harness.mcu.subscribers) == 1


async def test_request_long_after_an_unrequested_offer_has_an_offer_of_its_own() -> None:
    async with FlowHarness() as harness:
        alice, bob = await call_of(harness, (), ())
        await publish(alice)
        await subscribe(bob, alice)
        harness.mcu.lose_streams(recovers=True)
        await publish(alice, "two", sid="2")
        bob.received()
        await asyncio.sleep(3)
        bob.media(alice, "requestoffer")
        await settle()
        assert [message["type"] for message in bob.data()] == ["offer"]


async def test_request_with_the_sid_of_an_unrequested_offer_refreshes_its_connection() -> None:
    async with FlowHarness() as harness:
        alice, bob = await call_of(harness, (), ())
        await publish(alice)
        await subscribe(bob, alice)
        harness.mcu.lose_streams(recovers=True)
        await publish(alice, "two", sid="2")
        (unrequested,) = bob.data()
        bob.media(alice, "requestoffer", sid=unrequested["sid"])
        await settle()
        assert [message["sid"] for message in bob.data()] == [unrequested["sid"]]
        assert harness.mcu.subscribers[0].refreshed == 1


def subscriber_leaves_call(harness: FlowHarness, alice: FakeClient, bob: FakeClient) -> None:
    harness.set_in_call("r", "bob", flags=0)
    harness.set_in_call("r", "bob")


def publisher_leaves_call(harness: FlowHarness, alice: FakeClient, bob: FakeClient) -> None:
    harness.set_in_call("r", "alice", flags=0)
    harness.set_in_call("r", "alice")


def permission_is_revoked(harness: FlowHarness, alice: FakeClient, bob: FakeClient) -> None:
    set_permissions(harness, "alice", "publish-screen")
    set_permissions(harness, "alice", "publish-media")


def subscriber_says_bye(harness: FlowHarness, alice: FakeClient, bob: FakeClient) -> None:
    bob.send({"type": "bye"})


@pytest.mark.parametrize("reason", [CloseReason.LOST, CloseReason.FAILED])
@pytest.mark.parametrize(
    "end", [subscriber_leaves_call, publisher_leaves_call, permission_is_revoked, subscriber_says_bye]
)
async def test_stream_that_either_side_has_ended_is_not_offered_again(
    end: Callable[[FlowHarness, FakeClient, FakeClient], None], reason: CloseReason
) -> None:
    async with FlowHarness() as harness:
        alice, bob = await call_of(harness, (), ())
        await publish(alice)
        await subscribe(bob, alice)
        if reason is CloseReason.LOST:
            harness.mcu.lose_streams(recovers=True)
        else:
            harness.mcu.published[0].end(CloseReason.PUBLISHER_GONE, CloseReason.FAILED)
        await settle()
        end(harness, alice, bob)
        await settle()
        assert list(harness.media._streams.subscriptions()) == []
        alice.received()
        await publish(alice, "two", sid="2")
        assert [message for message in bob.received() if message["type"] == "message"] == []


@pytest.mark.parametrize("dropped", [True, False])
async def test_screen_that_is_shared_again_is_offered_on_sendoffer_only(dropped: bool) -> None:
    async with FlowHarness() as harness:
        alice, bob = await call_of(harness, (), ())
        await publish(alice, room_type="screen")
        alice.media(bob, "sendoffer", room_type="screen")
        await settle()
        assert [message["type"] for message in bob.data()] == ["offer"]
        if dropped:
            harness.mcu.published[0].end(CloseReason.PUBLISHER_GONE, CloseReason.FAILED)
        alice.media(alice, "unshareScreen", room_type="screen")
        await asyncio.sleep(2)
        await publish(alice, "two", sid="2", room_type="screen")
        assert bob.received() == []
        alice.media(bob, "sendoffer", room_type="screen")
        await settle()
        assert [message["type"] for message in bob.data()] == ["offer"]


@pytest.mark.parametrize("left", [False, True])
async def test_internal_client_is_offered_a_lost_screen_again_outside_of_the_call(left: bool) -> None:
    async with FlowHarness() as harness:
        (alice,) = await call_of(harness, ())
        internal = await harness.internal_hello()
        internal.join()
        if left:
            internal.send_internal("incall", incall=0)
        await settle()
        alice.received()
        await publish(alice, room_type="screen")
        alice.media(internal, "sendoffer", room_type="screen")
        await settle()
        internal.received()
        harness.mcu.lose_streams(recovers=True)
        await publish(alice, "two", sid="2", room_type="screen")
        assert [message["type"] for message in internal.data()] == ["offer"]


async def test_stream_that_could_not_be_received_at_first_is_offered_when_its_media_flow() -> None:
    async with FlowHarness(media_limits=MediaLimits(timeout=10.0)) as harness:
        alice, bob = await call_of(harness, (), ())
        await publish(alice)
        await subscribe(bob, alice)
        harness.mcu.lose_streams(recovers=True)
        harness.mcu.subscribe_error = Rejected("not up yet")
        await publish(alice, "two", sid="2")
        assert bob.received() == []
        harness.mcu.subscribe_error = None
        listener = harness.mcu.published[1].listener
        listener.on_media(MediaKind.AUDIO, False)
        await settle()
        assert bob.received() == []
        listener.on_media(MediaKind.AUDIO, True)
        listener.on_media(MediaKind.VIDEO, True)
        await settle()
        assert [message["type"] for message in bob.data()] == ["offer"]
        harness.mcu.published[0].listener.on_media(MediaKind.VIDEO, True)
        await settle()
        assert bob.received() == []


async def test_stream_whose_publisher_leaves_the_call_meanwhile_is_not_offered() -> None:
    async with FlowHarness() as harness:
        alice, bob = await call_of(harness, (), ())
        await publish(alice)
        await subscribe(bob, alice)
        harness.mcu.lose_streams(recovers=True)
        harness.mcu.subscribe_gate = asyncio.Event()
        await publish(alice, "two", sid="2")
        harness.services.hub.room_of(alice.session).in_call.clear()  # type: ignore[union-attr]  # the room exists
        harness.mcu.subscribe_gate.set()
        await settle()
        assert bob.received() == []
        assert harness.mcu.subscribers == []
        await publish(alice, "three", sid="3")
        assert bob.received() == []


async def test_lost_subscriptions_count_against_the_limit() -> None:
    async with FlowHarness() as harness:
        harness.change_settings(limits=Limits(subscriptions=1))
        alice, bob, carol = await call_of(harness, (), (), ())
        await publish(alice)
        await publish(bob)
        await subscribe(carol, alice)
        harness.mcu.lose_streams(recovers=True)
        await settle()
        carol.media(bob, "requestoffer")
        await settle()
        assert carol.error_codes() == ["limit_exceeded"]


async def test_requests_wait_for_an_unavailable_sfu_and_fail_after_the_timeout() -> None:
    async with FlowHarness(media_limits=MediaLimits(timeout=10.0)) as harness:
        alice, bob = await call_of(harness, (), ())
        harness.mcu.lose_streams()
        alice.offer()
        bob.media(alice, "requestoffer", id="ask")
        alice.media(bob, "sendoffer", id="send", room_type="screen")
        await asyncio.sleep(9.5)
        assert alice.received() == bob.received() == []
        await asyncio.sleep(1)
        assert sorted((message["id"], message["error"]["code"]) for message in alice.received()) == [
            ("offer", "client_not_found"),
            ("send", "client_not_found"),
        ]
        assert [(message["id"], message["error"]["code"]) for message in bob.received()] == [
            ("ask", "client_not_found")
        ]
