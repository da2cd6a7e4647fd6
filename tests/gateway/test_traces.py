"""Traces of ``portunus serve`` as a collector receives them over OTLP: their trees, errors, and what is not in them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_client import RequestRefused, TalkClient
from tests.gateway.collector import Collector, collector
from tests.gateway.served import LOG, served_gateway
from tests.interop.member import ROOM, Member
from tests.janus_process import ADMIN_KEY, API_SECRET, JanusProcess
from tests.media.loopback import loopback

__all__ = ["loopback"]

INPROCESS = '[mcu]\ntype = "inprocess"\n[mcu.inprocess]\naddress = "127.0.0.1"\n'


@pytest_asyncio.fixture
async def cloud() -> AsyncIterator[FakeNextcloud]:
    async with FakeNextcloud() as nextcloud:
        yield nextcloud


@pytest_asyncio.fixture
async def traces(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    """Yield a collector to which each process sends its spans soon after they have ended."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    async with collector() as received:
        yield received


def tracing(endpoint: str) -> str:
    return f'[tracing]\nenabled = true\nendpoint = "{endpoint}"\n'


async def test_hello_and_join_have_the_request_to_nextcloud_as_a_part_and_hand_the_trace_on(
    tmp_path: Path, cloud: FakeNextcloud, traces: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", traces.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20abc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    async with (
        served_gateway(tmp_path, cloud, "[tracing]\nenabled = true\n") as url,
        TalkClient(url, cloud.url) as client,
    ):
        await client.hello(cloud.ticket("anna"))
        hello, session = await traces.tree("hello"), client.session_id
        cloud.refuse_unknown_rooms = True
        with pytest.raises(RequestRefused):
            await client.join("nowhere")
        refused = await traces.tree("join")
        traces.spans.clear()
        cloud.refuse_unknown_rooms = False
        await client.join(ROOM)
        join = await traces.tree("join")
    assert traces.resource["service.name"] == "portunus"
    assert (traces.headers["Authorization"], traces.headers["Content-Encoding"]) == ("Basic abc", "gzip")
    assert hello.names == ["nextcloud auth"]
    assert hello.span.attributes == {
        "portunus.backend": "cloud",
        "portunus.session": session[:8],
        "portunus.client_type": "client",
    }
    asked = hello.part("nextcloud auth")
    assert asked.names == ["nextcloud capabilities"]
    assert asked.span.attributes["http.response.status_code"] == 200
    assert (refused.span.error, refused.part("nextcloud room").span.error) == ("no_such_room", "no_such_room")
    assert refused.span.attributes["error.type"] == "no_such_room"
    assert join.names == ["nextcloud room"]
    assert not join.span.error
    assert join.span.attributes["portunus.room"] != refused.span.attributes["portunus.room"]
    for request, node in ((cloud.requests_of("auth")[-1], asked), (cloud.requests_of("room")[-1], join.parts[0])):
        assert re.fullmatch(f"00-{node.span.trace}-{node.span.id}-0[13]", request.headers["traceparent"])  # sampled


@pytest.mark.full
async def test_refused_hello_and_refused_requests_for_streams_are_errors_with_the_code_of_the_protocol(
    tmp_path: Path, cloud: FakeNextcloud, traces: Collector
) -> None:
    async with served_gateway(tmp_path, cloud, INPROCESS + tracing(traces.url)) as url:
        async with TalkClient(url, "https://unknown.invalid/") as stranger:
            with pytest.raises(RequestRefused):
                await stranger.hello(cloud.ticket("anna"))
        refused = await traces.tree("hello")
        traces.spans.clear()
        async with TalkClient(url, cloud.url) as client:
            await client.hello(cloud.ticket("anna"))
            await client.join(ROOM)
            data = {"type": "offer", "roomType": "video", "payload": {"type": "offer", "sdp": "v=secret"}}
            await client.send_message(client.session_id, data)
            offer = await traces.tree("publish")
            await client.send_message("secret", {"type": "requestoffer", "roomType": "video"})
            request = await traces.tree("subscribe")
    assert (refused.span.error, refused.names) == ("invalid_backend", [])
    assert (offer.span.error, offer.part("negotiation").span.error) == ("processing_failed", "processing_failed")
    assert offer.part("negotiation", "sfu publish").span.error == "Rejected"
    assert offer.span.attributes["portunus.stream"] == "video"
    assert (request.span.error, request.span.attributes["error.type"]) == ("not_allowed", "not_allowed")
    assert not request.names
    assert request.span.attributes["portunus.publisher"] == "unknown"
    assert "secret" not in "".join(traces.texts)


