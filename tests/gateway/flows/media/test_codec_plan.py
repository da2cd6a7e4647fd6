"""The codecs of offers by the quality policy (docs/mcu.md, "Codecs")."""

from __future__ import annotations

import asyncio

from gateway.core.policy import DecodableCodecs
from tests.gateway.flows.media.descriptions import answer, offer
from tests.gateway.flows.media.fake_mcu import FakePublisher
from tests.gateway.flows.media.quality_calls import (
    ROOM,
    backend_with,
    harness_with,
    publisher_of,
    publishing_clients,
)
from tests.gateway.flows.virtual_time import settle

VP8_ONLY = offer("carol").replace("96 102", "96").replace("a=rtpmap:102 H264/90000\r\n", "")


def video_formats(publisher: FakePublisher) -> str:
    return next(line for line in publisher.offer.split("\r\n") if line.startswith("m=video")).partition("SAVPF ")[2]


# reference 9.2-h
async def test_list_of_the_server_removes_and_orders_codecs() -> None:
    async with harness_with(videocodecs=("h264",)) as harness:
        (alice,) = await publishing_clients(harness, "alice")
        assert video_formats(publisher_of(alice)) == "102"
        assert "rtpmap:96" not in publisher_of(alice).offer
        assert publisher_of(alice).options.videocodecs == ("h264",)
        bob = await harness.member("bob", backend=backend_with())
        bob.offer("bob", videocodec="vp8")  # the list of the server has precedence
        await settle()
        assert video_formats(publisher_of(bob)) == "102"


async def test_codec_that_the_room_cannot_decode_comes_last_in_new_connections_only() -> None:
    async with harness_with() as harness:
        alice, bob = [await harness.member(name, in_call=True, backend=backend_with()) for name in ("alice", "bob")]
        alice.offer("alice", videocodec="h264")
        await settle()
        assert video_formats(publisher_of(alice)) == "102 96"
        bob.send_message(bob, {"type": "offer", "roomType": "video", "payload": {"type": "offer", "sdp": VP8_ONLY}})
        await settle()
        alice.offer("alice", videocodec="h264")
        await settle()
        (updated,) = publisher_of(alice).updates
        assert "SAVPF 102 96" in updated  # a running PeerConnection keeps its codec
        alice.offer("anew", sid="2", videocodec="h264")
        await settle()
        assert video_formats(publisher_of(alice)) == "96 102"
        (decision,) = [
            decision
            for decision in harness.media.quality.explain(ROOM)
            if decision.stream.session.id == alice.sessionid
        ]
        reason = "last come the codecs that not all of 1 receiver decode: h264"
        assert decision.plan.decided["video"].reason == f"the publisher prefers it; {reason}"


async def test_receiver_that_rejects_the_codec_is_counted() -> None:
    async with harness_with() as harness:
        (alice,) = await publishing_clients(harness, "alice")
        bob = await harness.member("bob", in_call=True, backend=backend_with())
        bob.media(alice, "requestoffer")
        await settle()
        refusing = answer().replace("m=video 9", "m=video 0")
        bob.media(alice, "answer", payload={"type": "answer", "sdp": refusing})
        await settle()
        (decision,) = harness.media.quality.explain(ROOM)
        assert decision.plan.chosen == {"audio": "opus", "video": "vp8"}
        assert harness.media.quality.count_incapable(decision) == {"video": 1}
        alice.offer("anew", sid="2")
        await settle()
        assert video_formats(publisher_of(alice)) == "102 96"


async def test_video_that_is_added_later_is_ordered_then() -> None:
    async with harness_with(videocodecs=("h264", "vp8")) as harness:
        alice = await harness.member("alice", backend=backend_with())
        alice.offer("alice", media=("audio",))
        await settle()
        assert publisher_of(alice).options.videocodecs == ("h264", "vp8")  # for video that may be added later
        alice.offer("alice", media=("audio", "video"))
        await settle()
        (updated,) = publisher_of(alice).updates
        assert "SAVPF 102 96" in updated


async def test_star_is_not_treated_as_a_codec_if_no_video_is_offered() -> None:
    async with harness_with(videocodecs=("h264", "*")) as harness:
        bob = await harness.member("bob", backend=backend_with())
        bob.offer("bob")
        alice = await harness.member("alice", backend=backend_with())
        alice.offer("alice", media=("audio",), videocodec="vp8")
        await settle()
        assert publisher_of(alice).options.videocodecs == ("h264", "vp8")
        (decision,) = [
            decision
            for decision in harness.media.quality.explain(ROOM)
            if decision.stream.session.id == alice.sessionid
        ]
        assert decision.plan.decided["video"].reason == "the server's list says so"


async def test_unknown_codecs_are_neither_recorded_nor_passed_to_the_sfu() -> None:
    async with harness_with(videocodecs=("vp8",)) as harness:
        alice = await harness.member("alice", backend=backend_with())
        strange = offer("alice").replace("H264", "X-NEW")
        for _ in range(2):
            alice.media(alice, "offer", payload={"type": "offer", "sdp": strange}, videocodec="X-NEW")
            await settle()
        (decision,) = harness.media.quality.explain(ROOM)
        assert decision.plan.offered == {"audio": ("opus",), "video": ("vp8",)}
        assert decision.plan.decided["video"].order == ("vp8",)
        decodable = harness.media.quality._planner.decodable_codecs(alice.session.id, "video")
        assert decodable.offered == frozenset({"vp8"})


async def test_answer_for_an_unpublished_stream_is_not_recorded() -> None:
    async with harness_with() as harness:
        (alice,) = await publishing_clients(harness, "alice")
        bob = await harness.member("bob", in_call=True, backend=backend_with())
        bob.media(alice, "requestoffer")
        await settle()
        bob.received()
        (subscriber,) = harness.mcu.subscribers
        subscriber.gate = asyncio.Event()
        bob.media(alice, "answer", payload={"type": "answer", "sdp": answer()})
        await settle()
        quality = harness.media.quality
        (decision,) = quality.explain(ROOM)
        quality.stream_unpublished(decision.stream)  # as at the end of the publisher, before that of its subscribers
        subscriber.gate.set()
        await settle()
        assert len(subscriber.answers) == 1
        assert bob.received() == []
        assert quality._planner.decodable_codecs(bob.session.id, "video") == DecodableCodecs()
