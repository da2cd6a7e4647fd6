"""Joins that Nextcloud is being asked about, and its requests about their sessions that arrive meanwhile.

Nextcloud's answer to a join and its own requests arrive on different connections, so in any order: call membership,
permissions or a disinvitation may arrive before the session is in the room. Each is kept until the join is complete.

Source: reference 4.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gateway.core.ids import RoomSessionId
from gateway.core.participants import Participant
from gateway.core.room import RoomKey
from gateway.wire.backend import ParticipantEntry

if TYPE_CHECKING:
    from gateway.core.session import Session


class PendingJoin:
    """A join of a session, and the state that Nextcloud has reported for the session since the request."""

    __slots__ = ("entry", "in_call", "permissions", "room", "room_session_id", "session", "withdrawn")

    def __init__(self, session: Session, room: RoomKey, room_session_id: RoomSessionId) -> None:
        self.session = session
        self.room = room  # the requested one
        self.room_session_id = room_session_id
        self.in_call: bool | None = None  # None: not reported
        self.entry: ParticipantEntry | None = None  # in the latest list of participants
        self.permissions: tuple[str, ...] | None = None
        self.withdrawn = False  # the session was disinvited, or the room deleted

    def note_in_call(self, participant: Participant) -> None:
        """Keep the call membership that an ``incall`` request reports."""
        if participant.in_call is not None:
            self.in_call = participant.in_call

    def note_entry(self, participant: Participant) -> None:
        """Keep the session's entry in a list of participants."""
        self.entry = participant.entry


class PendingJoins:
    """All pending joins, by room and Nextcloud session id; several sessions may be joining with one id."""

    def __init__(self) -> None:
        self._joins: dict[RoomKey, list[PendingJoin]] = {}

    def __len__(self) -> int:
        return sum(len(joins) for joins in self._joins.values())

    def add(self, session: Session, room: RoomKey, room_session: str) -> PendingJoin:
        """Register a join that Nextcloud is asked about now."""
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
