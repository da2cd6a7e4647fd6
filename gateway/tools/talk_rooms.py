"""The conversations of the fake Nextcloud: attendees, their sessions, and the admission of joins. Pure.

Source: reference 4.1, 4.2, 4.5 (requests of the gateway); ids and properties are those of Nextcloud 32 with Talk 22.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum, IntFlag, StrEnum
from typing import Any

Json = dict[str, Any]

ID_LENGTH = 255  # characters of a session id
HIDDEN_NAME = "Private conversation"  # in place of the name of a room that is not public, except for its users

_not_alphanumeric = re.compile("[^A-Za-z0-9]+")


class ActorType(StrEnum):
    """The types of actors that can have sessions."""

    USERS = "users"
    GUESTS = "guests"
    FEDERATED = "federated_users"
    PHONES = "phones"


class RoomType(IntEnum):
    """Talk's types of conversations; the gateway is sent the number."""

    ONE_TO_ONE = 1
    GROUP = 2
    PUBLIC = 3


class ParticipantType(IntEnum):
    """Talk's types of participants; owners and moderators have the gateway's permission ``control``."""

    OWNER = 1
    MODERATOR = 2
    USER = 3
    GUEST = 4


class Permission(IntFlag):
    """Talk's permissions of an attendee; the gateway is sent those for audio, video and screen (reference 8)."""

    CUSTOM = 1
    CALL_START = 2
    CALL_JOIN = 4
    LOBBY_IGNORE = 8
    AUDIO = 16
    VIDEO = 32
    SCREEN = 64
    CHAT = 128


DEFAULT_PERMISSIONS = Permission(246)  # all except CUSTOM and LOBBY_IGNORE
_GRANTS = {
    Permission.AUDIO: "publish-audio",
    Permission.VIDEO: "publish-video",
    Permission.SCREEN: "publish-screen",
}


def nextcloud_session(name: str, cloud_id: str = "") -> str:
    """Derive a session id in Talk's format from a name: 255 characters, with ``/`` and ``+`` in it.

    The id of a federated session ends with ``#`` and the cloud id, ``user@http://host``, in addition.
    """
    octets = hashlib.shake_256(name.encode()).digest(192)
    text = f"{_not_alphanumeric.sub('/', name)}+/{base64.b64encode(octets).decode()}"[:ID_LENGTH]
    return f"{text}#{cloud_id}" if cloud_id else text


def new_session(cloud_id: str = "") -> str:
    """Return a new, secret session id in Talk's format."""
    return nextcloud_session(secrets.token_hex(32), cloud_id)


def guest_id(session: str) -> str:
    """Return the actor id of a guest: the SHA-1 of the session id, in hexadecimal digits."""
    return hashlib.sha1(session.encode(), usedforsecurity=False).hexdigest()


@dataclass(slots=True, eq=False)
class Attendee:
    """A member of a conversation, with a session for each browser or device in which the conversation is open."""

    actor_type: str
    actor_id: str
    name: str = ""
    type: ParticipantType = ParticipantType.USER
    permissions: Permission = DEFAULT_PERMISSIONS

    @property
    def userid(self) -> str:
        """The user id; empty for guests, federated users and phones."""
        return self.actor_id if self.actor_type == ActorType.USERS else ""

    @property
    def granted_permissions(self) -> list[str]:
        """The permissions that the gateway is sent: for media, and ``control``."""
        granted = [name for permission, name in _GRANTS.items() if permission in self.permissions]
        moderates = self.type in (ParticipantType.OWNER, ParticipantType.MODERATOR)
        return [*granted, "control"] if moderates else granted


@dataclass(slots=True, eq=False)
class TalkSession:
    """An attendee's session: one open tab or device."""

    id: str
    attendee: Attendee
    in_call: int = 0  # in-call flags (reference 7)
    last_ping: int = 0  # unix time in seconds


