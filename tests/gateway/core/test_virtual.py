"""Virtual sessions and internal clients in the core (reference 3.4, 3.5, 7.1, 7.3, 7.4, 11)."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import Raw

from gateway.core import call_membership, participants
from gateway.core.hub import Hub
from gateway.core.ids import SessionId
from gateway.core.limits import Backend
from gateway.core.room import Room
from gateway.core.session import ClientType, Session
from gateway.core.transient import TransientChange, session_key
from gateway.core.virtual import VirtualSession
from tests.gateway.core.members import CLOUD, OTHER_BACKEND, join_room, open_session, session

LIMITED_BACKEND = Backend("limited", ("https://limited.example/",), "secret", session_limit=1)
ONE = Raw(b"1")


def open_internal_session(hub: Hub, backend: Backend = CLOUD, features: tuple[str, ...] = ()) -> Session:
    made = session("", backend, features, client_type=ClientType.INTERNAL)
    hub.open(made, 0.0)
    return made


def add_virtual_session(hub: Hub, owner: Session, room: Room, name: str = "p", flags: int = 9) -> VirtualSession:
    virtual = VirtualSession(
        SessionId(f"virtual {name}"), owner, name, room.key, userid="", user=ONE, flags=0, call_flags=flags, actor=None
    )
    assert hub.add_virtual(virtual) is room
    return virtual


def shown_entries(room: Room, *entries: str) -> list[dict[str, object]]:
    given = [msgspec.json.decode(text, type=dict[str, Raw]) for text in entries]
    completed: list[dict[str, object]] = msgspec.json.decode(msgspec.json.encode(participants.complete(given, room, 5)))
    return completed


# -- internal clients


def test_internal_sessions_have_no_session_limit_and_no_join_timer() -> None:
    hub = Hub()
    clients = [
        open_internal_session(hub, LIMITED_BACKEND),
        open_internal_session(hub, LIMITED_BACKEND),
        open_session(hub, "alice", LIMITED_BACKEND),
    ]
    assert hub.sweep(1e9) == []
    assert set(hub.internals.values()) == set(clients[:2])
    for client in clients:
        hub.close(client)
    assert not hub.internals
    open_session(hub, "bob", LIMITED_BACKEND)


# reference 3.4-c
@pytest.mark.parametrize(
    ("client_type", "features", "flags"),
    [(ClientType.INTERNAL, (), 3), (ClientType.INTERNAL, ("internal-incall",), 0), (ClientType.CLIENT, (), 0)],
)
def test_initial_call_flags_of_an_internal_client(
    client_type: ClientType, features: tuple[str, ...], flags: int
) -> None:
    assert session("", CLOUD, features, client_type=client_type).call_flags == flags


def test_internal_client_outside_of_the_call_can_be_subscribed_to_but_cannot_subscribe() -> None:
    hub = Hub()
    alice, bridge = open_session(hub, "alice"), open_internal_session(hub)
    room = join_room(hub, alice)
    join_room(hub, bridge)
    assert not hub.in_same_call(alice, bridge)
    call_membership.set_in_call(room, alice.id, True)
    assert hub.in_same_call(alice, bridge)
    assert not hub.in_same_call(bridge, alice)


def test_virtual_session_can_be_subscribed_to_once_it_is_in_the_call() -> None:
    hub = Hub()
    alice, bridge = open_session(hub, "alice"), open_internal_session(hub)
    room = join_room(hub, alice)
    virtual = add_virtual_session(hub, bridge, room)
    call_membership.set_in_call(room, alice.id, True)
    assert not hub.in_same_call(alice, virtual)  # its initial flags do not count
    call_membership.set_in_call(room, virtual.id, True)
    assert hub.in_same_call(alice, virtual)
    hub.leave(alice)
    assert not hub.in_same_call(alice, virtual)


def test_setting_the_same_call_flags_again_is_no_change() -> None:
    hub = Hub()
    bridge = open_internal_session(hub)
    assert hub.set_call_flags(bridge, 1)
    assert not hub.set_call_flags(bridge, 1)


# reference 7.4-b
def test_setting_all_in_call_skips_internal_and_virtual_sessions_and_clearing_does_not() -> None:
    hub = Hub()
    alice, bridge = open_session(hub, "alice"), open_internal_session(hub)
    room = join_room(hub, alice)
    join_room(hub, bridge)
    virtual = add_virtual_session(hub, bridge, room)
    assert call_membership.set_all_in_call(room, True).notified == (alice,)
    assert room.in_call == {alice.id}
    assert not virtual.in_call
    call_membership.set_in_call(room, virtual.id, True)
    call_membership.set_in_call(room, alice.id, False)
    change = call_membership.set_all_in_call(room, False)
    assert (change.notified, change.ended) == ((alice, bridge), ())
    assert not virtual.in_call
    assert call_membership.set_all_in_call(room, False).notified == ()


# -- virtual sessions


def test_virtual_session_is_found_in_its_backend_only() -> None:
    hub = Hub()
    room = join_room(hub, open_session(hub))
    virtual = add_virtual_session(hub, open_internal_session(hub), room)
    assert hub.find_virtual(CLOUD, virtual.id) is virtual
    assert hub.find_virtual(OTHER_BACKEND, virtual.id) is None
    assert hub.find(CLOUD, virtual.id) is None


# reference 4.2-d
def test_room_is_removed_with_its_last_member_or_virtual_session() -> None:
    hub = Hub()
    alice, bridge = open_session(hub), open_internal_session(hub)
    room = join_room(hub, alice)
    virtual = add_virtual_session(hub, bridge, room)
    hub.set_transient(room, session_key(virtual.id), ONE, None, 0.0)
    hub.leave(alice)
    assert hub.rooms
    left = hub.remove_virtual(virtual)
    assert (left.virtual, left.remaining, left.data) == (
        virtual,
        (),
        TransientChange(session_key(virtual.id), None, ONE),
    )
    assert not hub.rooms
    assert not hub.virtuals
    assert not bridge.virtuals


def test_end_of_an_internal_session_ends_its_virtual_sessions() -> None:
    hub = Hub()
    alice, bridge = open_session(hub, "alice"), open_internal_session(hub)
    room = join_room(hub, alice)
    virtuals = [add_virtual_session(hub, bridge, room, name) for name in "ab"]
    closed = hub.close(bridge)
    assert closed is not None
    assert [change.virtual for change in closed.virtuals] == virtuals
    assert [change.remaining for change in closed.virtuals] == [(alice,), (alice,)]
    assert not room.virtuals


def test_setting_the_same_flags_of_a_virtual_session_again_is_no_change() -> None:
    hub = Hub()
    virtual = add_virtual_session(hub, open_internal_session(hub), join_room(hub, open_session(hub)))
    assert hub.set_flags(virtual, 4)
    assert not hub.set_flags(virtual, 4)


# -- the list of participants


# reference 7.3-c
def test_guest_entries_get_the_user_id_that_nextcloud_assigned_for_the_room() -> None:
    hub = Hub()
    guest = open_session(hub, "")
    hub.join(guest, "r", Raw(b"{}"), room_session="", room_userid="mail", permissions=None, now=0.0)
    (room,) = hub.rooms.values()
    assert shown_entries(room, f'{{"sessionId":"{guest.id}"}}') == [{"sessionId": guest.id, "userId": "mail"}]
    assert shown_entries(room, f'{{"sessionid":"{guest.id}","userId":""}}') == [
        {"sessionid": guest.id, "userId": "mail"}
    ]
    assert shown_entries(room, f'{{"sessionId":"{guest.id}","userId":"own"}}') == [
        {"sessionId": guest.id, "userId": "own"}
    ]
    assert shown_entries(room, '{"sessionId":"nobody"}', '{"userId":null}') == [
        {"sessionId": "nobody"},
        {"userId": None},
    ]


# reference 7.3-c
def test_internal_and_virtual_sessions_are_added_in_this_order() -> None:
    hub = Hub()
    alice, plain, featured = open_session(hub), open_internal_session(hub), open_internal_session(hub, features=("a",))
    room = join_room(hub, alice)
    first, second = add_virtual_session(hub, plain, room, "a"), add_virtual_session(hub, plain, room, "b", flags=1)
    join_room(hub, plain)
    join_room(hub, featured)
    assert shown_entries(room, '{"sessionId":"x","n":1.50}') == [
        {"sessionId": "x", "n": 1.5},
        {"inCall": 3, "sessionId": plain.id, "lastPing": 5, "internal": True},
        {"inCall": 3, "sessionId": featured.id, "lastPing": 5, "internal": True, "features": ["a"]},
        {"inCall": 9, "sessionId": first.id, "lastPing": 5, "virtual": True},
        {"inCall": 1, "sessionId": second.id, "lastPing": 5, "virtual": True},
    ]


# reference 7.3-e
def test_virtual_session_that_nextcloud_lists_is_not_added_again() -> None:
    hub = Hub()
    room = join_room(hub, open_session(hub))
    virtual = add_virtual_session(hub, open_internal_session(hub), room)
    listed = f'{{"sessionId":"{virtual.id}","inCall":0}}'
    assert shown_entries(room, listed) == [{"sessionId": virtual.id, "inCall": 9, "virtual": True}]
    named = f'{{"sessionId":"{virtual.id}","inCall":0,"userId":"u"}}'
    assert shown_entries(room, named) == [{"sessionId": virtual.id, "inCall": 0, "userId": "u"}]
