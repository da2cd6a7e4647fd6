"""The conversations of the fake Nextcloud: attendees, their sessions, and Talk's answers to the gateway. Pure.

Source: reference 4.1, 4.2, 4.5 (requests of the gateway); the forms are those of Nextcloud 32 with Talk 22.
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
HIDDEN_NAME = "Private conversation"  # in requests about a room that not everybody may see

_foreign = re.compile("[^A-Za-z0-9]+")


class ActorType(StrEnum):
    """The kinds of attendees that have sessions."""

    USERS = "users"
    GUESTS = "guests"
    FEDERATED = "federated_users"
    PHONES = "phones"


class RoomType(IntEnum):
    """Talk's types of conversations, of those that matter here."""

    ONE_TO_ONE = 1
    GROUP = 2
    PUBLIC = 3


class ParticipantType(IntEnum):
    """Talk's types of participants; the owner and moderators may control others."""

    OWNER = 1
    MODERATOR = 2
    USER = 3
    GUEST = 4


class Permission(IntFlag):
    """Talk's permissions of an attendee; three of them concern the gateway."""

    CUSTOM = 1
    CALL_START = 2
    CALL_JOIN = 4
    LOBBY_IGNORE = 8
    AUDIO = 16
    VIDEO = 32
    SCREEN = 64
    CHAT = 128


USUAL = Permission(246)  # all except CUSTOM and LOBBY_IGNORE
_GRANTS = {
    Permission.AUDIO: "publish-audio",
    Permission.VIDEO: "publish-video",
    Permission.SCREEN: "publish-screen",
}


def nextcloud_session(name: str, cloud_id: str = "") -> str:
    """Return a session id of Talk's form, always the same for a name: 255 characters, ``/`` and ``+`` among them.

    The id of a federated session ends in ``#`` and the cloud id, ``user@http://host``.
    """
    octets = hashlib.shake_256(name.encode()).digest(192)
    text = f"{_foreign.sub('/', name)}+/{base64.b64encode(octets).decode()}"[:ID_LENGTH]
    return f"{text}#{cloud_id}" if cloud_id else text


def new_session(cloud_id: str = "") -> str:
    """Return a new, secret session id of Talk's form."""
    return nextcloud_session(secrets.token_hex(32), cloud_id)


def guest_id(session: str) -> str:
    """Return the actor id of a guest."""
    return hashlib.sha1(session.encode(), usedforsecurity=False).hexdigest()


