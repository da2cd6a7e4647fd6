"""The hub under any order of events: it agrees with a simple model, and nothing is left when all have gone."""

from __future__ import annotations

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)
from msgspec import Raw

from gateway.core.hub import LimitReached
from gateway.core.ids import ConnectionId, SessionId
from gateway.core.limits import Backend
from gateway.core.room import RoomKey
from gateway.core.session import EXPIRY, ClientType, Session
from gateway.core.transient import session_key
from gateway.wire.backend import ParticipantEntry
from tests.gateway.core import invariants
from tests.gateway.core.hub_model import LIMITED, HubModel
from tests.gateway.core.members import CLOUD, session

CHANGED = Backend("limited", ("https://limited.example/",), "another secret", session_limit=1)

users = st.sampled_from(["", "alice", "bob"])
rooms = st.sampled_from(["r1", "r2"])
first_rooms = st.sampled_from(["", "r1", "r2"])  # most are in a room at once, or little would happen in them
nc_ids = st.sampled_from(["", "nc1", "nc2"])


class HubMachine(HubModel, RuleBasedStateMachine):
    """Two backends with the same room, user and Nextcloud session names."""

    sessions: Bundle[Session] = Bundle("sessions")

    # -- sessions

    @initialize(target=sessions, count=st.integers(0, 4), bridged=st.booleans())
    def begin(self, count: int, bridged: bool) -> MultipleResults[Session]:
        """Some are there already, or most of what happens would happen to nobody."""
        made = [session(f"user{number}") for number in range(count)] + [session(kind=ClientType.INTERNAL)] * bridged
        for it in made:
            self.hub.open(it, self.now)
            self.came(it, "r1")
        if bridged:
            self.call_by_phone(made[-1], "p", RoomKey(CLOUD.id, "r1"))
        return multiple(*made)

    @rule(target=sessions, user=users, name=st.sampled_from(["cloud", "limited"]), room=first_rooms)
    def connect(self, user: str, name: str, room: str) -> Session | MultipleResults[Session]:
        if name not in self.configured:
            return multiple()
        backend = self.configured[name]
        made = session(user, backend)
        before = sum(it.backend.id == name and it.client_type is ClientType.CLIENT for it in self.open)
        try:
            self.hub.open(made, self.now)
        except LimitReached:
            assert before >= backend.session_limit > 0
            return multiple()
        assert not backend.session_limit or before < backend.session_limit
        self.came(made, room)
        return made

    @rule(target=sessions, room=first_rooms)
    def connect_internal(self, room: str) -> Session:
        made = session("", CLOUD, kind=ClientType.INTERNAL)
        self.hub.open(made, self.now)
        self.came(made, room)
        return made

    @rule(it=sessions)
    def attach(self, it: Session) -> None:
        if it.open:  # its time may have been over
            self.connect_to(it)

    @rule(it=sessions, age=st.integers(0, 2))
    def lose(self, it: Session, age: int) -> None:
        current = it.connection
        connection = ConnectionId((current or self.connections) - age)
        assert self.hub.detach(it, connection, self.now) is (it.open and current == connection)

    @rule(it=consumes(sessions))
    def close(self, it: Session) -> None:
        if it.open:
            self.end(it)
        assert self.hub.close(it) is None
        assert self.hub.leave(it) is None

    @rule(data=st.data())
    def close_a_room_full_in_any_order(self, data: st.DataObject) -> None:
        for key in list(self.hub.rooms)[:1]:
            for it in data.draw(st.permutations(list(self.hub.rooms[key].members.values()))):
                self.end(it)
            assert key not in self.hub.rooms or self.hub.rooms[key].virtuals

    @rule(seconds=st.sampled_from([1.0, 11.0, EXPIRY + 1]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(seconds=st.sampled_from([0.0, 11.0, EXPIRY + 1]))
    def expire(self, seconds: float) -> None:
        """What the housekeeper does: end those whose time is over."""
        self.now += seconds
        for fact in self.hub.sweep(self.now):
            self.end(fact.session)
        assert self.hub.sweep(self.now) == []

    @rule(
        limited=st.sampled_from([None, LIMITED, CHANGED]),
        cloud=st.sampled_from([None, CLOUD, Backend("cloud", CLOUD.urls, "new")]),
    )
    def reload(self, limited: Backend | None, cloud: Backend | None) -> None:
        """Backends change, vanish and come back; who is there stays."""
        self.configured = {backend.id: backend for backend in (limited, cloud) if backend is not None}
        self.known |= self.configured
        self.hub.replace_backends(self.configured.get)
        assert all(it.backend is self.known[it.backend.id] for it in self.open if it.backend.id in self.configured)

    # -- rooms

    @rule(it=sessions, room=rooms, nc=nc_ids, permissions=st.sampled_from([None, [], ["publish-audio"]]))
    def join(self, it: Session, room: str, nc: str, permissions: list[str] | None) -> None:
        if it.open:
            self.enter(it, room, nc, permissions)

    @rule(it=sessions, nc=nc_ids)
    def register(self, it: Session, nc: str) -> None:
        if it.room is not None:
            self.unregister(it)
            self.hub.register(it, nc)
            self.registered[it.backend.id, nc or it.id] = it.id
            assert self.hub.of_room_session(it.backend.id, nc or it.id) is it

    @rule(it=sessions)
    def leave(self, it: Session) -> None:
        left = self.hub.leave(it)
        assert (left is not None) is (it.id in self.places)
        if left is not None:
            assert it not in left.remaining
            self.gone(it)
            self.hub.restart_join_timer(it, self.now)

    @rule(it=sessions)
    def evict(self, it: Session) -> None:
        """What the flows do with a session that may not stay, when it is away."""
        if it.open and it.room is not None:
            if it.connection is not None:
                assert self.hub.detach(it, it.connection, self.now)
            self.hub.evict(it, b"the event")
            assert it.evicted_by == b"the event"

    @rule(it=sessions)
    def delete_room(self, it: Session) -> None:
        room = self.hub.room_of(it)
        if room is None:
            return
        present = self.at(room.key)
        virtuals = set(room.virtuals)
        for virtual in list(room.virtuals.values()):
            self.virtual_gone(self.hub.remove_virtual(virtual))
        left = self.hub.delete_room(room)
        assert {fact.session.id for fact in left} == present - virtuals
        for fact in left:
            self.gone(fact.session)
        assert room.key not in self.hub.rooms

    @rule(it=sessions, names=st.lists(st.sampled_from(["control", "publish-audio", "transient-data"])))
    def set_permissions(self, it: Session, names: list[str]) -> None:
        self.hub.set_permissions(it, names)
        assert [it.permissions.allows(name) for name in ("control", "transient-data")] == [
            name in names for name in ("control", "transient-data")
        ]

    @rule(it=sessions, properties=st.sampled_from([b"", b"{}", b"[1]"]))
    def change_properties(self, it: Session, properties: bytes) -> None:
        room = self.hub.room_of(it)
        if room is not None:
            before = bytes(room.properties)
            assert self.hub.change_properties(room, Raw(properties)) is (before != properties)
            assert bytes(room.properties) == properties

    # -- the call

    @rule(it=sessions, data=st.data(), value=st.booleans())
    def set_in_call(self, it: Session, data: st.DataObject, value: bool) -> None:
        """Of anybody, in this room or not, gone or not."""
        room = self.hub.room_of(it)
        if room is None:
            return
        others = st.sampled_from(sorted({*self.places, "nobody"}))
        who = data.draw(st.sampled_from(sorted(self.at(room.key))) | others)
        present = who in self.at(room.key)
        ended = self.hub.set_in_call(room, SessionId(who), value)
        assert (ended is not None) is (present and not value and who not in self.virtuals)
        if present:
            (self.in_call.add if value else self.in_call.discard)(who)

    @rule(name=st.sampled_from(["cloud", "limited"]), over=st.booleans())
    def meet(self, name: str, over: bool) -> None:
        """Everybody of a backend comes to one room and its call: otherwise that is rare."""
        for it in self.open:
            if it.backend.id == name and it.room != RoomKey(name, "r1"):
                self.enter(it, "r1")
        room = self.hub.rooms.get(RoomKey(name, "r1"))
        for id in sorted(self.at(RoomKey(name, "r1"))):
            assert room is not None
            self.hub.set_in_call(room, SessionId(id), True)
            self.in_call.add(id)
        if over and room is not None:
            self.everybody(room, False)

    @rule(it=sessions, value=st.booleans())
    def set_all(self, it: Session, value: bool) -> None:
        room = self.hub.room_of(it)
        if room is not None:
            self.everybody(room, value)

    @rule(it=sessions)
    def store_users(self, it: Session) -> None:
        room = self.hub.room_of(it)
        if room is not None:
            self.hub.store_users(room, [_entry(id) for id in sorted(self.at(room.key))])

    # -- virtual sessions

    @rule(data=st.data(), name=st.sampled_from(["p", "q"]))
    def add_virtual(self, data: st.DataObject, name: str) -> None:
        rooms = sorted(key for key in self.hub.rooms if key.backend == CLOUD.id)
        if not self.hub.internals or not rooms:
            return
        owner = self.hub.internals[data.draw(st.sampled_from(sorted(self.hub.internals)))]
        room = data.draw(st.sampled_from(rooms))
        if name not in owner.virtuals:
            self.call_by_phone(owner, name, room)

    @rule(data=st.data(), flags=st.integers(0, 3), call_flags=st.sampled_from([0, 1, 9]))
    def update_virtual(self, data: st.DataObject, flags: int, call_flags: int) -> None:
        if not self.virtuals:
            return
        it = self.virtuals[data.draw(st.sampled_from(sorted(self.virtuals)))]
        before = it.flags
        assert self.hub.set_flags(it, flags) is (before != flags)
        assert it.flags == flags
        if self.hub.set_call_flags(it, call_flags):  # what was set says who is in the call, as the flows have it
            self.hub.set_in_call(self.hub.rooms[it.room], it.id, bool(call_flags & 1))
            (self.in_call.add if call_flags & 1 else self.in_call.discard)(it.id)

    @rule(data=st.data())
    def remove_virtual(self, data: st.DataObject) -> None:
        if self.virtuals:
            it = self.virtuals[data.draw(st.sampled_from(sorted(self.virtuals)))]
            self.virtual_gone(self.hub.remove_virtual(it))

    # -- transient data

    @rule(
        it=sessions, own=st.booleans(), value=st.sampled_from([b"1", b"2"]), seconds=st.sampled_from([None, 0, 1, 20])
    )
    def set_transient(self, it: Session, own: bool, value: bytes, seconds: int | None) -> None:
        room = self.hub.room_of(it)
        if room is not None:
            self.put(room, session_key(it.id) if own else "k", value, seconds)

    @rule(data=st.data(), seconds=st.sampled_from([None, 1]))
    def set_transient_of_virtual(self, data: st.DataObject, seconds: int | None) -> None:
        if self.virtuals:
            it = self.virtuals[data.draw(st.sampled_from(sorted(self.virtuals)))]
            self.put(self.hub.rooms[it.room], session_key(it.id), b"1", seconds)

    @rule(it=sessions)
    def remove_transient(self, it: Session) -> None:
        room = self.hub.room_of(it)
        if room is not None:
            there = "k" in room.transient
            assert (self.hub.remove_transient(room, "k") is not None) is there

    @rule(seconds=st.sampled_from([0.0, 1.0, 21.0]))
    def expire_transient(self, seconds: float) -> None:
        self.now += seconds
        due = {entry for entry in self.transient_deadlines() if entry[0] <= self.now}
        gone = [(room.key, changed.key) for room, changed in self.hub.expire_transient(self.now)]
        assert sorted(gone) == sorted((room, key) for _, room, key in due)

    # -- what holds

    @invariant()
    def nothing_dangles(self) -> None:
        invariants.check(self.hub)

    @invariant()
    def hub_and_model_agree(self) -> None:
        assert set(self.hub.sessions.values()) == set(self.open)
        assert self.hub.virtuals == self.virtuals
        assert set(self.hub.rooms) == set(self.places.values())
        assert {key: it.id for key, it in self.hub._of_room_session.items()} == self.registered
        for key, room in self.hub.rooms.items():
            present = self.at(key)
            assert {*room.members, *room.virtuals} == present
            virtual = {id for id, it in room.virtuals.items() if it.in_call}
            assert room.in_call | virtual == present & self.in_call

    @invariant()
    def deadlines_are_those_of_the_sessions(self) -> None:
        due = {
            it
            for it in self.open
            if (it.expires_at is not None and it.expires_at <= self.now)
            or (it.join_by is not None and it.join_by <= self.now)
        }
        assert {fact.session for fact in self.hub.sweep(self.now)} == due

    @invariant()
    def next_deadline_of_a_value_is_known(self) -> None:
        deadlines = [at for at, _, _ in self.transient_deadlines()]
        assert self.hub.next_transient_deadline() == min(deadlines, default=None)

    def teardown(self) -> None:
        for it in list(self.open):
            self.end(it)
        assert self.hub.next_transient_deadline() is None
        left = {name: value for name, value in vars(self.hub).items() if value and name != "_per_backend"}
        assert left == {}
        assert not any(self.hub._per_backend.values())


def _entry(session: str) -> ParticipantEntry:
    return {"sessionId": Raw(msgspec.json.encode(session)), "inCall": Raw(b"1")}


TestHub = HubMachine.TestCase
TestHub.settings = settings(max_examples=100, stateful_step_count=100)
