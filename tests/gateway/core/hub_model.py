"""A simple model of the hub: who is there, in which room, and in its call; what is done to one is done to the other."""

from __future__ import annotations

from itertools import count

from msgspec import Raw

from gateway.core.hub import Hub
from gateway.core.ids import ConnectionId, SessionId
from gateway.core.limits import Backend
from gateway.core.room import Room, RoomKey
from gateway.core.session import ClientType, Session
from gateway.core.transient import NANOSECONDS
from gateway.core.virtual import VirtualSession, VirtualSessionLeft
from tests.gateway.core.members import CLOUD, NOTHING

LIMITED = Backend("limited", ("https://limited.example/",), "secret", session_limit=3)


class HubModel:
    """A hub and what is true of it."""

    def __init__(self) -> None:
        super().__init__()
        self.hub = Hub()
        self.now = 0.0
        self.configured = {"cloud": CLOUD, "limited": LIMITED}  # backends
        self.known = dict(self.configured)  # those, and of the ones that are gone the last
        self.connections = 0
        self.names = count(1)
        # The model: who is there, in which room, and in its call.
        self.open: list[Session] = []
        self.places: dict[str, RoomKey] = {}  # sessions and virtual sessions
        self.in_call: set[str] = set()
        self.virtuals: dict[str, VirtualSession] = {}
        self.registered: dict[tuple[str, str], str] = {}  # sessions by Nextcloud's ids

    def came(self, made: Session, room: str) -> None:
        self.open.append(made)
        self.connect_to(made)
        if room:
            self.enter(made, room)

    def connect_to(self, it: Session) -> None:
        self.connections += 1
        before = it.connection
        assert self.hub.attach(it, ConnectionId(self.connections)) == before

    def enter(self, it: Session, room: str, nc: str = "", permissions: list[str] | None = None) -> None:
        self.gone(it)
        fact = self.hub.join(it, room, NOTHING, room_session=nc, room_userid="g", permissions=permissions, now=self.now)
        key = RoomKey(it.backend.id, room)
        assert {other.id for other in fact.others} == self.at(key) - self.virtuals.keys()
        self.places[it.id] = key
        self.registered[key.backend, nc or it.id] = it.id

    def end(self, it: Session) -> None:
        place, owned = self.places.get(it.id), set(it.virtuals.values())
        closed = self.hub.close(it)
        assert closed is not None
        assert (closed.left is None) is (place is None)
        assert {fact.virtual for fact in closed.virtuals} == owned
        self.gone(it)
        for fact in closed.virtuals:
            self.virtual_gone(fact)
        assert not it.virtuals
        self.open.remove(it)

    def gone(self, it: Session | VirtualSession) -> None:
        self.places.pop(it.id, None)
        self.in_call.discard(it.id)
        self.unregister(it)

    def unregister(self, it: Session | VirtualSession) -> None:
        for key in [key for key, id in self.registered.items() if id == it.id]:
            del self.registered[key]

    def at(self, key: RoomKey) -> set[str]:
        return {id for id, place in self.places.items() if place == key}

    def everybody(self, room: Room, value: bool) -> None:
        present = self.at(room.key)
        fact = self.hub.set_all_in_call(room, value)
        if value:
            self.in_call |= {
                other.id for other in self.open if other.id in present and other.client_type is ClientType.CLIENT
            }
        else:
            assert {other.id for other in fact.ended} == (present & self.in_call) - self.virtuals.keys()
            self.in_call -= present

    def call_by_phone(self, owner: Session, name: str, room: RoomKey) -> None:
        id = SessionId(f"virtual{next(self.names)}")
        made = VirtualSession(id, owner, name, room, userid="", user=NOTHING, flags=0, call_flags=9, actor=None)
        assert self.hub.add_virtual(made).key == room
        self.virtuals[id], self.places[id] = made, room

    def virtual_gone(self, fact: VirtualSessionLeft) -> None:
        self.gone(fact.virtual)
        del self.virtuals[fact.virtual.id]
        assert fact.virtual.name not in fact.virtual.owner.virtuals

    def put(self, room: Room, key: str, value: bytes, seconds: int | None) -> None:
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
