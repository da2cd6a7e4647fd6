"""The sessions that a drain waits for, and its end (reference 2.5)."""

from __future__ import annotations

from msgspec import Raw

from gateway.core import call_membership
from gateway.core.drain import AwaitedSessions, Drain, client_sessions, sessions_in_calls
from gateway.core.hub import Hub
from gateway.core.ids import SessionId
from gateway.core.session import ClientType
from gateway.core.virtual import VirtualSession
from tests.gateway.core.members import FakeSeat, join_room, open_session, session


# reference 2.5-h
def test_members_of_calls_are_counted_without_internal_clients() -> None:
    hub = Hub()
    alice, bob, recorder = open_session(hub), open_session(hub), session(client_type=ClientType.INTERNAL)
    hub.open(recorder, 0.0)
    for member in (alice, bob, recorder):
        room = join_room(hub, member)
    assert (client_sessions(hub), sessions_in_calls(hub)) == (2, 0)
    for member in (alice, recorder):
        call_membership.set_in_call(room, member.id, True)
    assert sessions_in_calls(hub) == 1
    hub.close(alice)
    assert (client_sessions(hub), sessions_in_calls(hub)) == (1, 0)


def test_drain_is_over_without_awaited_sessions_or_at_its_deadline() -> None:
    hub, drain = Hub(), Drain()
    assert not drain.is_over(hub, 0.0)
    alice = open_session(hub)
    room = join_room(hub, alice)
    drain.begin(AwaitedSessions.IN_CALLS, 20.0)
    assert drain.is_over(hub, 10.0)
    call_membership.set_in_call(room, alice.id, True)
    assert not drain.is_over(hub, 10.0)
    assert drain.seconds_left(15.0) == 5.0
    assert drain.is_over(hub, 20.0)
    assert drain.seconds_left(30.0) == 0.0
    drain.begin(AwaitedSessions.ALL, None)
    call_membership.set_in_call(room, alice.id, False)
    assert not drain.is_over(hub, 1e9)
    hub.close(alice)
    assert drain.is_over(hub, 0.0)
    drain.cancel()
    assert not drain.is_over(hub, 0.0)


def test_phone_in_a_call_and_session_in_a_room_of_another_server_are_counted() -> None:
    hub = Hub()
    alice, bridge = open_session(hub), session(client_type=ClientType.INTERNAL)
    hub.open(bridge, 0.0)
    room = join_room(hub, bridge)
    phone = VirtualSession(
        SessionId("phone"), bridge, "p", room.key, userid="", user=Raw(b"1"), flags=0, call_flags=9, actor=None
    )
    hub.add_virtual(phone)
    assert sessions_in_calls(hub) == 0
    call_membership.set_in_call(room, phone.id, True)
    assert sessions_in_calls(hub) == 1
    hub.take_seat(alice, FakeSeat())
    assert sessions_in_calls(hub) == 2
