"""The names of a federated room at the client's server and at the host: sessions, rooms, actors, mentions.

Source: reference 12.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
from msgspec import Raw, Struct

from gateway.wire.client import ABSENT
from gateway.wire.media import read_string

COMMENTS = 20  # of one message; Talk sends one
MENTIONS = 500  # of one comment

USERS = "users"  # actor type of users of the Nextcloud itself
FEDERATED_USERS = "federated_users"  # actor type of users of other Nextclouds; their id is a cloud id, user@server

_encoder = msgspec.json.Encoder()
_objects = msgspec.json.Decoder(dict[str, Raw])
_lists = msgspec.json.Decoder(list[Raw])


class NotPassedOn(Exception):
    """A message of the host is not passed on."""


class Names(Struct, frozen=True):
    """The names of one client in one federated room."""

    local_session: str
    remote_session: str
    local_room: str
    remote_room: str
    local_url: str  # base URL of the client's Nextcloud
    remote_url: str  # base URL of the host's Nextcloud

    def session(self, id: str) -> str:
        """Return the local id of a session that the host names.

        Raises:
            NotPassedOn: it is the client's local id, which the host does not know as that of a session of its own.
        """
        if id == self.remote_session:
            return self.local_session
        if id == self.local_session:
            raise NotPassedOn("the client's own session")
        return id

    def room(self, id: str) -> str:
        """Return the local id of the room.

        Raises:
            NotPassedOn: another room.
        """
        if id != self.remote_room:
            raise NotPassedOn("another room")
        return self.local_room

    def session_value(self, id: str) -> str:
        """Return the local id for the remote one in a value that may also be anything else."""
        return self.local_session if id == self.remote_session else id

    def room_value(self, id: str) -> str:
        """Return the local id for the remote one in a value that may also be anything else."""
        return self.local_room if id == self.remote_room else id

    def actor(self, type: str, id: str) -> tuple[str, str]:
        """Return type and id of an actor as the client's Nextcloud names it."""
        suffix = "@" + cloud_id(self.local_url)
        if type == FEDERATED_USERS and id.endswith(suffix):
            return USERS, id.removesuffix(suffix)
        if type == USERS:
            return FEDERATED_USERS, f"{id}@{cloud_id(self.remote_url)}"
        return type, id


def cloud_id(url: str) -> str:
    """Return the server part of the cloud ids of a Nextcloud: its URL without scheme, OCS path and final slash."""
    return server_url(url).partition("://")[2]


def server_url(url: str) -> str:
    """Return the URL of a Nextcloud without OCS path and final slash, as it stands in mentions."""
    return url.partition("/ocs/v")[0].rstrip("/")


def rename(raw: Raw, members: dict[str, Raw], changes: Mapping[str, Callable[[str], str]]) -> Raw:
    """Replace strings in an object, and return ``raw`` itself if none changes."""
    changed = {}
    for name, change in changes.items():
        value = read_string(members.get(name, ABSENT))
        if value is not None and (new := change(value)) != value:
            changed[name] = Raw(_encoder.encode(new))
    return Raw(_encoder.encode({**members, **changed})) if changed else raw


def renamed_user(entry: dict[str, Raw], names: Names) -> dict[str, Raw]:
    """Rename session and actor in an entry of a list of participants (7.3)."""
    changed = dict(entry)
    for key in ("sessionId", "sessionid"):
        session = read_string(entry.get(key, ABSENT))
        if session is not None:
            changed[key] = Raw(_encoder.encode(names.session(session)))
    _rename_actor(changed, "actorType", "actorId", names)
    return changed


def renamed_chat(data: Raw, names: Names) -> Raw:
    """Rename rooms, authors and mentions in the comments of a chat message; other messages stay as they are.

    Raises:
        NotPassedOn: too many comments or mentions; each becomes larger, and each comment an event of its own.
    """
    members = _object(data)
    chat = None if members is None or read_string(members.get("type", ABSENT)) != "chat" else _member(members, "chat")
    if members is None or chat is None:
        return data
    changed = dict(chat)
    if (comment := _object(chat.get("comment", ABSENT))) is not None:
        changed["comment"] = _encoded(_comment(comment, names))
    if (comments := _list(chat.get("comments", ABSENT))) is not None:
        if len(comments) > COMMENTS:
            raise NotPassedOn("too many comments")
        changed["comments"] = _encoded(
            [raw if (comment := _object(raw)) is None else _comment(comment, names) for raw in comments]
        )
    return data if changed == chat else _encoded({**members, "chat": _encoded(changed)})


def _comment(comment: dict[str, Raw], names: Names) -> dict[str, Raw]:
    changed = dict(comment)
    _rename_actor(changed, "actorType", "actorId", names)
    _rename_actor(changed, "lastEditActorType", "lastEditActorId", names)
    _set(changed, "token", names.room_value)
    if (parameters := _member(comment, "messageParameters")) is not None:
        if len(parameters) > MENTIONS:
            raise NotPassedOn("too many mentions")
        changed["messageParameters"] = _encoded(
            {key: _mention(value, names) if key.startswith("mention-") else value for key, value in parameters.items()}
        )
    if (parent := _member(comment, "parent")) is not None:
        changed["parent"] = _encoded(_parent(parent, names))
    return changed


def _parent(comment: dict[str, Raw], names: Names) -> dict[str, Raw]:
    """Rename the comment that another one answers; its own parent, which Talk never sends, is left out."""
    return _comment({key: value for key, value in comment.items() if key != "parent"}, names)


def _mention(raw: Raw, names: Names) -> Raw:
    """Rename a mention: of a user (``server`` is absent for users of the Nextcloud that sends it), or of the room."""
    mention = _object(raw)
    if mention is None:
        return raw
    changed, type = dict(mention), read_string(mention.get("type", ABSENT))
    if type == "user":
        server = read_string(mention.get("server", ABSENT))
        if not server:
            changed["server"] = _encoded(server_url(names.remote_url))
            if "mention-id" not in mention and "id" in mention:
                changed["mention-id"] = mention["id"]
        elif server_url(server) == server_url(names.local_url):
            del changed["server"]
    elif type == "call":
        _set(changed, "id", names.room_value)
    return raw if changed == mention else _encoded(changed)


def _rename_actor(members: dict[str, Raw], type_key: str, id_key: str, names: Names) -> None:
    type, id = read_string(members.get(type_key, ABSENT)), read_string(members.get(id_key, ABSENT))
    if type is not None and id is not None:
        type, id = names.actor(type, id)
        members[type_key], members[id_key] = _encoded(type), _encoded(id)


def _set(members: dict[str, Raw], key: str, change: Callable[[str], str]) -> None:
    value = read_string(members.get(key, ABSENT))
    if value is not None:
        members[key] = _encoded(change(value))


def _member(members: dict[str, Raw], name: str) -> dict[str, Raw] | None:
    return _object(members[name]) if name in members else None


def _object(raw: Raw) -> dict[str, Raw] | None:
    try:
        return _objects.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None


def _list(raw: Raw) -> list[Raw] | None:
    try:
        return _lists.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None


def _encoded(value: object) -> Raw:
    return Raw(_encoder.encode(value))
