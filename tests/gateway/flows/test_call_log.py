"""The story of a call in the log: one line for each step, found by a short session id or room id."""

from __future__ import annotations

import pytest

from gateway import log
from gateway.flows.call_log import short, stream_closed
from mcu.base import CloseReason, MediaKind
from tests.gateway.flows.harness import FakeClient, FlowHarness
from tests.gateway.flows.media.calls import subscribe
from tests.gateway.flows.virtual_time import settle


def of(lines: list[str], text: str, *clients: FakeClient) -> list[str]:
    """Return what the lines with a text say, with names for the clients' short ids."""
    events = [line.split("event=")[1].strip('"') for line in lines if text in line]
    for name, client in zip(("ALICE", "BOB"), clients, strict=False):
        events = [event.replace(short(client.sessionid), name) for event in events]
    return events


async def test_call_is_told_in_about_ten_lines_for_each_session() -> None:
    async with FlowHarness() as harness:
        with log.captured() as lines:
            alice = await harness.member("alice", "room1", in_call=True)
            bob = await harness.member("bob", "room1", in_call=True)
            alice.offer()
            await settle()
            publisher = harness.publisher(alice)
            assert publisher is not None
            for kind in (MediaKind.AUDIO, MediaKind.VIDEO):
                publisher.listener.on_media(kind, True)
            await subscribe(bob, alice)
            harness.set_in_call("room1", "alice", flags=0)
            await settle()
            alice.send({"type": "bye"})
            bob.disconnect()
            await harness.sweep(60.0)
        assert of(lines, short(alice.sessionid), alice, bob) == [
            "session ALICE: hello of a user, backend cloud",
            "session ALICE: joined room room1 of backend cloud, which has 1 members",
            "session ALICE: entered the call in room room1",
            "session ALICE: publishes video in room room1 (no limit, any codec)",
            "session ALICE: video connected (ICE and DTLS) in room room1, media arrive",
            "session BOB: subscribes to video of session ALICE in room room1",
            "session ALICE: left the call in room room1",
            "session ALICE: ended: its client said bye",
        ]
        assert of(lines, short(bob.sessionid), alice, bob)[-1] == "session BOB: ended: its client did not come back"
        assert len([line for line in lines if "room1" in line]) == 8
        assert [line for line in lines if alice.sessionid in line or bob.sessionid in line] == []


async def test_resumed_session_is_told() -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        alice.disconnect()
        with log.captured() as lines:
            await harness.resume(alice)
        assert of(lines, short(alice.sessionid), alice) == ["session ALICE: resumed"]


@pytest.mark.parametrize("reason", list(CloseReason))
async def test_end_of_a_stream_is_told_in_words(reason: CloseReason) -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        with log.captured() as lines:
            stream_closed(alice.session, "video", "room1", reason)
        (event,) = of(lines, short(alice.sessionid), alice)
        assert event.startswith("session ALICE: video in room room1 ended: ")
        assert ("hung up" in event) == ("failed" in event) == (reason is CloseReason.FAILED)
