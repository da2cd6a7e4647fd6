"""A listener is called in order, not before the call has returned, and not after the end of the stream."""

from __future__ import annotations

import asyncio

from mcu.base import CloseReason, IceCandidate, MediaKind, TransportState
from mcu.listener_gate import ListenerGate
from sdp.document import Description
from tests.mcu.descriptions import WITHOUT_MEDIA

CANDIDATE = IceCandidate("candidate:1")


class RecordingListener:
    """A listener that keeps the arguments of its calls, in order."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def on_candidate(self, candidate: IceCandidate | None) -> None:
        self.calls.append(candidate)

    def on_offer(self, offer: Description) -> None:
        self.calls.append(offer)

    def on_media(self, kind: MediaKind, flowing: bool) -> None:
        self.calls.append((kind, flowing))

    def on_transport(self, state: TransportState) -> None:
        self.calls.append(state)

    def on_closed(self, reason: CloseReason) -> None:
        self.calls.append(reason)


def open_gate() -> tuple[ListenerGate, RecordingListener]:
    """Return a gate that opens in the loop's next iteration."""
    listener = RecordingListener()
    gate = ListenerGate(listener)
    gate.open_soon()
    return gate, listener


async def test_events_are_held_until_the_call_has_returned_and_sent_in_order() -> None:
    listener = RecordingListener()
    gate = ListenerGate(listener)

    async def publish() -> str:
        gate.send(lambda receiver: receiver.on_media(MediaKind.AUDIO, True))
        gate.send(lambda receiver: receiver.on_candidate(CANDIDATE))
        gate.open_soon()
        return "answer"

    assert await publish() == "answer"
    assert listener.calls == []
    await asyncio.sleep(0)
    assert listener.calls == [(MediaKind.AUDIO, True), CANDIDATE]


async def test_events_pass_at_once_when_the_gate_is_open() -> None:
    gate, listener = open_gate()
    await asyncio.sleep(0)
    gate.send(lambda receiver: receiver.on_offer(WITHOUT_MEDIA))
    assert listener.calls == [WITHOUT_MEDIA]


async def test_end_before_the_call_has_returned_is_sent_after_the_return() -> None:
    gate, listener = open_gate()
    gate.close(CloseReason.LOST)
    gate.send(lambda receiver: receiver.on_offer(WITHOUT_MEDIA))
    assert listener.calls == []
    await asyncio.sleep(0)
    assert listener.calls == [CloseReason.LOST]


async def test_no_event_is_sent_after_the_end() -> None:
    gate, listener = open_gate()
    await asyncio.sleep(0)
    gate.close(CloseReason.FAILED)
    gate.close(CloseReason.LOST)
    gate.send(lambda receiver: receiver.on_offer(WITHOUT_MEDIA))
    assert listener.calls == [CloseReason.FAILED]


async def test_close_by_the_gateway_drops_held_events() -> None:
    gate, listener = open_gate()
    gate.send(lambda receiver: receiver.on_offer(WITHOUT_MEDIA))
    gate.close(None)
    await asyncio.sleep(0)
    assert listener.calls == []


async def test_close_by_the_gateway_drops_a_held_end() -> None:
    gate, listener = open_gate()
    gate.close(CloseReason.LOST)
    gate.close(None)
    await asyncio.sleep(0)
    assert listener.calls == []
