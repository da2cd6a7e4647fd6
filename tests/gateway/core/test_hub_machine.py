"""The hub under any order of events: look-ups agree, backends stay apart, and nothing is left when all have gone."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, consumes, invariant, multiple, rule
from msgspec import Raw

from gateway.core.hub import Hub, LimitReached
from gateway.core.ids import ConnectionId, SessionId
from gateway.core.limits import Backend
from gateway.core.room import RoomKey
from gateway.core.session import EXPIRY, Kind, Session
from gateway.core.transient import NANOSECONDS, SESSION_DATA, session_key
from gateway.core.virtual import VirtualSession
from tests.gateway.core.members import CLOUD, NOTHING, session

LIMITED = Backend("limited", ("https://limited.example/",), "secret", session_limit=3)

users = st.sampled_from(["", "alice", "bob"])
rooms = st.sampled_from(["r1", "r2"])
first_rooms = st.sampled_from(["", "r1", "r2"])  # most are in a room at once, or little would happen in them
nc_ids = st.sampled_from(["", "nc1", "nc2"])


class HubMachine(RuleBasedStateMachine):
    """Two backends with the same room, user and Nextcloud session names."""

    sessions: Bundle[Session] = Bundle("sessions")

    def __init__(self) -> None:
        super().__init__()
        self.hub = Hub()
        self.now = 0.0
        self.open: list[Session] = []
        self.connections = 0

    @rule(target=sessions, user=users, backend=st.sampled_from([CLOUD, LIMITED]), room=first_rooms)
    def connect(self, user: str, backend: Backend, room: str) -> Session | MultipleResults[Session]:
        made = session(user, backend)
        before = sum(it.backend is backend for it in self.open)
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
        made = session("", CLOUD, kind=Kind.INTERNAL)
        self.hub.open(made, self.now)
        self.came(made, room)
        return made

    def came(self, made: Session, room: str) -> None:
        self.open.append(made)
        self.attach(made)
        if room:
            self.join(made, room, "", None)

    @rule(owner=sessions, other=sessions, name=st.sampled_from(["p", "q"]))
    def add_virtual(self, owner: Session, other: Session, name: str) -> None:
        if owner.open and owner.kind is Kind.INTERNAL and other.room is not None and other.backend is owner.backend:
            if name in owner.virtuals:
                self.hub.remove_virtual(owner.virtuals[name])
            if other.room in self.hub.rooms:
                id = SessionId(f"{name} of {owner.id}")
                self.hub.add_virtual(
                    VirtualSession(
                        id, owner, name, other.room, userid="", user=NOTHING, flags=0, call_flags=9, actor=None
                    )
                )

    @rule(owner=sessions)
    def remove_virtuals(self, owner: Session) -> None:
        for virtual in list(owner.virtuals.values()):
            assert self.hub.remove_virtual(virtual).virtual is virtual

    @rule(it=sessions)
    def attach(self, it: Session) -> None:
        if not it.open:  # its time was over
            return
        self.connections += 1
        self.hub.attach(it, ConnectionId(self.connections))

    @rule(it=sessions, age=st.integers(0, 2))
    def lose(self, it: Session, age: int) -> None:
        if not it.open:
            return
        current = it.connection
        connection = ConnectionId((current or self.connections) - age)
        assert self.hub.detach(it, connection, self.now) is (current == connection)

    @rule(it=sessions, room=rooms, nc=nc_ids, permissions=st.sampled_from([None, [], ["publish-audio"]]))
    def join(self, it: Session, room: str, nc: str, permissions: list[str] | None) -> None:
        if it.open:
            self.hub.join(it, room, NOTHING, room_session=nc, room_userid="g", permissions=permissions, now=self.now)

    @rule(it=sessions, nc=nc_ids)
    def register(self, it: Session, nc: str) -> None:
        if it.room is not None:
            self.hub.register(it, nc)

    @rule(it=sessions)
    def leave(self, it: Session) -> None:
        left = self.hub.leave(it)
        if left is not None:
            assert it not in left.remaining
            self.hub.left_by_request(it, self.now)

    @rule(it=sessions, other=sessions, value=st.booleans())
    def set_in_call(self, it: Session, other: Session, value: bool) -> None:
        room = self.hub.room_of(it)
        if room is not None:
            self.hub.set_in_call(room, other.id, value)

    @rule(it=sessions, value=st.booleans())
    def set_all(self, it: Session, value: bool) -> None:
        room = self.hub.room_of(it)
        if room is not None:
            self.hub.set_all_in_call(room, value)

    @rule(it=sessions)
    def delete_room(self, it: Session) -> None:
        room = self.hub.room_of(it)
        if room is not None:
            members = {other for other in self.open if other.room == room.key}
            for virtual in list(room.virtuals.values()):
                self.hub.remove_virtual(virtual)
            assert {left.session for left in self.hub.delete_room(room)} == members

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

    @rule(
        it=sessions, own=st.booleans(), value=st.sampled_from([b"1", b"2"]), seconds=st.sampled_from([None, 0, 1, 20])
    )
    def set_transient(self, it: Session, own: bool, value: bytes, seconds: int | None) -> None:
        room = self.hub.room_of(it)
        if room is not None:
            key = session_key(it.id) if own else "k"
            ttl = None if seconds is None else seconds * NANOSECONDS
            before = room.transient.values().get(key)
            changed = self.hub.set_transient(room, key, Raw(value), ttl, self.now)
            assert (changed is None) is (before is not None and bytes(before) == value)
            assert room.transient.expires_at(key) == (self.now + seconds if seconds else None)

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

    @rule(it=consumes(sessions))
    def close(self, it: Session) -> None:
        if it.open:
            self.end(it)
        assert self.hub.close(it) is None

    def end(self, it: Session) -> None:
        assert self.hub.close(it) is not None
        self.open.remove(it)

    def transient_deadlines(self) -> list[tuple[float, RoomKey, str]]:
        found = [
            (room.transient.expires_at(key), room.key, key)
            for room in self.hub.rooms.values()
            for key in room.transient.values()
        ]
        return [(at, room, key) for at, room, key in found if at is not None]

    @invariant()
    def look_ups_agree(self) -> None:
        assert set(self.hub.sessions.values()) == set(self.open)
        for room in self.hub.rooms.values():
            assert room.members or room.virtuals
            assert all(self.hub.virtuals[id] is virtual for id, virtual in room.virtuals.items())
            assert room.in_call <= set(room.members)
            for member in room.members.values():
                assert member.room == room.key
                assert member.backend.id == room.key.backend
        assert {it.id for owner in self.open for it in owner.virtuals.values()} == set(self.hub.virtuals)
        assert all(it.id in self.hub.rooms[it.room].virtuals for it in self.hub.virtuals.values())
        for it in self.open:
            room_of = self.hub.room_of(it)
            assert (room_of is None) is (it.room is None)
            assert room_of is None or room_of.members[it.id] is it
            assert all(user.backend is it.backend for user in self.hub.of_user(it.backend, it.userid))
            for other in self.open:
                assert other.backend is it.backend or self.hub.find(it.backend, other.id) is None
                assert other.backend is it.backend or not self.hub.in_same_call(it, other)

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

    @invariant()
    def data_of_sessions_are_those_of_members(self) -> None:
        for room in self.hub.rooms.values():
            own = {key for key in room.transient.values() if key.startswith(SESSION_DATA)}
            assert own <= {session_key(id) for id in (*room.members, *room.virtuals)}

    def teardown(self) -> None:
        for it in list(self.open):
            self.hub.close(it)
        assert self.hub.next_transient_deadline() is None
        left = {name: value for name, value in vars(self.hub).items() if value and name != "_per_backend"}
        assert left == {}
        assert not any(self.hub._per_backend.values())


TestHub = HubMachine.TestCase
TestHub.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
