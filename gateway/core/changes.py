"""Changes of sessions and rooms, as values which the hub returns and the flows act on."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.core.ids import RoomSessionId
from gateway.core.room import Room, RoomKey
from gateway.core.session import Session
from gateway.core.transient import TransientChange
from gateway.core.virtual import VirtualSessionLeft


@dataclass(frozen=True, slots=True)
class RoomLeft:
    """A session left a room; its media must end."""

    session: Session
    room: RoomKey
    remaining: tuple[Session, ...]  # the other members
    room_session: RoomSessionId  # for the leave request to Nextcloud; empty: send none
    data: TransientChange | None  # the session's own transient entry, removed with it


@dataclass(frozen=True, slots=True)
class RoomJoined:
    """A session joined a room, after leaving its previous one."""

    session: Session
    room: Room
    others: tuple[Session, ...]
    left: RoomLeft | None


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """A session and its virtual sessions ended."""

    session: Session
    left: RoomLeft | None
    virtuals: tuple[VirtualSessionLeft, ...] = ()


@dataclass(frozen=True, slots=True)
class SessionExpired:
    """A session had no connection until the time limit for a resume had passed."""

    session: Session


@dataclass(frozen=True, slots=True)
class JoinTimedOut:
    """An anonymous session did not join a room in time."""

    session: Session


@dataclass(frozen=True, slots=True)
class CallMembershipChanged:
    """The result of an ``incall`` request with ``all``: members entered the call, or all sessions left it (7.4)."""

    notified: tuple[Session, ...]  # members to send the event to; empty: the call was like this before
    ended: tuple[Session, ...]  # sessions that left the call: their streams must end
