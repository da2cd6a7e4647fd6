"""Offers of many WebRTC stacks: each SFU accepts the sections that it can, and its answer fits (reference 9.2)."""

from __future__ import annotations

import re

import pytest

from gateway.tools.talk_client import TalkClient
from sdp.document import Description, parse
from sdp.offer_answer import violations
from sdp.payloads import payloads
from tests.interop.conftest import CallGateway, start_gateway
from tests.interop.sending_offers import send_offer
from tests.interop.stacks import OFFERS
from tests.janus_process import INSTALLATIONS, select_janus

JANUS = [pytest.param(version, marks=pytest.mark.full) for version in INSTALLATIONS]


# reference 9.2-n
@pytest.mark.parametrize("janus", ["", *JANUS])
async def test_offers_of_many_stacks_are_accepted_and_the_answers_fit(janus: str, loopback: None) -> None:
    with select_janus(janus or "1.1"):
        async with start_gateway("janus" if janus else "inprocess") as gateway:
            wrong = {}
            for name in OFFERS:
                if faults := await publish_all(gateway, name):
                    wrong[name] = faults
            assert wrong == {}


async def publish_all(gateway: CallGateway, name: str) -> list[str]:
    """Publish the offers of one connection one after another; return the faults of the replies."""
    faults = []
    async with TalkClient(gateway.url, gateway.nextcloud.url) as client:
        await client.hello(gateway.nextcloud.ticket("alice"))
        for number, (offer, expected) in enumerate(OFFERS[name]):
            reply = await send_offer(client, offer)
            if reply["type"] == "error":
                faults.append(f"{number}: {reply['error']['code']}")
                continue
            answer = parse(reply["message"]["data"]["payload"]["sdp"])
            accepted = "".join("0" if section.rejected else "1" for section in answer.media)
            faults += [f"{number}: accepted {accepted}"] * (accepted != expected)
            faults += [f"{number}: {violation}" for violation in violations(parse(offer), answer)]
            faults += [f"{number}: {fault}" for fault in faults_of_answer(parse(offer), answer)]
        await client.bye()
    return faults


def faults_of_answer(offer: Description, answer: Description) -> list[str]:
    """Return the parts of an answer that the offer does not allow, and directions in which nothing is published."""
    found = ["(null)"] if "(null)" in str(answer) else []
    found += ["mixed extensions"] if "allow-mixed" in str(answer) and "allow-mixed" not in str(offer) else []
    found += ["no CR"] if re.search("[^\r]\n", str(answer)) else []
    for offered, answered in zip(offer.media, answer.media, strict=True):
        if offered.is_rtp and not set(answered.formats) & set(offered.formats):
            found.append("format of a rejected section")
        if answered.rejected or not offered.is_rtp:
            continue
        if offered.direction in ("sendonly", "sendrecv") and answered.direction != "recvonly":
            found.append(answered.direction)
        feedback = {payload.type: payload.feedback for payload in payloads(offered)}
        for payload in payloads(answered):
            found += [f"feedback {entry}" for entry in payload.feedback if entry not in feedback[payload.type]]
    return found