@pytest.mark.full
@pytest.mark.parametrize("sfu", ["inprocess", "janus"])
async def test_trace_of_a_stream_leads_from_the_offer_to_the_first_media(
    tmp_path: Path, cloud: FakeNextcloud, traces: Collector, loopback: None, sfu: str
) -> None:
    async with AsyncExitStack() as stack:
        mcu = INPROCESS
        if sfu == "janus":
            janus = await stack.enter_async_context(JanusProcess())
            mcu = f'[mcu]\ntype = "janus"\n[[mcu.janus]]\nurl = "{janus.url}"\n'
            mcu += f'api_secret = "{API_SECRET}"\nadmin_key = "{ADMIN_KEY}"\n'
        url = await stack.enter_async_context(served_gateway(tmp_path, cloud, mcu + tracing(traces.url)))
        anna = await stack.enter_async_context(Member(url, cloud, "anna", 1))
        ben = await stack.enter_async_context(Member(url, cloud, "ben", 2))
        await anna.set_in_call()
        await ben.set_in_call()
        await anna.publish()
        published = await traces.tree("publish")
        await ben.request_offer(anna)
        await ben.wait_for_picture(anna)
        subscribed = await traces.tree("subscribe")
        ids, password = (anna.id, ben.id), re.findall(r"a=ice-pwd:(\S+)", await anna.published["video"].offer())
    assert published.names == ["negotiation", "connection", "first media"]
    assert published.span.events == ["answer sent", "connected", "media"]
    assert published.span.attributes["portunus.session"] == ids[0][:8]
    assert published.part("negotiation").names == ["sfu publish"]
    assert subscribed.span.events == ["offer sent", "connected"]
    assert subscribed.span.attributes["portunus.publisher"] == ids[0][:8]
    assert subscribed.part("negotiation").names == ["sfu subscribe"]
    assert subscribed.part("connection", "answer").names == ["sfu accept"]
    requests = published.part("negotiation", "sfu publish").names
    if sfu == "janus":
        assert sorted(requests) == ["janus attach", "janus configure", "janus create", "janus join"]
        assert subscribed.part("negotiation", "sfu subscribe").names == ["janus attach", "janus join"]
        assert subscribed.part("connection", "answer", "sfu accept").names == ["janus start"]
    assert not [span for span in traces.spans if span.error]
    phases = [part.span for part in published.parts]
    assert all(phase.end <= following.begin for phase, following in pairwise(phases))
    for text in traces.texts:
        for secret in (*ids, *password, "candidate:", "127.0.0.1", "a=ice-", "a=fingerprint:", cloud.secret):
            assert secret not in text, text
        assert f'"{ROOM}"' not in text, text  # its digits alone can be part of a time


@pytest.mark.full
async def test_collector_that_takes_no_traces_delays_nothing_and_is_one_warning(
    tmp_path: Path, cloud: FakeNextcloud, traces: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "4")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2")
    traces.status = 400
    async with served_gateway(tmp_path, cloud, tracing(traces.url)) as url:
        for name in ("anna", "ben", "carol"):
            async with TalkClient(url, cloud.url) as client:
                await client.hello(cloud.ticket(name))
                await client.join(ROOM)
        await traces.until(lambda: traces.requests >= 2)
    lines = [line for line in (tmp_path / LOG).read_text().splitlines() if "traces are lost" in line]
    assert len(lines) == 1
    assert "it answers with HTTP status 400" in lines[0]
