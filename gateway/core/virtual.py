"""Virtual sessions: participants without a connection, which an internal client adds and represents.

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

if TYPE_CHECKING:
    from gateway.core.session import Session

VIRTUAL_CLIENT_TYPE = "virtual"  # client type in metrics
PHONE = 8  # bit of the in-call flags: takes part by telephone (7)
DEFAULT_CALL_FLAGS = IN_CALL | PHONE  # unless the internal client sets in-call flags itself (11.2)


class VirtualSession:
    """The state of a virtual session; only the hub changes it, except for the cached join entries."""

    __slots__ = (
        "actor",
        "call_flags",
        "flags",
        "id",
        "in_call",
        "join_entries",
        "name",
        "owner",
        "room",
        "user",
        "userid",
    )

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
        self.name = name  # chosen by the owner; not shown to other clients
        self.room = room
        self.userid = userid
        self.user = user  # opaque, shown to other clients
        self.flags = flags  # muted, talking, … (7.5)
        self.call_flags = call_flags  # in-call flags that the owner has set, or the default
        self.in_call = False  # whether it is a member of the call; at first not, even if ``call_flags`` says so (7.1)
        self.actor = actor
        self.join_entries: dict[str, bytes] = {}  # encoded join entry, by form


class VirtualSessionLeft(Struct, frozen=True):
    """A virtual session was removed."""

    virtual: VirtualSession
    remaining: tuple[Session, ...]  # members of the room
    data: TransientChange | None  # its own transient entry, removed with it
