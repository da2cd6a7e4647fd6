"""The steps of a call in the log: one line for each, found by a short session id or room id."""

from __future__ import annotations

import logging

import pytest

from gateway.core.room import RoomKey
from gateway.flows.call_log import MAX_STEPS, StreamEnd
from mcu.base import CloseReason, McuTimeout, MediaKind, TransportState
from tests.captured_log import captured_lines
from tests.gateway.flows.harness import FakeClient, FlowHarness
from tests.gateway.flows.media.calls import publishing_call, set_permissions, subscribe
from tests.gateway.flows.virtual_time import settle

FAILURE_TEXTS = {
    CloseReason.ICE_FAILED: "ICE failed: client and SFU do not reach each other",
    CloseReason.DTLS_FAILED: "the DTLS handshake failed",
}
CONNECT_STATES = (TransportState.ICE_CONNECTED, TransportState.CONNECTED)


def short(client: FakeClient) -> str:
    return client.sessionid[:8]


def events_of(lines: list[str], text: str, *clients: FakeClient) -> list[str]:
    """Return the events of the lines with a text, with names in place of the short ids of clients and rooms."""
    events = [line.split("event=")[1].strip('"') for line in lines if text in line]
    names = {short(client): name for name, client in zip(("ALICE", "BOB"), clients, strict=False)}
    if clients:
        calls = clients[0].harness.services.calls
        names |= {calls.room_id(RoomKey("cloud", room)): f"OF {room}" for room in ("room1", "r")}
    for id, name in names.items():
        events = [event.replace(id, name) for event in events]
    return events


async def test_call_is_logged_in_eleven_lines() -> None:
    async with FlowHarness() as harness:
        with captured_lines() as lines:
            alice = await harness.member("alice", "room1", in_call=True)
            bob = await harness.member("bob", "room1", in_call=True)
            alice.offer()
            await settle()
            publisher = harness.publisher(alice)
            assert publisher is not None
            for state in CONNECT_STATES:
                publisher.listener.on_transport(state)
            for kind in (MediaKind.AUDIO, MediaKind.VIDEO):
                publisher.listener.on_media(kind, True)
            subscriber = await subscribe(bob, alice)
            for state in CONNECT_STATES:
                subscriber.listener.on_transport(state)
            publisher.end(CloseReason.PUBLISHER_GONE, CloseReason.CLIENT_CLOSED)
            harness.set_in_call("room1", "alice", flags=0)
            await settle()
            alice.send({"type": "bye"})
            bob.disconnect()
            await harness.sweep(60.0)
        assert events_of(lines, short(alice), alice, bob) == [
            "session ALICE: hello of a user, backend cloud",
            "session ALICE: joined room OF room1 of backend cloud, members: 1",
            "session ALICE: entered the call in room OF room1",
            "session ALICE: publishes video in room OF room1 (no limit, any codec)",
            "session ALICE: video in room OF room1: connected (ICE and DTLS)",
            "session ALICE: video in room OF room1: media arrive",
            "session BOB: subscribes to video of session ALICE in room OF room1",
            "session BOB: video of session ALICE in room OF room1: connected (ICE and DTLS)",
            "session ALICE: video in room OF room1 ended: its client has closed the connection",
            "session ALICE: left the call in room OF room1",
            "session ALICE: ended: its client said bye",
        ]
        assert events_of(lines, short(bob), alice, bob)[-1] == "session BOB: ended: its client did not come back"
        room = harness.services.calls.room_id(RoomKey("cloud", "room1"))
        assert len([line for line in lines if room in line]) == 11
        private = (alice.sessionid, bob.sessionid, "room1", "alice")
        assert [line for line in lines if any(text in line for text in private)] == []
        assert harness.counters.streams_lost == {}


async def test_resume_is_logged() -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        alice.disconnect()
        with captured_lines() as lines:
            await harness.resume(alice)
        assert events_of(lines, short(alice), alice) == ["session ALICE: resumed"]


@pytest.mark.parametrize("reason", list(CloseReason))
async def test_end_of_a_stream_is_logged_in_words(reason: CloseReason) -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        subscription = await subscribe(bob, alice)
        with captured_lines() as lines:
            subscription.end(reason)
            harness.mcu.published[0].end(CloseReason.REPLACED, reason)
        own, *others = [line for line in events_of(lines, "", alice, bob) if "ALICE" in line][::-1]
        assert own.startswith("session ALICE: video in room OF r ended: ")
        assert ("failed" in own) is (reason in FAILURE_TEXTS)
        assert FAILURE_TEXTS.get(reason, "") in own
        logged_for_subscribers = (CloseReason.LOST, CloseReason.DRAINED, CloseReason.FAILED, *FAILURE_TEXTS)
        assert len([line for line in others if "of session ALICE in room OF r ended: " in line]) == (
            reason in logged_for_subscribers
        )
        counted = reason is not CloseReason.CLIENT_CLOSED
        assert harness.counters.streams_lost == ({("video", reason.value): 1} if counted else {})


