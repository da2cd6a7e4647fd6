"""Random sequences of events in a room: soon after, each publisher has the limit of the quality policy."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.flows.media.quality import RETRY
from gateway.flows.settings import MediaLimits
from mcu.base import CloseReason, Rejected, StreamType
from tests.gateway.flows.harness import FlowHarness
from tests.gateway.flows.media.descriptions import answer
from tests.gateway.flows.media.fake_mcu import FakePublisher
from tests.gateway.flows.media.quality_calls import (
    ROOM,
    SETTLE_TIME,
    backend_with,
)
from tests.gateway.flows.virtual_time import VirtualLoop, settle

EVENTS = (
    *("camera", "screen", "audio", "leave call", "leave room", "sfu closes a publisher", "sfu refuses"),
    *("receive", "request only", "receiver fails", "wait"),
)
steps = st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 3)), max_size=25)


async def play(events: list[tuple[str, int]]) -> None:
    """Apply the events, and check the limits two seconds later, and again once the SFU no longer refuses any."""
    names = ("alice", "bob", "carol", "dave")
    rules = backend_with(room_budget=700_000, floor=100_000, ceiling=300_000, one_to_one=500_000, screen=400_000)
    async with FlowHarness(rules, media_limits=MediaLimits(1_000_000, 2_000_000)) as harness:
        clients = [await harness.member(name, in_call=True, backend=rules) for name in names]
        for event, number in events:
            client = clients[number]
            match event:
                case "camera":
                    client.offer(names[number])
                case "screen":
                    client.offer(f"{number}", sid="2", roomType="screen", media=("video",))
                case "audio":
                    client.offer(names[number], media=("audio",))
                case "leave call":
                    harness.set_in_call("r", names[number], flags=0)
                    harness.set_in_call("r", names[number])
                case "leave room":
                    client.leave()
                    client.join("r", f"nc-{names[number]}")
                case "sfu closes a publisher":
                    for publisher in list(harness.mcu.publishers.values())[:1]:
                        publisher.end(CloseReason.PUBLISHER_GONE, CloseReason.FAILED)
                case "receive":
                    client.media(clients[number - 1], "requestoffer")
                    await settle()
                    client.media(clients[number - 1], "answer", payload={"type": "answer", "sdp": answer()})
                case "sfu refuses":
                    for publisher in list(harness.mcu.publishers.values())[number:][:1]:
                        publisher.limit_error = Rejected("not now")
                case "request only":
                    client.media(clients[number - 1], "requestoffer")
                case "receiver fails":
                    for subscription in harness.mcu.subscribers[number:][:1]:
                        subscription.end(CloseReason.FAILED)
                case "wait":
                    await asyncio.sleep(0.7)
            await settle()
        await asyncio.sleep(SETTLE_TIME)
        refusing = [publisher for publisher in harness.mcu.publishers.values() if publisher.limit_error is not None]
        assert_policy(harness, except_for=refusing)
        for publisher in refusing:
            publisher.limit_error = None
        await asyncio.sleep(RETRY + SETTLE_TIME)
        assert_policy(harness)
        assert all(decision.confirmed for decision in harness.media.quality.explain(ROOM))
        assert harness.media.quality._due == {}


def assert_policy(harness: FlowHarness, except_for: Sequence[FakePublisher] = ()) -> None:
    """Assert that each publisher was sent the limit of the quality policy for the room as it is."""
    decisions = harness.media.quality.explain(ROOM)
    assert {decision.publisher for decision in decisions} == set(harness.mcu.publishers.values())
    for decision in decisions:
        publisher = harness.mcu.publishers[decision.stream.key]
        ceiling = 2_000_000 if decision.stream.stream_type is StreamType.SCREEN else 1_000_000
        assert publisher in except_for or (publisher.limits or [ceiling])[-1] == decision.share.bitrate
    assert sum(decision.share.bitrate for decision in decisions if "video" in decision.plan.sent) <= 700_000


@given(steps)
@settings(max_examples=60)
def test_limits_are_those_of_the_policy_two_seconds_after_any_events(events: list[tuple[str, int]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(play(events))
