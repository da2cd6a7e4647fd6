"""A subscriber's wrong answer is refused; Janus, the call and the subscription go on (reference 9.4)."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.interop.conftest import SFUS, start_gateway
from tests.janus_process import INSTALLATIONS, select_janus
from tests.media import SubscribingPeer

VERSIONS = [pytest.param("janus", version, marks=pytest.mark.full) for version in INSTALLATIONS]


def without_codec(answer: str) -> str:
    """Answer with the payload type of the retransmissions only, at which Janus 1.1.2 and 1.4.1 crash."""
    return re.sub(r"(m=video [1-9][0-9]* \S+) [0-9]+ ([0-9]+)", r"\1 \2", answer)


def without_last_section(answer: str) -> str:
    return answer[: answer.rindex("m=")]


def with_short_ufrag(answer: str) -> str:
    return re.sub(r"a=ice-ufrag:\S+", "a=ice-ufrag:abc", answer)


def without_dtls_role(answer: str) -> str:
    """Leave the role open, which only an offer may: Janus takes the answer and then sends nothing."""
    return re.sub("a=setup:(active|passive)", "a=setup:actpass", answer)


def with_other_mids(answer: str) -> str:
    """Name sections that no offer has: the in-process SFU would send nothing."""
    return answer.replace("a=mid:", "a=mid:x")


def with_held_connection(answer: str) -> str:
    return re.sub("a=setup:(active|passive)", "a=setup:holdconn", answer)


CHANGES: list[Callable[[str], str]] = [
    without_codec,
    without_last_section,
    with_short_ufrag,
    without_dtls_role,
    with_other_mids,
    with_held_connection,
]


@pytest.mark.parametrize(("sfu", "version"), [(SFUS[0], "1.1"), *VERSIONS])
async def test_wrong_answer_is_refused_and_the_right_one_is_accepted_afterwards(
    sfu: str, version: str, loopback: None
) -> None:
    with select_janus(version):
        async with start_gateway(sfu) as gateway:
            alice, bob = await gateway.join("alice", 1), await gateway.join("bob", 2)
            await alice.publish()
            bob.ignores_offers = True
            start = len(bob.client.messages)
            await bob.request_offer(alice)
            message = await bob.client.wait_for(lambda m: "offer" in str(m.get("message", {})), since=start)
            offer = message["message"]["data"]

            async def answer(sdp: str) -> None:
                data = {"type": "answer", "roomType": "video", "sid": offer["sid"]}
                await bob.client.send_message(
                    alice.id, data | {"payload": {"type": "answer", "sdp": sdp}}, request_id="answer"
                )

            async with SubscribingPeer() as peer:
                right = await peer.answer(offer["payload"]["sdp"])
                for change in CHANGES:
                    assert change(right) != right
                    start = len(bob.client.messages)
                    await answer(change(right))
                    error = await bob.client.wait_for(lambda m: m.get("id") == "answer", since=start)
                    assert error["error"]["code"] == "processing_failed"
                await answer(right)
                await peer.wait_for_picture(alice.number)
