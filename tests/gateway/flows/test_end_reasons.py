"""The reasons for the ends of streams and sessions in the log of calls: each is the true one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from gateway.core.backends import Backends
from gateway.core.limits import Backend
from gateway.flows.call_log import SessionEnd, StreamEnd
from mcu.base import CloseReason
from tests.gateway.flows.federation.fake_host import FakeHost
from tests.gateway.flows.federation.seats import harness_with, request_join
from tests.gateway.flows.harness import FakeClient, FlowHarness
from tests.gateway.flows.media.calls import publishing_call, subscribe
from tests.gateway.flows.virtual_time import settle

REPLACED = "it was replaced"


def ends_of(caplog: pytest.LogCaptureFixture, client: FakeClient) -> list[str]:
    """Return the reasons of the logged ends of a client's streams and session, in their order."""
    lines = [record.getMessage() for record in caplog.records if record.name == "portunus.calls"]
    return [line.split("ended: ")[1] for line in lines if client.sessionid[:8] in line and "ended: " in line]


@pytest.fixture
def calls(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "portunus.calls")
    return caplog


async def hang_up(alice: FakeClient) -> None:
    alice.send({"type": "bye"})


async def leave_room(alice: FakeClient) -> None:
    alice.leave()


async def stay_away(alice: FakeClient) -> None:
    alice.disconnect()
    await alice.harness.sweep(60.0)


async def be_disinvited(alice: FakeClient) -> None:
    alice.harness.rooms_api("r", {"type": "disinvite", "disinvite": {"sessionids": ["nc-alice"]}})


async def be_disinvited_while_away(alice: FakeClient) -> None:
    alice.disconnect()
    await be_disinvited(alice)
    await alice.harness.sweep(60.0)


async def lose_room(alice: FakeClient) -> None:
    alice.harness.rooms_api("r", {"type": "delete", "delete": {"userids": ["alice"]}})


async def join_again(alice: FakeClient) -> None:
    other = await alice.harness.hello("alice")
    other.join("r", "nc-alice")


async def lose_backend(alice: FakeClient) -> None:
    alice.harness.change_settings(backends=Backends([Backend("cloud", ("https://another.example/",), "secret")]))


async def send_no_acknowledgement(alice: FakeClient) -> None:
    alice.connection.stuck = True
    alice.harness.services.delivery.send(alice.session, bytes(alice.harness.services.outbox_bytes + 1))


@pytest.mark.parametrize(
    ("end", "stream_end", "session_end"),
    [
        (hang_up, StreamEnd.SESSION_ENDED, SessionEnd.BYE),
        (leave_room, StreamEnd.LEFT_ROOM, None),
        (stay_away, StreamEnd.SESSION_ENDED, SessionEnd.AWAY),
        (be_disinvited, StreamEnd.SESSION_ENDED, SessionEnd.REMOVED),
        (be_disinvited_while_away, StreamEnd.REMOVED, SessionEnd.REMOVED),
        (lose_room, StreamEnd.ROOM_DELETED, None),
        (join_again, StreamEnd.SESSION_ENDED, SessionEnd.RECONNECTED),
        (lose_backend, StreamEnd.SESSION_ENDED, SessionEnd.BACKEND_CHANGED),
        (send_no_acknowledgement, StreamEnd.SESSION_ENDED, SessionEnd.OUTBOX_FULL),
    ],
)
async def test_stream_and_session_end_for_the_logged_reason(
    calls: pytest.LogCaptureFixture,
    end: Callable[[FakeClient], Awaitable[None]],
    stream_end: StreamEnd,
    session_end: SessionEnd | None,
) -> None:
    harness, (alice,) = await publishing_call("alice")
    async with harness:
        await end(alice)
        await settle()
        assert ends_of(calls, alice) == [reason.value for reason in (stream_end, session_end) if reason is not None]


async def test_call_membership_reported_during_a_join_ends_streams_as_those_of_a_left_call(
    calls: pytest.LogCaptureFixture,
) -> None:
    harness, (alice,) = await publishing_call("alice")
    async with harness:
        harness.nextcloud.gate = asyncio.Event()
        alice.join("r", "nc-other")
        await settle()
        changed = [{"sessionId": "nc-other", "inCall": 0}]
        harness.rooms_api("r", {"type": "incall", "incall": {"incall": 0, "changed": changed}})
        harness.nextcloud.gate.set()
        await settle()
        assert ends_of(calls, alice) == [StreamEnd.LEFT_CALL.value]


async def test_stream_ends_when_its_session_joins_a_room_of_another_server(calls: pytest.LogCaptureFixture) -> None:
    async with harness_with(FakeHost()) as harness:
        alice = await harness.hello("alice")
        alice.offer()
        await settle()
        request_join(alice)
        await settle()
        assert ends_of(calls, alice) == [StreamEnd.ELSEWHERE.value]


@pytest.mark.parametrize("reason", ["room_join_timeout", "room_session_reconnected", "other", ""])
async def test_session_ended_by_a_host_is_not_logged_as_ended_by_this_server(
    calls: pytest.LogCaptureFixture, reason: str
) -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        alice = await harness.hello("alice")
        request_join(alice)
        await settle()
        host.connection.deliver({"type": "bye", "bye": {"reason": reason}})
        await settle()
        assert ends_of(calls, alice) == [SessionEnd.HOST.value]


async def test_replaced_connections_of_both_sides_end(calls: pytest.LogCaptureFixture) -> None:
    harness, (alice, bob) = await publishing_call("alice", "bob")
    async with harness:
        await subscribe(bob, alice)
        await subscribe(bob, alice)
        assert ends_of(calls, bob) == [REPLACED]
        calls.clear()
        alice.offer("two", sid="2")
        await settle()
        assert REPLACED in ends_of(calls, alice)


async def test_subscription_that_came_too_late_for_the_call_ends(calls: pytest.LogCaptureFixture) -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.callers("alice", "bob")
        bob.media(alice, "requestoffer")
        await settle()
        harness.set_in_call("r", "alice", flags=0)
        alice.offer()  # the SFU has the stream now
        await settle()
        assert ends_of(calls, bob) == [StreamEnd.NOT_IN_CALL.value]


async def test_streams_that_end_with_the_gateway_are_not_logged_as_lost(calls: pytest.LogCaptureFixture) -> None:
    harness, (alice,) = await publishing_call("alice")
    publisher = harness.publisher(alice)
    assert publisher is not None
    await harness.flows.close()
    publisher.end(CloseReason.LOST, CloseReason.LOST)  # as the SFU does when it is stopped
    assert ends_of(calls, alice) == [StreamEnd.GATEWAY_ENDS.value]
