"""Offers of publishing clients: publish, renegotiate, replace a PeerConnection (reference 9.2)."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from gateway.core.limits import Backend
from gateway.flows.settings import MediaLimits
from mcu.base import (
    CloseReason,
    McuError,
    McuLost,
    McuTimeout,
    NewConnectionRequired,
    NoSuchStream,
    Rejected,
)
from tests.gateway.flows.harness import FlowHarness, Json
from tests.gateway.flows.media.calls import candidate_payload, publishing_call, subscribe
from tests.gateway.flows.media.descriptions import ANSWER, answer
from tests.gateway.flows.virtual_time import settle


# reference 9.2-d
async def test_answer_has_the_sid_of_its_offer_and_no_id() -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")  # neither room nor call is needed
        alice.offer(sid="7")
        await settle()
        (reply,) = alice.received()
        assert reply == {
            "type": "message",
            "message": {
                "sender": {"type": "session", "sessionid": alice.sessionid, "userid": "alice"},
                "data": {
                    "to": alice.sessionid,
                    "from": alice.sessionid,
                    "type": "answer",
                    "roomType": "video",
                    "payload": {"type": "answer", "sdp": ANSWER},
                    "sid": "7",
                },
            },
        }
        (publisher,) = harness.mcu.published
        assert (publisher.key.backend, publisher.key.publisher, publisher.key.stream_type.value) == (
            "cloud",
            alice.sessionid,
            "video",
        )
        assert harness.media.open_streams == (1, 0)


# reference 9.2-a
async def test_recipient_of_an_offer_has_no_effect() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.callers("alice", "bob")
        alice.offer(to=bob)
        await settle()
        assert harness.publisher(alice) is not None
        assert bob.received() == []


# reference 9.1-a
async def test_camera_and_screen_are_two_streams() -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        alice.offer(sid="1")
        alice.offer("two", sid="2", roomType="screen")
        await settle()
        assert [(message["roomType"], message["sid"]) for message in alice.data()] == [("video", "1"), ("screen", "2")]
        assert len(harness.mcu.publishers) == 2


# reference 9.1-a
@pytest.mark.parametrize("room_type", ["audio", "", None])
async def test_stream_of_another_room_type_cannot_be_published(room_type: str | None) -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.callers("alice", "bob")
        bob.received()
        alice.received()
        alice.offer(roomType=room_type)
        alice.media(bob, "requestoffer", room_type=room_type)  # type: ignore[arg-type]  # clients may send ``null``
        alice.media(bob, "sendoffer", room_type=room_type)  # type: ignore[arg-type]
        alice.media(alice, "candidate", room_type=room_type, payload=candidate_payload())  # type: ignore[arg-type]
        alice.media(bob, "endOfCandidates", room_type=room_type)  # type: ignore[arg-type]
        await settle()
        assert alice.error_codes() == ["client_not_found"] * 5
        assert harness.media.open_streams == (0, 0)


# reference 9.2-b
async def test_codec_preference_is_passed_to_the_sfu_and_orders_the_description() -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        fields: Json = {"audiocodec": "opus", "videocodec": "h264,vp8", "vp9profile": "2", "h264profile": "42e01f"}
        alice.offer(**fields)
        await settle()
        (publisher,) = harness.mcu.published
        options = publisher.options
        assert (options.audiocodecs, options.videocodecs) == (("opus",), ("h264", "vp8"))
        assert (options.vp9profile, options.h264profile) == ("2", "42e01f")
        assert "SAVPF 102 96" in publisher.offer


# reference 9.2-b
@pytest.mark.parametrize(
    ("requested", "room_type", "expected"),
    [
        (None, "video", 3000),
        (0, "video", 3000),
        (-5, "video", 3000),
        (500, "video", 500),
        (500.9, "video", 500),
        (10**30, "video", 3000),
        (9000, "screen", 4000),
        (100, "screen", 100),
    ],
)
async def test_ceiling_is_the_least_of_the_limits_of_client_backend_and_sfu(
    requested: float | None, room_type: str, expected: int
) -> None:
    backend = Backend("b", ("https://b.example/",), "s", max_stream_bitrate=3000, max_screen_bitrate=5000)
    async with FlowHarness(backend, media_limits=MediaLimits(6000, 4000)) as harness:
        alice = await harness.hello("alice", backend)
        alice.offer(roomType=room_type, bitrate=requested)
        await settle()
        assert harness.mcu.published[0].options.bitrate == expected
        (reply,) = alice.data()
        _, audio, video = reply["payload"]["sdp"].split("m=")
        assert f"b=TIAS:{expected}" in video
        assert "b=" not in audio


async def test_answer_without_a_ceiling_is_not_changed() -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        alice.offer()
        await settle()
        assert alice.data()[0]["payload"]["sdp"] == ANSWER


# reference 9.2-e
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Rejected("no"), "processing_failed"),
        (McuTimeout("late"), "client_not_found"),
        (McuLost("gone"), "client_not_found"),
        (NoSuchStream("none"), "client_not_found"),
    ],
)
async def test_failure_to_publish_is_answered_with_an_error(error: Exception, code: str) -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        harness.mcu.publish_error = error  # type: ignore[assignment]
        alice.offer()
        await settle()
        (reply,) = alice.received()
        assert (reply["id"], reply["error"]["code"]) == ("offer", code)
        assert harness.media.open_streams == (0, 0)
        harness.mcu.publish_error = None
        alice.offer()
        await settle()
        assert alice.data()[0]["type"] == "answer"


async def test_unexpected_exception_of_the_sfu_is_answered_with_an_error(caplog: pytest.LogCaptureFixture) -> None:
    async with FlowHarness() as harness:
        (alice,) = await harness.callers("alice")
        alice.received()
        harness.mcu.publish_error = cast(McuError, ValueError("an unexpected error"))
        alice.offer()
        await settle()
        assert alice.error_codes() == ["processing_failed"]
        assert "an unexpected error" in caplog.text
        harness.mcu.publish_error = None
        alice.offer()
        await settle()
        assert [message["type"] for message in alice.data()] == ["answer"]


# reference 9.2-c
async def test_offer_of_the_same_connection_renegotiates() -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        await subscribe(bob, alice)
        alice.offer(sid="1", media=("audio", "video", "application"))
        await settle()
        (publisher,) = harness.mcu.published
        assert len(publisher.updates) == 1
        assert alice.data()[0]["sid"] == "1"
        assert bob.received() == []


# reference 9.2-g
async def test_answer_to_a_renegotiation_has_the_sid_of_its_offer() -> None:
    harness, (alice,) = await publishing_call("alice")
    async with harness:
        alice.offer(sid="2")
        await settle()
        assert alice.data()[0]["sid"] == "2"
        alice.media(alice, "endOfCandidates", sid="1")
        alice.media(alice, "endOfCandidates", sid="3")
        await settle()
        assert alice.error_codes() == ["processing_failed"]
        assert len(harness.mcu.published) == 1


# reference 9.2-e
async def test_failed_renegotiation_leaves_the_stream_as_it_was() -> None:
    harness, (alice,) = await publishing_call("alice")
    async with harness:
        (publisher,) = harness.mcu.published
        publisher.error = Rejected("no")
        alice.offer()
        await settle()
        assert alice.error_codes() == ["processing_failed"]
        assert harness.publisher(alice) is publisher


async def test_ice_restart_that_the_sfu_cannot_carry_out_publishes_the_stream_anew() -> None:
    harness, (alice,) = await publishing_call("alice")
    async with harness:
        (publisher,) = harness.mcu.published
        publisher.error = NewConnectionRequired("the offer restarts ICE")
        alice.offer(sid="2")
        await settle()
        assert [(message["type"], message["sid"]) for message in alice.data()] == [("answer", "2")]
        assert publisher.closed
        assert harness.publisher(alice) is harness.mcu.published[1]


async def test_renegotiation_during_which_the_publisher_is_lost_is_answered_with_an_error() -> None:
    harness, (alice,) = await publishing_call("alice")
    async with harness:
        (publisher,) = harness.mcu.published
        publisher.gate = asyncio.Event()
        publisher.error = McuLost("gone")
        alice.offer()
        await settle()
        publisher.end(CloseReason.LOST, CloseReason.LOST)
        publisher.gate.set()
        await settle()
        assert alice.error_codes() == ["client_not_found"]
        assert harness.media.open_streams == (0, 0)


async def test_later_of_two_offers_replaces_the_earlier() -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        harness.mcu.publish_gate = asyncio.Event()
        alice.offer("one", sid="1")
        alice.media(alice, "candidate", sid="1", payload=candidate_payload())
        await settle()
        alice.offer("two", sid="2")
        alice.media(alice, "candidate", sid="2", payload=candidate_payload())
        await settle()
        harness.mcu.publish_gate.set()
        await settle()
        assert [(message["type"], message["sid"]) for message in alice.data()] == [("answer", "1"), ("answer", "2")]
        first, second = harness.mcu.published
        assert first.closed
        assert not second.closed
        assert [len(publisher.candidates) for publisher in (first, second)] == [1, 1]
        assert harness.media.open_streams == (1, 0)


async def test_failed_replacement_leaves_nothing_on_the_sfu_and_can_be_repeated() -> None:
    harness, (alice,) = await publishing_call("alice")
    async with harness:
        harness.mcu.publish_error = Rejected("no")
        alice.offer("two", sid="2")
        await settle()
        assert alice.error_codes() == ["processing_failed"]
        assert harness.mcu.is_empty
        assert harness.media.open_streams == (0, 0)
        harness.mcu.publish_error = None
        alice.offer("three", sid="3")
        await settle()
        assert alice.data()[0]["sid"] == "3"


# reference 9.2-f
async def test_subscribers_are_offered_the_new_connection_without_a_request() -> None:
    harness, (alice, bob, carol) = await publishing_call("alice", "bob", "carol")
    async with harness:
        for subscriber in (bob, carol):
            subscriber.media(alice, "requestoffer")
        await settle()
        before = [subscriber.data()[0]["sid"] for subscriber in (bob, carol)]
        alice.offer("two", sid="2")
        await settle()
        old, new = harness.mcu.published
        assert old.closed
        assert not new.closed
        assert alice.data()[0]["sid"] == "2"
        after = [subscriber.data() for subscriber in (bob, carol)]
        assert [(len(messages), messages[0]["type"]) for messages in after] == [(1, "offer")] * 2
        assert not {messages[0]["sid"] for messages in after} & set(before)
        assert [subscriber.publisher for subscriber in harness.mcu.subscribers] == [new, new]
        bob.media(alice, "answer", sid=before[0], payload={"type": "answer", "sdp": answer()})
        await settle()
        assert bob.received() == []
        assert harness.mcu.subscribers[0].answers == []
        bob.media(alice, "answer", sid=after[0][0]["sid"], payload={"type": "answer", "sdp": answer()})
        await settle()
        assert bob.received() == []
        assert harness.media.open_streams == (1, 2)


async def test_replacement_during_a_request_is_offered_once() -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        harness.mcu.subscribe_gate = asyncio.Event()
        bob.media(alice, "requestoffer")
        await settle()
        alice.offer("two", sid="2")
        await settle()
        harness.mcu.subscribe_gate.set()
        await settle()
        assert [message["type"] for message in bob.data()] == ["offer"]
        assert [subscriber.publisher for subscriber in harness.mcu.subscribers] == [harness.mcu.published[1]]


async def test_replacement_before_a_waiting_request_is_offered_once() -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        subscriber = await subscribe(bob, alice)
        subscriber.gate = asyncio.Event()
        bob.media(alice, "selectStream", payload={"video": False})
        bob.media(alice, "requestoffer")
        await settle()
        alice.offer("two", sid="2")
        await settle()
        subscriber.gate.set()
        await settle()
        types = [message["message"]["data"]["type"] for message in bob.received() if message["type"] == "message"]
        assert types == ["offer"]
        assert len(harness.mcu.subscribers) == 1


async def test_subscription_is_closed_when_the_replacement_fails() -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        await subscribe(bob, alice)
        harness.mcu.publish_error = Rejected("no")
        alice.offer("two")
        await asyncio.sleep(11)
        assert bob.received() == []
        assert harness.media.open_streams == (0, 0)
        assert harness.mcu.is_empty
