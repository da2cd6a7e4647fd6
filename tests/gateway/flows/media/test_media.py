"""Media messages between clients and the SFU (reference 8 and 9; invariants 2, 5 and 10)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.core.limits import Backend
from gateway.flows.settings import MediaLimits
from mcu.base import Candidate, CloseReason, McuLost, McuTimeout, MediaSelection, NoSuchStream, Rejected, StreamType
from sdp.candidates import CandidateFilter
from tests.gateway.flows.fakes import FakeRoom
from tests.gateway.flows.harness import OTHER, FakeClient, FlowHarness, Json
from tests.gateway.flows.media.descriptions import ANSWER, CANDIDATE, answer, offer, subscriber_offer
from tests.gateway.flows.media.fake_mcu import FakeSubscriber
from tests.gateway.flows.virtual_time import settle

SCREEN = StreamType.SCREEN


def candidate(text: str = CANDIDATE, **fields: Any) -> Json:
    return {"candidate": {"candidate": text, **fields}}


def permit(harness: FlowHarness, userid: str, *names: str) -> None:
    changed = [{"sessionId": f"nc-{userid}", "permissions": names}]
    harness.rooms_api("r", {"type": "participants", "participants": {"changed": changed}})


async def subscribed(watcher: FakeClient, publisher: FakeClient) -> FakeSubscriber:
    """Let one watch the other and return the subscription; the offer was heard."""
    watcher.media(publisher, "requestoffer")
    await settle()
    watcher.received()
    return watcher.harness.mcu.subscribers[-1]


async def publishing(*userids: str) -> tuple[FlowHarness, list[FakeClient]]:
    """Return callers the first of whom publishes."""
    harness = FlowHarness()
    clients = await harness.callers(*userids)
    clients[0].offer()
    await settle()
    for client in clients:
        client.received()
    return harness, clients


# -- offer: publish (9.2)


# reference 9.2-d
async def test_offer_is_answered_without_an_id() -> None:
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
async def test_recipient_of_an_offer_does_not_matter() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.callers("alice", "bob")
        alice.offer(to=bob)
        await settle()
        assert harness.publisher(alice) is not None
        assert bob.received() == []


# reference 9.1-a
async def test_video_and_screen_are_two_streams() -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        alice.offer(sid="1")
        alice.offer("two", sid="2", roomType="screen")
        await settle()
        assert [(it["roomType"], it["sid"]) for it in alice.data()] == [("video", "1"), ("screen", "2")]
        assert len(harness.mcu.publishers) == 2


# reference 9.1-a
@pytest.mark.parametrize("room_type", ["audio", "", None])
async def test_nobody_can_publish_another_room_type(room_type: str | None) -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.callers("alice", "bob")
        bob.received()
        alice.received()
        alice.offer(roomType=room_type)
        alice.media(bob, "requestoffer", room_type=room_type)  # type: ignore[arg-type]  # what clients send
        alice.media(bob, "sendoffer", room_type=room_type)  # type: ignore[arg-type]
        alice.media(alice, "candidate", room_type=room_type, payload=candidate())  # type: ignore[arg-type]
        alice.media(bob, "endOfCandidates", room_type=room_type)  # type: ignore[arg-type]
        await settle()
        assert alice.error_codes() == ["client_not_found"] * 5
        assert harness.media.open_streams == (0, 0)


# reference 9.2-b
async def test_codecs_of_the_offer_reach_the_sfu_and_order_the_description() -> None:
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
    ("wish", "room_type", "expected"),
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
async def test_ceiling_is_the_least_of_wish_backend_and_sfu(wish: float | None, room_type: str, expected: int) -> None:
    backend = Backend("b", ("https://b.example/",), "s", max_stream_bitrate=3000, max_screen_bitrate=5000)
    async with FlowHarness(backend, limits=MediaLimits(6000, 4000)) as harness:
        alice = await harness.hello("alice", backend)
        alice.offer(roomType=room_type, bitrate=wish)
        await settle()
        assert harness.mcu.published[0].options.bitrate == expected
        (reply,) = alice.data()
        _, audio, video = reply["payload"]["sdp"].split("m=")
        assert f"b=TIAS:{expected}" in video
        assert "b=" not in audio


async def test_answer_without_a_ceiling_is_left_alone() -> None:
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
async def test_stream_that_cannot_be_published_has_its_error(
    error: Exception, code: str, caplog: pytest.LogCaptureFixture
) -> None:
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


# -- renegotiation and replacement


# reference 9.2-c
async def test_offer_of_the_same_connection_renegotiates() -> None:
    harness, (alice, bob) = await publishing("alice", "bob")
    async with harness:
        await subscribed(bob, alice)
        alice.offer(sid="1", media=("audio",))
        await settle()
        (publisher,) = harness.mcu.published
        assert len(publisher.updates) == 1
        assert alice.data()[0]["sid"] == "1"
        assert bob.received() == []


# reference 9.2-g
async def test_renegotiation_under_another_sid_is_answered_under_that_one() -> None:
    harness, (alice,) = await publishing("alice")
    async with harness:
        alice.offer(sid="2")
        await settle()
        assert alice.data()[0]["sid"] == "2"
        alice.media(alice, "endOfCandidates", sid="1")
        await settle()
        assert alice.error_codes() == ["processing_failed"]
        assert len(harness.mcu.published) == 1


# reference 9.2-e
async def test_failed_renegotiation_leaves_the_stream_as_it_was() -> None:
    harness, (alice,) = await publishing("alice")
    async with harness:
        (publisher,) = harness.mcu.published
        publisher.error = Rejected("no")
        alice.offer()
        await settle()
        assert alice.error_codes() == ["processing_failed"]
        assert harness.publisher(alice) is publisher


# reference 9.2-f
async def test_new_connection_replaces_the_old_one_and_subscribers_are_offered_it_unasked() -> None:
    harness, (alice, bob, carol) = await publishing("alice", "bob", "carol")
    async with harness:
        for watcher in (bob, carol):
            watcher.media(alice, "requestoffer")
        await settle()
        before = [watcher.data()[0]["sid"] for watcher in (bob, carol)]
        alice.offer("two", sid="2")
        await settle()
        old, new = harness.mcu.published
        assert old.closed
        assert not new.closed
        assert alice.data()[0]["sid"] == "2"
        after = [watcher.data() for watcher in (bob, carol)]
        assert [(len(it), it[0]["type"]) for it in after] == [(1, "offer")] * 2
        assert not {it[0]["sid"] for it in after} & set(before)
        assert [it.publisher for it in harness.mcu.subscribers] == [new, new]
        bob.media(alice, "answer", sid=before[0], payload={"type": "answer", "sdp": answer()})
        await settle()
        assert bob.error_codes() == ["processing_failed"]
        bob.media(alice, "answer", sid=after[0][0]["sid"], payload={"type": "answer", "sdp": answer()})
        await settle()
        assert bob.received() == []
        assert harness.media.open_streams == (1, 2)


async def test_two_offers_at_once_end_in_the_later_one() -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        harness.mcu.publish_gate = asyncio.Event()
        alice.offer("one", sid="1")
        alice.media(alice, "candidate", sid="1", payload=candidate())
        await settle()
        alice.offer("two", sid="2")
        alice.media(alice, "candidate", sid="2", payload=candidate())
        await settle()
        harness.mcu.publish_gate.set()
        await settle()
        assert [(it["type"], it["sid"]) for it in alice.data()] == [("answer", "1"), ("answer", "2")]
        first, second = harness.mcu.published
        assert first.closed
        assert not second.closed
        assert [len(it.candidates) for it in (first, second)] == [1, 1]
        assert harness.media.open_streams == (1, 0)


async def test_replacement_that_fails_leaves_no_orphan_and_may_be_tried_again() -> None:
    harness, (alice,) = await publishing("alice")
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


async def test_replacement_while_a_subscriber_waits_ends_in_one_subscription() -> None:
    harness, (alice, bob) = await publishing("alice", "bob")
    async with harness:
        harness.mcu.subscribe_gate = asyncio.Event()
        bob.media(alice, "requestoffer")
        await settle()
        alice.offer("two", sid="2")
        await settle()
        harness.mcu.subscribe_gate.set()
        await settle()
        assert [it["type"] for it in bob.data()] == ["offer"]
        assert [it.publisher for it in harness.mcu.subscribers] == [harness.mcu.published[1]]


async def test_replacement_behind_a_waiting_request_is_offered_once() -> None:
    harness, (alice, bob) = await publishing("alice", "bob")
    async with harness:
        subscriber = await subscribed(bob, alice)
        subscriber.gate = asyncio.Event()
        bob.media(alice, "selectStream", payload={"video": False})
        bob.media(alice, "requestoffer")
        await settle()
        alice.offer("two", sid="2")
        await settle()
        subscriber.gate.set()
        await settle()
        heard = [it["message"]["data"]["type"] for it in bob.received() if it["type"] == "message"]
        assert heard == ["offer"]
        assert len(harness.mcu.subscribers) == 1


async def test_follower_whose_publisher_does_not_come_back_is_forgotten() -> None:
    harness, (alice, bob) = await publishing("alice", "bob")
    async with harness:
        await subscribed(bob, alice)
        harness.mcu.publish_error = Rejected("no")
        alice.offer("two")
        await asyncio.sleep(11)
        assert bob.received() == []
        assert harness.media.open_streams == (0, 0)
        assert harness.mcu.is_empty


# -- candidates


async def test_candidates_wait_behind_their_offer() -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        harness.mcu.publish_gate = asyncio.Event()
        alice.offer(sid="1")
        alice.media(alice, "candidate", sid="1", payload=candidate(sdpMid="0", sdpMLineIndex=0))
        alice.media(alice, "candidate", payload=candidate(sdpMid="1", sdpMLineIndex=1))
        alice.media(alice, "endOfCandidates")
        alice.media(alice, "candidate", payload=candidate(""))
        await settle()
        assert alice.received() == []
        harness.mcu.publish_gate.set()
        await settle()
        (publisher,) = harness.mcu.published
        first, second = Candidate(CANDIDATE, "0", 0), Candidate(CANDIDATE, "1", 1)
        assert publisher.candidates == [first, second, None, None]
        assert [it["type"] for it in alice.data()] == ["answer"]


# reference 9.4-c
async def test_candidate_of_the_sfu_comes_after_the_answer() -> None:
    harness, (alice, bob) = await publishing("alice", "bob")
    async with harness:
        harness.mcu.published[0].listener.on_candidate(Candidate(CANDIDATE, "0", 0))
        harness.mcu.published[0].listener.on_candidate(None)
        (message,) = alice.received()
        assert message["message"]["sender"] == {"type": "session", "sessionid": alice.sessionid}
        assert message["message"]["data"] == {
            "to": alice.sessionid,
            "from": alice.sessionid,
            "type": "candidate",
            "roomType": "video",
            "payload": {"candidate": {"candidate": CANDIDATE, "sdpMid": "0", "sdpMLineIndex": 0}},
            "sid": "1",
        }
        subscriber = await subscribed(bob, alice)
        subscriber.listener.on_candidate(Candidate(CANDIDATE, "0", 0))
        data = bob.data()[0]
        assert (data["to"], data["from"]) == (bob.sessionid, alice.sessionid)


# reference 9.4-b
@pytest.mark.parametrize(
    ("text", "passes"),
    [
        (CANDIDATE, True),
        (CANDIDATE.replace("203.0.113.7", "198.51.100.1"), False),
        (CANDIDATE.replace("203.0.113.7", "198.51.100.9"), True),
        (CANDIDATE.replace("203.0.113.7", "abc.local"), False),
        (CANDIDATE.replace("203.0.113.7", "0.0.0.0"), False),
        (CANDIDATE.replace("203.0.113.7", "::"), False),
        (CANDIDATE.replace("203.0.113.7", "2001:db8::1"), True),
    ],
)
async def test_unusable_candidates_are_dropped_silently_wherever_they_stand(text: str, passes: bool) -> None:
    allowed = CandidateFilter(["198.51.100.9"], ["198.51.100.0/24"])
    async with FlowHarness(candidates=allowed) as harness:
        alice, bob = await harness.callers("alice", "bob")
        alice.received()
        alice.offer(candidates=(text,))
        alice.media(alice, "candidate", payload=candidate(text))
        await settle()
        (publisher,) = harness.mcu.published
        assert (text in publisher.offer) is passes
        assert len(publisher.candidates) == passes
        subscriber = await subscribed(bob, alice)
        bob.media(alice, "candidate", payload=candidate(text))
        bob.media(alice, "answer", payload={"type": "answer", "sdp": offer(candidates=(text,))})
        await settle()
        assert len(subscriber.candidates) == passes
        assert (text in subscriber.answers[0]) is passes
        assert bob.received() == []
        assert [it["type"] for it in alice.data()] == ["answer"]


@pytest.mark.parametrize("index", [-1, 1.5, "0", 10**9, None, True])
async def test_odd_line_index_of_a_candidate_is_left_out(index: object) -> None:
    harness, (alice,) = await publishing("alice")
    async with harness:
        alice.media(alice, "candidate", payload=candidate(sdpMLineIndex=index, sdpMid=5))
        await settle()
        assert harness.mcu.published[0].candidates == [Candidate(CANDIDATE)]


# -- sids, unknown objects, wrong types (9.4, 9.9)


# reference 9.4-a
@pytest.mark.parametrize("type", ["answer", "candidate", "endOfCandidates", "selectStream"])
async def test_message_about_nothing_is_client_not_found(type: str) -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.callers("alice", "bob")
        alice.received()
        payload = {"sdp": answer(), **candidate()}
        alice.media(bob, type, payload=payload)
        if type != "selectStream":
            alice.media(alice, type, payload=payload)
        await settle()
        assert set(alice.error_codes()) == {"client_not_found"}


# reference 9.4-a
@pytest.mark.parametrize("type", ["answer", "candidate", "endOfCandidates"])
async def test_message_about_an_older_connection_is_processing_failed(type: str) -> None:
    harness, (alice, bob) = await publishing("alice", "bob")
    async with harness:
        subscriber = await subscribed(bob, alice)
        payload = {"sdp": answer(), **candidate()}
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


# reference 9.4-a
async def test_answer_to_ones_own_stream_is_processing_failed() -> None:
    harness, (alice,) = await publishing("alice")
    async with harness:
        alice.media(alice, "answer", payload={"sdp": answer()})
        await settle()
        assert alice.error_codes() == ["processing_failed"]


async def test_answer_that_the_sfu_refuses_is_processing_failed_and_the_subscription_stays() -> None:
    harness, (alice, bob) = await publishing("alice", "bob")
    async with harness:
        subscriber = await subscribed(bob, alice)
        subscriber.error = Rejected("no")
        bob.media(alice, "answer", payload={"sdp": answer()})
        await settle()
        assert bob.error_codes() == ["processing_failed"]
        assert not subscriber.closed


# -- requestoffer: subscribe (9.3)


# reference 9.3-e
async def test_request_is_answered_with_an_offer_of_the_publisher() -> None:
    harness, (alice, bob) = await publishing("alice", "bob")
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
        assert [it["message"]["data"] for it in alice.received() if it["type"] == "message"] == ["meanwhile"]
        alice.offer()
        await settle()
        assert bob.data()[0]["type"] == "offer"


# reference 9.3-c
async def test_request_for_a_publisher_that_does_not_come_fails_after_the_timeout() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.callers("alice", "bob")
        bob.media(alice, "requestoffer", id="q")
        await asyncio.sleep(10.1)
        (reply,) = bob.received()
        assert (reply["id"], reply["error"]["code"]) == ("q", "client_not_found")
        assert harness.media.open_streams == (0, 0)
        assert harness.mcu.is_empty
        assert harness.counters.no_publisher_total["video"] == 1


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
async def test_errors_of_a_subscription(error: Exception, code: str) -> None:
    harness, (alice, bob) = await publishing("alice", "bob")
    async with harness:
        harness.mcu.subscribe_error = error  # type: ignore[assignment]
        bob.media(alice, "requestoffer")
        await settle()
        assert bob.error_codes() == [code]
        assert harness.media.open_streams == (1, 0)


# reference 9.3-g
async def test_request_waiting_is_cancelled_by_leaving_the_call() -> None:
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


# reference 9.3-b
async def test_request_needs_both_in_one_call() -> None:
    harness, (alice, bob) = await publishing("alice", "bob")
    async with harness:
        outside = await harness.member("outside")
        elsewhere = await harness.member("elsewhere", "other", in_call=True)
        foreign = await harness.member("foreign", in_call=True, backend=OTHER)
        nowhere = await harness.hello("nowhere")
        for it in (outside, elsewhere, foreign, nowhere):
            it.received()
            it.media(alice, "requestoffer")
            assert it.error_codes() == ["not_allowed"]
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
async def test_request_needs_no_call_where_the_operator_allows_that_but_one_backend() -> None:
    async with FlowHarness(limits=MediaLimits(subscribe_any=True)) as harness:
        alice = await harness.member("alice")
        elsewhere = await harness.member("elsewhere", "other")
        nowhere, foreign = await harness.hello("nowhere"), await harness.hello("foreign", OTHER)
        alice.offer()
        await settle()
        for it in (elsewhere, nowhere):
            it.received()
            it.media(alice, "requestoffer")
            await settle()
            assert [data["type"] for data in it.data()] == ["offer"]
        foreign.media(alice, "requestoffer")
        await asyncio.sleep(11)
        assert foreign.error_codes() == ["client_not_found"]
        harness.change_settings(media_limits=MediaLimits())
        late = await harness.hello("late")
        late.media(alice, "requestoffer")
        assert late.error_codes() == ["not_allowed"]


# reference 9.3-a
async def test_request_for_oneself_is_ignored() -> None:
    harness, (alice,) = await publishing("alice")
    async with harness:
        alice.media(alice, "requestoffer")
        alice.media(alice, "selectStream", payload={"video": False})
        await settle()
        assert alice.received() == []


# reference 9.3-d
async def test_request_with_the_current_sid_refreshes_the_same_connection() -> None:
    harness, (alice, bob) = await publishing("alice", "bob")
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
    harness, (alice, bob) = await publishing("alice", "bob")
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


# reference 9.3-f
async def test_offer_of_the_sfu_is_pushed_under_the_same_sid() -> None:
    harness, (alice, bob) = await publishing("alice", "bob")
    async with harness:
        bob.media(alice, "requestoffer")
        await settle()
        sid = bob.data()[0]["sid"]
        harness.mcu.subscribers[0].listener.on_offer(subscriber_offer("more"))
        (pushed,) = bob.data()
        assert (pushed["type"], pushed["sid"], pushed["payload"]["sdp"]) == ("offer", sid, subscriber_offer("more"))


# reference 9.6-a
async def test_layers_are_chosen_and_wrong_types_refused() -> None:
    harness, (alice, bob) = await publishing("alice", "bob")
    async with harness:
        subscriber = await subscribed(bob, alice)
        for payload in ({"substream": 2, "temporal": 1, "audio": True, "video": False}, {"video": None}, {}):
            bob.media(alice, "selectStream", payload=payload)
        bob.media(alice, "selectStream")
        await settle()
        assert bob.received() == []
        assert subscriber.selections[0] == MediaSelection(2, 1, True, False)
        for bad in ({"substream": "1"}, {"video": 1}, {"temporal": 1.5}, {"substream": 10**30}):
            bob.media(alice, "selectStream", payload=bad)
        await settle()
        assert bob.error_codes() == ["processing_failed"] * 4


async def test_publisher_that_goes_away_during_a_refresh_is_answered() -> None:
    harness, (alice, bob) = await publishing("alice", "bob")
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
        assert bob.error_codes() == ["processing_failed"]
        assert harness.media.open_streams == (0, 0)


async def test_publisher_that_is_lost_during_a_renegotiation_is_answered() -> None:
    harness, (alice,) = await publishing("alice")
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


# reference 2.1-k
async def test_answer_that_never_comes_blocks_nobody() -> None:
    harness, (alice, bob, carol) = await publishing("alice", "bob", "carol")
    async with harness:
        await subscribed(bob, alice)
        carol_sees = await subscribed(carol, alice)
        alice.offer(media=("audio",))
        carol.media(alice, "answer", payload={"sdp": answer()})
        await settle()
        assert carol_sees.answers
        assert alice.data()[0]["type"] == "answer"


# -- sendoffer (9.5)


# reference 9.5-a
async def test_offer_is_sent_to_others_who_need_not_be_in_the_call() -> None:
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
async def test_errors_of_sendoffer_go_to_the_sender() -> None:
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
        permit(harness, "alice")
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


# -- permissions (8)


# reference 8-d
@pytest.mark.parametrize(
    ("names", "media", "room_type", "allowed"),
    [
        (["publish-media"], ("audio", "video"), "video", True),
        (["publish-audio"], ("audio", "application"), "video", True),
        (["publish-audio"], ("audio", "video"), "video", False),
        (["publish-video"], ("audio",), "video", False),
        ([], ("application",), "video", False),
        (["publish-video"], ("application",), "video", True),
        (["publish-media"], ("video",), "screen", False),
        (["publish-screen"], ("video",), "screen", True),
        (["publish-screen"], ("video",), "video", False),
    ],
)
async def test_offer_needs_permission_for_what_it_carries(
    names: list[str], media: tuple[str, ...], room_type: str, allowed: bool
) -> None:
    async with FlowHarness() as harness:
        harness.nextcloud.rooms["r"] = FakeRoom(permissions=names)
        alice = await harness.member("alice")
        alice.offer(media=media, roomType=room_type)
        await settle()
        if allowed:
            assert alice.data()[0]["type"] == "answer"
        else:
            (reply,) = alice.received()
            assert reply["error"] == {"code": "not_allowed", "message": "Not allowed to publish."}
            assert harness.mcu.published == []


@pytest.mark.parametrize(("old", "new"), [("m=video", "m=VIDEO"), ("m=video", "m=Video"), ("\nm=video", "\nM=video")])
async def test_spelling_of_the_media_type_does_not_avoid_the_permission(old: str, new: str) -> None:
    async with FlowHarness() as harness:
        harness.nextcloud.rooms["r"] = FakeRoom(permissions=["publish-audio"])
        alice = await harness.member("alice")
        sdp = offer("one", ("audio", "video")).replace(old, new)
        assert new in sdp
        alice.media(alice, "offer", payload={"type": "offer", "sdp": sdp})
        await settle()
        (reply,) = alice.received()
        assert reply["error"]["code"] in ("not_allowed", "invalid_sdp")
        assert harness.mcu.published == []


async def test_sfu_receives_the_spelling_that_was_checked() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        sdp = offer("one", ("audio", "video"))
        spelled = sdp.replace("m=video", "m=VIDEO").replace("a=mid", "a=Mid")
        alice.media(alice, "offer", payload={"type": "offer", "sdp": spelled})
        await settle()
        (published,) = harness.mcu.published
        assert "m=VIDEO" not in str(published.offer)
        assert "a=Mid" not in str(published.offer)
        assert "m=video" in str(published.offer)


# reference 8-e
@pytest.mark.parametrize("type", ["candidate", "endOfCandidates", "answer"])
async def test_negotiating_needs_permission(type: str) -> None:
    async with FlowHarness() as harness:
        harness.nextcloud.rooms["r"] = FakeRoom(permissions=["control"])
        alice = await harness.member("alice")
        for room_type in ("video", "screen"):
            alice.media(alice, type, room_type=room_type, payload={"sdp": answer(), **candidate()})
            (reply,) = alice.received()
            assert reply["error"] == {"code": "not_allowed", "message": "Not allowed to send candidate."}


# reference 8-f, 8-g
@pytest.mark.parametrize(
    ("names", "video", "screen"),
    [
        (["publish-media", "publish-screen"], True, True),
        (["publish-audio", "publish-video"], True, False),
        (["publish-audio", "publish-screen"], False, True),
        ([], False, False),
    ],
)
async def test_revoked_permission_closes_what_it_covered(names: list[str], video: bool, screen: bool) -> None:
    harness, (alice,) = await publishing("alice")
    async with harness:
        alice.offer("two", roomType="screen")
        await settle()
        permit(harness, "alice", *names)
        await settle()
        assert (harness.publisher(alice) is not None) is video
        assert (harness.publisher(alice, SCREEN) is not None) is screen
        assert harness.media.open_streams == (video + screen, 0)


# reference 8-h
@pytest.mark.parametrize("replaces", [False, True])
async def test_permission_revoked_while_an_offer_is_in_flight_leaves_nothing(replaces: bool) -> None:
    async with FlowHarness() as harness:
        (alice,) = await harness.callers("alice")
        if replaces:
            alice.offer("zero")
            await settle()
        alice.received()
        harness.mcu.publish_gate = asyncio.Event()
        alice.offer()
        await settle()
        permit(harness, "alice", "publish-audio")
        harness.mcu.publish_gate.set()
        await settle()
        heard = alice.received()
        assert [it["type"] for it in heard if it["type"] != "event"] in ([], ["error"])
        assert harness.mcu.is_empty
        assert harness.media.open_streams == (0, 0)


async def test_permission_revoked_while_a_camera_is_switched_on_closes_the_stream() -> None:
    async with FlowHarness() as harness:
        (alice,) = await harness.callers("alice")
        alice.offer(media=("audio",))
        await settle()
        alice.received()
        harness.mcu.published[0].gate = asyncio.Event()
        alice.offer(media=("audio", "video"))
        await settle()
        permit(harness, "alice", "publish-audio")
        harness.mcu.published[0].gate.set()
        await settle()
        assert [it["error"]["code"] for it in alice.received() if it["type"] == "error"] == ["not_allowed"]
        assert harness.mcu.is_empty


# -- unshareScreen and endings (9.7)


# reference 9.7-a
async def test_unshared_screen_ends_a_second_later() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.callers("alice", "bob")
        alice.offer(roomType="screen")
        await settle()
        alice.media(alice, "unshareScreen", room_type="screen")
        await asyncio.sleep(0.9)
        assert harness.publisher(alice, SCREEN) is not None
        await asyncio.sleep(0.2)
        assert harness.publisher(alice, SCREEN) is None
        bob.received()
        alice.media(bob, "unshareScreen", room_type="screen")
        assert bob.data()[0]["type"] == "unshareScreen"


async def test_unsharing_nothing_is_nothing() -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        alice.media(alice, "unshareScreen")
        await asyncio.sleep(1.1)
        assert alice.received() == []


# reference 9.7-d
@pytest.mark.parametrize("connection", ["one", "two"])
@pytest.mark.parametrize("late", [False, True])
async def test_unsharing_does_not_end_what_was_shared_after_it(connection: str, late: bool) -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        alice.offer(roomType="screen")
        await settle()
        alice.media(alice, "unshareScreen", room_type="screen")
        await asyncio.sleep(0.5)
        gate = asyncio.Event()
        if late:
            harness.mcu.publish_gate = harness.mcu.published[0].gate = gate
        alice.offer(connection, roomType="screen")
        await asyncio.sleep(1)
        gate.set()
        await settle()
        assert harness.publisher(alice, SCREEN) is not None
        assert [it["type"] for it in alice.data()] == ["answer"] * 2


async def test_screen_that_was_still_negotiating_when_it_was_unshared_ends() -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        harness.mcu.publish_gate = asyncio.Event()
        alice.offer(roomType="screen")
        await settle()
        alice.media(alice, "unshareScreen", room_type="screen")
        await asyncio.sleep(0.5)
        harness.mcu.publish_gate.set()
        await asyncio.sleep(1)
        assert harness.mcu.is_empty
        assert harness.media.open_streams == (0, 0)


# reference 9.7-b
@pytest.mark.parametrize("reason", [CloseReason.LOST, CloseReason.FAILED, CloseReason.DRAINED])
async def test_stream_that_the_sfu_drops_is_forgotten_silently(reason: CloseReason) -> None:
    harness, (alice, bob) = await publishing("alice", "bob")
    async with harness:
        await subscribed(bob, alice)
        harness.mcu.published[0].end(CloseReason.PUBLISHER_GONE, reason)
        await settle()
        assert alice.received() == bob.received() == []
        assert harness.media.open_streams == (0, 0)
        alice.offer("two")
        bob.media(alice, "requestoffer")
        await settle()
        assert [it["type"] for it in alice.data()] == ["answer"]
        assert [it["type"] for it in bob.data()] == ["offer"]


def leaves_room(harness: FlowHarness, alice: FakeClient) -> None:
    alice.send({"type": "room", "room": {"roomid": ""}})


def changes_room(harness: FlowHarness, alice: FakeClient) -> None:
    alice.send({"type": "room", "room": {"roomid": "other"}})


def leaves_call(harness: FlowHarness, alice: FakeClient) -> None:
    harness.set_in_call("r", "alice", flags=0)


def says_bye(harness: FlowHarness, alice: FakeClient) -> None:
    alice.send({"type": "bye"})


# reference 9.7-c
@pytest.mark.parametrize("end", [leaves_room, changes_room, leaves_call, says_bye])
@pytest.mark.parametrize("negotiating", [False, True])
async def test_end_of_the_call_ends_all_streams(end: Any, negotiating: bool) -> None:
    harness, (alice, bob) = await publishing("alice", "bob")
    async with harness:
        bob.offer()
        await subscribed(bob, alice)
        await subscribed(alice, bob)
        if negotiating:
            harness.mcu.publish_gate = harness.mcu.subscribe_gate = asyncio.Event()
            alice.offer("two")
            alice.offer("three", roomType="screen")
            alice.media(bob, "requestoffer", room_type="screen")
            alice.media(bob, "requestoffer")
            await settle()
        end(harness, alice)
        await settle()
        if harness.mcu.publish_gate is not None:
            harness.mcu.publish_gate.set()
        await asyncio.sleep(11)
        left = [key.publisher for key in harness.mcu.publishers]
        assert left == [bob.sessionid]
        assert harness.mcu.subscribers == []
        assert harness.mcu.pending_calls == 0
        assert harness.media.open_streams == (1, 0)


# reference 2.8-g, 9-a
async def test_lost_connection_ends_no_stream_and_a_negotiation_goes_on_over_a_resume() -> None:
    harness, (alice, bob) = await publishing("alice", "bob")
    async with harness:
        await subscribed(bob, alice)
        harness.mcu.publish_gate = asyncio.Event()
        alice.offer("two", roomType="screen", sid="9")
        alice.media(alice, "candidate", room_type="screen", sid="9", payload=candidate())
        await settle()
        alice.disconnect()
        again = await harness.resume(alice)
        again.media(alice, "endOfCandidates", room_type="screen", sid="9")
        await settle()
        assert [it["type"] for it in again.received() if it["type"] != "event"] == ["hello"]
        harness.mcu.publish_gate.set()
        await settle()
        assert [it["sid"] for it in again.data()] == ["9"]
        assert harness.mcu.published[1].candidates == [Candidate(CANDIDATE), None]
        assert harness.media.open_streams == (2, 1)


# reference 9.7-c
async def test_expired_session_leaves_nothing_on_the_sfu() -> None:
    harness, (alice, bob) = await publishing("alice", "bob")
    async with harness:
        await subscribed(bob, alice)
        alice.disconnect()
        bob.disconnect()
        await harness.sweep(31)
        assert harness.mcu.is_empty
        assert harness.media.open_streams == (0, 0)
        assert harness.hub.sessions == {}


@pytest.mark.parametrize("replaced", [False, True])
async def test_older_connection_does_not_speak_for_its_successor(replaced: bool) -> None:
    harness, (alice, bob) = await publishing("alice", "bob")
    async with harness:
        await subscribed(bob, alice)
        if replaced:
            alice.offer("two", sid="2")
        else:
            bob.media(alice, "requestoffer")
        await settle()
        alice.received()
        bob.received()
        for old in (harness.mcu.subscribed[0].listener, *(it.listener for it in harness.mcu.published[:-1])):
            old.on_candidate(Candidate(CANDIDATE))
            old.on_offer(subscriber_offer("late"))
            old.on_closed(CloseReason.PUBLISHER_GONE)
        await settle()
        assert alice.received() == bob.received() == []
        assert harness.media.open_streams == (1, 1)
        assert harness.publisher(alice) is harness.mcu.published[-1]


async def test_stream_of_somebody_who_left_the_call_meanwhile_is_not_offered() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.callers("alice", "bob")
        bob.media(alice, "requestoffer", id="q")
        await settle()
        harness.set_in_call("r", "alice", flags=0)
        alice.offer()
        await settle()
        errors = [(it["id"], it["error"]["code"]) for it in bob.received() if it["type"] == "error"]
        assert errors == [("q", "not_allowed")]
        assert harness.mcu.subscribers == []
        assert harness.media.open_streams == (1, 0)
