"""Descriptions of the SFU that a client could not apply: corrected, or an error while the stream continues."""

from __future__ import annotations

import asyncio
import re

import pytest

from mcu.base import CloseReason, McuLost
from sdp.document import parse
from sdp.offer_answer import violations
from tests.gateway.flows.harness import FakeClient, FlowHarness
from tests.gateway.flows.media.calls import publishing_call, subscribe
from tests.gateway.flows.media.descriptions import answer, offer, subscriber_offer
from tests.gateway.flows.virtual_time import settle
from tests.mcu.descriptions import parse_frozen

SFU_FAILED = {
    "code": "processing_failed",
    "message": "Processing of the message failed, please check server logs.",
}


def send_offer(client: FakeClient, sdp: str) -> None:
    payload = {"type": "offer", "sdp": sdp}
    client.send_message(client, {"type": "offer", "roomType": "video", "sid": "1", "payload": payload}, id="offer")


def stop_all_media(description: str) -> str:
    return re.sub(r"(?m)^m=(\w+) 9 ", r"m=\1 0 ", description)


def without_transport(description: str) -> str:
    return description.replace("a=ice-ufrag", "a=x-ufrag")


# reference 9.2-k
async def test_wrong_mid_and_group_of_an_answer_are_mended_before_the_client_gets_it() -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        harness.mcu.edit_description = lambda answer: answer.replace("a=mid:1", "a=mid:(null)").replace(
            "t=0 0", "t=0 0\r\na=group:BUNDLE (null) 1"
        )
        alice.offer()
        await settle()
        (reply,) = alice.data()
        sent = parse(reply["payload"]["sdp"])
        assert violations(parse(offer()), sent) == []
        assert [section.mid for section in sent.media] == ["0", "1"]
        assert "null" not in str(sent)


async def test_first_answer_that_cannot_be_mended_is_an_error_and_leaves_no_publisher() -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        harness.mcu.edit_description = without_transport
        alice.offer()
        await settle()
        (reply,) = alice.received()
        assert reply["error"] == SFU_FAILED
        assert harness.mcu.is_empty
        assert harness.media.open_streams == (0, 0)


async def test_later_answer_that_cannot_be_mended_is_an_error_and_the_stream_continues() -> None:
    harness, (alice,) = await publishing_call("alice")
    async with harness:
        harness.mcu.edit_description = without_transport
        alice.offer()
        await settle()
        assert [message["error"] for message in alice.received() if message["type"] == "error"] == [SFU_FAILED]
        assert harness.publisher(alice) is not None
        harness.mcu.edit_description = str
        alice.offer()
        await settle()
        assert [data["type"] for data in alice.data()] == ["answer"]


async def test_first_offer_that_breaks_a_rule_is_an_error_and_leaves_no_subscriber() -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        harness.mcu.edit_description = without_transport
        bob.media(alice, "requestoffer")
        await settle()
        assert [message["error"] for message in bob.received() if message["type"] == "error"] == [SFU_FAILED]
        assert harness.mcu.subscribers == []


async def test_later_offer_that_breaks_a_rule_is_dropped_and_the_subscription_continues() -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        await subscribe(bob, alice)
        (subscriber,) = harness.mcu.subscribers
        shorter = subscriber_offer("shorter").partition("m=video")[0]
        subscriber.listener.on_offer(parse_frozen(shorter))
        assert bob.data() == []
        subscriber.listener.on_offer(parse_frozen(subscriber_offer("longer")))
        assert [data["type"] for data in bob.data()] == ["offer"]
        assert not subscriber.closed


# reference 9.2-l
async def test_offer_that_stops_all_media_is_answered_without_a_stream_on_the_sfu() -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        stopped = stop_all_media(offer())
        send_offer(alice, stopped)
        await settle()
        (reply,) = alice.data()
        sent = parse(reply["payload"]["sdp"])
        assert violations(parse(stopped), sent) == []
        assert [section.rejected for section in sent.media] == [True, True]
        assert harness.mcu.is_empty
        assert harness.media.open_streams == (0, 0)


# reference 9.2-l
async def test_offer_that_stops_all_media_is_answered_although_it_crosses_the_end_of_the_stream() -> None:
    harness, (alice,) = await publishing_call("alice")
    async with harness:
        (publisher,) = harness.mcu.published
        publisher.gate = asyncio.Event()
        publisher.error = McuLost("the stream has ended")
        stopped = stop_all_media(offer())
        send_offer(alice, stopped)
        await settle()
        publisher.end(CloseReason.PUBLISHER_GONE, CloseReason.FAILED)
        publisher.gate.set()
        await settle()
        (reply,) = alice.data()
        assert violations(parse(stopped), parse(reply["payload"]["sdp"])) == []
        assert harness.media.open_streams == (0, 0)