@dataclass(slots=True, eq=False)
class TalkRoom:
    """A conversation; ``removed`` contains the ids of sessions that Talk has ended, which cannot join again."""

    token: str
    name: str = ""
    type: RoomType = RoomType.GROUP
    description: str = ""
    lobby_state: int = 0  # 1: only moderators may enter
    read_only: int = 0  # 1: participants may not post chat messages
    active_since: float | None = None  # unix time at which the call began
    attendees: list[Attendee] = field(default_factory=list)
    sessions: dict[str, TalkSession] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)

    def attendee(self, actor_type: str, actor_id: str) -> Attendee | None:
        """Return the attendee with this actor; ``None``: the actor is no member."""
        actor = (actor_type, actor_id)
        return next((member for member in self.attendees if (member.actor_type, member.actor_id) == actor), None)

    def add(self, actor_type: str, actor_id: str, name: str = "") -> Attendee:
        """Return the attendee with this actor, added if there is none; the first user becomes the owner."""
        known = self.attendee(actor_type, actor_id)
        if known is not None:
            return known
        type = ParticipantType.GUEST if actor_type == ActorType.GUESTS else ParticipantType.USER
        if actor_type == ActorType.USERS and not self.userids:
            type = ParticipantType.OWNER
        self.attendees.append(Attendee(actor_type, actor_id, name, type))
        return self.attendees[-1]

    def open(self, session: str, attendee: Attendee, now: float) -> TalkSession:
        """Add a session of an attendee, as a browser does before it joins at the gateway; ``now``: unix time."""
        self.sessions[session] = TalkSession(session, attendee, last_ping=int(now))
        self.removed.discard(session)
        return self.sessions[session]

    def close(self, session: str) -> None:
        """Delete a session, and with it a guest.

        Raises:
            KeyError: the conversation has no such session.
        """
        attendee = self.sessions.pop(session).attendee
        if attendee.actor_type == ActorType.GUESTS:
            self.attendees.remove(attendee)

    def set_in_call(self, session: TalkSession, flags: int, now: float) -> None:
        """Set the in-call flags of a session (reference 7); ``now``: unix time."""
        session.in_call = flags
        self.update_call(now)

    def update_call(self, now: float) -> None:
        """Begin the call if a session has in-call flags, otherwise end it."""
        if not any(session.in_call for session in self.sessions.values()):
            self.active_since = None
        elif self.active_since is None:
            self.active_since = now

    @property
    def userids(self) -> list[str]:
        """The user ids of all members."""
        return [attendee.userid for attendee in self.attendees if attendee.userid]

    def properties(self, userid: str = "", *, with_description: bool = True) -> Json:
        """Return the properties as Talk sends them.

        Args:
            userid: the user for whom the answer is; empty: the request is not for a single user.
            with_description: whether they contain the description, as in answers and ``update`` requests; otherwise
                they contain ``participant-list``, as in ``invite`` and ``disinvite`` requests.
        """
        shows_name = self.type is RoomType.PUBLIC or userid in self.userids
        active_since: Json | None = None
        if self.active_since is not None:
            date = datetime.fromtimestamp(self.active_since, UTC)
            active_since = {"date": f"{date:%Y-%m-%d %H:%M:%S}.000000", "timezone_type": 3, "timezone": "UTC"}
        properties: Json = {
            "name": self.name if shows_name else HIDDEN_NAME,
            "type": int(self.type),
            "lobby-state": self.lobby_state,
            "lobby-timer": None,
            "read-only": self.read_only,
            "listable": 0,
            "active-since": active_since,
            "sip-enabled": 0,
        }
        return properties | ({"description": self.description} if with_description else {"participant-list": "refresh"})


class TalkRooms:
    """All conversations; admits and finds the sessions of the gateway's requests.

    A join with a session id that no browser has opened here opens the session, and creates the room if need be, so that
    tests can join without a browser. ``refuse_unknown_rooms`` refuses joins of rooms that do not exist,
    ``refuse_unknown_sessions`` all joins of sessions that are not open. ``clock`` returns unix time in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.rooms: dict[str, TalkRoom] = {}
        self.deleted: set[str] = set()  # tokens of rooms that a join does not create again
        self.refuse_unknown_rooms = False
        self.refuse_unknown_sessions = False
        self._clock = clock

    def room(self, token: str) -> TalkRoom:
        """Return a conversation; it is created if it does not exist."""
        if token not in self.rooms:
            self.rooms[token] = TalkRoom(token, name=token)
            self.deleted.discard(token)
        return self.rooms[token]

    def admit(self, request: Json) -> TalkSession | None:
        """Return the session of a join request (reference 4.1), opened if need be; ``None``: the join is refused."""
        token, session = request["roomid"], str(request.get("sessionid", ""))
        if self.refuse_unknown_sessions:
            room = self.rooms.get(token)
            return None if room is None else room.sessions.get(session)
        if token not in self.rooms and (self.refuse_unknown_rooms or token in self.deleted):
            return None
        room = self.room(token)
        known = room.sessions.get(session)
        if known is None and session not in room.removed:
            actor_type, actor_id = self._actor(request)
            if actor_type == ActorType.GUESTS and not room.attendees:
                room.type = RoomType.PUBLIC
            name = actor_id.title() if actor_type == ActorType.USERS else ""
            known = room.open(session, room.add(actor_type, actor_id, name), self._clock())
        return known

    def find(self, request: Json) -> tuple[TalkRoom, TalkSession] | None:
        """Return the room and session of a leave request (reference 4.2); ``None``: the session has ended already."""
        room = self.rooms.get(request.get("roomid", ""))
        session = None if room is None else room.sessions.get(str(request.get("sessionid", "")))
        return None if room is None or session is None else (room, session)

    def note_ping(self, entries: Iterable[Json]) -> None:
        """Record the time of a ping for the sessions in its ``entries`` (reference 4.5)."""
        alive = {entry.get("sessionid") for entry in entries}
        for room in self.rooms.values():
            for session in room.sessions.values():
                if session.id in alive:
                    session.last_ping = int(self._clock())

    @staticmethod
    def _actor(request: Json) -> tuple[str, str]:
        """Return the actor type and actor id of the attendee that a join request names; without a name, a guest's."""
        if request.get("actortype") and request.get("actorid"):
            return str(request["actortype"]), str(request["actorid"])
        if request.get("userid"):
            return ActorType.USERS, str(request["userid"])
        return ActorType.GUESTS, guest_id(str(request.get("sessionid")))
