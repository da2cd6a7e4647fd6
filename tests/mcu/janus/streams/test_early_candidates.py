"""Candidates of a subscriber that arrive while Janus waits for the answer to its second offer, with a real Janus."""

from __future__ import annotations

import re

import pytest

from mcu.base import IceCandidate, SubscribeOptions
from tests.mcu.descriptions import parse_frozen
from tests.mcu.janus.conftest import CAMERA, JanusCall, WaitableListener
from tests.media import SubscribingPeer

pytestmark = pytest.mark.usefixtures("janus_version")


def without_candidates(sdp: str) -> str:
    """Return a description without candidates, as a client sends it that has gathered none yet."""
    return re.sub(r"(?m)^a=(candidate:.*|end-of-candidates)\r\n", "", sdp)


async def test_candidates_between_an_offer_and_its_answer_are_used(call: JanusCall) -> None:
    _, sender, _ = await call.publish()
    subscriber, offer = await call.mcu.subscribe(CAMERA, SubscribeOptions(), WaitableListener())
    watcher = SubscribingPeer()
    # without Janus' candidates the client cannot send a connectivity check before it has received one
    answer = await watcher.answer(without_candidates(str(offer)))
    await subscriber.accept(parse_frozen(without_candidates(answer)))
    again = await subscriber.refresh()
    for candidate in re.findall(r"(?m)^a=(candidate:.*?)\r$", answer):
        await subscriber.add_candidate(IceCandidate(candidate, "0", 0))
    await subscriber.accept(parse_frozen(without_candidates(await watcher.answer(without_candidates(str(again))))))
    await watcher.wait_for_tone(sender.frequency)
    await watcher.close()
