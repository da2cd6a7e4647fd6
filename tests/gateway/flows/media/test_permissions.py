"""Permissions to publish and their revocation (reference 8)."""

from __future__ import annotations

import asyncio

import pytest

from mcu.base import StreamType
from tests.gateway.flows.fakes import FakeRoom
from tests.gateway.flows.harness import FlowHarness
from tests.gateway.flows.media.calls import candidate_payload, publishing_call, set_permissions
from tests.gateway.flows.media.descriptions import answer, offer
from tests.gateway.flows.virtual_time import settle


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
async def test_offer_is_refused_without_permission_for_its_media(
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


# reference 9.2-j
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
async def test_negotiation_is_refused_without_a_permission_to_publish(type: str) -> None:
    async with FlowHarness() as harness:
        harness.nextcloud.rooms["r"] = FakeRoom(permissions=["control"])
        alice = await harness.member("alice")
        for room_type in ("video", "screen"):
            alice.media(alice, type, room_type=room_type, payload={"sdp": answer(), **candidate_payload()})
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
async def test_revoked_permission_closes_the_streams_that_it_covered(
    names: list[str], video: bool, screen: bool
) -> None:
    harness, (alice,) = await publishing_call("alice")
    async with harness:
        alice.offer("two", roomType="screen")
        await settle()
        set_permissions(harness, "alice", *names)
        await settle()
        assert (harness.publisher(alice) is not None) is video
        assert (harness.publisher(alice, StreamType.SCREEN) is not None) is screen
        assert harness.media.open_streams == (video + screen, 0)


# reference 8-h
@pytest.mark.parametrize("replaces", [False, True])
async def test_permission_revoked_during_an_offer_leaves_nothing_on_the_sfu(replaces: bool) -> None:
    async with FlowHarness() as harness:
        (alice,) = await harness.callers("alice")
        if replaces:
            alice.offer("zero")
            await settle()
        alice.received()
        harness.mcu.publish_gate = asyncio.Event()
        alice.offer()
        await settle()
        set_permissions(harness, "alice", "publish-audio")
        harness.mcu.publish_gate.set()
        await settle()
        types = [message["type"] for message in alice.received()]
        assert [type for type in types if type != "event"] in ([], ["error"])
        assert harness.mcu.is_empty
        assert harness.media.open_streams == (0, 0)


async def test_permission_revoked_during_a_renegotiation_closes_the_stream() -> None:
    async with FlowHarness() as harness:
        (alice,) = await harness.callers("alice")
        alice.offer(media=("audio",))
        await settle()
        alice.received()
        harness.mcu.published[0].gate = asyncio.Event()
        alice.offer(media=("audio", "video"))
        await settle()
        set_permissions(harness, "alice", "publish-audio")
        harness.mcu.published[0].gate.set()
        await settle()
        assert alice.error_codes(among_others=True) == ["not_allowed"]
        assert harness.mcu.is_empty


# reference 8-f
@pytest.mark.parametrize("later", [("audio",), ("audio", "application"), ("audio", "audio")])
async def test_media_kind_that_a_later_offer_omits_is_still_covered_by_its_permission(later: tuple[str, ...]) -> None:
    harness, (alice,) = await publishing_call("alice")
    async with harness:
        alice.offer(media=later)
        await settle()
        set_permissions(harness, "alice", "publish-audio")
        await settle()
        assert harness.mcu.is_empty


async def test_media_kind_of_an_offer_that_failed_is_covered_by_its_permission() -> None:
    async with FlowHarness() as harness:
        (alice,) = await harness.callers("alice")
        alice.offer(media=("audio",))
        await settle()
        harness.mcu.edit_description = lambda answer: answer.replace("a=ice-pwd:", "a=ice-pwd:(null)")
        alice.offer(media=("audio", "video"))
        await settle()
        assert alice.received()[-1]["error"]["code"] == "processing_failed"
        assert harness.publisher(alice) is not None
        set_permissions(harness, "alice", "publish-audio")
        await settle()
        assert harness.mcu.is_empty


async def test_another_peer_connection_without_a_media_kind_needs_no_permission_for_it() -> None:
    harness, (alice,) = await publishing_call("alice")
    async with harness:
        alice.offer("two", media=("audio",))
        await settle()
        set_permissions(harness, "alice", "publish-audio")
        await settle()
        assert harness.publisher(alice) is not None


async def test_offer_whose_permission_is_revoked_meanwhile_is_answered_with_an_error() -> None:
    async with FlowHarness() as harness:
        (alice,) = await harness.callers("alice")
        alice.received()
        harness.mcu.publish_gate = asyncio.Event()
        alice.offer(roomType="screen")
        await settle()
        set_permissions(harness, "alice", "publish-media")
        await settle()
        errors = alice.error_codes(among_others=True)
        assert errors == ["not_allowed"]
        harness.mcu.publish_gate.set()
        await settle()
        assert harness.mcu.is_empty
