"""Joins that wait for Nextcloud's answer, and requests of Nextcloud about their sessions that arrive before it.

Nextcloud's answer to a join and its own requests arrive on different connections, so in any order: call membership,
permissions or a disinvitation may arrive before the session is in the room. Each is kept until the join is complete.

Source: reference 4.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gateway.core.ids import RoomSessionId
from gateway.core.participants import IN_CALL, Participant, resolve, with_flags
from gateway.core.room import RoomKey
from gateway.core.session import ClientType, Session
from gateway.wire.backend import ParticipantEntry


class PendingJoin:
    """A join that Nextcloud has not answered yet, and the session state from Nextcloud's requests meanwhile."""

    __slots__ = ("entry", "in_call", "permissions", "room", "room_session_id", "session", "withdrawn")

    def __init__(self, session: Session, room: RoomKey, room_session_id: RoomSessionId) -> None:
        self.session = session
        self.room = room  # the requested room
        self.room_session_id = room_session_id
        self.in_call: bool | None = None  # None: not reported
        self.entry: ParticipantEntry | None = None  # in the latest list of participants
        self.permissions: tuple[str, ...] | None = None
        self.withdrawn = False  # the session was disinvited, or the room deleted

    def note_in_call(
        self, changed: Iterable[ParticipantEntry] | None, users: Iterable[ParticipantEntry] | None
    ) -> None:
        """Keep the call membership of an ``incall`` request, and the session's entry in its list."""
        for participant in self._own_entries(changed):
            if participant.in_call is not None:
                self.in_call = participant.in_call
            self.entry = participant.entry
        for participant in self._own_entries(users):
            self.entry = participant.entry

    def note_all_in_call(self, flags: int) -> None:
        """Keep the in-call flags of an ``incall`` request for all participants; only clients enter the call (7.4)."""
        self.in_call = bool(flags & IN_CALL) and self.session.client_type is ClientType.CLIENT
        if self.entry is not None:
            (self.entry,) = with_flags([self.entry], flags)

    def note_permissions(self, changed: Iterable[ParticipantEntry] | None) -> None:
        """Keep the permissions of a ``participants`` request, which are newer than the answer to the join."""
        for participant in self._own_entries(changed):
            if participant.permissions is not None:
                self.permissions = participant.permissions

    def _own_entries(self, entries: Iterable[ParticipantEntry] | None) -> list[Participant]:
        """Return the session's entries in a list of participants."""
        own = self.room_session_id
        return resolve(entries or (), lambda room_session: self.session.id if room_session == own else None)


class PendingJoins:
    """All pending joins, by room and Nextcloud session id; several sessions may be joining with one id."""

    def __init__(self) -> None:
        self._joins: dict[RoomKey, list[PendingJoin]] = {}

    def __len__(self) -> int:
        return sum(len(joins) for joins in self._joins.values())

    def add(self, session: Session, room: RoomKey, room_session: str) -> PendingJoin:
        """Register a join before Nextcloud is asked about it."""
        pending = PendingJoin(session, room, RoomSessionId(room_session))
        self._joins.setdefault(room, []).append(pending)
        return pending

    def remove(self, pending: PendingJoin) -> None:
        """Forget a join that is complete or has failed."""
        joins = self._joins[pending.room]
        joins.remove(pending)
        if not joins:
            del self._joins[pending.room]

    def of_room(self, room: RoomKey) -> tuple[PendingJoin, ...]:
        """Return the pending joins of a room."""
        return tuple(self._joins.get(room, ()))

    def find(self, room: RoomKey, room_session: str) -> Iterator[PendingJoin]:
        """Yield the pending joins of a room with a Nextcloud session id."""
        return (pending for pending in self._joins.get(room, ()) if pending.room_session_id == room_session)
