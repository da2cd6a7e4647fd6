"""Streams that were lost come back (docs/mcu.md, "When streams are lost"; docs/protocol.md, "Offering again")."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gateway.flows.settings import MediaLimits
from mcu.base import CloseReason, McuLost, MediaKind, MediaSelection, Rejected
from tests.gateway.flows.harness import FakeClient, FlowHarness, Json
from tests.gateway.flows.media.calls import set_permissions, subscribe
from tests.gateway.flows.media.descriptions import answer
from tests.gateway.flows.virtual_time import settle

REPUBLISH = ("republish",)


def lost(room_type: str = "video", sid: str = "1", reason: str = "lost") -> Json:
    return {"type": "republish", "republish": {"roomType": room_type, "sid": sid, "reason": reason}}


async def call(harness: FlowHarness, *features: tuple[str, ...]) -> list[FakeClient]:
    """Return callers of these features, Alice first; they have nothing to hear."""
    names = ("alice", "bob", "carol")[: len(features)]
    clients = [
        await harness.member(name, in_call=True, features=own) for name, own in zip(names, features, strict=True)
    ]
    for client in clients:
        client.received()
    return clients


async def publish(client: FakeClient, connection: str = "one", *, sid: str = "1", room_type: str = "video") -> None:
    client.offer(connection, sid=sid, roomType=room_type)
    await settle()
    assert [it["type"] for it in client.data()] == ["answer"]


def answers(watcher: FakeClient, publisher: FakeClient, sid: str = "") -> None:
    watcher.media(publisher, "answer", sid=sid, payload={"type": "answer", "sdp": answer()})


# -- who publishes


@pytest.mark.parametrize("outage", [0, 3, 600])
async def test_who_can_be_asked_is_asked_once_an_sfu_takes_streams(outage: float) -> None:
    async with FlowHarness() as harness:
        (alice,) = await call(harness, REPUBLISH)
        await publish(alice)
        await publish(alice, "screen", sid="2", room_type="screen")
        harness.mcu.lose_streams(recovers=not outage)
        await settle()
        if outage:
            assert alice.received() == []
            await asyncio.sleep(outage)
            assert alice.received() == []
            assert harness.media.open_streams == (0, 0)
            await harness.mcu.recover()
        assert alice.received() == [lost("video", "1"), lost("screen", "2")]
        harness.media.sfu_changed(harness.mcu.status())
        assert alice.received() == []
        assert harness.media._streams.of(alice.session).publications == {}
        await publish(alice, "two", sid="3")
        await publish(alice, "screen two", sid="4", room_type="screen")
        assert harness.media.open_streams == (2, 0)


async def test_who_is_moved_is_asked_at_once() -> None:
    async with FlowHarness() as harness:
        (alice,) = await call(harness, REPUBLISH)
        await publish(alice, sid="")
        harness.mcu.lose_streams(CloseReason.DRAINED, recovers=True)
        assert alice.received() == [lost(sid="", reason="drained")]


async def test_who_is_away_is_asked_after_the_resume() -> None:
    async with FlowHarness() as harness:
        (alice,) = await call(harness, REPUBLISH)
        await publish(alice)
        alice.disconnect()
        harness.mcu.lose_streams()
        await harness.mcu.recover()
        again = await harness.resume(alice)
        assert [it for it in again.received() if it["type"] not in ("hello", "event")] == [lost()]
        await publish(again, "two", sid="2")


def leaves_call(harness: FlowHarness, alice: FakeClient) -> None:
    harness.set_in_call("r", "alice", flags=0)


def leaves_room(harness: FlowHarness, alice: FakeClient) -> None:
    alice.send({"type": "room", "room": {"roomid": ""}})


def unshares(harness: FlowHarness, alice: FakeClient) -> None:
    alice.media(alice, "unshareScreen", room_type="screen")


def loses_permission(harness: FlowHarness, alice: FakeClient) -> None:
    set_permissions(harness, "alice", "publish-media")


def changes_nothing(harness: FlowHarness, alice: FakeClient) -> None:
    """She stays as she is."""


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("end", [leaves_call, leaves_room, unshares, loses_permission, changes_nothing])
async def test_nobody_is_asked_for_what_they_ended(
    end: Callable[[FlowHarness, FakeClient], None], before: bool
) -> None:
    async with FlowHarness() as harness:
        (alice,) = await call(harness, REPUBLISH)
        await publish(alice, room_type="screen")
        if before:
            end(harness, alice)
        harness.mcu.lose_streams()
        if not before:
            end(harness, alice)
        await harness.mcu.recover()
        await asyncio.sleep(2)
        asked = [it for it in alice.received() if it["type"] == "republish"]
        assert asked == ([lost("screen")] if end is changes_nothing else [])
        assert harness.media._streams.of(alice.session).publications == {}
        assert harness.mcu.is_empty


async def test_screen_that_is_shared_again_after_its_end_is_asked_for() -> None:
    async with FlowHarness() as harness:
        (alice,) = await call(harness, REPUBLISH)
        await publish(alice, room_type="screen")
        unshares(harness, alice)
        await publish(alice, "two", sid="2", room_type="screen")
        harness.mcu.lose_streams(recovers=True)
        assert alice.received() == [lost("screen", "2")]


async def test_who_offers_by_itself_meanwhile_is_not_asked() -> None:
    async with FlowHarness() as harness:
        (alice,) = await call(harness, REPUBLISH)
        await publish(alice)
        harness.mcu.lose_streams()
        await asyncio.sleep(1)
        alice.offer("two", sid="2")
        await asyncio.sleep(1)
        await harness.mcu.recover()
        await settle()
        assert [it["sid"] for it in alice.data()] == ["2"]


async def test_who_offered_in_vain_meanwhile_is_asked() -> None:
    async with FlowHarness(limits=MediaLimits(timeout=10.0)) as harness:
        (alice,) = await call(harness, REPUBLISH)
        harness.mcu.lose_streams()
        alice.offer(sid="7")
        await asyncio.sleep(10.5)
        assert alice.error_codes() == ["client_not_found"]
        await asyncio.sleep(60)
        await harness.mcu.recover()
        assert alice.received() == [lost(sid="7")]


@pytest.mark.parametrize("when", [5, 15])
async def test_who_offered_in_vain_and_may_not_publish_any_more_is_not_asked(when: float) -> None:
    async with FlowHarness(limits=MediaLimits(timeout=10.0)) as harness:
        (alice,) = await call(harness, REPUBLISH)
        harness.mcu.lose_streams()
        alice.offer()
        await asyncio.sleep(when)
        set_permissions(harness, "alice", "publish-screen")
        await asyncio.sleep(20)
        alice.received()
        await harness.mcu.recover()
        assert alice.received() == []
        assert harness.media._streams.of(alice.session).publications == {}


async def test_update_that_was_lost_leaves_a_stream_that_goes_on_unasked_for() -> None:
    async with FlowHarness() as harness:
        (alice,) = await call(harness, REPUBLISH)
        await publish(alice)
        harness.mcu.published[0].error = McuLost("the connection broke during the request")
        harness.mcu.unavailable = True
        alice.offer("one", sid="1")
        await settle()
        assert alice.error_codes() == ["processing_failed"]
        harness.mcu.published[0].error = None
        await harness.mcu.recover()
        harness.mcu.published[0].end(CloseReason.PUBLISHER_GONE, CloseReason.FAILED)
        await settle()
        assert alice.received() == []


# reference 9.2-i
async def test_offer_under_way_when_the_sfu_is_lost_is_answered_when_it_is_back() -> None:
    async with FlowHarness() as harness:
        (alice,) = await call(harness, ())
        harness.mcu.publish_gate = asyncio.Event()
        alice.offer(sid="7")
        await settle()
        harness.mcu.lose_streams()
        harness.mcu.publish_error = McuLost("gone")
        harness.mcu.publish_gate.set()
        await settle()
        harness.mcu.publish_error = None
        await asyncio.sleep(5)
        await harness.mcu.recover()
        await settle()
        assert [it["sid"] for it in alice.data()] == ["7"]


async def test_offer_under_which_the_sfu_is_lost_twice_has_its_error_and_is_not_asked_for() -> None:
    async with FlowHarness() as harness:
        (alice,) = await call(harness, REPUBLISH)
        harness.mcu.publish_error = McuLost("gone")
        for _ in range(2):
            harness.mcu.publish_gate = gate = asyncio.Event()
            if harness.mcu.unavailable:
                await harness.mcu.recover()
            else:
                alice.offer()
            await settle()
            harness.mcu.lose_streams()
            gate.set()
            await settle()
        assert alice.error_codes() == ["client_not_found"]
        harness.mcu.publish_error = harness.mcu.publish_gate = None
        await harness.mcu.recover()
        await settle()
        assert alice.received() == []
        assert harness.media._streams.of(alice.session).publications == {}
        await publish(alice, "two", sid="2")


async def test_offer_of_the_lost_connection_has_its_error_and_then_the_client_is_asked() -> None:
    async with FlowHarness() as harness:
        (alice,) = await call(harness, REPUBLISH)
        await publish(alice)
        publisher = harness.mcu.published[0]
        publisher.gate, publisher.error = asyncio.Event(), McuLost("gone")
        alice.offer("one", sid="1")
        await settle()
        harness.mcu.lose_streams(recovers=True)
        assert alice.received() == []
        publisher.gate.set()
        await settle()
        error, asked = alice.received()
        assert (error["error"]["code"], asked) == ("client_not_found", lost())


async def test_sfu_that_gives_every_offer_up_is_not_tried_for_ever() -> None:
    async with FlowHarness() as harness:
        (alice,) = await call(harness, REPUBLISH)
        harness.mcu.publish_error = McuLost("gone")
        alice.offer()
        await settle()
        assert alice.error_codes() == ["client_not_found"]
        await asyncio.sleep(60)
        assert alice.received() == []
        assert harness.media._streams.of(alice.session).publications == {}


@pytest.mark.parametrize("sid", ["1", "", "2"])
async def test_who_knows_the_protocol_only_is_told_nothing_and_offers_again(sid: str) -> None:
    async with FlowHarness() as harness:
        (alice,) = await call(harness, ())
        await publish(alice)
        harness.mcu.lose_streams()
        await harness.mcu.recover()
        await asyncio.sleep(30)
        assert alice.received() == []
        await publish(alice, "two", sid=sid)
        assert harness.media.open_streams == (1, 0)


@pytest.mark.parametrize("sid", ["1", "", "2"])
async def test_who_lost_its_own_connection_offers_from_another_one(sid: str) -> None:
    async with FlowHarness() as harness:
        (alice,) = await call(harness, ())
        await publish(alice)
        await publish(alice, "two", sid=sid)
        assert harness.publisher(alice) is harness.mcu.published[1]
        assert harness.mcu.published[0].closed


# -- sessions that are reset


async def test_who_cannot_be_asked_is_reset_when_that_is_configured() -> None:
    async with FlowHarness(reset=True) as harness:
        alice, bob, carol = await call(harness, (), REPUBLISH, ())
        await publish(alice)
        await publish(bob)
        harness.mcu.lose_streams()
        await settle()
        assert len(harness.hub.sessions) == 3
        await harness.mcu.recover()
        await settle()
        assert {it.userid for it in harness.hub.sessions.values()} == {"bob", "carol"}
        assert alice.connection.finished
        assert [it for it in alice.received() if it["type"] == "bye"] == []
        assert harness.nextcloud.leaves() == []  # the session there is used to join again
        assert lost() in bob.received()
        assert not carol.connection.finished


async def test_internal_clients_are_not_reset() -> None:
    async with FlowHarness(reset=True) as harness:
        bridge = await harness.internal_hello()
        await publish(bridge)
        harness.mcu.lose_streams(recovers=True)
        await settle()
        assert not bridge.connection.finished


# -- who receives


# reference 9.3-i
@pytest.mark.parametrize("reason", [CloseReason.LOST, CloseReason.DRAINED])
@pytest.mark.parametrize("away", [0, 60, 3600])
async def test_who_received_is_offered_the_stream_when_it_is_published_again(reason: CloseReason, away: float) -> None:
    async with FlowHarness() as harness:
        alice, bob, carol = await call(harness, (), (), ())
        await publish(alice)
        await subscribe(bob, alice)
        (before,) = harness.media._streams.of(bob.session).subscriptions.values()
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
        assert [it.publisher for it in harness.mcu.subscribers] == [harness.mcu.published[1]]
        assert carol.received() == []
        answers(bob, alice, offer["sid"])
        await settle()
        assert bob.received() == []
        assert len(harness.mcu.subscribers[0].answers) == 1


async def test_who_received_is_offered_the_stream_also_after_its_publishers_own_failure() -> None:
    async with FlowHarness() as harness:
        alice, bob = await call(harness, (), ())
        await publish(alice)
        await subscribe(bob, alice)
        harness.mcu.published[0].end(CloseReason.PUBLISHER_GONE, CloseReason.FAILED)
        await settle()
        await publish(alice, "two", sid="2")
        assert [it["type"] for it in bob.data()] == ["offer"]


async def test_who_lost_its_own_connection_is_not_offered_another_unasked() -> None:
    async with FlowHarness() as harness:
        alice, bob = await call(harness, (), ())
        await publish(alice)
        (await subscribe(bob, alice)).end(CloseReason.FAILED)  # it closed it, perhaps
        await settle()
        await publish(alice, "two", sid="2")
        assert bob.received() == []
        assert list(harness.media._streams.subscriptions()) == []


async def test_stream_that_one_sfu_of_two_forwarded_is_offered_from_the_other_at_once() -> None:
    async with FlowHarness() as harness:
        alice, bob = await call(harness, (), ())
        await publish(alice)
        (await subscribe(bob, alice)).end(CloseReason.LOST)  # Bob's SFU, not Alice's
        await settle()
        assert [it["type"] for it in bob.data()] == ["offer"]
        assert len(harness.mcu.subscribers) == 1


async def test_offer_that_the_sfu_was_away_for_is_made_when_it_is_back_with_its_streams() -> None:
    async with FlowHarness(limits=MediaLimits(timeout=10.0)) as harness:
        alice, bob = await call(harness, (), ())
        await publish(alice)
        (await subscribe(bob, alice)).end(CloseReason.REPLACED)
        harness.mcu.unavailable = True
        await asyncio.sleep(11)
        assert bob.received() == []
        await harness.mcu.recover()
        await settle()
        assert [it["type"] for it in bob.data()] == ["offer"]
        assert len(harness.mcu.subscribers) == 1


# reference 9.6-b
async def test_what_was_chosen_counts_for_the_next_connection() -> None:
    async with FlowHarness() as harness:
        alice, bob = await call(harness, (), ())
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


async def test_request_meanwhile_is_served_and_no_second_offer_made() -> None:
    async with FlowHarness() as harness:
        alice, bob = await call(harness, (), ())
        await publish(alice)
        await subscribe(bob, alice)
        harness.mcu.lose_streams()
        bob.media(alice, "requestoffer")
        await asyncio.sleep(3)
        await harness.mcu.recover()
        await asyncio.sleep(1)
        await publish(alice, "two", sid="2")
        await asyncio.sleep(5)
        assert [it["type"] for it in bob.data()] == ["offer"]
        assert len(harness.mcu.subscribed) == 2


async def test_request_in_vain_has_its_error_and_the_stream_is_offered_all_the_same() -> None:
    async with FlowHarness(limits=MediaLimits(timeout=10.0)) as harness:
        alice, bob = await call(harness, (), ())
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
        assert [it["type"] for it in bob.data()] == ["offer"]


async def test_first_request_that_the_sfu_fails_is_served_later_unasked() -> None:
    async with FlowHarness(limits=MediaLimits(timeout=10.0)) as harness:
        alice, bob = await call(harness, (), ())
        await publish(alice)
        harness.mcu.lose_streams()
        bob.media(alice, "requestoffer")
        await asyncio.sleep(10.5)
        assert bob.error_codes() == ["client_not_found"]
        await harness.mcu.recover()
        await publish(alice, "two", sid="2")
        assert [it["type"] for it in bob.data()] == ["offer"]


# reference 9.3-j
@pytest.mark.parametrize("type", ["requestoffer", "sendoffer"])
@pytest.mark.parametrize("crossed", [True, False])
async def test_request_that_crosses_an_unasked_offer_is_served_by_it(type: str, crossed: bool) -> None:
    async with FlowHarness() as harness:
        alice, bob = await call(harness, (), ())
        await publish(alice)
        await subscribe(bob, alice)
        harness.mcu.lose_streams(recovers=True)
        await publish(alice, "two", sid="2")
        (pushed,) = bob.data()
        if not crossed:
            answers(bob, alice, pushed["sid"])
            await settle()
        if type == "requestoffer":
            bob.media(alice, type)
        else:
            alice.media(bob, type)
        await settle()
        assert [it["type"] for it in bob.data()] == ([] if crossed else ["offer"])
        assert len(harness.mcu.subscribers) == 1


async def test_request_long_after_an_unasked_offer_has_an_offer_of_its_own() -> None:
    async with FlowHarness() as harness:
        alice, bob = await call(harness, (), ())
        await publish(alice)
        await subscribe(bob, alice)
        harness.mcu.lose_streams(recovers=True)
        await publish(alice, "two", sid="2")
        bob.received()
        await asyncio.sleep(3)
        bob.media(alice, "requestoffer")
        await settle()
        assert [it["type"] for it in bob.data()] == ["offer"]


async def test_request_for_the_offered_connection_refreshes_it() -> None:
    async with FlowHarness() as harness:
        alice, bob = await call(harness, (), ())
        await publish(alice)
        await subscribe(bob, alice)
        harness.mcu.lose_streams(recovers=True)
        await publish(alice, "two", sid="2")
        (pushed,) = bob.data()
        bob.media(alice, "requestoffer", sid=pushed["sid"])
        await settle()
        assert [it["sid"] for it in bob.data()] == [pushed["sid"]]
        assert harness.mcu.subscribers[0].refreshed == 1


def bob_leaves_call(harness: FlowHarness, alice: FakeClient, bob: FakeClient) -> None:
    harness.set_in_call("r", "bob", flags=0)
    harness.set_in_call("r", "bob")


def alice_leaves_call(harness: FlowHarness, alice: FakeClient, bob: FakeClient) -> None:
    harness.set_in_call("r", "alice", flags=0)
    harness.set_in_call("r", "alice")


def alice_is_forbidden(harness: FlowHarness, alice: FakeClient, bob: FakeClient) -> None:
    set_permissions(harness, "alice", "publish-screen")
    set_permissions(harness, "alice", "publish-media")


def bob_says_bye(harness: FlowHarness, alice: FakeClient, bob: FakeClient) -> None:
    bob.send({"type": "bye"})


@pytest.mark.parametrize("reason", [CloseReason.LOST, CloseReason.FAILED])
@pytest.mark.parametrize("end", [bob_leaves_call, alice_leaves_call, alice_is_forbidden, bob_says_bye])
async def test_nobody_is_offered_a_stream_that_one_of_both_has_ended(
    end: Callable[[FlowHarness, FakeClient, FakeClient], None], reason: CloseReason
) -> None:
    async with FlowHarness() as harness:
        alice, bob = await call(harness, (), ())
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
        assert [it for it in bob.received() if it["type"] == "message"] == []


@pytest.mark.parametrize("dropped", [True, False])
async def test_screen_that_was_unshared_and_shared_anew_is_offered_by_who_shares_it_only(dropped: bool) -> None:
    async with FlowHarness() as harness:
        alice, bob = await call(harness, (), ())
        await publish(alice, room_type="screen")
        alice.media(bob, "sendoffer", room_type="screen")
        await settle()
        assert [it["type"] for it in bob.data()] == ["offer"]
        if dropped:
            harness.mcu.published[0].end(CloseReason.PUBLISHER_GONE, CloseReason.FAILED)
        unshares(harness, alice)
        await asyncio.sleep(2)
        await publish(alice, "two", sid="2", room_type="screen")
        assert bob.received() == []
        alice.media(bob, "sendoffer", room_type="screen")
        await settle()
        assert [it["type"] for it in bob.data()] == ["offer"]


async def test_who_was_offered_a_screen_without_being_in_the_call_is_offered_it_again() -> None:
    async with FlowHarness() as harness:
        (alice,) = await call(harness, ())
        bob = await harness.member("bob")
        alice.received()
        await publish(alice, room_type="screen")
        alice.media(bob, "sendoffer", room_type="screen")
        await settle()
        bob.received()
        harness.mcu.lose_streams(recovers=True)
        await publish(alice, "two", sid="2", room_type="screen")
        assert [it["type"] for it in bob.data()] == ["offer"]


async def test_publisher_that_comes_up_late_is_followed_when_its_media_flow() -> None:
    async with FlowHarness(limits=MediaLimits(timeout=10.0)) as harness:
        alice, bob = await call(harness, (), ())
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
        assert [it["type"] for it in bob.data()] == ["offer"]
        harness.mcu.published[0].listener.on_media(MediaKind.VIDEO, True)
        await settle()
        assert bob.received() == []


async def test_publisher_that_leaves_while_its_stream_is_taken_up_again_is_not_offered() -> None:
    async with FlowHarness() as harness:
        alice, bob = await call(harness, (), ())
        await publish(alice)
        await subscribe(bob, alice)
        harness.mcu.lose_streams(recovers=True)
        harness.mcu.subscribe_gate = asyncio.Event()
        await publish(alice, "two", sid="2")
        harness.services.hub.room_of(alice.session).in_call.clear()  # type: ignore[union-attr]  # they are in one
        harness.mcu.subscribe_gate.set()
        await settle()
        assert bob.received() == []
        assert harness.mcu.subscribers == []
        await publish(alice, "three", sid="3")
        assert bob.received() == []


async def test_lost_subscriptions_count_against_the_limit() -> None:
    async with FlowHarness() as harness:
        harness.change_settings(limits=type(harness.services.settings.limits)(subscriptions=1))
        alice, bob, carol = await call(harness, (), (), ())
        await publish(alice)
        await publish(bob)
        await subscribe(carol, alice)
        harness.mcu.lose_streams(recovers=True)
        await settle()
        carol.media(bob, "requestoffer")
        await settle()
        assert carol.error_codes() == ["limit_exceeded"]


async def test_requests_wait_for_an_sfu_that_is_away_and_then_have_their_usual_error() -> None:
    async with FlowHarness(limits=MediaLimits(timeout=10.0)) as harness:
        alice, bob = await call(harness, (), ())
        harness.mcu.lose_streams()
        alice.offer()
        bob.media(alice, "requestoffer", id="ask")
        alice.media(bob, "sendoffer", id="send", room_type="screen")
        await asyncio.sleep(9.5)
        assert alice.received() == bob.received() == []
        await asyncio.sleep(1)
        assert sorted((it["id"], it["error"]["code"]) for it in alice.received()) == [
            ("offer", "client_not_found"),
            ("send", "client_not_found"),
        ]
        assert [(it["id"], it["error"]["code"]) for it in bob.received()] == [("ask", "client_not_found")]