async def test_slow_link_is_logged_once_a_minute() -> None:
    harness, (alice,) = await publishing_call("alice")
    async with harness:
        with captured_lines() as lines:
            for _ in range(2):
                for _ in range(3):
                    harness.mcu.published[0].listener.on_transport(TransportState.SLOW_LINK)
                await harness.sweep(61.0)
        assert (
            events_of(lines, "slow", alice)
            == ["session ALICE: video in room OF r: slow link: many packets are lost"] * 2
        )


@pytest.mark.parametrize(
    ("request_type", "stream", "code"),
    [("offer", "video", "client_not_found"), ("requestoffer", "video of session ALICE", "processing_failed")],
)
async def test_failed_publish_or_subscribe_is_a_line_with_session_and_room(
    request_type: str, stream: str, code: str
) -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        with captured_lines(logging.INFO) as lines:
            for _ in range(2):
                harness.mcu.publish_error = harness.mcu.subscribe_error = McuTimeout("no answer")
                if request_type == "offer":
                    bob.offer()
                else:
                    bob.media(alice, "requestoffer")
                await settle()
        assert bob.error_codes() == [code] * 2
        expected = [f"session BOB: {request_type} for {stream} in room OF r was refused: {code}"]
        assert events_of(lines, "was refused", alice, bob) == expected
        (line,) = [line for line in lines if "was refused" in line]
        assert "level=info" in line


async def test_request_that_is_refused_at_once_is_a_line_with_session_and_room() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice", "r", in_call=True)
        bob = await harness.member("bob", "r")
        set_permissions(harness, "alice", "control")
        await settle()
        with captured_lines(logging.INFO) as lines:
            for _ in range(2):
                alice.offer()
                bob.media(alice, "requestoffer")
                bob.media(alice, "candidate", payload={"candidate": {"candidate": ""}})
                await settle()
        assert sorted(events_of(lines, "was refused", alice, bob)) == [
            "session ALICE: offer for video in room OF r was refused: not_allowed",
            "session BOB: requestoffer for video of session ALICE in room OF r was refused: not_allowed",
        ]


async def test_refused_request_is_told_once_a_minute_for_each_session_request_and_error() -> None:
    with captured_lines(logging.INFO) as lines:
        await _refused_requests()
    assert len([line for line in lines if "was refused: client_not_found" in line]) == 4


async def _refused_requests() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.callers("alice", "bob")
        for _ in range(2):
            for client, publisher in ((alice, bob), (alice, bob), (bob, alice)):
                client.media(publisher, "requestoffer", sid="1")
                await harness.sweep(11.0)  # there is no publisher: the request ends with its time limit
            await harness.sweep(61.0)
        refused = [event for event in harness.services.calls.recorder if event.step == "refused"]
        assert [event.session for event in refused] == [short(alice), short(bob)] * 2
        assert {event.text.split(" was ")[1] for event in refused} == {"refused: client_not_found"}


async def test_end_of_a_stream_by_a_withdrawn_permission_is_logged() -> None:
    harness, (alice,) = await publishing_call("alice")
    async with harness:
        with captured_lines() as lines:
            set_permissions(harness, "alice", "control")
            await settle()
        assert events_of(lines, "ended", alice) == [
            f"session ALICE: video in room OF r ended: {StreamEnd.REVOKED.value}"
        ]


async def test_end_of_a_stream_by_leaving_the_call_is_logged() -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        await subscribe(bob, alice)
        with captured_lines() as lines:
            harness.set_in_call("r", "alice", flags=0)
            await settle()
            bob.send({"type": "bye"})
            await settle()
        assert events_of(lines, "ended", alice, bob) == [
            f"session ALICE: video in room OF r ended: {StreamEnd.LEFT_CALL.value}",
            "session BOB: ended: its client said bye",
        ]


async def test_repeated_steps_of_a_session_are_limited_for_each_minute() -> None:
    async with FlowHarness() as harness:
        with captured_lines() as lines:
            alice = await harness.member("alice", "room1")
            for _ in range(3 * MAX_STEPS):
                alice.disconnect()
                alice = await harness.resume(alice)
            bob = await harness.member("bob", "room1")
            bob.disconnect()
            await harness.resume(bob)
            resumes = events_of(lines, "resumed", alice, bob)
            assert len(resumes) <= 2 * MAX_STEPS + 1  # a minute may have ended
            assert "session ALICE: resumed; further steps of this type are left out for up to a minute" in resumes
            assert resumes[-1] == "session BOB: resumed"
            before = len(events_of(lines, "resumed", alice))
            await harness.sweep(60.0)
            alice.disconnect()
            await harness.resume(alice)
        assert len(events_of(lines, "resumed", alice)) == before + 1
