"""Joins that Nextcloud is being asked about.

A join that was not completed is undone at Nextcloud, unless another session is joining with the same Nextcloud session
id.

Source: reference 4.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gateway.core.ids import RoomSessionId
from gateway.core.room import RoomKey

if TYPE_CHECKING:
    from gateway.core.session import Session


class PendingJoin:
    """A join of a session that Nextcloud has not answered yet."""

    __slots__ = ("room", "room_session_id", "session")

    def __init__(self, session: Session, room: RoomKey, room_session_id: RoomSessionId) -> None:
        self.session = session
        self.room = room  # the requested one
        self.room_session_id = room_session_id


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

    def find(self, room: RoomKey, room_session: str) -> Iterator[PendingJoin]:
        """Yield the pending joins of a room with a Nextcloud session id."""
        return (pending for pending in self._joins.get(room, ()) if pending.room_session_id == room_session)
