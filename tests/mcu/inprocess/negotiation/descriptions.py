"""Offers and answers for the negotiation tests, from offers of real browsers."""

from __future__ import annotations

from mcu.inprocess.negotiation.generation import write_answer
from mcu.inprocess.negotiation.parameters import LocalTransportDescription, PublisherOffer, SubscriberSection
from sdp.codecs import CodecPreference
from tests.sdp.recorded import ALL_DESCRIPTIONS, BY_ID

TRANSPORT = LocalTransportDescription(
    "ufrag", "password", "sha-256 AB:CD", ("candidate:1 1 udp 1 192.0.2.1 5000 typ host",), 7
)
OFFERS = [recorded for recorded in ALL_DESCRIPTIONS if recorded.type == "offer" and recorded.program != "janus"]
CAMERA = BY_ID["chromium/camera.offer.sdp"].text
NO_PREFERENCE = CodecPreference()


def answer(offer: PublisherOffer) -> str:
    """Return the SFU's answer to a publisher's offer."""
    return str(write_answer(offer, TRANSPORT, dtls_client=True, version=1))


def subscriber_sections(offer: PublisherOffer) -> list[SubscriberSection]:
    """Return the sections offered to a subscriber of the stream that a publisher offers."""
    sections = [section for section in offer.sections if section is not None]
    return [
        SubscriberSection(
            section.kind, str(place), True, section.codec, 10 + place, 20 + place, "cname", "stream", f"track{place}"
        )
        for place, section in enumerate(sections)
    ]
