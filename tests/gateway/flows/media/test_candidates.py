"""ICE candidates in both directions (reference 9.4)."""

from __future__ import annotations

import asyncio

import pytest

from mcu.base import IceCandidate
from sdp.candidates import CandidateFilter
from tests.gateway.flows.harness import FlowHarness
from tests.gateway.flows.media.calls import candidate_payload, publishing_call, subscribe
from tests.gateway.flows.media.descriptions import CANDIDATE, offer
from tests.gateway.flows.virtual_time import settle


async def test_candidates_are_added_after_their_offer() -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        harness.mcu.publish_gate = asyncio.Event()
        alice.offer(sid="1")
        alice.media(alice, "candidate", sid="1", payload=candidate_payload(sdpMid="0", sdpMLineIndex=0))
        alice.media(alice, "candidate", payload=candidate_payload(sdpMid="1", sdpMLineIndex=1))
        alice.media(alice, "endOfCandidates")
        alice.media(alice, "candidate", payload=candidate_payload(""))
        await settle()
        assert alice.received() == []
        harness.mcu.publish_gate.set()
        await settle()
        (publisher,) = harness.mcu.published
        first, second = IceCandidate(CANDIDATE, "0", 0), IceCandidate(CANDIDATE, "1", 1)
        assert publisher.candidates == [first, second, None, None]
        assert [message["type"] for message in alice.data()] == ["answer"]


# reference 9.4-c
async def test_candidate_of_the_sfu_is_sent_to_the_client() -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        harness.mcu.published[0].listener.on_candidate(IceCandidate(CANDIDATE, "0", 0))
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
        subscriber = await subscribe(bob, alice)
        subscriber.listener.on_candidate(IceCandidate(CANDIDATE, "0", 0))
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
async def test_candidate_that_the_filter_refuses_is_dropped_without_an_error(text: str, passes: bool) -> None:
    allowed = CandidateFilter(["198.51.100.9"], ["198.51.100.0/24"])
    async with FlowHarness(candidate_filter=allowed) as harness:
        alice, bob = await harness.callers("alice", "bob")
        alice.received()
        alice.offer(candidates=(text,))
        alice.media(alice, "candidate", payload=candidate_payload(text))
        await settle()
        (publisher,) = harness.mcu.published
        assert (text in publisher.offer) is passes
        assert len(publisher.candidates) == passes
        subscriber = await subscribe(bob, alice)
        bob.media(alice, "candidate", payload=candidate_payload(text))
        answered = offer(candidates=(text,)).replace("setup:actpass", "setup:active")
        bob.media(alice, "answer", payload={"type": "answer", "sdp": answered})
        await settle()
        assert len(subscriber.candidates) == passes
        assert (text in subscriber.answers[0]) is passes
        assert bob.received() == []
        assert [message["type"] for message in alice.data()] == ["answer"]


@pytest.mark.parametrize("index", [-1, 1.5, "0", 10**9, None, True])
async def test_malformed_line_index_of_a_candidate_is_omitted(index: object) -> None:
    harness, (alice,) = await publishing_call("alice")
    async with harness:
        alice.media(alice, "candidate", payload=candidate_payload(sdpMLineIndex=index, sdpMid=5))
        await settle()
        assert harness.mcu.published[0].candidates == [IceCandidate(CANDIDATE)]
