"""The hub: look-ups, limits, deadlines, rooms and call membership, in virtual time (invariants 1, 4 and 9)."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest
from msgspec import Raw

from gateway import core
from gateway.core import call_membership
from gateway.core.changes import JoinTimedOut, SessionExpired
from gateway.core.hub import Hub
from gateway.core.ids import ConnectionId, random_part
from gateway.core.limits import Backend
from gateway.core.room import PING_INTERVAL, RoomKey
from gateway.core.session import EXPIRY, JOIN_TIMEOUT
from gateway.core.session_counts import LimitReached
from tests.gateway.core import members
from tests.gateway.core.members import CLOUD, EMPTY_OBJECT, OTHER_BACKEND, FakeSeat, join_room, open_session

FIRST_CONNECTION, SECOND_CONNECTION = ConnectionId(1), ConnectionId(2)


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(core.__path__)])
def test_core_has_no_coroutines(name: str) -> None:
    module = importlib.import_module(f"{core.__name__}.{name}")
    methods = [member for _, found in inspect.getmembers(module, inspect.isclass) for member in vars(found).values()]
    functions = [found for _, found in inspect.getmembers(module, inspect.isfunction)]
    assert not [
        function
        for function in (*methods, *functions)
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    ]


# -- sessions


def test_session_is_found_by_each_of_its_ids() -> None:
    hub = Hub()
    alice = open_session(hub, "alice")
    join_room(hub, alice, nc="nc1")
    assert hub.find(CLOUD, alice.id) is alice
    assert hub.find_resumable(alice.resume_id) is alice
    assert hub.sessions_of_user(CLOUD, "alice") == [alice]
    assert hub.find_by_room_session("cloud", "nc1") is alice


def test_public_id_does_not_resume() -> None:
    hub = Hub()
    alice = open_session(hub)
    assert hub.find_resumable(alice.id) is None
    assert hub.find(CLOUD, alice.resume_id) is None


def test_backends_are_isolated() -> None:
    hub = Hub()
    alice, eve = open_session(hub, "alice"), open_session(hub, "alice", OTHER_BACKEND)
    assert join_room(hub, alice, "r", "nc") is not join_room(hub, eve, "r", "nc")
    assert hub.find(OTHER_BACKEND, alice.id) is None
    assert hub.sessions_of_user(OTHER_BACKEND, "alice") == [eve]
    assert hub.find_by_room_session("other", "nc") is eve
    assert hub.find_by_room_session("cloud", "nc") is alice
    room, other_room = hub.room(CLOUD, "r"), hub.room(OTHER_BACKEND, "r")
    assert room is not None
    assert other_room is not None
    assert list(other_room.members) == [eve.id]
    call_membership.set_in_call(room, alice.id, True)
    call_membership.set_in_call(other_room, eve.id, True)
    assert not hub.in_same_call(alice, eve)
    assert call_membership.set_in_call(room, eve.id, True) is None
    assert eve.id not in room.in_call


def test_anonymous_sessions_are_not_found_by_user() -> None:
    hub = Hub()
    open_session(hub, "")
    assert hub.sessions_of_user(CLOUD, "") == []


def test_session_limit_counts_open_sessions_of_the_backend() -> None:
    hub = Hub()
    small = Backend("small", ("https://small.example/",), "secret", session_limit=1)
    first = open_session(hub, "a", small)
    open_session(hub, "b")
    late = members.session("c", small)
    with pytest.raises(LimitReached):
        hub.open(late, 0.0)
    assert hub.find(small, late.id) is None
    assert hub.sessions_of_user(small, "c") == []
    hub.close(first)
    hub.open(late, 0.0)
    assert hub.find(small, late.id) is late


def test_closed_session_is_not_found_and_closing_it_again_does_nothing() -> None:
    hub = Hub()
    alice, again = open_session(hub, "alice"), open_session(hub, "alice")
    join_room(hub, alice, nc="nc1")
    change = hub.close(alice)
    assert change is not None
    assert change.left is not None
    assert change.left.room_session == "nc1"
    assert not alice.open
    assert hub.find(CLOUD, alice.id) is None
    assert hub.find_resumable(alice.resume_id) is None
    assert hub.sessions_of_user(CLOUD, "alice") == [again]
    assert hub.find_by_room_session("cloud", "nc1") is None
    assert hub.rooms == {}
    assert hub.close(alice) is None
    assert not hub.detach(alice, FIRST_CONNECTION, 1.0)


# -- deadlines


def test_session_expires_30_seconds_after_its_connection_was_lost() -> None:
    hub = Hub()
    alice = open_session(hub)
    hub.attach(alice, FIRST_CONNECTION)
    assert hub.detach(alice, FIRST_CONNECTION, 100.0)
    assert hub.sweep(100.0 + EXPIRY - 0.01) == []
    assert hub.sweep(100.0 + EXPIRY) == [SessionExpired(alice)]


def test_resumed_session_has_no_deadline_when_its_old_connection_is_lost() -> None:
    hub = Hub()
    alice = open_session(hub)
    hub.attach(alice, FIRST_CONNECTION)
    hub.detach(alice, FIRST_CONNECTION, 100.0)
    hub.attach(alice, SECOND_CONNECTION)
    assert not hub.detach(alice, FIRST_CONNECTION, 101.0)
    assert alice.connection == SECOND_CONNECTION
    assert hub.sweep(1000.0) == []


def test_anonymous_session_must_join_in_time_even_while_disconnected() -> None:
    hub = Hub()
    guest = open_session(hub, "", now=10.0)
    hub.attach(guest, FIRST_CONNECTION)
    hub.detach(guest, FIRST_CONNECTION, 10.5)
    assert hub.sweep(10.0 + JOIN_TIMEOUT - 0.01) == []
    assert hub.sweep(10.0 + JOIN_TIMEOUT) == [JoinTimedOut(guest)]


def test_joining_stops_the_join_timer_and_leaving_by_request_restarts_it() -> None:
    hub = Hub()
    guest = open_session(hub, "")
    join_room(hub, guest)
    assert hub.sweep(1000.0) == []
    hub.leave(guest)
    assert hub.sweep(1000.0) == []
    hub.restart_join_timer(guest, 1000.0)
    assert hub.sweep(1000.0 + JOIN_TIMEOUT) == [JoinTimedOut(guest)]


def test_authenticated_session_need_not_join() -> None:
    hub = Hub()
    alice = open_session(hub, "alice")
    hub.restart_join_timer(alice, 0.0)
    assert hub.sweep(1000.0) == []


# -- rooms


def test_join_returns_the_other_members_and_the_left_room() -> None:
    hub = Hub()
    alice, bob = open_session(hub, "alice"), open_session(hub, "bob")
    join_room(hub, alice, "old", "nc1")
    join_room(hub, bob, "new")
    change = hub.join(
        alice, "new", Raw(b"[]"), room_session="nc2", room_userid="shown", permissions=["control"], now=1.0
    )
    assert change.others == (bob,)
    assert change.left is not None
    assert (change.left.room, change.left.room_session, change.left.remaining) == (RoomKey("cloud", "old"), "nc1", ())
    assert bytes(change.room.properties) == bytes(EMPTY_OBJECT)  # the properties given when the room was created
    assert alice.room_userid == "shown"
    assert alice.permissions.allows("control")
    assert not alice.permissions.may_publish_audio_or_video()
    assert hub.find_by_room_session("cloud", "nc1") is None
    assert hub.find_by_room_session("cloud", "nc2") is alice
    assert hub.room(CLOUD, "old") is None
    assert hub.room_of(alice) is change.room


# reference 8-b
def test_join_without_permissions_keeps_the_previous_ones() -> None:
    hub = Hub()
    alice = open_session(hub)
    hub.set_permissions(alice, ["publish-audio"])
    join_room(hub, alice)
    assert alice.permissions.may_publish(["audio"])
    assert not alice.permissions.may_publish(["video"])


def test_session_without_a_nextcloud_id_is_registered_under_its_public_id_and_its_leave_is_not_reported() -> None:
    hub = Hub()
    alice = open_session(hub)
    join_room(hub, alice)
    assert hub.find_by_room_session("cloud", alice.id) is alice
    left = hub.leave(alice)
    assert left is not None
    assert left.room_session == ""
    assert hub.find_by_room_session("cloud", alice.id) is None


def test_new_registration_replaces_the_old_one() -> None:
    hub = Hub()
    alice = open_session(hub)
    join_room(hub, alice, nc="nc1")
    hub.register(alice, "nc2")
    assert hub.find_by_room_session("cloud", "nc1") is None
    assert hub.find_by_room_session("cloud", "nc2") is alice


def test_public_id_registered_besides_the_confirmed_id_ends_with_it() -> None:
    hub = Hub()
    alice = open_session(hub)
    join_room(hub, alice, nc="nc")
    hub.register_public_id(alice)
    hub.register_public_id(alice)
    assert [hub.find_by_room_session("cloud", id) for id in ("nc", alice.id)] == [alice, alice]
    hub.leave(alice)
    assert [hub.find_by_room_session("cloud", id) for id in ("nc", alice.id)] == [None, None]


def test_public_id_counts_as_given_after_a_second_join_without_an_id() -> None:
    hub = Hub()
    bridge = open_session(hub)
    join_room(hub, bridge)
    assert not bridge.room_session_given
    hub.register_public_id(bridge)
    assert bridge.room_session_given
    assert hub.find_by_room_session("cloud", bridge.id) is bridge


def test_registration_taken_over_by_another_session_is_not_removed_by_the_first() -> None:
    hub = Hub()
    alice, bob = open_session(hub), open_session(hub)
    join_room(hub, alice, nc="nc")
    join_room(hub, bob)
    hub.register(bob, "nc")
    hub.leave(alice)
    assert hub.find_by_room_session("cloud", "nc") is bob


def test_leave_is_not_reported_to_nextcloud_without_notify_backend() -> None:
    hub = Hub()
    alice = open_session(hub)
    join_room(hub, alice, nc="nc")
    left = hub.leave(alice, notify_backend=False)
    assert left is not None
    assert left.room_session == ""


def test_leaving_without_a_room_does_nothing() -> None:
    hub = Hub()
    alice = open_session(hub)
    assert hub.leave(alice) is None
    assert hub.room_of(alice) is None


# reference 4.2-c
def test_leaving_clears_call_membership_and_the_user_id_of_the_room() -> None:
    hub = Hub()
    alice, bob = open_session(hub, "alice"), open_session(hub, "")
    room = join_room(hub, alice)
    hub.join(bob, "r", EMPTY_OBJECT, room_session="", room_userid="guest", permissions=None, now=0.0)
    sender = bob.sender("room")
    call_membership.set_in_call(room, bob.id, True)
    hub.leave(bob)
    assert room.in_call == set()
    assert bob.shown_userid == ""
    assert bob.sender("room") != sender


def test_deleting_a_room_removes_all_members() -> None:
    hub = Hub()
    alice, bob = open_session(hub), open_session(hub)
    room = join_room(hub, alice, nc="nc1")
    join_room(hub, bob)
    left = hub.delete_room(room)
    assert [(change.session, change.room_session) for change in left] == [(alice, "nc1"), (bob, "")]
    assert hub.rooms == {}
    assert alice.open
    assert alice.room is None


# reference 4.6-a
def test_properties_change_when_they_differ_byte_for_byte() -> None:
    hub = Hub()
    room = join_room(hub, open_session(hub))
    assert not hub.change_properties(room, Raw(b"{}"))
    assert hub.change_properties(room, Raw(b"{ }"))
    assert bytes(room.properties) == b"{ }"


def test_each_room_is_due_for_a_ping_at_its_own_times() -> None:
    hub = Hub()
    early = join_room(hub, open_session(hub), "early", now=0.0)
    late = join_room(hub, open_session(hub), "late", now=5.0)
    assert hub.due_for_ping(PING_INTERVAL - 0.01) == []
    assert hub.due_for_ping(PING_INTERVAL) == [early]
    assert hub.due_for_ping(PING_INTERVAL + 5) == [late]
    assert hub.due_for_ping(2 * PING_INTERVAL) == [early]


# -- the call


def test_only_members_of_a_room_enter_its_call_and_leaving_the_call_ends_their_media() -> None:
    hub = Hub()
    alice, bob, stranger = open_session(hub), open_session(hub), open_session(hub)
    room = join_room(hub, alice)
    join_room(hub, bob)
    assert call_membership.set_in_call(room, alice.id, True) is None
    assert not hub.in_same_call(alice, bob)
    assert call_membership.set_in_call(room, bob.id, True) is None
    assert hub.in_same_call(alice, bob)
    assert not hub.in_same_call(stranger, bob)
    assert call_membership.set_in_call(room, stranger.id, True) is None
    assert stranger.id not in room.in_call
    assert call_membership.set_in_call(room, bob.id, False) is bob
    assert call_membership.set_in_call(room, bob.id, False) is bob  # also when it was not in the call
    assert room.in_call == {alice.id}


def test_all_clients_enter_and_leave_the_call_and_none_is_notified_twice() -> None:
    hub = Hub()
    alice, bob = open_session(hub), open_session(hub)
    room = join_room(hub, alice)
    join_room(hub, bob)
    call_membership.set_in_call(room, alice.id, True)
    change = call_membership.set_all_in_call(room, True)
    assert (change.notified, change.ended) == ((alice, bob), ())
    assert room.in_call == {alice.id, bob.id}
    assert call_membership.set_all_in_call(room, True).notified == ()
    call_membership.set_in_call(room, bob.id, False)
    change = call_membership.set_all_in_call(room, False)
    assert (change.notified, change.ended) == ((alice, bob), (alice,))
    assert room.in_call == set()
    assert call_membership.set_all_in_call(room, False).notified == ()


# -- a changed configuration


def test_reload_changes_the_backend_settings_of_sessions_unless_the_backend_is_removed() -> None:
    hub = Hub()
    alice, eve = open_session(hub), open_session(hub, backend=OTHER_BACKEND)
    changed = Backend("cloud", CLOUD.urls, "another secret", max_stream_bitrate=5)
    hub.replace_backends({"cloud": changed}.get)
    assert alice.backend is changed
    assert eve.backend is OTHER_BACKEND
    assert hub.find(changed, alice.id) is alice


def test_first_evicting_event_stays_until_the_session_leaves() -> None:
    hub = Hub()
    member = open_session(hub)
    join_room(hub, member)
    hub.evict(member, b"first")
    hub.evict(member, b"second")
    assert member.evicted_by == b"first"
    assert not member.accepts_messages
    join_room(hub, member, "another")
    assert member.evicted_by is None
    assert member.accepts_messages
    hub.close(member)
    assert not member.accepts_messages


def test_evicted_session_does_not_enter_the_call_again() -> None:
    hub = Hub()
    member, other = open_session(hub), open_session(hub, "bob")
    room = join_room(hub, member)
    join_room(hub, other)
    call_membership.set_in_call(room, member.id, True)
    hub.evict(member, b"event")
    call_membership.set_in_call(room, member.id, True)
    assert room.in_call == set()
    call_membership.set_in_call(room, other.id, True)
    assert room.in_call == {other.id}


# -- limits per network


def test_sessions_of_a_network_are_counted_until_they_end() -> None:
    hub = Hub()
    one, other, local = members.session("alice"), members.session("bob"), members.session("carol")
    hub.open(one, 0.0, network=7)
    hub.open(other, 0.0, network=7)
    hub.open(local, 0.0)
    assert (hub.count_of_network(7), hub.count_of_network(8)) == (2, 0)
    for closed in (one, other, local):
        hub.close(closed)
    assert hub.count_of_network(7) == 0


def test_text_that_begins_like_an_id_of_an_open_session_resembles_it() -> None:
    hub = Hub()
    alice = open_session(hub, "alice")
    for id in (alice.id, alice.resume_id):
        beginning = random_part(id)
        assert hub.resembles_an_id(id)
        assert hub.resembles_an_id(f"{beginning}another signature")
        assert not hub.resembles_an_id(beginning[:-1])


def test_session_without_a_room_is_marked_as_evicted() -> None:
    hub = Hub()
    alice = open_session(hub, "alice")
    hub.evict(alice, b"event")
    assert alice.evicted_by == b"event"


# reference 12.1-b
def test_session_that_takes_a_seat_elsewhere_leaves_its_room_and_need_not_join_another() -> None:
    hub = Hub()
    member = open_session(hub, "")
    join_room(hub, member, nc="nc")
    hub.restart_join_timer(member, 1.0)
    seat = FakeSeat()
    left = hub.take_seat(member, seat)
    assert left is not None
    assert (left.room.id, left.room_session) == ("r", "nc")
    assert (member.seat, member.room, hub.seated) == (seat, None, {member.id: member})
    assert hub.sweep(1.0 + JOIN_TIMEOUT) == []
    assert hub.leave_seat(member) is seat
    assert (member.seat, hub.seated) == (None, {})
    assert hub.leave_seat(member) is None
    assert not seat.closed  # the caller closes it


def test_chat_of_a_room_elsewhere_is_not_kept_for_a_resume_after_the_seat() -> None:
    hub, chat = Hub(), b"chat"
    member = open_session(hub, "alice")
    hub.take_seat(member, FakeSeat())
    member.outbox.append(chat)
    member.outbox.keep(chat)
    assert hub.leave_seat(member) is not None
    assert member.outbox.unconfirmed is None
    member.outbox.keep(chat)
    assert hub.leave_seat(member) is None
    assert member.outbox.unconfirmed is not None  # it may be of a room of this server


class FakeJoin:
    """A join of a room of another server that records whether it was withdrawn."""

    def __init__(self) -> None:
        self.withdrawn = False

    def withdraw(self) -> None:
        self.withdrawn = True


def test_join_elsewhere_is_known_until_it_has_ended() -> None:
    hub = Hub()
    member = open_session(hub, "alice")
    assert member.joining is None
    join = FakeJoin()
    hub.set_joining(member, join)
    assert member.joining is join
    hub.set_joining(member, None)
    assert member.joining is None
    assert not join.withdrawn  # the caller withdraws it


def test_closed_session_has_no_seat() -> None:
    hub = Hub()
    member = open_session(hub)
    assert hub.take_seat(member, FakeSeat()) is None
    hub.close(member)
    assert hub.seated == {}
