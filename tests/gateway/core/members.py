"""Sessions, rooms and seats for the tests of the core."""

from __future__ import annotations

from itertools import count

from msgspec import Raw

from gateway.core.hub import Hub
from gateway.core.ids import ResumeId, SessionId
from gateway.core.limits import Backend
from gateway.core.outbox import Outbox
from gateway.core.room import Room, RoomKey
from gateway.core.session import ClientType, Session
from gateway.wire.client import ClientMessage

CLOUD = Backend("cloud", ("https://cloud.example/",), "secret")
OTHER_BACKEND = Backend("other", ("https://other.example/",), "secret")
EMPTY_OBJECT = Raw(b"{}")

_numbers = count(1)


class FakeSeat:
    """A seat in a room of another server that records whether it was closed."""

    room_id, room_session_id = "r", "nc"

    def __init__(self) -> None:
        self.closed = False

    def forward(self, text: str, message: ClientMessage) -> None:
        """Ignore a message."""

    def list_participants(self) -> None:
        """Send nothing."""

    def close(self) -> None:
        self.closed = True


def session(
    userid: str = "",
    backend: Backend = CLOUD,
    features: tuple[str, ...] = (),
    *,
    client_type: ClientType = ClientType.CLIENT,
) -> Session:
    """Return a session that is not open yet."""
    number = next(_numbers)
    # As long as real ids; they sort by age in every example of a property test.
    ids = SessionId(f"public{number:06}".ljust(48, "-")), ResumeId(f"private{number:06}".ljust(48, "-"))
    user = Raw(b'{"displayname":"N"}')
    return Session(ids, backend, backend.urls[0], userid, user, features, Outbox(1000), client_type)


def open_session(hub: Hub, userid: str = "user", backend: Backend = CLOUD, now: float = 0.0) -> Session:
    """Return an open session."""
    made = session(userid, backend)
    hub.open(made, now)
    return made


def join_room(hub: Hub, member: Session, room: str = "r", nc: str = "", now: float = 0.0) -> Room:
    """Join a session to a room and return the room; ``nc`` is Nextcloud's session id."""
    hub.join(member, room, EMPTY_OBJECT, room_session=nc, room_userid="", permissions=None, now=now)
    return hub.rooms[RoomKey(member.backend.id, room)]