async def test_offer_that_stops_all_media_without_credentials_renegotiates() -> None:
    harness, (alice,) = await publishing_call("alice")
    async with harness:
        publisher = harness.publisher(alice)
        stopped = stop_all_media(offer())
        stopped = re.sub(r"(?m)^a=(ice-ufrag|ice-pwd|fingerprint):.*\r\n", "", stopped)
        harness.mcu.edit_description = stop_all_media
        for text in (stopped, offer()):
            send_offer(alice, text)
            await settle()
            harness.mcu.edit_description = str
            assert [data["type"] for data in alice.data()] == ["answer"]
            assert harness.publisher(alice) is publisher


# reference 9.2-m
@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        ("a=mid:1", "a=mid:camera", "mid of section 1"),
        ("m=video 9 UDP/TLS/RTP/SAVPF 96 102", "m=audio 9 UDP/TLS/RTP/SAVPF 0", "media type of section 1"),
        (offer()[offer().index("m=video") :], "", "number of media sections"),
    ],
)
async def test_later_offer_that_changes_a_running_section_is_refused_and_the_stream_continues(
    old: str, new: str, change: str
) -> None:
    harness, (alice,) = await publishing_call("alice")
    async with harness:
        publisher = harness.publisher(alice)
        assert old in offer()
        send_offer(alice, offer().replace(old, new))
        await settle()
        (reply,) = alice.received()
        assert reply["error"]["code"] == "invalid_sdp"
        assert change in reply["error"]["details"]["error"]
        send_offer(alice, offer())
        await settle()
        assert [data["type"] for data in alice.data()] == ["answer"]
        assert harness.publisher(alice) is publisher


# reference 9.2-m
async def test_rejected_section_may_become_another_one() -> None:
    harness, (alice,) = await publishing_call("alice")
    async with harness:
        publisher = harness.publisher(alice)
        stopped = offer().replace("m=video 9", "m=video 0")
        for text in (stopped, offer(media=("audio", "audio")), offer()):
            send_offer(alice, text)
            await settle()
        assert [message["type"] for message in alice.received()] == ["message", "message", "error"]
        assert harness.publisher(alice) is publisher


async def test_other_peer_connection_with_the_same_certificate_may_have_other_sections() -> None:
    harness, (alice,) = await publishing_call("alice")
    async with harness:
        publisher = harness.publisher(alice)
        send_offer(alice, re.sub(r"a=ice-ufrag:\w+", "a=ice-ufrag:another", offer(media=("video",))))
        await settle()
        assert [data["type"] for data in alice.data()] == ["answer"]
        assert harness.publisher(alice) is not publisher


# reference 9.4-h
async def test_answer_of_a_client_that_does_not_fit_is_refused_and_the_right_one_is_accepted_afterwards() -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        bob.media(alice, "requestoffer")
        await settle()
        (offered,) = bob.data()
        (subscriber,) = harness.mcu.subscribers
        right = answer()
        for wrong in (
            right.partition("m=video")[0],
            right.replace("m=video", "m=audio"),
            right.replace("VP8", "VP9"),
            right.replace("a=mid:1", "a=mid:2"),
        ):
            payload = {"type": "answer", "sdp": wrong}
            data = {"type": "answer", "roomType": "video", "sid": offered["sid"], "payload": payload}
            bob.send_message(alice, data, id="answer")
            await settle()
            (reply,) = bob.received()
            assert reply["error"] == SFU_FAILED
        assert subscriber.answers == []
        payload = {"type": "answer", "sdp": right}
        bob.send_message(alice, {"type": "answer", "roomType": "video", "sid": offered["sid"], "payload": payload})
        await settle()
        assert bob.received() == []
        assert len(subscriber.answers) == 1
        assert not subscriber.closed


# reference 9.4-h
async def test_answer_may_have_the_mid_of_an_earlier_offer() -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        subscriber = await subscribe(bob, alice)
        stopped = subscriber_offer("two").replace("m=video 9", "m=video 0")
        reused = subscriber_offer("three").replace("a=mid:1", "a=mid:2")
        for text in (stopped, reused):
            subscriber.listener.on_offer(parse_frozen(text))
        for mid in ("1", "2"):
            bob.media(alice, "answer", payload={"type": "answer", "sdp": answer().replace("a=mid:1", f"a=mid:{mid}")})
            await settle()
        assert [data["type"] for data in bob.data()] == ["offer", "offer"]
        assert len(subscriber.answers) == 2
