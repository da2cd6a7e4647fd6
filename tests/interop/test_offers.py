"""Offers of clients in the field: each SFU's answer fits its offer (RFC 3264, RFC 8829 5.3, RFC 9143).

The offers in ``offers/`` are written after public reports: a stopped transceiver, a dead section without mid, codecs
that no SFU supports, no BUNDLE, no mid, the notation of data channels before RFC 8841, a paused simulcast layer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.tools.talk_client import TalkClient
from sdp.codecs import payloads
from sdp.document import Description, parse
from sdp.offer_answer import bundles, violations
from tests.interop.conftest import CallGateway
from tests.interop.sending_offers import send_offer

OFFERS = Path(__file__).parent / "offers"


@pytest_asyncio.fixture
async def client(gateway: CallGateway) -> AsyncIterator[TalkClient]:
    """Return a client with a session."""
    async with TalkClient(gateway.url, gateway.nextcloud.url) as client:
        await client.hello(gateway.nextcloud.ticket("alice"))
        yield client


async def publish(client: TalkClient, offer: str, **fields: str) -> Description:
    """Send an offer of ``OFFERS``, check that the answer fits it, and return the answer."""
    sdp = (OFFERS / f"{offer}.sdp").read_bytes().decode()
    reply = await send_offer(client, sdp, **fields)
    assert reply["type"] == "message", reply
    answer = parse(reply["message"]["data"]["payload"]["sdp"])
    assert violations(parse(sdp), answer) == []
    return answer


def sections(answer: Description) -> list[tuple[str, bool, str | None]]:
    """Return media type, acceptance and mid of each section."""
    return [(section.kind, not section.rejected, section.mid) for section in answer.media]


async def test_stopped_only_transceiver_is_rejected_and_started_again(client: TalkClient) -> None:
    for _ in range(2):
        answer = await publish(client, "video")
        assert (sections(answer), bundles(answer)) == ([("video", True, "0")], [("0",)])
        answer = await publish(client, "video-stopped")
        assert (sections(answer), bundles(answer)) == ([("video", False, "0")], [])


async def test_dead_first_section_without_mid_is_rejected_and_the_second_accepted(client: TalkClient) -> None:
    answer = await publish(client, "firefox-dead-audio")
    assert (sections(answer), bundles(answer)) == ([("audio", False, None), ("video", True, "1")], [("1",)])


async def test_section_with_unknown_codecs_is_rejected_with_a_format_of_the_offer(client: TalkClient) -> None:
    answer = await publish(client, "unknown-audio-codec")
    assert (sections(answer), bundles(answer)) == ([("audio", False, "0"), ("video", True, "1")], [("1",)])
    assert answer.media[0].formats[0] in ("103", "104")


async def test_offer_without_bundle_is_answered_without_a_group(client: TalkClient) -> None:
    answer = await publish(client, "gstreamer-unbundled")
    assert (sections(answer), bundles(answer)) == ([("audio", True, "audio0"), ("video", False, "video1")], [])


async def test_offer_without_mid_is_answered_without_mid(client: TalkClient) -> None:
    answer = await publish(client, "no-mid")
    assert (sections(answer), bundles(answer)) == ([("audio", True, None)], [])
    assert "BUNDLE" not in str(answer)


async def test_data_channels_are_answered_in_the_notation_of_the_offer(client: TalkClient) -> None:
    answer = await publish(client, "safari-data-only-old")
    assert sections(answer) == [("application", True, "data")]
    assert answer.media[0].protocol == "DTLS/SCTP"
    assert answer.media[0].attribute("sctpmap") is not None


@pytest.mark.parametrize("preferred", ["", "42001f", "42e01f"])
async def test_h264_without_a_preferred_profile_is_constrained_baseline(client: TalkClient, preferred: str) -> None:
    answer = await publish(
        client, "chrome-h264", videocodec="h264", **({"h264profile": preferred} if preferred else {})
    )
    (payload,) = (payload for payload in payloads(answer.media[0]) if payload.codec == "h264")
    assert payload.parameters["packetization-mode"] == "1"
    assert payload.parameters["profile-level-id"] == (preferred or "42e01f")


async def test_paused_simulcast_layer_stays_paused(client: TalkClient) -> None:
    answer = await publish(client, "simulcast-paused-layer")
    (value,) = answer.media[0].attributes("simulcast")
    assert value.split() == ["recv", "~h;m;l"]
