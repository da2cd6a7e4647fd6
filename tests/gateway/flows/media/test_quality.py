"""The quality policy applied: which limits are sent to which publishers, and when (docs/mcu.md, "Quality")."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.backends import Backends
from gateway.core.limits import Backend, BackendQualityRules, QualityRules
from gateway.flows.settings import MediaLimits
from mcu.base import CloseReason, Rejected, StreamType
from tests.gateway.flows.harness import FlowHarness
from tests.gateway.flows.media.descriptions import answer, description
from tests.gateway.flows.media.quality_calls import (
    ROOM,
    SETTLE_TIME,
    backend_with,
    harness_with,
    last_limits,
    publisher_of,
    publishing_clients,
)
from tests.gateway.flows.virtual_time import settle


# reference 9.2-h
async def test_first_limit_is_sent_with_the_answer_which_does_not_wait_for_it() -> None:
    async with harness_with(room_budget=400_000) as harness:
        (alice,) = await publishing_clients(harness, "alice")
        assert last_limits(alice) == [400_000]
        bob = await harness.member("bob", backend=backend_with(room_budget=400_000))
        harness.mcu.limit_gate = asyncio.Event()
        bob.offer("bob")
        await settle()
        assert [message["type"] for message in bob.data()] == ["answer"]
        harness.mcu.limit_gate.set()
        await settle()
        assert last_limits(bob) == [200_000]


async def test_shares_follow_the_publishers_of_a_room_within_two_seconds() -> None:
    async with harness_with(room_budget=600_000, floor=50_000) as harness:
        alice, bob = await publishing_clients(harness, "alice", "bob")
        await asyncio.sleep(SETTLE_TIME)
        assert last_limits(alice, bob) == [300_000, 300_000]
        carol, dave = await publishing_clients(harness, "carol", "dave")
        await asyncio.sleep(SETTLE_TIME)
        assert last_limits(alice, bob, carol, dave) == [150_000] * 4
        harness.set_in_call("r", "dave", flags=0)  # leaves the call
        carol.leave()
        await asyncio.sleep(SETTLE_TIME)
        assert last_limits(alice, bob) == [300_000, 300_000]
        publisher_of(bob).end(CloseReason.PUBLISHER_GONE, CloseReason.FAILED)  # by the SFU
        await asyncio.sleep(SETTLE_TIME)
        assert last_limits(alice) == [600_000]


async def test_simultaneous_changes_cause_one_decision() -> None:
    async with harness_with(room_budget=900_000) as harness:
        (alice,) = await publishing_clients(harness, "alice")
        await asyncio.sleep(SETTLE_TIME)
        await publishing_clients(harness, *"bcdefghi")
        await asyncio.sleep(SETTLE_TIME)
        assert publisher_of(alice).limits == [900_000, 100_000]


async def test_screen_has_priority_over_cameras() -> None:
    async with harness_with(room_budget=600_000, floor=100_000, screen=400_000) as harness:
        alice, bob = await publishing_clients(harness, "alice", "bob")
        alice.offer("screen", sid="2", roomType="screen", media=("video",))
        await asyncio.sleep(SETTLE_TIME)
        assert last_limits(alice, bob) == [100_000, 100_000]
        assert publisher_of(alice, StreamType.SCREEN).limits == [400_000]
        alice.media(alice, "unshareScreen", room_type="screen")
        await asyncio.sleep(SETTLE_TIME + 1.0)
        assert last_limits(alice, bob) == [300_000, 300_000]


async def test_audio_alone_takes_no_share_until_video_is_added() -> None:
    async with harness_with(room_budget=600_000) as harness:
        (alice,) = await publishing_clients(harness, "alice")
        bob = await harness.member("bob", in_call=True, backend=backend_with(room_budget=600_000))
        bob.offer("bob", media=("audio",))
        await asyncio.sleep(SETTLE_TIME)
        assert last_limits(alice) == [600_000]
        assert publisher_of(bob).limits == []
        bob.offer("bob", media=("audio", "video"))
        await asyncio.sleep(SETTLE_TIME)
        assert last_limits(alice, bob) == [300_000, 300_000]
        inactive = description("bob", setup="actpass").replace("a=sendrecv", "a=inactive")
        bob.media(bob, "offer", payload={"type": "offer", "sdp": inactive})
        await asyncio.sleep(SETTLE_TIME)
        assert last_limits(alice) == [600_000]


async def test_one_to_one_call_may_use_more_until_a_third_session_receives() -> None:
    async with harness_with(ceiling=300_000, one_to_one=700_000) as harness:
        alice, bob = await publishing_clients(harness, "alice", "bob")
        await asyncio.sleep(SETTLE_TIME)
        assert last_limits(alice, bob) == [700_000, 700_000]
        carol = await harness.member("carol", in_call=True, backend=backend_with())
        carol.media(alice, "requestoffer")
        await settle()
        carol.media(alice, "answer", payload={"type": "answer", "sdp": answer()})
        await asyncio.sleep(SETTLE_TIME)
        assert last_limits(alice, bob) == [300_000, 300_000]
        harness.set_in_call("r", "carol", flags=0)
        await asyncio.sleep(SETTLE_TIME)
        assert last_limits(alice, bob) == [700_000, 700_000]


@pytest.mark.parametrize("answers", [False, True])
@pytest.mark.parametrize("reason", [None, CloseReason.FAILED])
async def test_session_whose_subscription_ends_no_longer_counts(answers: bool, reason: CloseReason | None) -> None:
    async with harness_with(ceiling=300_000, one_to_one=700_000) as harness:
        alice, bob = await publishing_clients(harness, "alice", "bob")
        carol = await harness.member("carol", in_call=True, backend=backend_with())
        carol.media(alice, "requestoffer")
        await settle()
        if answers:
            carol.media(alice, "answer", payload={"type": "answer", "sdp": answer()})
        await asyncio.sleep(SETTLE_TIME)
        assert last_limits(alice, bob) == [300_000, 300_000]
        (subscription,) = harness.mcu.subscribers
        if reason is None:
            carol.leave()
        else:
            subscription.end(reason)
        await asyncio.sleep(SETTLE_TIME)
        assert last_limits(alice, bob) == [700_000, 700_000]


async def test_without_rules_no_limit_is_sent() -> None:
    async with harness_with() as harness:
        alice, bob = await publishing_clients(harness, "alice", "bob")
        await asyncio.sleep(SETTLE_TIME)
        assert (publisher_of(alice).limits, publisher_of(bob).limits) == ([], [])
        assert len(harness.services.tasks) == 0


async def test_bitrate_that_a_client_requested_is_not_exceeded() -> None:
    async with harness_with(room_budget=900_000) as harness:
        alice = await harness.member("alice", in_call=True, backend=backend_with(room_budget=900_000))
        alice.offer("alice", bitrate=120_000)
        (bob,) = await publishing_clients(harness, "bob")
        await asyncio.sleep(SETTLE_TIME)
        assert publisher_of(alice).options.bitrate == 120_000
        assert publisher_of(alice).limits == []  # its ceiling from the start
        assert last_limits(bob) == [780_000]


async def test_limit_that_the_sfu_refuses_is_sent_again() -> None:
    async with harness_with(room_budget=600_000) as harness:
        (alice,) = await publishing_clients(harness, "alice")
        await asyncio.sleep(SETTLE_TIME)
        publisher = publisher_of(alice)
        publisher.limit_error = Rejected("not now")
        await publishing_clients(harness, "bob")
        await asyncio.sleep(SETTLE_TIME)
        assert last_limits(alice) == [600_000]
        publisher.limit_error = None
        await asyncio.sleep(10.0)
        assert last_limits(alice) == [300_000]


async def test_limit_that_waits_to_be_sent_again_does_not_delay_the_others() -> None:
    async with harness_with(room_budget=600_000) as harness:
        alice, bob = await publishing_clients(harness, "alice", "bob")
        await asyncio.sleep(SETTLE_TIME)
        publisher_of(alice).limit_error = Rejected("not now")
        (carol,) = await publishing_clients(harness, "carol")
        await asyncio.sleep(1.0)
        (dave,) = await publishing_clients(harness, "dave")
        await asyncio.sleep(SETTLE_TIME)
        assert last_limits(alice, bob, carol, dave) == [300_000, *[150_000] * 3]
        publisher_of(alice).limit_error = None
        await asyncio.sleep(6.0)
        assert last_limits(alice) == [150_000]
        assert len(harness.services.tasks) == 0
        assert harness.media.quality._due == {}


async def test_limit_is_not_confirmed_before_the_sfu_has_answered() -> None:
    async with harness_with(room_budget=600_000) as harness:
        gate = harness.mcu.limit_gate = asyncio.Event()
        await publishing_clients(harness, "alice")
        await asyncio.sleep(SETTLE_TIME)
        (decision,) = harness.media.quality.explain(ROOM)
        assert (decision.applied, decision.confirmed) == (True, False)
        gate.set()
        await settle()
        (decision,) = harness.media.quality.explain(ROOM)
        assert decision.confirmed


async def test_limit_is_not_sent_again_to_a_closed_publisher() -> None:
    async with harness_with(room_budget=600_000) as harness:
        alice, bob = await publishing_clients(harness, "alice", "bob")
        await asyncio.sleep(SETTLE_TIME)
        publisher, gate = publisher_of(alice), asyncio.Event()
        publisher.limit_gate, publisher.limit_error = gate, Rejected("gone")
        bob.send({"type": "bye", "bye": {}})
        await asyncio.sleep(SETTLE_TIME)
        assert len(harness.services.tasks) == 1  # the new limit waits for the SFU's answer
        alice.send({"type": "bye", "bye": {}})
        await asyncio.sleep(SETTLE_TIME)  # the room is evaluated because of her end
        gate.set()
        await settle()
        assert len(harness.services.tasks) == 0


async def test_limit_is_sent_to_a_replacing_publisher() -> None:
    async with harness_with(room_budget=600_000) as harness:
        alice, bob = await publishing_clients(harness, "alice", "bob")
        await asyncio.sleep(SETTLE_TIME)
        alice.offer("again", sid="2")
        await settle()
        assert last_limits(alice, bob) == [300_000, 300_000]
        assert len(publisher_of(alice).limits) == 1


async def test_stream_from_outside_of_the_room_counts_when_its_session_joins() -> None:
    async with harness_with(room_budget=600_000, ceiling=500_000) as harness:
        (alice,) = await publishing_clients(harness, "alice")
        bob = await harness.hello("bob", backend_with())
        bob.offer("bob")
        await asyncio.sleep(SETTLE_TIME)
        assert last_limits(alice, bob) == [500_000, 500_000]
        bob.join("r", "nc-bob")
        await asyncio.sleep(SETTLE_TIME)
        assert last_limits(alice, bob) == [300_000, 300_000]


async def test_changed_rules_apply_at_once_and_can_be_lifted() -> None:
    async with harness_with(room_budget=600_000) as harness:
        alice, bob = await publishing_clients(harness, "alice", "bob")
        await asyncio.sleep(SETTLE_TIME)
        for changed, expected in ((backend_with(room_budget=200_000), 100_000), (backend_with(), 1_000_000)):
            harness.change_settings(backends=Backends([changed]))
            await asyncio.sleep(SETTLE_TIME)
            assert [publisher_of(client).limits[-1] for client in (alice, bob)] == [expected, expected]


async def test_changed_rules_apply_outside_of_rooms() -> None:
    async with harness_with(ceiling=500_000) as harness:
        alice = await harness.hello("alice", backend_with())
        alice.offer("alice")
        await asyncio.sleep(SETTLE_TIME)
        harness.change_settings(backends=Backends([backend_with(ceiling=200_000)]))
        await asyncio.sleep(SETTLE_TIME)
        assert publisher_of(alice).limits == [500_000, 200_000]


async def test_backend_without_rules_has_the_default_rules() -> None:
    async with harness_with() as harness:
        harness.change_settings(quality=QualityRules(room_budget=500_000))
        assert last_limits(*await publishing_clients(harness, "alice", "bob"))[1] == 250_000


# reference 4.1-k
@pytest.mark.parametrize(
    ("quality", "expected"),
    [
        (BackendQualityRules(), {"maxstreambitrate": 1_000_000, "maxscreenbitrate": 2_000_000}),
        (BackendQualityRules(ceiling=300_000), {"maxstreambitrate": 300_000, "maxscreenbitrate": 2_000_000}),
        (
            BackendQualityRules(room_budget=800_000, ceiling=300_000, one_to_one=700_000),
            {"maxstreambitrate": 700_000, "maxscreenbitrate": 800_000},
        ),
    ],
)
async def test_room_reply_has_the_highest_bitrate_that_a_stream_may_have(
    quality: BackendQualityRules, expected: dict[str, int]
) -> None:
    cloud = Backend("cloud", ("https://cloud.example/",), "secret of the cloud", quality=quality)
    async with FlowHarness(cloud, media_limits=MediaLimits(1_000_000, 2_000_000)) as harness:
        alice = await harness.hello("alice", cloud)
        alice.join("r", "nc-alice", id="1")
        await settle()
        assert alice.received()[0]["room"]["bandwidth"] == expected


# reference 4.1-k
async def test_bandwidth_follows_changed_rules_without_any_other_limit() -> None:
    async with FlowHarness() as harness:
        harness.change_settings(media_limits=MediaLimits(0, 0))
        for quality, expected in (
            (QualityRules(), None),
            (QualityRules(room_budget=500_000), {"maxstreambitrate": 500_000, "maxscreenbitrate": 500_000}),
            (QualityRules(ceiling=300_000, screen=900_000), {"maxstreambitrate": 300_000, "maxscreenbitrate": 900_000}),
            (QualityRules(), None),
        ):
            harness.change_settings(quality=quality)
            alice = await harness.hello("alice")
            alice.join("r", "nc-alice", id="1")
            await settle()
            (reply,) = [message for message in alice.received() if message["type"] == "room"]
            assert reply["room"].get("bandwidth") == expected


async def test_empty_room_has_no_decisions() -> None:
    async with harness_with(room_budget=600_000) as harness:
        assert harness.media.quality.explain(ROOM) == []
        await harness.member("alice", backend=backend_with())
        assert harness.media.quality.explain(ROOM) == []