@dataclass(slots=True, eq=False)
class Attendee:
    """A member of a conversation; without a session the person has not opened it."""

    actor_type: str
    actor_id: str
    name: str = ""
    type: ParticipantType = ParticipantType.USER
    permissions: Permission = USUAL

    @property
    def userid(self) -> str:
        """The user id; empty for guests, federated users and phones."""
        return self.actor_id if self.actor_type == ActorType.USERS else ""

    @property
    def granted(self) -> list[str]:
        """The permissions of which the gateway is told: never others than these four."""
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
    """A conversation; ``removed`` has the sessions that Talk ended, and that cannot join any more."""

    token: str
    name: str = ""
    type: RoomType = RoomType.GROUP
    description: str = ""
    lobby_state: int = 0
    read_only: int = 0
    active_since: float | None = None  # unix time at which the call began
    attendees: list[Attendee] = field(default_factory=list)
    sessions: dict[str, TalkSession] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)

    def attendee(self, actor_type: str, actor_id: str) -> Attendee | None:
        """Return an attendee."""
        found = (one for one in self.attendees if (one.actor_type, one.actor_id) == (actor_type, actor_id))
        return next(found, None)

    def add(self, actor_type: str, actor_id: str, name: str = "") -> Attendee:
        """Add an attendee, or return the one that is there; the first user is the owner."""
        known = self.attendee(actor_type, actor_id)
        if known is not None:
            return known
        kind = ParticipantType.GUEST if actor_type == ActorType.GUESTS else ParticipantType.USER
        if actor_type == ActorType.USERS and not self.userids:
            kind = ParticipantType.OWNER
        self.attendees.append(Attendee(actor_type, actor_id, name, kind))
        return self.attendees[-1]

    def open(self, session: str, attendee: Attendee, now: float) -> TalkSession:
        """Add a session of an attendee, as a browser does before it joins at the gateway."""
        self.sessions[session] = TalkSession(session, attendee, last_ping=int(now))
        self.removed.discard(session)
        return self.sessions[session]

    def close(self, session: str) -> None:
        """End a session; a guest exists only with it."""
        attendee = self.sessions.pop(session).attendee
        if attendee.actor_type == ActorType.GUESTS:
            self.attendees.remove(attendee)

    def set_in_call(self, session: TalkSession, flags: int, now: float) -> None:
        """Set the in-call flags of a session; the call lasts while one is in it."""
        session.in_call = flags
        self.renew_call(now)

    def renew_call(self, now: float) -> None:
        """Begin or end the call."""
        active = any(session.in_call for session in self.sessions.values())
        self.active_since = (now if self.active_since is None else self.active_since) if active else None

    @property
    def userids(self) -> list[str]:
        """The user ids of all members."""
        return [attendee.userid for attendee in self.attendees if attendee.userid]

    def properties(self, userid: str = "", *, modified: bool = True) -> Json:
        """Return the properties as Talk sends them; not ``modified``: with an invitation or a removal."""
        open_to_all = self.type is RoomType.PUBLIC or userid in self.userids
        since = None if self.active_since is None else datetime.fromtimestamp(self.active_since, UTC)
        date = None if since is None else f"{since:%Y-%m-%d %H:%M:%S}.000000"
        shown: Json = {
            "name": self.name if open_to_all else HIDDEN_NAME,
            "type": int(self.type),
            "lobby-state": self.lobby_state,
            "lobby-timer": None,
            "read-only": self.read_only,
            "listable": 0,
            "active-since": None if date is None else {"date": date, "timezone_type": 3, "timezone": "UTC"},
            "sip-enabled": 0,
        }
        return shown | ({"description": self.description} if modified else {"participant-list": "refresh"})


class TalkRooms:
    """All conversations, and the answers to the gateway's requests about them.

    Tests open sessions without a browser: a join of an unknown room creates it, unless ``refuse_unknown``, and a
    session id that Talk has not ended is taken as one that a browser has just opened, while ``admits_unknown``.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.rooms: dict[str, TalkRoom] = {}
        self.deleted: set[str] = set()
        self.refuse_unknown = False
        self.admits_unknown = True
        self._clock = clock  # unix time in seconds

    def room(self, token: str) -> TalkRoom:
        """Return a conversation, which is created if it does not exist."""
        if token not in self.rooms:
            self.rooms[token] = TalkRoom(token, name=token)
            self.deleted.discard(token)
        return self.rooms[token]

    def joining(self, request: Json) -> TalkSession | None:
        """Return the session of a join, opened if need be; ``None``: it is not invited."""
        token, session = request["roomid"], str(request.get("sessionid", ""))
        if not self.admits_unknown:
            room = self.rooms.get(token)
            return None if room is None else room.sessions.get(session)
        if token not in self.rooms and (self.refuse_unknown or token in self.deleted):
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

    def leaving(self, request: Json) -> tuple[TalkRoom, TalkSession] | None:
        """Return the room and session of a leave; ``None``: Talk has ended the session before."""
        room = self.rooms.get(request.get("roomid", ""))
        session = None if room is None else room.sessions.get(str(request.get("sessionid", "")))
        return None if room is None or session is None else (room, session)

    def pinged(self, entries: Iterable[Json]) -> None:
        """Note that sessions are still connected."""
        alive = {entry.get("sessionid") for entry in entries}
        for room in self.rooms.values():
            for session in room.sessions.values():
                if session.id in alive:
                    session.last_ping = int(self._clock())

    @staticmethod
    def _actor(request: Json) -> tuple[str, str]:
        if request.get("actortype") and request.get("actorid"):
            return str(request["actortype"]), str(request["actorid"])
        if request.get("userid"):
            return ActorType.USERS, str(request["userid"])
        return ActorType.GUESTS, guest_id(str(request.get("sessionid")))
