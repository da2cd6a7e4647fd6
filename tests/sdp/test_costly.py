"""The CPU time of a description is proportional to its size: its handling is bounded in calls, not in seconds.

``python -m bench.costly_offers`` measures the time of the same offers.
"""

from __future__ import annotations

import contextlib
import json
import sys
from types import FrameType

import pytest

from mcu.base import Rejected
from mcu.inprocess.negotiation.generation import write_answer
from mcu.inprocess.negotiation.parameters import LocalTransportDescription
from mcu.inprocess.negotiation.parsing import read_offer
from mcu.janus.streams.descriptions import SerialisedOffer, rid_order, simulcast_layers, single_layer
from sdp import candidates, codecs
from sdp.codecs import CodecPreference
from sdp.document import Description, SdpError, identity, parse
from sdp.mending import mend, tidy
from sdp.normal_form import MAX_GROUPS, MAX_SECTIONS, check_size, normalise
from sdp.offer_answer import offer_violations, stops_all_media, transport_mid, unusable_parts, violations
from tests.sdp.costly import BUNDLE_ALL, SESSION, SIZE, costly_offers, sections

OFFERS = costly_offers()
MOST_CALLS = 400_000  # of Python and C functions, for up to 2,500 lines; the costliest has 303,000
PREFERENCE = CodecPreference(("opus",), ("vp8", "h264"), "0", "42e01f")
TRANSPORT = LocalTransportDescription("abcd", "a" * 22, "sha-256 AA:BB", (), 1)


def read(text: str) -> Description:
    check_size(text)
    offer = parse(text)
    normalise(offer)
    candidates.drop_excess(offer)
    candidates.check(offer)
    return offer


def answered(offer: Description) -> Description:
    """Return an answer that accepts every section, as Janus may give it."""
    text = str(offer).replace("a=sendonly", "a=recvonly").replace("a=setup:actpass", "a=setup:active")
    answer = parse(text.replace("a=mid:", "a=mid:j"))
    answer.session.remove(lambda line: line.startswith("a=extmap:"))  # Janus writes them into the sections
    return answer


def handle(text: str) -> None:
    """Handle an offer in all the steps of the gateway and of both SFUs."""
    offer = read(text)
    candidates.filter_description(offer, candidates.CandidateFilter((), ("10.0.0.0/8",)))
    identity(offer)
    stops_all_media(offer)
    codecs.listed(offer, "video")
    codecs.restrict(offer, "audio", ("opus", "pcmu"))
    codecs.restrict(offer, "video", ("vp8", "h264"))
    codecs.common_h264_profile(offer)
    codecs.prefer(offer, PREFERENCE)
    offer.freeze()
    with contextlib.suppress(Rejected):
        accepted = read_offer(offer, PREFERENCE)
        violations(offer, write_answer(accepted, TRANSPORT, dtls_client=True, version=1))
    with contextlib.suppress(Rejected):
        sent = SerialisedOffer.of(offer)
        single_layer(offer, ("vp8",), frozenset())
        rid_order(sent.description)
    answer = answered(offer)
    simulcast_layers(offer, answer)
    transport_mid(answer)
    violations(offer, answer)
    unusable_parts(offer, answer)
    tidy(offer, answer)
    mend(offer, answer)
    violations(offer, answer)
    offer_violations(offer, answer)


@pytest.mark.parametrize("form", OFFERS)
def test_costly_offers_need_a_bounded_number_of_calls(form: str) -> None:
    assert len(json.dumps(OFFERS[form])) <= SIZE
    calls = 0

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        handle(OFFERS[form])
    finally:
        sys.setprofile(None)
    assert calls < MOST_CALLS


@pytest.mark.parametrize(
    "groups",
    [BUNDLE_ALL * (MAX_GROUPS + 1), "a=group:BUNDLE" + " x" * (MAX_SECTIONS + 1) + "\r\n"],
    ids=["many groups", "a long group"],
)
def test_number_and_length_of_groups_are_bounded(groups: str) -> None:
    """Not by the number of calls: the members of a group are compared with the sections in C, without a call."""
    with pytest.raises(SdpError):
        read(SESSION + groups + sections(3))
