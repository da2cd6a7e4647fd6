"""The spans of hellos, joins and streams, each of which ends with the right error, whatever ends the operation."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.ids import SessionId
from gateway.flows.media.description_turns import ITERATION_BYTES
from mcu.base import CloseReason, McuTimeout, MediaKind, NoSuchStream, TransportState
from tests.gateway.flows.harness import FakeClient, FlowHarness
from tests.gateway.flows.media.calls import send_answer
from tests.gateway.flows.recorded_traces import RecordedTraces
from tests.gateway.flows.virtual_time import settle

NEGOTIATED = ["publish: answer sent", "  negotiation", "    sfu publish"]


def traced() -> tuple[FlowHarness, RecordedTraces]:
    """Return flows with a tracer, and the traces."""
    traces = RecordedTraces()
    return FlowHarness(tracer=traces), traces


async def published(harness: FlowHarness, *userids: str) -> list[FakeClient]:
    """Return clients in one call, the first of which has been sent the answer to its offer."""
    clients = await harness.callers(*userids)
    clients[0].offer()
    await settle()
    return clients


def report(harness: FlowHarness, client: FakeClient, *states: TransportState) -> None:
    publisher = harness.publisher(client)
    assert publisher is not None
    for state in states:
        publisher.listener.on_transport(state)


async def test_stream_is_traced_until_its_first_media() -> None:
    harness, traces = traced()
    async with harness:
        (alice,) = await published(harness, "alice")
        assert traces.lines("publish") == [
            "publish: answer sent, runs",
            "  negotiation",
            "    sfu publish",
            "  connection: runs",
        ]
        report(harness, alice, TransportState.ICE_CONNECTED, TransportState.CONNECTED, TransportState.SLOW_LINK)
        publisher = harness.publisher(alice)
        assert publisher is not None
        for kind in (MediaKind.AUDIO, MediaKind.VIDEO):
            publisher.listener.on_media(kind, True)
        report(harness, alice, TransportState.SLOW_LINK)
        alice.offer()  # renegotiates
        await settle()
    assert [span.name for span in traces.spans] == ["hello", "join", "publish", "publish"]
    assert traces.lines("hello") == ["hello"]
    assert traces.lines("publish") == [
        "publish: answer sent, connected, media",
        "  negotiation",
        "    sfu publish",
        "  connection: ice connected",
        "  first media",
        "publish: answer sent",
        "  negotiation",
        "    sfu update",
    ]
    hello, join, publish, _ = traces.spans
    assert hello.attributes == {
        "portunus.backend": "cloud",
        "portunus.session": alice.sessionid[:8],
        "portunus.client_type": "client",
    }
    assert join.attributes["portunus.room"] == publish.attributes["portunus.room"]


async def test_stream_without_media_is_traced_for_half_a_minute() -> None:
    harness, traces = traced()
    async with harness:
        (alice,) = await published(harness, "alice")
        report(harness, alice, TransportState.CONNECTED)
        await asyncio.sleep(29.0)
        assert traces.lines("publish")[0] == "publish: answer sent, connected, runs"
        await asyncio.sleep(2.0)
        report(harness, alice, *TransportState)
        publisher = harness.publisher(alice)
        assert publisher is not None
        publisher.listener.on_media(MediaKind.AUDIO, True)
    assert traces.lines("publish") == [
        "publish: answer sent, connected, no media",
        *NEGOTIATED[1:],
        "  connection",
        "  first media",
    ]


@pytest.mark.parametrize("connected", [False, True])
async def test_stream_that_ends_before_its_media_has_the_reason_as_error(connected: bool) -> None:
    harness, traces = traced()
    async with harness:
        alice, bob = await published(harness, "alice", "bob")
        bob.offer()
        await settle()
        if connected:
            report(harness, alice, TransportState.CONNECTED)
        publisher = harness.publisher(alice)
        assert publisher is not None
        publisher.end(CloseReason.PUBLISHER_GONE, CloseReason.ICE_FAILED)
        harness.set_in_call("r", "bob", flags=0)
        await settle()
    phase = ["  connection", "  first media: error ice_failed"] if connected else ["  connection: error ice_failed"]
    assert traces.lines("publish") == [
        f"publish: answer sent, {'connected, ' if connected else ''}error ice_failed",
        *NEGOTIATED[1:],
        *phase,
        "publish: answer sent, error left_call",
        *NEGOTIATED[1:],
        "  connection: error left_call",
    ]


async def test_another_connection_ends_the_trace_of_the_one_before_without_an_error() -> None:
    harness, traces = traced()
    async with harness:
        (alice,) = await published(harness, "alice")
        alice.offer("two")
        await settle()
        assert traces.lines("publish") == [
            *NEGOTIATED,
            "  connection",
            "publish: answer sent, runs",
            *NEGOTIATED[1:],
            "  connection: runs",
        ]


async def test_failed_request_to_the_sfu_fails_the_trace_with_the_code_that_the_client_gets() -> None:
    harness, traces = traced()
    async with harness:
        harness.mcu.publish_error = McuTimeout("slow")
        (alice,) = await published(harness, "alice")
        assert alice.error_codes(among_others=True) == ["client_not_found"]
    assert traces.lines("publish") == [
        "publish: error client_not_found",
        "  negotiation: error client_not_found",
        "    sfu publish: error McuTimeout",
    ]


async def test_client_that_leaves_during_a_request_to_the_sfu_cancels_the_trace() -> None:
    harness, traces = traced()
    async with harness:
        harness.mcu.publish_gate = asyncio.Event()
        (alice,) = await published(harness, "alice")
        alice.send({"type": "bye"})
        await settle()
    assert traces.lines("publish") == [
        "publish: error cancelled",
        "  negotiation: error cancelled",
        "    sfu publish: error cancelled",
    ]


async def test_request_that_waits_when_its_client_leaves_cancels_its_trace() -> None:
    harness, traces = traced()
    async with harness:
        harness.mcu.publish_gate = asyncio.Event()
        (alice,) = await published(harness, "alice")
        alice.offer()
        await settle()
        assert traces.lines("publish")[-1] == "publish: runs"
        alice.send({"type": "bye"})
        await settle()
        assert traces.lines("publish")[-1] == "publish: error cancelled"


async def test_postponed_request_ends_its_trace_and_begins_another_one() -> None:
    harness, traces = traced()
    async with harness:
        (alice,) = await harness.callers("alice")
        harness.flows.media._description_turns.take(SessionId("other"), ITERATION_BYTES)
        alice.offer()
        assert traces.lines("publish") == ["publish: postponed"]
        await settle()
        assert traces.lines("publish") == [
            "publish: postponed",
            "publish: answer sent, runs",
            *NEGOTIATED[1:],
            "  connection: runs",
        ]


async def test_request_that_meets_a_fault_fails_its_trace(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    harness, traces = traced()
    async with harness:
        (alice,) = await harness.callers("alice")
        monkeypatch.setattr(harness.flows.media, "check", lambda session, message: 1 / 0)
        alice.offer()
        await settle()
        assert traces.lines("publish") == ["publish: error internal_error"]
        assert "was not handled" in caplog.text


async def test_request_that_is_ignored_ends_its_trace() -> None:
    harness, traces = traced()
    async with harness:
        (alice,) = await harness.callers("alice")
        alice.media(alice, "requestoffer")
        await settle()
        assert traces.lines("subscribe") == ["subscribe"]


async def test_subscription_is_traced_from_the_request_to_the_connection() -> None:
    harness, traces = traced()
    async with harness:
        alice, bob = await published(harness, "alice", "bob")
        bob.media(alice, "requestoffer")
        await settle()
        send_answer(bob, alice)
        await settle()
        for state in (TransportState.ICE_CONNECTED, TransportState.CONNECTED):
            harness.mcu.subscribers[-1].listener.on_transport(state)
        send_answer(bob, alice)  # after the trace has ended
        await settle()
        harness.mcu.subscribe_error = NoSuchStream("no stream")
        bob.media(alice, "requestoffer", id="again")
        await settle()
    assert traces.lines("subscribe") == [
        "subscribe: offer sent, connected",
        "  negotiation",
        "    sfu subscribe",
        "  connection: answer received, ice connected",
        "    answer",
        "      sfu accept",
        "subscribe: error client_not_found",
        "  negotiation: error client_not_found",
        "    sfu subscribe: error NoSuchStream",
    ]
    attributes = next(span.attributes for span in traces.spans if span.name == "subscribe")
    assert attributes["portunus.publisher"] == alice.sessionid[:8]
    assert attributes["portunus.session"] == bob.sessionid[:8]


async def test_errors_of_nextcloud_are_codes_that_are_known() -> None:
    harness, traces = traced()
    async with harness:
        client = harness.connect()
        client.send_hello("alice", url="https://unknown.example/")
        await settle()
        client.send_hello("alice")
        await client.read_hello_reply()
        refusal = {"type": "error", "error": {"code": "text of a server", "message": "…"}}
        harness.nextcloud.answer = lambda request: refusal
        client.join()
        await settle()
    assert traces.lines("hello") == ["hello: error invalid_backend", "hello"]
    assert traces.lines("join") == ["join: error error"]
