"""Recovery of lost publications (docs/mcu.md, "When streams are lost"; docs/protocol.md, "Offering again")."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gateway.flows.settings import MediaLimits
from mcu.base import CloseReason, McuLost
from tests.gateway.flows.harness import FakeClient, FlowHarness, Json
from tests.gateway.flows.media.calls import call_of, publish, set_permissions
from tests.gateway.flows.virtual_time import settle

REPUBLISH = ("republish",)


def republish_request(room_type: str = "video", sid: str = "1", reason: str = "lost") -> Json:
    return {"type": "republish", "republish": {"roomType": room_type, "sid": sid, "reason": reason}}


@pytest.mark.parametrize("outage", [0, 3, 600])
async def test_client_is_asked_to_publish_again_once_an_sfu_accepts_streams(outage: float) -> None:
    async with FlowHarness() as harness:
        (alice,) = await call_of(harness, REPUBLISH)
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
        assert alice.received() == [republish_request("video", "1"), republish_request("screen", "2")]
        harness.media.sfu_changed(harness.mcu.status())
        assert alice.received() == []
        assert harness.media._streams.streams_of(alice.session).publications == {}
        await publish(alice, "two", sid="3")
        await publish(alice, "screen two", sid="4", room_type="screen")
        assert harness.media.open_streams == (2, 0)


async def test_client_of_a_drained_sfu_gets_a_republish_request_at_once() -> None:
    async with FlowHarness() as harness:
        (alice,) = await call_of(harness, REPUBLISH)
        await publish(alice, sid="")
        harness.mcu.lose_streams(CloseReason.DRAINED, recovers=True)
        assert alice.received() == [republish_request(sid="", reason="drained")]


async def test_disconnected_client_gets_a_republish_request_after_its_resume() -> None:
    async with FlowHarness() as harness:
        (alice,) = await call_of(harness, REPUBLISH)
        await publish(alice)
        alice.disconnect()
        harness.mcu.lose_streams()
        await harness.mcu.recover()
        again = await harness.resume(alice)
        assert [message for message in again.received() if message["type"] not in ("hello", "event")] == [
            republish_request()
        ]
        await publish(again, "two", sid="2")


def leave_call(harness: FlowHarness, alice: FakeClient) -> None:
    harness.set_in_call("r", "alice", flags=0)


def leave_room(harness: FlowHarness, alice: FakeClient) -> None:
    alice.leave()


def unshare(harness: FlowHarness, alice: FakeClient) -> None:
    alice.media(alice, "unshareScreen", room_type="screen")


def revoke_permission(harness: FlowHarness, alice: FakeClient) -> None:
    set_permissions(harness, "alice", "publish-media")


def change_nothing(harness: FlowHarness, alice: FakeClient) -> None:
    """Do nothing."""


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("end", [leave_call, leave_room, unshare, revoke_permission, change_nothing])
async def test_client_gets_no_republish_request_for_a_stream_that_it_ended(
    end: Callable[[FlowHarness, FakeClient], None], before: bool
) -> None:
    async with FlowHarness() as harness:
        (alice,) = await call_of(harness, REPUBLISH)
        await publish(alice, room_type="screen")
        if before:
            end(harness, alice)
        harness.mcu.lose_streams()
        if not before:
            end(harness, alice)
        await harness.mcu.recover()
        await asyncio.sleep(2)
        requested = [message for message in alice.received() if message["type"] == "republish"]
        assert requested == ([republish_request("screen")] if end is change_nothing else [])
        assert harness.media._streams.streams_of(alice.session).publications == {}
        assert harness.mcu.is_empty


async def test_client_gets_a_republish_request_for_a_screen_that_it_shared_again() -> None:
    async with FlowHarness() as harness:
        (alice,) = await call_of(harness, REPUBLISH)
        await publish(alice, room_type="screen")
        unshare(harness, alice)
        await publish(alice, "two", sid="2", room_type="screen")
        harness.mcu.lose_streams(recovers=True)
        assert alice.received() == [republish_request("screen", "2")]


async def test_client_that_offers_during_the_outage_gets_no_republish_request() -> None:
    async with FlowHarness() as harness:
        (alice,) = await call_of(harness, REPUBLISH)
        await publish(alice)
        harness.mcu.lose_streams()
        await asyncio.sleep(1)
        alice.offer("two", sid="2")
        await asyncio.sleep(1)
        await harness.mcu.recover()
        await settle()
        assert [message["sid"] for message in alice.data()] == ["2"]


async def test_client_whose_offer_failed_during_the_outage_gets_a_republish_request() -> None:
    async with FlowHarness(media_limits=MediaLimits(timeout=10.0)) as harness:
        (alice,) = await call_of(harness, REPUBLISH)
        harness.mcu.lose_streams()
        alice.offer(sid="7")
        await asyncio.sleep(10.5)
        assert alice.error_codes() == ["client_not_found"]
        await asyncio.sleep(60)
        await harness.mcu.recover()
        assert alice.received() == [republish_request(sid="7")]


@pytest.mark.parametrize("when", [5, 15])
async def test_client_whose_permission_was_revoked_during_the_outage_gets_no_republish_request(when: float) -> None:
    async with FlowHarness(media_limits=MediaLimits(timeout=10.0)) as harness:
        (alice,) = await call_of(harness, REPUBLISH)
        harness.mcu.lose_streams()
        alice.offer()
        await asyncio.sleep(when)
        set_permissions(harness, "alice", "publish-screen")
        await asyncio.sleep(20)
        alice.received()
        await harness.mcu.recover()
        assert alice.received() == []
        assert harness.media._streams.streams_of(alice.session).publications == {}


async def test_client_gets_no_republish_request_for_a_stream_that_outlives_a_failed_renegotiation() -> None:
    async with FlowHarness() as harness:
        (alice,) = await call_of(harness, REPUBLISH)
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
async def test_offer_during_which_the_sfu_is_lost_is_answered_once_it_recovers() -> None:
    async with FlowHarness() as harness:
        (alice,) = await call_of(harness, ())
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
        assert [message["sid"] for message in alice.data()] == ["7"]


async def test_offer_during_which_the_sfu_is_lost_twice_fails_without_a_republish_request() -> None:
    async with FlowHarness() as harness:
        (alice,) = await call_of(harness, REPUBLISH)
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
        assert harness.media._streams.streams_of(alice.session).publications == {}
        await publish(alice, "two", sid="2")


async def test_renegotiation_of_a_lost_stream_fails_before_the_republish_request() -> None:
    async with FlowHarness() as harness:
        (alice,) = await call_of(harness, REPUBLISH)
        await publish(alice)
        publisher = harness.mcu.published[0]
        publisher.gate, publisher.error = asyncio.Event(), McuLost("gone")
        alice.offer("one", sid="1")
        await settle()
        harness.mcu.lose_streams(recovers=True)
        assert alice.received() == []
        publisher.gate.set()
        await settle()
        error, requested = alice.received()
        assert (error["error"]["code"], requested) == ("client_not_found", republish_request())


async def test_offer_that_fails_at_an_available_sfu_causes_no_republish_request() -> None:
    async with FlowHarness() as harness:
        (alice,) = await call_of(harness, REPUBLISH)
        harness.mcu.publish_error = McuLost("gone")
        alice.offer()
        await settle()
        assert alice.error_codes() == ["client_not_found"]
        await asyncio.sleep(60)
        assert alice.received() == []
        assert harness.media._streams.streams_of(alice.session).publications == {}


@pytest.mark.parametrize("sid", ["1", "", "2"])
async def test_client_without_republish_gets_no_request_and_can_publish_again(sid: str) -> None:
    async with FlowHarness() as harness:
        (alice,) = await call_of(harness, ())
        await publish(alice)
        harness.mcu.lose_streams()
        await harness.mcu.recover()
        await asyncio.sleep(30)
        assert alice.received() == []
        await publish(alice, "two", sid=sid)
        assert harness.media.open_streams == (1, 0)


@pytest.mark.parametrize("sid", ["1", "", "2"])
async def test_client_that_lost_its_peer_connection_publishes_from_another_one(sid: str) -> None:
    async with FlowHarness() as harness:
        (alice,) = await call_of(harness, ())
        await publish(alice)
        await publish(alice, "two", sid=sid)
        assert harness.publisher(alice) is harness.mcu.published[1]
        assert harness.mcu.published[0].closed


async def test_session_without_republish_is_ended_if_that_is_configured() -> None:
    async with FlowHarness(reset_sessions_on_loss=True) as harness:
        alice, bob, carol = await call_of(harness, (), REPUBLISH, ())
        await publish(alice)
        await publish(bob)
        harness.mcu.lose_streams()
        await settle()
        assert len(harness.hub.sessions) == 3
        await harness.mcu.recover()
        await settle()
        assert {session.userid for session in harness.hub.sessions.values()} == {"bob", "carol"}
        assert alice.connection.finished
        assert [message for message in alice.received() if message["type"] == "bye"] == []
        assert harness.nextcloud.leaves() == []  # its session at Nextcloud is used for the next join
        assert republish_request() in bob.received()
        assert not carol.connection.finished


async def test_session_of_an_internal_client_is_not_ended() -> None:
    async with FlowHarness(reset_sessions_on_loss=True) as harness:
        bridge = await harness.internal_hello()
        await publish(bridge)
        harness.mcu.lose_streams(recovers=True)
        await settle()
        assert not bridge.connection.finished
