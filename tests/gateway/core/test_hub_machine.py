"""The hub under random operations: it agrees with a simple model, and is empty once all sessions are closed."""

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

from gateway.core import call_membership
from gateway.core.ids import ConnectionId, SessionId
from gateway.core.limits import Backend
from gateway.core.participants import Participant
from gateway.core.room import RoomKey
from gateway.core.session import EXPIRY, ClientType, Session
from gateway.core.session_counts import LimitReached
from gateway.core.transient import session_key
from tests.gateway.core import invariants
from tests.gateway.core.hub_model import LIMITED_BACKEND, HubModel
from tests.gateway.core.members import CLOUD
from tests.gateway.core.members import session as new_session

CHANGED_BACKEND = Backend("limited", ("https://limited.example/",), "another secret", session_limit=1)

users = st.sampled_from(["", "alice", "bob"])
rooms = st.sampled_from(["r1", "r2"])
first_rooms = st.sampled_from(["", "r1", "r2"])  # most sessions join at once
nc_ids = st.sampled_from(["", "nc1", "nc2"])


class HubMachine(HubModel, RuleBasedStateMachine):
    """Two backends whose rooms, users and Nextcloud sessions have the same names."""

    sessions: Bundle[Session] = Bundle("sessions")

    # -- sessions

    @initialize(target=sessions, count=st.integers(0, 4), bridged=st.booleans())
    def begin(self, count: int, bridged: bool) -> MultipleResults[Session]:
        """Begin with a few sessions in a room, so that most operations have an effect."""
        new = [new_session(f"user{number}") for number in range(count)] + [
            new_session(client_type=ClientType.INTERNAL)
        ] * bridged
        for session in new:
            self.hub.open(session, self.now)
            self.record_opened(session, "r1")
        if bridged:
            self.create_virtual(new[-1], "p", RoomKey(CLOUD.id, "r1"))
        return multiple(*new)

    @rule(target=sessions, user=users, name=st.sampled_from(["cloud", "limited"]), room=first_rooms)
    def open_session(self, user: str, name: str, room: str) -> Session | MultipleResults[Session]:
        if name not in self.configured:
            return multiple()
        backend = self.configured[name]
        new = new_session(user, backend)
        before = sum(session.backend.id == name and session.client_type is ClientType.CLIENT for session in self.open)
        try:
            self.hub.open(new, self.now)
        except LimitReached:
            assert before >= backend.session_limit > 0
            return multiple()
        assert not backend.session_limit or before < backend.session_limit
        self.record_opened(new, room)
        return new

    @rule(target=sessions, room=first_rooms)
    def open_internal_session(self, room: str) -> Session:
        new = new_session("", CLOUD, client_type=ClientType.INTERNAL)
        self.hub.open(new, self.now)
        self.record_opened(new, room)
        return new

    @rule(session=sessions)
    def attach(self, session: Session) -> None:
        if session.open:  # it may have expired
            self.connect_to(session)

    @rule(session=sessions, age=st.integers(0, 2))
    def lose_connection(self, session: Session, age: int) -> None:
        current = session.connection
        connection = ConnectionId((current or self.connections) - age)
        assert self.hub.detach(session, connection, self.now) is (session.open and current == connection)

    @rule(session=consumes(sessions))
    def close(self, session: Session) -> None:
        if session.open:
            self.end(session)
        assert self.hub.close(session) is None
        assert self.hub.leave(session) is None

    @rule(data=st.data())
    def close_all_members_in_any_order(self, data: st.DataObject) -> None:
        for key in list(self.hub.rooms)[:1]:
            for session in data.draw(st.permutations(list(self.hub.rooms[key].members.values()))):
                self.end(session)
            assert key not in self.hub.rooms or self.hub.rooms[key].virtuals

    @rule(seconds=st.sampled_from([1.0, 11.0, EXPIRY + 1]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(seconds=st.sampled_from([0.0, 11.0, EXPIRY + 1]))
    def expire(self, seconds: float) -> None:
        """End the expired sessions, as the housekeeper does."""
        self.now += seconds
        for change in self.hub.sweep(self.now):
            self.end(change.session)
        assert self.hub.sweep(self.now) == []

    @rule(
        limited=st.sampled_from([None, LIMITED_BACKEND, CHANGED_BACKEND]),
        cloud=st.sampled_from([None, CLOUD, Backend("cloud", CLOUD.urls, "new")]),
    )
    def reload(self, limited: Backend | None, cloud: Backend | None) -> None:
        """Change, remove and restore backends; open sessions stay."""
        self.configured = {backend.id: backend for backend in (limited, cloud) if backend is not None}
        self.known |= self.configured
        self.hub.replace_backends(self.configured.get)
        assert all(
            session.backend is self.known[session.backend.id]
            for session in self.open
            if session.backend.id in self.configured
        )

    # -- rooms

    @rule(session=sessions, room=rooms, nc=nc_ids, permissions=st.sampled_from([None, [], ["publish-audio"]]))
    def join(self, session: Session, room: str, nc: str, permissions: list[str] | None) -> None:
        if session.open:
            self.enter(session, room, nc, permissions)

    @rule(session=sessions, nc=nc_ids)
    def register(self, session: Session, nc: str) -> None:
        if session.room is not None:
            self.unregister(session)
            self.hub.register(session, nc)
            self.registered[session.backend.id, nc or session.id] = session.id
            assert self.hub.find_by_room_session(session.backend.id, nc or session.id) is session

    @rule(session=sessions)
    def leave(self, session: Session) -> None:
        left = self.hub.leave(session)
        assert (left is not None) is (session.id in self.rooms_of)
        if left is not None:
            assert session not in left.remaining
            self.forget(session)
            self.hub.restart_join_timer(session, self.now)

    @rule(session=sessions)
    def evict(self, session: Session) -> None:
        """Evict a disconnected session, as the flows do."""
        if session.open and session.room is not None:
            if session.connection is not None:
                assert self.hub.detach(session, session.connection, self.now)
            self.hub.evict(session, b"the event")
            assert session.evicted_by == b"the event"
            self.in_call.discard(session.id)

    @rule(session=sessions)
    def delete_room(self, session: Session) -> None:
        room = self.hub.room_of(session)
        if room is None:
            return
        present = self.members_of(room.key)
        virtuals = set(room.virtuals)
        for virtual in list(room.virtuals.values()):
            self.forget_virtual(self.hub.remove_virtual(virtual))
        left = self.hub.delete_room(room)
        assert {change.session.id for change in left} == present - virtuals
        for change in left:
            self.forget(change.session)
        assert room.key not in self.hub.rooms

    @rule(session=sessions, names=st.lists(st.sampled_from(["control", "publish-audio", "transient-data"])))
    def set_permissions(self, session: Session, names: list[str]) -> None:
        self.hub.set_permissions(session, names)
        assert [session.permissions.allows(name) for name in ("control", "transient-data")] == [
            name in names for name in ("control", "transient-data")
        ]

    @rule(session=sessions, properties=st.sampled_from([b"", b"{}", b"[1]"]))
    def change_properties(self, session: Session, properties: bytes) -> None:
        room = self.hub.room_of(session)
        if room is not None:
            before = bytes(room.properties)
            assert self.hub.change_properties(room, Raw(properties)) is (before != properties)
            assert bytes(room.properties) == properties

    # -- the call

    @rule(session=sessions, data=st.data(), value=st.booleans())
    def set_in_call(self, session: Session, data: st.DataObject, value: bool) -> None:
        """Set call membership of any session, also of a closed session or one in another room."""
        room = self.hub.room_of(session)
        if room is None:
            return
        others = st.sampled_from(sorted({*self.rooms_of, "unknown"}))
        id = data.draw(st.sampled_from(sorted(self.members_of(room.key))) | others)
        present = id in self.members_of(room.key)
        ended = call_membership.set_in_call(room, SessionId(id), value)
        assert (ended is not None) is (present and not value and id not in self.virtuals)
        if present and (not value or self.may_enter_call(id)):
            (self.in_call.add if value else self.in_call.discard)(id)

    @rule(name=st.sampled_from(["cloud", "limited"]), end=st.booleans())
    def gather_in_call(self, name: str, end: bool) -> None:
        """Join all sessions of a backend to one room and its call, which random operations seldom do."""
        for session in self.open:
            if session.backend.id == name and session.room != RoomKey(name, "r1"):
                self.enter(session, "r1")
        room = self.hub.rooms.get(RoomKey(name, "r1"))
        for id in sorted(self.members_of(RoomKey(name, "r1"))):
            assert room is not None
            call_membership.set_in_call(room, SessionId(id), True)
            if self.may_enter_call(id):
                self.in_call.add(id)
        if end and room is not None:
            self.set_everyone_in_call(room, False)

    @rule(session=sessions, value=st.booleans())
    def set_call_membership_of_all(self, session: Session, value: bool) -> None:
        room = self.hub.room_of(session)
        if room is not None:
            self.set_everyone_in_call(room, value)

    @rule(
        session=sessions,
        data=st.data(),
        whole=st.booleans(),
        changed=st.dictionaries(st.integers(0, 5), st.sampled_from([None, False, True]), max_size=3),
    )
    def report_participants(
        self, session: Session, data: st.DataObject, whole: bool, changed: dict[int, bool | None]
    ) -> None:
        """Store a list of all participants or of the changed ones; some are sessions of other servers."""
        room = self.hub.room_of(session)
        if room is None:
            return
        ids = data.draw(st.permutations(sorted(self.rooms_of)))
        entries = [_participant(ids[index % len(ids)], flag) for index, flag in changed.items()]
        if whole:
            call_membership.replace_participants(room, [_participant(id, True) for id in ids[:3]], entries)
        else:
            call_membership.update_participants(room, entries)

    @rule(session=sessions, flags=st.sampled_from([0, 7]))
    def set_flags_of_all(self, session: Session, flags: int) -> None:
        room = self.hub.room_of(session)
        if room is not None:
            call_membership.set_flags_of_all(room, flags, 0)
            listed = room.participants.every_entry()
            assert {bytes(entry["inCall"]) for entry in listed} <= {b"0", str(flags).encode()}
            assert all(member.is_internal or member.id in room.participants for member in room.members.values())

    # -- virtual sessions

    @rule(data=st.data(), name=st.sampled_from(["p", "q"]))
    def add_virtual(self, data: st.DataObject, name: str) -> None:
        rooms = sorted(key for key in self.hub.rooms if key.backend == CLOUD.id)
        if not self.hub.internals or not rooms:
            return
        owner = self.hub.internals[data.draw(st.sampled_from(sorted(self.hub.internals)))]
        room = data.draw(st.sampled_from(rooms))
        if name not in owner.virtuals:
            self.create_virtual(owner, name, room)

    @rule(data=st.data(), flags=st.integers(0, 3), call_flags=st.sampled_from([0, 1, 9]))
    def update_virtual(self, data: st.DataObject, flags: int, call_flags: int) -> None:
        if not self.virtuals:
            return
        session = self.virtuals[data.draw(st.sampled_from(sorted(self.virtuals)))]
        before = session.flags
        assert self.hub.set_flags(session, flags) is (before != flags)
        assert session.flags == flags
        if self.hub.set_call_flags(session, call_flags):  # the flows derive call membership from the flags
            call_membership.set_in_call(self.hub.rooms[session.room], session.id, bool(call_flags & 1))
            (self.in_call.add if call_flags & 1 else self.in_call.discard)(session.id)

    @rule(data=st.data())
    def remove_virtual(self, data: st.DataObject) -> None:
        if self.virtuals:
            session = self.virtuals[data.draw(st.sampled_from(sorted(self.virtuals)))]
            self.forget_virtual(self.hub.remove_virtual(session))

    # -- transient data

    @rule(
        session=sessions,
        own=st.booleans(),
        value=st.sampled_from([b"1", b"2"]),
        seconds=st.sampled_from([None, 0, 1, 20]),
    )
    def set_transient(self, session: Session, own: bool, value: bytes, seconds: int | None) -> None:
        room = self.hub.room_of(session)
        if room is not None:
            self.set_transient_value(room, session_key(session.id) if own else "k", value, seconds)

    @rule(data=st.data(), seconds=st.sampled_from([None, 1]))
    def set_transient_of_virtual(self, data: st.DataObject, seconds: int | None) -> None:
        if self.virtuals:
            session = self.virtuals[data.draw(st.sampled_from(sorted(self.virtuals)))]
            self.set_transient_value(self.hub.rooms[session.room], session_key(session.id), b"1", seconds)

    @rule(session=sessions)
    def remove_transient(self, session: Session) -> None:
        room = self.hub.room_of(session)
        if room is not None:
            present = "k" in room.transient
            assert (self.hub.remove_transient(room, "k") is not None) is present

    @rule(seconds=st.sampled_from([0.0, 1.0, 21.0]))
    def expire_transient(self, seconds: float) -> None:
        self.now += seconds
        due = {entry for entry in self.transient_deadlines() if entry[0] <= self.now}
        removed = [(room.key, changed.key) for room, changed in self.hub.expire_transient(self.now)]
        assert sorted(removed) == sorted((room, key) for _, room, key in due)

    # -- invariants

    @invariant()
    def indexes_are_consistent(self) -> None:
        invariants.check(self.hub)

    @invariant()
    def hub_and_model_agree(self) -> None:
        assert set(self.hub.sessions.values()) == set(self.open)
        assert self.hub.virtuals == self.virtuals
        assert set(self.hub.rooms) == set(self.rooms_of.values())
        assert {key: session.id for key, session in self.hub._sessions_by_room_session.items()} == self.registered
        for key, room in self.hub.rooms.items():
            present = self.members_of(key)
            assert {*room.members, *room.virtuals} == present
            virtual = {id for id, session in room.virtuals.items() if session.in_call}
            assert room.in_call | virtual == present & self.in_call

    @invariant()
    def deadlines_are_those_of_the_sessions(self) -> None:
        due = {
            session
            for session in self.open
            if (session.expires_at is not None and session.expires_at <= self.now)
            or (session.join_by is not None and session.join_by <= self.now)
        }
        assert {change.session for change in self.hub.sweep(self.now)} == due

    @invariant()
    def next_deadline_of_a_value_is_known(self) -> None:
        deadlines = [at for at, _, _ in self.transient_deadlines()]
        assert self.hub.next_transient_deadline() == min(deadlines, default=None)

    def teardown(self) -> None:
        for session in list(self.open):
            self.end(session)
        assert self.hub.next_transient_deadline() is None
        left = {name: value for name, value in vars(self.hub).items() if value}
        assert left == {}


def _participant(session: str, in_call: bool | None) -> Participant:
    entry = {"sessionId": Raw(msgspec.json.encode(session))}
    if in_call is not None:
        entry["inCall"] = Raw(b"1" if in_call else b"0")
    return Participant(SessionId(session), entry, None, in_call)


TestHub = HubMachine.TestCase
TestHub.settings = settings(max_examples=100, stateful_step_count=100)
