"""Streams that were lost come back (docs/mcu.md, "When streams are lost"; docs/protocol.md, "Offering again")."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gateway.flows.services import MediaLimits
from mcu.base import CloseReason, McuLost, MediaKind, MediaSelection, Rejected
from tests.gateway.flows.house import House, Json, Talker
from tests.gateway.flows.media.descriptions import answer
from tests.gateway.flows.media.test_media import permit, subscribed
from tests.gateway.flows.virtual_time import settle

REPUBLISH = ("republish",)


def lost(room_type: str = "video", sid: str = "1", reason: str = "lost") -> Json:
    return {"type": "republish", "republish": {"roomType": room_type, "sid": sid, "reason": reason}}


async def call(house: House, *features: tuple[str, ...]) -> list[Talker]:
    """Return callers of these features, Alice first; they have nothing to hear."""
    names = ("alice", "bob", "carol")[: len(features)]
    talkers = [await house.member(name, in_call=True, features=own) for name, own in zip(names, features, strict=True)]
    for talker in talkers:
        talker.heard()
    return talkers


async def publish(talker: Talker, connection: str = "one", *, sid: str = "1", room_type: str = "video") -> None:
    talker.offer(connection, sid=sid, roomType=room_type)
    await settle()
    assert [it["type"] for it in talker.data()] == ["answer"]


def answers(watcher: Talker, publisher: Talker, sid: str = "") -> None:
    watcher.media(publisher, "answer", sid=sid, payload={"type": "answer", "sdp": answer()})


# -- who publishes


@pytest.mark.parametrize("outage", [0, 3, 600])
async def test_who_can_be_asked_is_asked_once_an_sfu_takes_streams(outage: float) -> None:
    async with House() as house:
        (alice,) = await call(house, REPUBLISH)
        await publish(alice)
        await publish(alice, "screen", sid="2", room_type="screen")
        house.mcu.lose(back=not outage)
        await settle()
        if outage:
            assert alice.heard() == []
            await asyncio.sleep(outage)
            assert alice.heard() == []
            assert house.media.open_streams == (0, 0)
            await house.mcu.come_back()
        assert alice.heard() == [lost("video", "1"), lost("screen", "2")]
        house.media.sfu_changed(house.mcu.status())
        assert alice.heard() == []
        assert house.media._streams.of(alice.session.id).publishers == {}
        await publish(alice, "two", sid="3")
        await publish(alice, "screen two", sid="4", room_type="screen")
        assert house.media.open_streams == (2, 0)


async def test_who_is_moved_is_asked_at_once() -> None:
    async with House() as house:
        (alice,) = await call(house, REPUBLISH)
        await publish(alice, sid="")
        house.mcu.lose(CloseReason.DRAINED, back=True)
        assert alice.heard() == [lost(sid="", reason="drained")]


async def test_who_is_away_is_asked_after_the_resume() -> None:
    async with House() as house:
        (alice,) = await call(house, REPUBLISH)
        await publish(alice)
        alice.lose()
        house.mcu.lose()
        await house.mcu.come_back()
        again = await house.resume(alice)
        assert [it for it in again.heard() if it["type"] not in ("hello", "event")] == [lost()]
        await publish(again, "two", sid="2")


def leaves_call(house: House, alice: Talker) -> None:
    house.call("r", "alice", flags=0)


def leaves_room(house: House, alice: Talker) -> None:
    alice.say({"type": "room", "room": {"roomid": ""}})


def unshares(house: House, alice: Talker) -> None:
    alice.media(alice, "unshareScreen", room_type="screen")


def loses_permission(house: House, alice: Talker) -> None:
    permit(house, "alice", "publish-media")


def changes_nothing(house: House, alice: Talker) -> None:
    """She stays as she is."""


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("end", [leaves_call, leaves_room, unshares, loses_permission, changes_nothing])
async def test_nobody_is_asked_for_what_they_ended(end: Callable[[House, Talker], None], before: bool) -> None:
    async with House() as house:
        (alice,) = await call(house, REPUBLISH)
        await publish(alice, room_type="screen")
        if before:
            end(house, alice)
        house.mcu.lose()
        if not before:
            end(house, alice)
        await house.mcu.come_back()
        await asyncio.sleep(2)
        asked = [it for it in alice.heard() if it["type"] == "republish"]
        assert asked == ([lost("screen")] if end is changes_nothing else [])
        assert house.media._streams.of(alice.session.id).publishers == {}
        assert house.mcu.clean


async def test_screen_that_is_shared_again_after_its_end_is_asked_for() -> None:
    async with House() as house:
        (alice,) = await call(house, REPUBLISH)
        await publish(alice, room_type="screen")
        unshares(house, alice)
        await publish(alice, "two", sid="2", room_type="screen")
        house.mcu.lose(back=True)
        assert alice.heard() == [lost("screen", "2")]


async def test_who_offers_by_itself_meanwhile_is_not_asked() -> None:
    async with House() as house:
        (alice,) = await call(house, REPUBLISH)
        await publish(alice)
        house.mcu.lose()
        await asyncio.sleep(1)
        alice.offer("two", sid="2")
        await asyncio.sleep(1)
        await house.mcu.come_back()
        await settle()
        assert [it["sid"] for it in alice.data()] == ["2"]


async def test_who_offered_in_vain_meanwhile_is_asked() -> None:
    async with House(limits=MediaLimits(timeout=10.0)) as house:
        (alice,) = await call(house, REPUBLISH)
        house.mcu.lose()
        alice.offer(sid="7")
        await asyncio.sleep(10.5)
        assert alice.errors() == ["client_not_found"]
        await asyncio.sleep(60)
        await house.mcu.come_back()
        assert alice.heard() == [lost(sid="7")]


@pytest.mark.parametrize("when", [5, 15])
async def test_who_offered_in_vain_and_may_not_publish_any_more_is_not_asked(when: float) -> None:
    async with House(limits=MediaLimits(timeout=10.0)) as house:
        (alice,) = await call(house, REPUBLISH)
        house.mcu.lose()
        alice.offer()
        await asyncio.sleep(when)
        permit(house, "alice", "publish-screen")
        await asyncio.sleep(20)
        alice.heard()
        await house.mcu.come_back()
        assert alice.heard() == []
        assert house.media._streams.of(alice.session.id).publishers == {}


async def test_update_that_was_lost_leaves_a_stream_that_goes_on_unasked_for() -> None:
    async with House() as house:
        (alice,) = await call(house, REPUBLISH)
        await publish(alice)
        house.mcu.published[0].error = McuLost("the connection broke during the request")
        house.mcu.away = True
        alice.offer("one", sid="1")
        await settle()
        assert alice.errors() == ["processing_failed"]
        house.mcu.published[0].error = None
        await house.mcu.come_back()
        house.mcu.published[0].end(CloseReason.PUBLISHER_GONE, CloseReason.FAILED)
        await settle()
        assert alice.heard() == []


async def test_offer_under_way_when_the_sfu_is_lost_is_answered_when_it_is_back() -> None:
    async with House() as house:
        (alice,) = await call(house, ())
        house.mcu.publish_gate = asyncio.Event()
        alice.offer(sid="7")
        await settle()
        house.mcu.lose()
        house.mcu.publish_error = McuLost("gone")
        house.mcu.publish_gate.set()
        await settle()
        house.mcu.publish_error = None
        await asyncio.sleep(5)
        await house.mcu.come_back()
        await settle()
        assert [it["sid"] for it in alice.data()] == ["7"]


async def test_offer_under_which_the_sfu_is_lost_twice_has_its_error_and_is_not_asked_for() -> None:
    async with House() as house:
        (alice,) = await call(house, REPUBLISH)
        house.mcu.publish_error = McuLost("gone")
        for _ in range(2):
            house.mcu.publish_gate = gate = asyncio.Event()
            if house.mcu.away:
                await house.mcu.come_back()
            else:
                alice.offer()
            await settle()
            house.mcu.lose()
            gate.set()
            await settle()
        assert alice.errors() == ["client_not_found"]
        house.mcu.publish_error = house.mcu.publish_gate = None
        await house.mcu.come_back()
        await settle()
        assert alice.heard() == []
        assert house.media._streams.of(alice.session.id).publishers == {}
        await publish(alice, "two", sid="2")


async def test_offer_of_the_lost_connection_has_its_error_and_then_the_client_is_asked() -> None:
    async with House() as house:
        (alice,) = await call(house, REPUBLISH)
        await publish(alice)
        publisher = house.mcu.published[0]
        publisher.gate, publisher.error = asyncio.Event(), McuLost("gone")
        alice.offer("one", sid="1")
        await settle()
        house.mcu.lose(back=True)
        assert alice.heard() == []
        publisher.gate.set()
        await settle()
        error, asked = alice.heard()
        assert (error["error"]["code"], asked) == ("client_not_found", lost())


async def test_sfu_that_gives_every_offer_up_is_not_tried_for_ever() -> None:
    async with House() as house:
        (alice,) = await call(house, REPUBLISH)
        house.mcu.publish_error = McuLost("gone")
        alice.offer()
        await settle()
        assert alice.errors() == ["client_not_found"]
        await asyncio.sleep(60)
        assert alice.heard() == []
        assert house.media._streams.of(alice.session.id).publishers == {}


@pytest.mark.parametrize("sid", ["1", "", "2"])
async def test_who_knows_the_protocol_only_is_told_nothing_and_offers_again(sid: str) -> None:
    async with House() as house:
        (alice,) = await call(house, ())
        await publish(alice)
        house.mcu.lose()
        await house.mcu.come_back()
        await asyncio.sleep(30)
        assert alice.heard() == []
        await publish(alice, "two", sid=sid)
        assert house.media.open_streams == (1, 0)


@pytest.mark.parametrize("sid", ["1", "", "2"])
async def test_who_lost_its_own_connection_offers_from_another_one(sid: str) -> None:
    async with House() as house:
        (alice,) = await call(house, ())
        await publish(alice)
        await publish(alice, "two", sid=sid)
        assert house.publisher(alice) is house.mcu.published[1]
        assert house.mcu.published[0].closed


# -- sessions that are reset


async def test_who_cannot_be_asked_is_reset_when_that_is_configured() -> None:
    async with House(reset=True) as house:
        alice, bob, carol = await call(house, (), REPUBLISH, ())
        await publish(alice)
        await publish(bob)
        house.mcu.lose()
        await settle()
        assert len(house.hub.sessions) == 3
        await house.mcu.come_back()
        await settle()
        assert {it.userid for it in house.hub.sessions.values()} == {"bob", "carol"}
        assert alice.connection.finished
        assert [it for it in alice.heard() if it["type"] == "bye"] == []
        assert house.nextcloud.leaves() == []  # the session there is used to join again
        assert lost() in bob.heard()
        assert not carol.connection.finished


async def test_internal_clients_are_not_reset() -> None:
    async with House(reset=True) as house:
        bridge = await house.open_internal()
        await publish(bridge)
        house.mcu.lose(back=True)
        await settle()
        assert not bridge.connection.finished


# -- who receives


@pytest.mark.parametrize("reason", [CloseReason.LOST, CloseReason.DRAINED])
@pytest.mark.parametrize("away", [0, 60, 3600])
async def test_who_received_is_offered_the_stream_when_it_is_published_again(reason: CloseReason, away: float) -> None:
    async with House() as house:
        alice, bob, carol = await call(house, (), (), ())
        await publish(alice)
        await subscribed(bob, alice)
        old = (
            house.media._streams.of(bob.session.id)
            .subscribers[alice.session.id, house.mcu.published[0].key.stream_type]
            .sid
        )
        house.mcu.lose(reason)
        await house.mcu.come_back()
        await asyncio.sleep(away)
        assert bob.heard() == []
        assert house.media.open_streams == (0, 0)
        await publish(alice, "two", sid="2")
        (offer,) = bob.data()
        assert (offer["type"], offer["from"], offer["roomType"]) == ("offer", alice.sessionid, "video")
        assert offer["sid"] not in ("", old)
        assert [it.publisher for it in house.mcu.subscribers] == [house.mcu.published[1]]
        assert carol.heard() == []
        answers(bob, alice, offer["sid"])
        await settle()
        assert bob.heard() == []
        assert len(house.mcu.subscribers[0].answers) == 1


async def test_who_received_is_offered_the_stream_also_after_its_publishers_own_failure() -> None:
    async with House() as house:
        alice, bob = await call(house, (), ())
        await publish(alice)
        await subscribed(bob, alice)
        house.mcu.published[0].end(CloseReason.PUBLISHER_GONE, CloseReason.FAILED)
        await settle()
        await publish(alice, "two", sid="2")
        assert [it["type"] for it in bob.data()] == ["offer"]


async def test_who_lost_its_own_connection_is_not_offered_another_unasked() -> None:
    async with House() as house:
        alice, bob = await call(house, (), ())
        await publish(alice)
        (await subscribed(bob, alice)).end(CloseReason.FAILED)  # it closed it, perhaps
        await settle()
        await publish(alice, "two", sid="2")
        assert bob.heard() == []
        assert len(house.media._streams.watchers) == 0


async def test_stream_that_one_sfu_of_two_forwarded_is_offered_from_the_other_at_once() -> None:
    async with House() as house:
        alice, bob = await call(house, (), ())
        await publish(alice)
        (await subscribed(bob, alice)).end(CloseReason.LOST)  # Bob's SFU, not Alice's
        await settle()
        assert [it["type"] for it in bob.data()] == ["offer"]
        assert len(house.mcu.subscribers) == 1


async def test_offer_that_the_sfu_was_away_for_is_made_when_it_is_back_with_its_streams() -> None:
    async with House(limits=MediaLimits(timeout=10.0)) as house:
        alice, bob = await call(house, (), ())
        await publish(alice)
        (await subscribed(bob, alice)).end(CloseReason.REPLACED)
        house.mcu.away = True
        await asyncio.sleep(11)
        assert bob.heard() == []
        await house.mcu.come_back()
        await settle()
        assert [it["type"] for it in bob.data()] == ["offer"]
        assert len(house.mcu.subscribers) == 1


async def test_what_was_chosen_counts_for_the_next_connection() -> None:
    async with House() as house:
        alice, bob = await call(house, (), ())
        await publish(alice)
        await subscribed(bob, alice)
        bob.media(alice, "selectStream", payload={"substream": 0})
        await settle()
        house.mcu.lose(back=True)
        bob.media(alice, "selectStream", payload={"video": False})
        await settle()
        assert bob.heard() == []
        await publish(alice, "two", sid="2")
        assert house.mcu.subscribers[0].layer == MediaSelection(substream=0, video=False)


async def test_request_meanwhile_is_served_and_no_second_offer_made() -> None:
    async with House() as house:
        alice, bob = await call(house, (), ())
        await publish(alice)
        await subscribed(bob, alice)
        house.mcu.lose()
        bob.media(alice, "requestoffer")
        await asyncio.sleep(3)
        await house.mcu.come_back()
        await asyncio.sleep(1)
        await publish(alice, "two", sid="2")
        await asyncio.sleep(5)
        assert [it["type"] for it in bob.data()] == ["offer"]
        assert len(house.mcu.subscribed) == 2


async def test_request_in_vain_has_its_error_and_the_stream_is_offered_all_the_same() -> None:
    async with House(limits=MediaLimits(timeout=10.0)) as house:
        alice, bob = await call(house, (), ())
        await publish(alice)
        await subscribed(bob, alice)
        house.mcu.lose()
        bob.media(alice, "requestoffer")
        await asyncio.sleep(10.5)
        assert bob.errors() == ["client_not_found"]
        await house.mcu.come_back()
        bob.media(alice, "requestoffer")
        await asyncio.sleep(10.5)
        assert bob.errors() == ["client_not_found"]
        await publish(alice, "two", sid="2")
        assert [it["type"] for it in bob.data()] == ["offer"]


async def test_first_request_that_the_sfu_fails_is_served_later_unasked() -> None:
    async with House(limits=MediaLimits(timeout=10.0)) as house:
        alice, bob = await call(house, (), ())
        await publish(alice)
        house.mcu.lose()
        bob.media(alice, "requestoffer")
        await asyncio.sleep(10.5)
        assert bob.errors() == ["client_not_found"]
        await house.mcu.come_back()
        await publish(alice, "two", sid="2")
        assert [it["type"] for it in bob.data()] == ["offer"]


@pytest.mark.parametrize("type", ["requestoffer", "sendoffer"])
@pytest.mark.parametrize("crossed", [True, False])
async def test_request_that_crosses_an_unasked_offer_is_served_by_it(type: str, crossed: bool) -> None:
    async with House() as house:
        alice, bob = await call(house, (), ())
        await publish(alice)
        await subscribed(bob, alice)
        house.mcu.lose(back=True)
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
        assert len(house.mcu.subscribers) == 1


async def test_request_long_after_an_unasked_offer_has_an_offer_of_its_own() -> None:
    async with House() as house:
        alice, bob = await call(house, (), ())
        await publish(alice)
        await subscribed(bob, alice)
        house.mcu.lose(back=True)
        await publish(alice, "two", sid="2")
        bob.heard()
        await asyncio.sleep(3)
        bob.media(alice, "requestoffer")
        await settle()
        assert [it["type"] for it in bob.data()] == ["offer"]


async def test_request_for_the_offered_connection_refreshes_it() -> None:
    async with House() as house:
        alice, bob = await call(house, (), ())
        await publish(alice)
        await subscribed(bob, alice)
        house.mcu.lose(back=True)
        await publish(alice, "two", sid="2")
        (pushed,) = bob.data()
        bob.media(alice, "requestoffer", sid=pushed["sid"])
        await settle()
        assert [it["sid"] for it in bob.data()] == [pushed["sid"]]
        assert house.mcu.subscribers[0].refreshed == 1


def bob_leaves_call(house: House, alice: Talker, bob: Talker) -> None:
    house.call("r", "bob", flags=0)
    house.call("r", "bob")


def alice_leaves_call(house: House, alice: Talker, bob: Talker) -> None:
    house.call("r", "alice", flags=0)
    house.call("r", "alice")


def alice_is_forbidden(house: House, alice: Talker, bob: Talker) -> None:
    permit(house, "alice", "publish-screen")
    permit(house, "alice", "publish-media")


def bob_says_bye(house: House, alice: Talker, bob: Talker) -> None:
    bob.say({"type": "bye"})


@pytest.mark.parametrize("reason", [CloseReason.LOST, CloseReason.FAILED])
@pytest.mark.parametrize("end", [bob_leaves_call, alice_leaves_call, alice_is_forbidden, bob_says_bye])
async def test_nobody_is_offered_a_stream_that_one_of_both_has_ended(
    end: Callable[[House, Talker, Talker], None], reason: CloseReason
) -> None:
    async with House() as house:
        alice, bob = await call(house, (), ())
        await publish(alice)
        await subscribed(bob, alice)
        if reason is CloseReason.LOST:
            house.mcu.lose(back=True)
        else:
            house.mcu.published[0].end(CloseReason.PUBLISHER_GONE, CloseReason.FAILED)
        await settle()
        end(house, alice, bob)
        await settle()
        assert len(house.media._streams.watchers) == 0
        alice.heard()
        await publish(alice, "two", sid="2")
        assert [it for it in bob.heard() if it["type"] == "message"] == []


@pytest.mark.parametrize("dropped", [True, False])
async def test_screen_that_was_unshared_and_shared_anew_is_offered_by_who_shares_it_only(dropped: bool) -> None:
    async with House() as house:
        alice, bob = await call(house, (), ())
        await publish(alice, room_type="screen")
        alice.media(bob, "sendoffer", room_type="screen")
        await settle()
        assert [it["type"] for it in bob.data()] == ["offer"]
        if dropped:
            house.mcu.published[0].end(CloseReason.PUBLISHER_GONE, CloseReason.FAILED)
        unshares(house, alice)
        await asyncio.sleep(2)
        await publish(alice, "two", sid="2", room_type="screen")
        assert bob.heard() == []
        alice.media(bob, "sendoffer", room_type="screen")
        await settle()
        assert [it["type"] for it in bob.data()] == ["offer"]


async def test_who_was_offered_a_screen_without_being_in_the_call_is_offered_it_again() -> None:
    async with House() as house:
        (alice,) = await call(house, ())
        bob = await house.member("bob")
        alice.heard()
        await publish(alice, room_type="screen")
        alice.media(bob, "sendoffer", room_type="screen")
        await settle()
        bob.heard()
        house.mcu.lose(back=True)
        await publish(alice, "two", sid="2", room_type="screen")
        assert [it["type"] for it in bob.data()] == ["offer"]


async def test_publisher_that_comes_up_late_is_followed_when_its_media_flow() -> None:
    async with House(limits=MediaLimits(timeout=10.0)) as house:
        alice, bob = await call(house, (), ())
        await publish(alice)
        await subscribed(bob, alice)
        house.mcu.lose(back=True)
        house.mcu.subscribe_error = Rejected("not up yet")
        await publish(alice, "two", sid="2")
        assert bob.heard() == []
        house.mcu.subscribe_error = None
        listener = house.mcu.published[1].listener
        listener.on_media(MediaKind.AUDIO, False)
        await settle()
        assert bob.heard() == []
        listener.on_media(MediaKind.AUDIO, True)
        listener.on_media(MediaKind.VIDEO, True)
        await settle()
        assert [it["type"] for it in bob.data()] == ["offer"]
        house.mcu.published[0].listener.on_media(MediaKind.VIDEO, True)
        await settle()
        assert bob.heard() == []


async def test_publisher_that_leaves_while_its_stream_is_taken_up_again_is_not_offered() -> None:
    async with House() as house:
        alice, bob = await call(house, (), ())
        await publish(alice)
        await subscribed(bob, alice)
        house.mcu.lose(back=True)
        house.mcu.subscribe_gate = asyncio.Event()
        await publish(alice, "two", sid="2")
        house.services.hub.room_of(alice.session).in_call.clear()  # type: ignore[union-attr]  # they are in one
        house.mcu.subscribe_gate.set()
        await settle()
        assert bob.heard() == []
        assert house.mcu.subscribers == []
        await publish(alice, "three", sid="3")
        assert bob.heard() == []


async def test_lost_subscriptions_count_against_the_limit() -> None:
    async with House() as house:
        house.services.limits = type(house.services.limits)(subscriptions=1)
        alice, bob, carol = await call(house, (), (), ())
        await publish(alice)
        await publish(bob)
        await subscribed(carol, alice)
        house.mcu.lose(back=True)
        await settle()
        carol.media(bob, "requestoffer")
        await settle()
        assert carol.errors() == ["limit_exceeded"]


async def test_requests_wait_for_an_sfu_that_is_away_and_then_have_their_usual_error() -> None:
    async with House(limits=MediaLimits(timeout=10.0)) as house:
        alice, bob = await call(house, (), ())
        house.mcu.lose()
        alice.offer()
        bob.media(alice, "requestoffer", id="ask")
        alice.media(bob, "sendoffer", id="send", room_type="screen")
        await asyncio.sleep(9.5)
        assert alice.heard() == bob.heard() == []
        await asyncio.sleep(1)
        assert sorted((it["id"], it["error"]["code"]) for it in alice.heard()) == [
            ("offer", "client_not_found"),
            ("send", "client_not_found"),
        ]
        assert [(it["id"], it["error"]["code"]) for it in bob.heard()] == [("ask", "client_not_found")]
