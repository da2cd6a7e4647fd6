"""A simple model of the hub: open sessions, rooms and call membership; each operation changes hub and model."""

from __future__ import annotations

from itertools import count

from msgspec import Raw

from gateway.core import call_membership
from gateway.core.hub import Hub
from gateway.core.ids import ConnectionId, SessionId
from gateway.core.limits import Backend
from gateway.core.room import Room, RoomKey
from gateway.core.session import ClientType, Session
from gateway.core.transient import NANOSECONDS
from gateway.core.virtual import VirtualSession, VirtualSessionLeft
from tests.gateway.core.members import CLOUD, EMPTY_OBJECT

LIMITED_BACKEND = Backend("limited", ("https://limited.example/",), "secret", session_limit=3)


class HubModel:
    """A hub and the state that it must have."""

    def __init__(self) -> None:
        super().__init__()
        self.hub = Hub()
        self.now = 0.0
        self.configured = {"cloud": CLOUD, "limited": LIMITED_BACKEND}  # backends
        self.known = dict(self.configured)  # backends, also removed ones with their last settings
        self.connections = 0
        self.virtual_numbers = count(1)
        # The model: sessions, their rooms, their call membership.
        self.open: list[Session] = []
        self.rooms_of: dict[str, RoomKey] = {}  # sessions and virtual sessions
        self.in_call: set[str] = set()
        self.virtuals: dict[str, VirtualSession] = {}
        self.registered: dict[tuple[str, str], str] = {}  # sessions by Nextcloud's ids

    def record_opened(self, new: Session, room: str) -> None:
        self.open.append(new)
        self.connect_to(new)
        if room:
            self.enter(new, room)

    def connect_to(self, session: Session) -> None:
        self.connections += 1
        before = session.connection
        assert self.hub.attach(session, ConnectionId(self.connections)) == before

    def enter(self, session: Session, room: str, nc: str = "", permissions: list[str] | None = None) -> None:
        self.forget(session)
        change = self.hub.join(
            session, room, EMPTY_OBJECT, room_session=nc, room_userid="g", permissions=permissions, now=self.now
        )
        key = RoomKey(session.backend.id, room)
        assert {other.id for other in change.others} == self.members_of(key) - self.virtuals.keys()
        self.rooms_of[session.id] = key
        self.registered[key.backend, nc or session.id] = session.id

    def end(self, session: Session) -> None:
        room, owned = self.rooms_of.get(session.id), set(session.virtuals.values())
        closed = self.hub.close(session)
        assert closed is not None
        assert (closed.left is None) is (room is None)
        assert {change.virtual for change in closed.virtuals} == owned
        self.forget(session)
        for change in closed.virtuals:
            self.forget_virtual(change)
        assert not session.virtuals
        self.open.remove(session)

    def forget(self, session: Session | VirtualSession) -> None:
        self.rooms_of.pop(session.id, None)
        self.in_call.discard(session.id)
        self.unregister(session)

    def unregister(self, session: Session | VirtualSession) -> None:
        for key in [key for key, id in self.registered.items() if id == session.id]:
            del self.registered[key]

    def members_of(self, key: RoomKey) -> set[str]:
        return {id for id, room in self.rooms_of.items() if room == key}

    def may_enter_call(self, id: str) -> bool:
        """Return whether a session or virtual session is not marked as evicted."""
        return all(session.evicted_by is None for session in self.open if session.id == id)

    def set_everyone_in_call(self, room: Room, value: bool) -> None:
        present = self.members_of(room.key)
        change = call_membership.set_all_in_call(room, value)
        if value:
            self.in_call |= {
                other.id
                for other in self.open
                if other.id in present and other.client_type is ClientType.CLIENT and other.evicted_by is None
            }
        else:
            assert {other.id for other in change.ended} == (present & self.in_call) - self.virtuals.keys()
            self.in_call -= present

    def create_virtual(self, owner: Session, name: str, room: RoomKey) -> None:
        id = SessionId(f"virtual{next(self.virtual_numbers)}")
        new = VirtualSession(id, owner, name, room, userid="", user=EMPTY_OBJECT, flags=0, call_flags=9, actor=None)
        assert self.hub.add_virtual(new).key == room
        self.virtuals[id], self.rooms_of[id] = new, room

    def forget_virtual(self, change: VirtualSessionLeft) -> None:
        self.forget(change.virtual)
        del self.virtuals[change.virtual.id]
        assert change.virtual.name not in change.virtual.owner.virtuals

    def set_transient_value(self, room: Room, key: str, value: bytes, seconds: int | None) -> None:
        ttl = None if seconds is None else seconds * NANOSECONDS
        before = room.transient.values().get(key)
        changed = self.hub.set_transient(room, key, Raw(value), ttl, self.now)
        assert (changed is None) is (before is not None and bytes(before) == value)
        assert room.transient.expires_at(key) == (self.now + seconds if seconds else None)

    def transient_deadlines(self) -> list[tuple[float, RoomKey, str]]:
        found = [
            (room.transient.expires_at(key), room.key, key)
            for room in self.hub.rooms.values()
            for key in room.transient.values()
        ]
        return [(at, room, key) for at, room, key in found if at is not None]
