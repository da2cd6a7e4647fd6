"""A session that cannot connect: an internal client speaks for it, and hears what it is told.

Source: signaling API, Internal clients; reference 11.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Raw, Struct

from gateway.core.actor import Actor
from gateway.core.ids import SessionId
from gateway.core.participants import IN_CALL
from gateway.core.room import RoomKey
from gateway.core.transient import TransientChange
from gateway.wire.server import JoinEntry

if TYPE_CHECKING:
    from gateway.core.session import Session

VIRTUAL = "virtual"  # client type, in the metrics
PHONE = 8  # bit of the flags of a call: takes part by telephone (7)
DEFAULT_CALL_FLAGS = IN_CALL | PHONE  # of a virtual session whose client does not manage them (11.2)


class VirtualSession:
    """The state of a virtual session; changed by the hub only."""

    __slots__ = ("actor", "call_flags", "flags", "id", "in_call", "name", "owner", "room", "user", "userid")

    def __init__(
        self,
        id: SessionId,
        owner: Session,
        name: str,
        room: RoomKey,
        *,
        userid: str,
        user: Raw,
        flags: int,
        call_flags: int,
        actor: Actor | None,
    ) -> None:
        self.id = id
        self.owner = owner
        self.name = name  # the owner's name for it, which nobody else sees
        self.room = room
        self.userid = userid
        self.user = user  # opaque, shown to others
        self.flags = flags  # muted, talking, … (7.5)
        self.call_flags = call_flags
        self.in_call = False  # the flags it begins with do not count (7.1)
        self.actor = actor

    def join_entry(self) -> JoinEntry:
        """Describe it to the members of its room (4.3)."""
        return JoinEntry(self.id, self.userid, user=self.user)


class VirtualSessionLeft(Struct, frozen=True):
    """A virtual session is gone."""

    virtual: VirtualSession
    remaining: tuple[Session, ...]  # who is in the room
    data: TransientChange | None  # its own transient entry, that went with it
