"""The sessions and rooms of this server, and every change of their state but call membership (``call_membership``).

Invariant 1, core is atomic: nothing here awaits. A change takes ``now`` where time matters, in seconds of a monotonic
clock (unless its docstring names another one), and returns values that describe the change (``gateway.core.changes``),
from which the flows send messages.

Invariant 9, isolation: look-ups by session, user, room or Nextcloud session always name the backend.

Source: reference 2.5, 2.8, 3.5, 4, 7, 10.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import cast

from msgspec import Raw

from gateway.core.backends import base_of
from gateway.core.changes import (
    JoinTimedOut,
    RoomJoined,
    RoomLeft,
    SessionClosed,
    SessionExpired,
)
from gateway.core.ids import ConnectionId, ResumeId, RoomSessionId, SessionId, random_part
from gateway.core.limits import Backend
from gateway.core.pending import PendingJoins
from gateway.core.permissions import Permissions
from gateway.core.room import PING_INTERVAL, Room, RoomKey
from gateway.core.seat import JoinElsewhere, Seat
from gateway.core.session import JOIN_TIMEOUT, Session
from gateway.core.session_counts import SessionCounts
from gateway.core.transient import TransientChange, deadline, session_key
from gateway.core.transient_deadlines import TransientDeadlines
from gateway.core.virtual import VirtualSession, VirtualSessionLeft


class Hub:
    """The registry of sessions (by each of their ids), rooms and their deadlines."""

    def __init__(self) -> None:
        self.sessions: dict[str, Session] = {}  # by SessionId; str, so that a look-up costs no conversion
        self.rooms: dict[RoomKey, Room] = {}
        self.internals: dict[SessionId, Session] = {}  # internal clients of all backends
        self.virtuals: dict[str, VirtualSession] = {}  # by SessionId
        self.pending_joins = PendingJoins()
        self.seated: dict[SessionId, Session] = {}  # sessions in rooms of other servers
        self._resumable: dict[ResumeId, Session] = {}
        self._random_parts: set[str] = set()  # of the public and resume ids of all sessions
        self._sessions_by_user: dict[tuple[str, str], dict[SessionId, Session]] = {}
        self._sessions_by_room_session: dict[tuple[str, RoomSessionId], Session] = {}
        self._counts = SessionCounts()
        self._deadlines: dict[SessionId, Session] = {}  # sessions with an expiry or a join deadline
        self._transient_deadlines = TransientDeadlines(self._deadline_of_value)

    # -- look-ups

    def find(self, backend: Backend, session: str) -> Session | None:
        """Return an open session of this backend by its public id."""
        found = self.sessions.get(session)
        return found if found is not None and found.backend.id == backend.id else None

    def find_virtual(self, backend: Backend, session: str) -> VirtualSession | None:
        """Return a virtual session of this backend by its public id."""
        found = self.virtuals.get(session)
        return found if found is not None and found.owner.backend.id == backend.id else None

    def find_resumable(self, resume_id: str) -> Session | None:
        """Return an open session by its resume id."""
        return self._resumable.get(ResumeId(resume_id))

    def count_of_network(self, network: int) -> int:
        """Return how many sessions clients of a network have, connected or not."""
        return self._counts.of_network(network)

    def resembles_an_id(self, text: str) -> bool:
        """Return whether the text begins with the random part of a public id or resume id of an open session."""
        return random_part(text) in self._random_parts

    def sessions_of_user(self, backend: Backend, userid: str) -> Sequence[Session]:
        """Return all sessions of an authenticated user."""
        return list(self._sessions_by_user.get((backend.id, userid), {}).values())

    def find_by_room_session(self, backend: str, room_session: str) -> Session | None:
        """Return the session that is registered with this Nextcloud session id at the backend of this id."""
        return self._sessions_by_room_session.get((backend, RoomSessionId(room_session)))

    def room_of(self, session: Session) -> Room | None:
        """Return the room that the session is in."""
        return None if session.room is None else self.rooms[session.room]

    def room(self, backend: Backend, room: str) -> Room | None:
        """Return a room of this backend."""
        return self.rooms.get(RoomKey(backend.id, room))

    def in_same_call(self, session: Session, other: Session | VirtualSession) -> bool:
        """Return whether both are in the same call (9.3).

        As ``other``, an internal client counts as being in the call of its room.
        """
        room = self.room_of(session)
        if room is None or session.room != other.room or session.id not in room.in_call:
            return False
        if isinstance(other, VirtualSession):
            return other.in_call
        return other.is_internal or other.id in room.in_call

    def replace_backends(self, by_id: Callable[[str], Backend | None]) -> None:
        """Apply changed backend settings to the sessions; sessions of a removed backend keep the old ones.

        ``session.url`` becomes a base URL of the changed settings (3.6).
        """
        for session in self.sessions.values():
            changed = by_id(session.backend.id)
            if changed is not None and changed is not session.backend:
                session.backend, session.url = changed, base_of(changed, session.url)

    # -- sessions

    def open(self, session: Session, now: float, network: int | None = None) -> None:
        """Add a session; count a client's session for ``network``, the network of its address.

        Raises:
            LimitReached: nothing has changed.
        """
        backend = session.backend
        if session.is_internal:
            self.internals[session.id] = session
        else:
            self._counts.add(session, network)
        self.sessions[session.id] = session
        self._resumable[session.resume_id] = session
        self._random_parts.update((random_part(session.id), random_part(session.resume_id)))
        if session.userid:
            self._sessions_by_user.setdefault((backend.id, session.userid), {})[session.id] = session
        self._start_join_timer(session, now)

    def attach(self, session: Session, connection: ConnectionId) -> ConnectionId | None:
        """Attach a connection to the session and return the connection that it replaces."""
        displaced = session.attach(connection)
        self._update_deadline(session)
        return displaced

    def detach(self, session: Session, connection: ConnectionId, now: float) -> bool:
        """Detach a lost connection; return ``False`` when another connection has replaced it."""
        if not (session.open and session.detach(connection, now)):
            return False
        self._update_deadline(session)
        return True

    def close(self, session: Session) -> SessionClosed | None:
        """End a session for good; return ``None`` when it is closed already."""
        if not session.open:
            return None
        left = self.leave(session)
        self.leave_seat(session)
        virtuals = tuple(self.remove_virtual(virtual) for virtual in list(session.virtuals.values()))
        session.open = False
        backend = session.backend
        if session.is_internal:
            del self.internals[session.id]
        else:
            self._counts.remove(session)
        del self.sessions[session.id]
        del self._resumable[session.resume_id]
        self._random_parts.difference_update((random_part(session.id), random_part(session.resume_id)))
        self._deadlines.pop(session.id, None)
        if session.userid:
            sessions_of_user = self._sessions_by_user[backend.id, session.userid]
            del sessions_of_user[session.id]
            if not sessions_of_user:
                del self._sessions_by_user[backend.id, session.userid]
        return SessionClosed(session, left, virtuals)

    def sweep(self, now: float) -> list[SessionExpired | JoinTimedOut]:
        """Return the sessions that have expired or not joined in time; the caller closes them."""
        expired: list[SessionExpired | JoinTimedOut] = []
        for session in self._deadlines.values():
            if session.expires_at is not None and session.expires_at <= now:
                expired.append(SessionExpired(session))
            elif session.join_by is not None and session.join_by <= now:
                expired.append(JoinTimedOut(session))
        return expired

    # -- rooms

    def join(
        self,
        session: Session,
        room_id: str,
        properties: Raw,
        *,
        room_session: str,
        room_userid: str,
        permissions: Iterable[str] | None,
        now: float,
    ) -> RoomJoined:
        """Move a session from its present room, if any, into another.

        ``room_session`` is Nextcloud's session id, empty when the client gave none. An existing room keeps its
        properties; ``permissions`` replace the session's unless ``None`` (4.1).
        """
        left = self.leave(session)
        key = RoomKey(session.backend.id, room_id)
        room = self.rooms.get(key)
        if room is None:
            room = self.rooms[key] = Room(key, properties.copy(), now)
        if permissions is not None:
            self.set_permissions(session, permissions)
        session.room = key
        session.room_userid = room_userid
        session.senders.clear()
        session.join_entries.clear()
        session.join_by = None
        self._update_deadline(session)
        self.register(session, room_session)
        others = tuple(room.members.values())
        room.members[session.id] = session
        return RoomJoined(session, room, others, left)

    def register(self, session: Session, room_session: str) -> None:
        """Register the session under Nextcloud's session id, or under its public id when there is none (4.1).

        Nextcloud must have confirmed the id for this session: other members know the id, so a client may name an id
        that is not its own.
        """
        self._unregister(session)
        session.join_entries.clear()
        session.room_session_given = bool(room_session)
        session.room_session_id = RoomSessionId(room_session or session.id)
        self._sessions_by_room_session[session.backend.id, session.room_session_id] = session

    def register_public_id(self, session: Session) -> None:
        """Register the session under its public id, too, besides its Nextcloud session id, until it leaves (4.1).

        The Nextcloud session id stays registered, since Nextcloud withdraws permissions and disinvites by it.
        """
        if str(session.room_session_id) == session.id:
            if not session.room_session_given:
                self.register(session, session.id)
            return
        confirmed = session.room_session_id
        self.register(session, session.id)
        session.replaced_room_session_id = confirmed
        self._sessions_by_room_session[session.backend.id, confirmed] = session

    def leave(self, session: Session, *, notify_backend: bool = True) -> RoomLeft | None:
        """Remove a session from its room; return ``None`` when it is in no room.

        Without ``notify_backend`` the returned change asks for no leave request to Nextcloud.
        """
        if session.room is None:
            return None
        room = self.rooms[session.room]
        del room.members[session.id]
        room.in_call.discard(session.id)
        data = room.transient.remove(session_key(session.id))
        reported = session.room_session_id if notify_backend and session.room_session_given else RoomSessionId("")
        self._unregister(session)
        session.room = None
        session.room_userid = ""
        session.room_session_given = False
        session.room_session_id = RoomSessionId("")
        session.evicted_by = None
        session.outbox.forget_unconfirmed()
        session.senders.clear()
        session.join_entries.clear()
        self._forget(room, session.id)
        return RoomLeft(session, room.key, tuple(room.members.values()), reported, data)

    def evict(self, session: Session, event: bytes) -> None:
        """Mark a session without a connection to end once the queued ``event`` is delivered (2.7, 5.6).

        The session leaves the call at once, and cannot enter it. A session that leaves the room before the delivery
        loses the mark.
        """
        if session.evicted_by is None:
            session.evicted_by = event
        room = self.room_of(session)
        if room is not None:
            room.in_call.discard(session.id)

    def restart_join_timer(self, session: Session, now: float) -> None:
        """Give an anonymous session that left its room a new deadline to join one (4.2)."""
        self._start_join_timer(session, now)

    def pause_join_timer(self, session: Session) -> None:
        """Clear the deadline to join a room while another server is asked (12.1).

        The caller calls ``restart_join_timer`` if the other server does not accept the join.
        """
        session.join_by = None
        self._update_deadline(session)

    def set_joining(self, session: Session, join: JoinElsewhere | None) -> None:
        """Register a join of another server's room that is under way; ``None`` once it has ended."""
        session.joining = join

    def take_seat(self, session: Session, seat: Seat) -> RoomLeft | None:
        """Move a session from its present room, if any, to a room of another server (12.1)."""
        left = self.leave(session)
        session.seat = seat
        self.seated[session.id] = session
        self.pause_join_timer(session)
        return left

    def leave_seat(self, session: Session) -> Seat | None:
        """Take a session out of the room of another server; the caller closes the returned seat."""
        seat, session.seat = session.seat, None
        if seat is not None:
            session.outbox.forget_unconfirmed()
        self.seated.pop(session.id, None)
        return seat

    def delete_room(self, room: Room) -> list[RoomLeft]:
        """Remove all members from a room (4.6)."""
        return [left for member in list(room.members.values()) if (left := self.leave(member)) is not None]

    def set_permissions(self, session: Session, names: Iterable[str]) -> None:
        """Replace the permissions of a session (8)."""
        session.permissions = Permissions.of(names)

    def change_properties(self, room: Room, properties: Raw) -> bool:
        """Store new properties; ``False`` when they are the same, byte for byte (4.6)."""
        if bytes(room.properties) == bytes(properties):
            return False
        room.properties = properties.copy()
        return True

    def due_for_ping(self, now: float) -> list[Room]:
        """Return the rooms due for a ping to Nextcloud, and schedule their next one (4.5)."""
        due = [room for room in self.rooms.values() if room.ping_at <= now]
        for room in due:
            room.ping_at = now + PING_INTERVAL
        return due

    # -- transient data

    def set_transient(self, room: Room, key: str, value: Raw, ttl: int | None, now: float) -> TransientChange | None:
        """Store a value for ``ttl`` nanoseconds; return ``None`` when the stored value was equal (10)."""
        expires_at = deadline(now, ttl)
        changed = room.transient.set(key, value, expires_at)
        if expires_at is not None:
            self._transient_deadlines.add(expires_at, room.key, key)
        return changed

    def remove_transient(self, room: Room, key: str) -> TransientChange | None:
        """Remove a value; return ``None`` when there is none."""
        return room.transient.remove(key)

    def expire_transient(self, now: float) -> list[tuple[Room, TransientChange]]:
        """Remove the expired values, and return each with its room."""
        removed: list[tuple[Room, TransientChange]] = []
        while (expired := self._transient_deadlines.take(now)) is not None:
            room, key = self.rooms[expired[0]], expired[1]
            removed.append((room, cast("TransientChange", room.transient.remove(key))))  # the deadline is a value's
        return removed

    def next_transient_deadline(self) -> float | None:
        """Return the earliest expiry time of a transient value; ``None`` when none expires."""
        return self._transient_deadlines.next_expiry()

    # -- virtual sessions and internal clients

    def add_virtual(self, virtual: VirtualSession) -> Room:
        """Add a virtual session to its room, which must exist; its name must be new for its owner."""
        room = self.rooms[virtual.room]
        self.virtuals[virtual.id] = room.virtuals[virtual.id] = virtual
        virtual.owner.virtuals[virtual.name] = virtual
        return room

    def remove_virtual(self, virtual: VirtualSession) -> VirtualSessionLeft:
        """Remove a virtual session, and its room if it was the last session there."""
        room = self.rooms[virtual.room]
        del self.virtuals[virtual.id], room.virtuals[virtual.id], virtual.owner.virtuals[virtual.name]
        data = room.transient.remove(session_key(virtual.id))
        self._forget(room, virtual.id)
        return VirtualSessionLeft(virtual, tuple(room.members.values()), data)

    def set_flags(self, virtual: VirtualSession, flags: int) -> bool:
        """Set the flags of a virtual session (7.5); ``False`` when they are unchanged."""
        changed = virtual.flags != flags
        virtual.flags = flags
        return changed

    def set_call_flags(self, session: Session | VirtualSession, flags: int) -> bool:
        """Set the in-call flags of an internal client or virtual session (11.3); ``False`` when they are unchanged."""
        changed = session.call_flags != flags
        session.call_flags = flags
        return changed

    # -- private

    def _deadline_of_value(self, key: RoomKey, name: str) -> float | None:
        room = self.rooms.get(key)
        return None if room is None else room.transient.expires_at(name)

    def _forget(self, room: Room, session: SessionId) -> None:
        """Remove a session from the list of participants, and remove a room without sessions."""
        room.participants.remove(session)
        if not room.members and not room.virtuals:
            del self.rooms[room.key]

    def _unregister(self, session: Session) -> None:
        for id in (session.room_session_id, session.replaced_room_session_id):
            if self._sessions_by_room_session.get((session.backend.id, id)) is session:
                del self._sessions_by_room_session[session.backend.id, id]
        session.replaced_room_session_id = RoomSessionId("")

    def _start_join_timer(self, session: Session, now: float) -> None:
        if not session.userid and not session.is_internal:
            session.join_by = now + JOIN_TIMEOUT
            self._update_deadline(session)

    def _update_deadline(self, session: Session) -> None:
        if session.expires_at is None and session.join_by is None:
            self._deadlines.pop(session.id, None)
        else:
            self._deadlines[session.id] = session
