"""Sessions and rooms for the tests of the core."""

from __future__ import annotations

from itertools import count

from msgspec import Raw

from gateway.core.hub import Hub
from gateway.core.ids import ResumeId, SessionId
from gateway.core.limits import Backend
from gateway.core.outbox import Outbox
from gateway.core.room import Room, RoomKey
from gateway.core.session import ClientType, Session

CLOUD = Backend("cloud", ("https://cloud.example/",), "secret")
OTHER_BACKEND = Backend("other", ("https://other.example/",), "secret")
EMPTY_OBJECT = Raw(b"{}")

_numbers = count(1)


def session(
    userid: str = "",
    backend: Backend = CLOUD,
    features: tuple[str, ...] = (),
    *,
    client_type: ClientType = ClientType.CLIENT,
) -> Session:
    """Return a session that is not open yet."""
    number = next(_numbers)
    ids = SessionId(f"public{number:06}"), ResumeId(f"private{number:06}")  # sorts by age in every example
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
