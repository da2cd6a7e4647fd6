"""Requests for a stream and the answers to its offers (reference 9.3, 9.4, 9.9)."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from gateway.flows.settings import MediaLimits
from mcu.base import (
    CloseReason,
    McuLost,
    McuTimeout,
    MediaSelection,
    NoSuchStream,
    Rejected,
)
from tests.captured_log import captured_lines
from tests.gateway.flows.harness import OTHER_CLOUD, FlowHarness
from tests.gateway.flows.media.calls import candidate_payload, publishing_call, subscribe
from tests.gateway.flows.media.descriptions import answer, subscriber_offer
from tests.gateway.flows.virtual_time import settle
from tests.mcu.descriptions import parse_frozen


# reference 9.3-e
async def test_request_is_answered_with_an_offer_that_has_the_publisher_as_sender() -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        bob.media(alice, "requestoffer")
        await settle()
        (message,) = bob.received()
        sid = message["message"]["data"].pop("sid")
        assert message == {
            "type": "message",
            "message": {
                "sender": {"type": "session", "sessionid": alice.sessionid},
                "data": {
                    "to": bob.sessionid,
                    "from": alice.sessionid,
                    "type": "offer",
                    "roomType": "video",
                    "payload": {"type": "offer", "sdp": subscriber_offer("subscription 1")},
                },
            },
        }
        assert sid.isdigit()
        assert int(sid) < 2**53
        assert alice.received() == []


# reference 9.3-c
async def test_request_waits_for_the_publisher() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.callers("alice", "bob")
        bob.media(alice, "requestoffer")
        await asyncio.sleep(9)
        assert bob.received() == []
        bob.send_message(alice, "meanwhile")
        assert [message["message"]["data"] for message in alice.received() if message["type"] == "message"] == [
            "meanwhile"
        ]
        alice.offer()
        await settle()
        assert bob.data()[0]["type"] == "offer"


# reference 9.3-c
async def test_request_fails_after_the_timeout_without_a_publisher() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.callers("alice", "bob")
        bob.media(alice, "requestoffer", id="q")
        await asyncio.sleep(10.1)
        (reply,) = bob.received()
        assert (reply["id"], reply["error"]["code"]) == ("q", "client_not_found")
        assert harness.media.open_streams == (0, 0)
        assert harness.mcu.is_empty
        assert harness.counters.no_publisher_total["video"] == 1


async def test_each_waiting_request_has_its_own_timeout() -> None:
    async with FlowHarness(media_limits=MediaLimits(timeout=10.0)) as harness:
        alice, bob = await harness.callers("alice", "bob")
        bob.received()
        bob.media(alice, "requestoffer")
        await asyncio.sleep(4)
        bob.media(alice, "requestoffer")
        await asyncio.sleep(6.5)
        assert bob.error_codes() == ["client_not_found"]
        await asyncio.sleep(4)
        assert bob.error_codes() == ["client_not_found"]
        assert harness.mcu.is_empty


async def test_waiting_requests_are_served_by_one_offer() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.callers("alice", "bob")
        bob.received()
        for _ in range(3):
            bob.media(alice, "requestoffer")
        bob.media(alice, "requestoffer", payload={"video": False})
        await settle()
        alice.offer()
        await settle()
        assert [message["type"] for message in bob.data()] == ["offer"]
        assert len(harness.mcu.subscribed) == 1
        assert harness.mcu.subscribers[0].selections[-1] == MediaSelection(video=False)


# reference 9.3-c
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (McuTimeout("no media"), "processing_failed"),
        (Rejected("no"), "processing_failed"),
        (McuLost("gone"), "client_not_found"),
        (NoSuchStream("none"), "client_not_found"),
    ],
)
async def test_failure_to_subscribe_is_answered_with_an_error(error: Exception, code: str) -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        harness.mcu.subscribe_error = error  # type: ignore[assignment]
        with captured_lines() as lines:
            for _ in range(5):
                bob.media(alice, "requestoffer")
                await settle()
        assert bob.error_codes() == [code] * 5
        assert harness.media.open_streams == (1, 0)
    level = "info" if isinstance(error, NoSuchStream) else "warning"
    (line,) = [line for line in lines if "subscribing" in line]  # once a minute
    assert f"level={level} " in line
    assert f"subscribing to a video stream failed: {error}" in line


# reference 9.3-g
async def test_waiting_request_is_cancelled_when_its_client_leaves_the_call() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.callers("alice", "bob")
        bob.media(alice, "requestoffer")
        await settle()
        harness.set_in_call("r", "bob", flags=0)
        await settle()
        assert harness.mcu.pending_calls == 0
        bob.received()
        alice.offer()
        await asyncio.sleep(11)
        assert bob.received() == []
        assert harness.mcu.subscribers == []
        assert harness.media.open_streams == (1, 0)


async def test_stream_of_a_publisher_that_left_the_call_meanwhile_is_not_offered() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.callers("alice", "bob")
        bob.media(alice, "requestoffer", id="q")
        await settle()
        harness.set_in_call("r", "alice", flags=0)
        alice.offer()
        await settle()
        errors = [(message["id"], message["error"]["code"]) for message in bob.received() if message["type"] == "error"]
        assert errors == [("q", "not_allowed")]
        assert harness.mcu.subscribers == []
        assert harness.media.open_streams == (1, 0)


# reference 9.3-b
async def test_request_is_refused_unless_subscriber_and_publisher_are_in_one_call() -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        outside = await harness.member("outside")
        elsewhere = await harness.member("elsewhere", "other", in_call=True)
        foreign = await harness.member("foreign", in_call=True, backend=OTHER_CLOUD)
        nowhere = await harness.hello("nowhere")
        for client in (outside, elsewhere, foreign, nowhere):
            client.received()
            client.media(alice, "requestoffer")
            assert client.error_codes() == ["not_allowed"]
        bob.media(outside, "requestoffer")
        await settle()
        bob.received()
        bob.send({"type": "message", "message": {"recipient": {"type": "session", "sessionid": "x"}, "data": 1}})
        bob.send_message(
            {"type": "session", "sessionid": "unknown"}, {"type": "requestoffer", "roomType": "video"}, id="q"
        )
        (reply,) = bob.received()
        assert reply["error"] == {"code": "not_allowed", "message": "Not allowed to request offer."}
        assert harness.mcu.subscribers == []


# reference 9.3-h
async def test_subscribe_any_allows_requests_outside_of_a_call_within_one_backend() -> None:
    async with FlowHarness(media_limits=MediaLimits(subscribe_any=True)) as harness:
        alice = await harness.member("alice")
        elsewhere = await harness.member("elsewhere", "other")
        nowhere, foreign = await harness.hello("nowhere"), await harness.hello("foreign", OTHER_CLOUD)
        alice.offer()
        await settle()
        for client in (elsewhere, nowhere):
            client.received()
            client.media(alice, "requestoffer")
            await settle()
            assert [data["type"] for data in client.data()] == ["offer"]
        foreign.media(alice, "requestoffer")
        await asyncio.sleep(11)
        assert foreign.error_codes() == ["client_not_found"]
        harness.change_settings(media_limits=MediaLimits())
        late = await harness.hello("late")
        late.media(alice, "requestoffer")
        assert late.error_codes() == ["not_allowed"]


# reference 9.3-a
async def test_request_for_the_own_stream_is_ignored() -> None:
    harness, (alice,) = await publishing_call("alice")
    async with harness:
        alice.media(alice, "requestoffer")
        alice.media(alice, "selectStream", payload={"video": False})
        await settle()
        assert alice.received() == []


# reference 9.3-d
async def test_request_with_the_current_sid_refreshes_the_same_connection() -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        bob.media(alice, "requestoffer")
        await settle()
        sid = bob.data()[0]["sid"]
        bob.media(alice, "requestoffer", sid=sid, payload={"substream": 1, "audio": False})
        await settle()
        (again,) = bob.data()
        assert (again["sid"], again["payload"]["sdp"]) == (sid, subscriber_offer("refreshed 1"))
        (subscriber,) = harness.mcu.subscribed
        assert subscriber.selections == [MediaSelection(substream=1, audio=False)]


# reference 9.3-d
@pytest.mark.parametrize("sid", ["another", "", None])
async def test_request_with_another_sid_makes_a_new_connection(sid: str | None) -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        bob.media(alice, "requestoffer", payload={"temporal": 2})
        await settle()
        first = bob.data()[0]["sid"]
        bob.media(alice, "requestoffer", sid=sid)
        await settle()
        (again,) = bob.data()
        assert again["sid"] != first
        old, new = harness.mcu.subscribed
        assert old.closed
        assert not new.closed
        assert old.first_selection == MediaSelection(temporal=2)


# reference 9.3-k
@pytest.mark.parametrize("published_again", [True, False])
async def test_request_that_crosses_the_end_of_its_connection_is_served_on_a_new_one(published_again: bool) -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        bob.media(alice, "requestoffer")
        await settle()
        sid = bob.data()[0]["sid"]
        harness.mcu.subscribers[0].gate = gate = asyncio.Event()
        bob.media(alice, "requestoffer", sid=sid)
        await settle()
        harness.mcu.published[0].end(CloseReason.PUBLISHER_GONE, CloseReason.FAILED)
        gate.set()
        await settle()
        if published_again:
            alice.offer()
            await settle()
            (offer,) = bob.data()
            assert (offer["type"], offer["payload"]["sdp"]) == ("offer", subscriber_offer("subscription 2"))
            assert offer["sid"] != sid
        else:
            await asyncio.sleep(10)
            assert bob.error_codes() == ["client_not_found"]
            assert harness.media.open_streams == (0, 0)


# reference 9.3-f
async def test_renegotiation_by_the_sfu_is_offered_under_the_same_sid() -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        bob.media(alice, "requestoffer")
        await settle()
        sid = bob.data()[0]["sid"]
        harness.mcu.subscribers[0].listener.on_offer(parse_frozen(subscriber_offer("more")))
        (pushed,) = bob.data()
        assert (pushed["type"], pushed["sid"], pushed["payload"]["sdp"]) == ("offer", sid, subscriber_offer("more"))


# reference 9.3-j
@pytest.mark.parametrize("crossed", [True, False])
async def test_request_that_crosses_a_renegotiation_by_the_sfu_is_served_by_it(crossed: bool) -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        bob.media(alice, "requestoffer")
        await settle()
        sid = bob.data()[0]["sid"]
        harness.mcu.subscribers[0].listener.on_offer(parse_frozen(subscriber_offer("more")))
        assert len(bob.data()) == 1
        if not crossed:
            bob.media(alice, "answer", sid=sid, payload={"sdp": answer()})
        bob.media(alice, "requestoffer", sid=sid)  # the answer, if any, is not carried out yet
        await settle()
        assert [message["payload"]["sdp"] for message in bob.data()] == (
            [] if crossed else [subscriber_offer("refreshed 1")]
        )


async def test_offer_that_the_sfu_makes_for_a_request_and_announces_is_sent_once() -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        bob.media(alice, "requestoffer")
        await settle()
        sid = bob.data()[0]["sid"]
        subscriber = harness.mcu.subscribers[0]
        subscriber.gate = gate = asyncio.Event()
        subscriber.unanswered = offer = parse_frozen(subscriber_offer("more"))
        bob.media(alice, "requestoffer", sid=sid)
        await settle()
        subscriber.listener.on_offer(offer)
        gate.set()
        await settle()
        assert [message["payload"]["sdp"] for message in bob.data()] == [subscriber_offer("more")]


# reference 2.1-k
async def test_missing_answer_does_not_block_other_clients() -> None:
    harness, (alice, bob, carol) = await publishing_call("alice", "bob", "carol")
    async with harness:
        await subscribe(bob, alice)
        carol_subscription = await subscribe(carol, alice)
        alice.offer(media=("audio", "video", "application"))
        carol.media(alice, "answer", payload={"sdp": answer()})
        await settle()
        assert carol_subscription.answers
        assert alice.data()[0]["type"] == "answer"


async def test_answer_that_the_sfu_rejects_leaves_the_subscription_as_it_was() -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        subscriber = await subscribe(bob, alice)
        subscriber.error = Rejected("no")
        bob.media(alice, "answer", payload={"sdp": answer()})
        await settle()
        assert bob.error_codes() == ["processing_failed"]
        assert not subscriber.closed


# reference 9.4-a
async def test_answer_for_the_own_publication_is_refused() -> None:
    harness, (alice,) = await publishing_call("alice")
    async with harness:
        alice.media(alice, "answer", payload={"sdp": answer()})
        await settle()
        assert alice.error_codes() == ["processing_failed"]


# reference 9.4-a
@pytest.mark.parametrize("type", ["answer", "candidate", "endOfCandidates", "selectStream"])
async def test_message_about_a_stream_that_does_not_exist_is_refused(type: str) -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.callers("alice", "bob")
        alice.received()
        payload = {"sdp": answer(), **candidate_payload()}
        alice.media(bob, type, payload=payload)
        if type != "selectStream":
            alice.media(alice, type, payload=payload)
        await settle()
        assert set(alice.error_codes()) == {"client_not_found"}


# reference 9.4-f
@pytest.mark.parametrize(
    ("type", "fields", "logged"),
    [
        ("candidate", {"sid": "4711", "payload": candidate_payload()}, ["4711", "SID"]),
        ("answer", {"sid": "4711", "payload": {"sdp": answer()}}, ["4711", "SID"]),
        ("selectStream", {"payload": {"substream": "high"}}, ["int"]),
    ],
)
async def test_refused_message_is_logged_once_a_minute(type: str, fields: dict[str, Any], logged: list[str]) -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        bob.media(alice, "requestoffer")
        await settle()
        sid = bob.data()[0]["sid"]
        with captured_lines(logging.WARNING) as lines:
            for _ in range(20):
                bob.media(alice, type, **fields)
                await settle()
        assert bob.error_codes() == ["processing_failed"] * 20
        assert len(lines) == 1
        assert all(part.replace("SID", sid) in lines[0] for part in [type, *logged]), lines[0]


async def test_sid_in_the_log_cannot_carry_private_data() -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        await subscribe(bob, alice)
        with captured_lines(logging.WARNING) as lines:
            bob.media(alice, "candidate", sid="192.0.2.7\n2001:db8::1" + "x" * 999, payload=candidate_payload())
            await settle()
        assert len(lines) == 1
        assert "192?0?2?7?2001?db8??1" in lines[0]
        assert "x" * 33 not in lines[0]


# reference 9.4-a
@pytest.mark.parametrize("type", ["answer", "candidate", "endOfCandidates"])
async def test_message_with_the_sid_of_another_connection_is_refused(type: str) -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        subscriber = await subscribe(bob, alice)
        payload = {"sdp": answer(), **candidate_payload()}
        alice.media(alice, type, sid="another", payload=payload)
        bob.media(alice, type, sid="another", payload=payload)
        await settle()
        assert alice.error_codes() == bob.error_codes() == ["processing_failed"]
        assert subscriber.answers == []
        assert subscriber.candidates == []
        for sid in ("", None):
            bob.media(alice, type, sid=sid, payload=payload)
        await settle()
        assert bob.received() == []
