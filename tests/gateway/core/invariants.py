"""Invariants of the hub: its indexes agree, and no closed session or removed room is referenced."""

from __future__ import annotations

from collections import Counter

import msgspec

from gateway.core.hub import Hub
from gateway.core.room import Room
from gateway.core.session import Session
from gateway.core.transient import SESSION_DATA, session_key


def check(hub: Hub) -> None:
    """Check every index of the hub against the others."""
    for session in hub.sessions.values():
        _check_session(hub, session)
    for key, room in hub.rooms.items():
        assert key == room.key
        _check_room(hub, room)
    _check_virtuals(hub)
    _check_indexes(hub)


def _check_session(hub: Hub, session: Session) -> None:
    assert session.open
    assert hub.sessions[session.id] is session
    assert session.connection is None or session.expires_at is None
    room = hub.room_of(session)
    assert (room is None) is (session.room is None)
    assert room is None or room.members[session.id] is session
    assert session.join_by is None or (room is None and not session.is_internal and not session.userid)
    assert bool(session.room_session_id) is (room is not None)
    assert session.evicted_by is None or room is not None
    assert not session.virtuals or session.is_internal
    for other in hub.sessions.values():
        same = other.backend.id == session.backend.id
        assert (hub.find(session.backend, other.id) is other) is same
        assert same or not hub.in_same_call(session, other)


def _check_room(hub: Hub, room: Room) -> None:
    assert room.members or room.virtuals
    assert room.in_call <= set(room.members)
    for id, member in room.members.items():
        assert hub.sessions[id] is member
        assert member.room == room.key
        assert member.backend.id == room.key.backend
    for id, virtual in room.virtuals.items():
        assert hub.virtuals[id] is virtual
        assert virtual.room == room.key
        assert virtual.owner.backend.id == room.key.backend
    present = {*room.members, *room.virtuals}
    assert {key for key in room.transient.values() if key.startswith(SESSION_DATA)} <= set(map(session_key, present))
    listed = [msgspec.json.decode(entry["sessionId"]) for entry in room.participants.every_entry()]
    assert len(listed) == len(set(listed))
    assert set(listed) | room.participants.left_call <= present


def _check_virtuals(hub: Hub) -> None:
    of_owners = [virtual for session in hub.sessions.values() for virtual in session.virtuals.values()]
    of_rooms = [virtual for room in hub.rooms.values() for virtual in room.virtuals.values()]
    assert {virtual.id for virtual in of_owners} == {virtual.id for virtual in of_rooms} == set(hub.virtuals)
    assert len(of_owners) == len(of_rooms) == len(hub.virtuals)
    assert all(virtual.owner.virtuals[virtual.name] is virtual for virtual in of_owners)
    assert not hub.virtuals.keys() & hub.sessions.keys()


def _check_indexes(hub: Hub) -> None:
    sessions = hub.sessions.values()
    assert hub._resumable == {session.resume_id: session for session in sessions}
    assert hub.internals == {session.id: session for session in sessions if session.is_internal}
    users = {(session.backend.id, session.userid) for session in sessions if session.userid}
    assert set(hub._sessions_by_user) == users
    for (backend, userid), found in hub._sessions_by_user.items():
        assert found == {
            session.id: session for session in sessions if (session.backend.id, session.userid) == (backend, userid)
        }
    for (backend, room_session), session in hub._sessions_by_room_session.items():
        assert hub.sessions[session.id] is session
        assert session.room is not None
        assert (session.backend.id, session.room_session_id) == (backend, room_session)
    counted = Counter(session.backend.id for session in sessions if not session.is_internal)
    assert all(hub._counts.of_backend(backend) == count for backend, count in counted.items())
    assert sum(hub._counts._by_backend.values()) == counted.total()
    deadlines = {
        session.id: session for session in sessions if session.expires_at is not None or session.join_by is not None
    }
    assert hub._deadlines == deadlines
