"""What a change in the core made true, as values for the flows to act on."""

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
    remaining: tuple[Session, ...]
    room_session: RoomSessionId  # for the leave request to Nextcloud; empty: Nextcloud is not to be told
    data: TransientChange | None  # the session's own transient entry, that went with it


@dataclass(frozen=True, slots=True)
class RoomJoined:
    """A session entered a room, and left another one before."""

    session: Session
    room: Room
    others: tuple[Session, ...]
    left: RoomLeft | None


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """A session ended, and its virtual sessions with it."""

    session: Session
    left: RoomLeft | None
    virtuals: tuple[VirtualSessionLeft, ...] = ()


@dataclass(frozen=True, slots=True)
class SessionExpired:
    """A session was without a connection for too long."""

    session: Session


@dataclass(frozen=True, slots=True)
class JoinTimedOut:
    """An anonymous session was without a room for too long."""

    session: Session


@dataclass(frozen=True, slots=True)
class CallMembershipChanged:
    """Everybody's call membership changed: who is told, and whose media must end."""

    told: tuple[Session, ...]
    ended: tuple[Session, ...]
