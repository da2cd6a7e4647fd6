"""The names of a federated room at the client's server and at the host: sessions, rooms, actors, mentions.

Source: reference 12.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
from msgspec import Raw, Struct

from gateway.wire.client import ABSENT
from gateway.wire.media import read_string

MAX_COMMENTS = 20  # in one message; Talk sends one
MAX_MENTIONS = 500  # message parameters of one comment, mentions and others

USERS = "users"  # actor type of users of the Nextcloud itself
FEDERATED_USERS = "federated_users"  # actor type of users of other Nextclouds; their id is a cloud id, user@server

_encoder = msgspec.json.Encoder()
_objects = msgspec.json.Decoder(dict[str, Raw])
_lists = msgspec.json.Decoder(list[Raw])


class NotPassedOn(Exception):
    """A message of the host is dropped: it must not reach the client (12.2-l)."""


class Names(Struct, frozen=True):
    """The names of one client's session, room and Nextcloud, at its own server (local) and at the host (remote)."""

    local_session: str  # public id
    remote_session: str  # public id
    local_room: str
    remote_room: str
    local_url: str  # base URL of the client's Nextcloud
    remote_url: str  # base URL of the host's Nextcloud

    def session(self, id: str) -> str:
        """Return the local id of a session that the host names.

        Raises:
            NotPassedOn: it is the client's local id, which is no id of a session at the host.
        """
        if id == self.remote_session:
            return self.local_session
        if id == self.local_session:
            raise NotPassedOn("the client's own session")
        return id

    def room(self, id: str) -> str:
        """Return the local id of the room.

        Raises:
            NotPassedOn: it is the id of another room.
        """
        if id != self.remote_room:
            raise NotPassedOn("another room")
        return self.local_room

    def session_value(self, id: str) -> str:
        """Return the local id in place of the client's remote one, and any other string as it is."""
        return self.local_session if id == self.remote_session else id

    def room_value(self, id: str) -> str:
        """Return the local id in place of the room's remote one, and any other string as it is."""
        return self.local_room if id == self.remote_room else id

    def actor(self, type: str, id: str) -> tuple[str, str]:
        """Return type and id by which the client's Nextcloud knows an actor of the host's Nextcloud (12.2-d)."""
        suffix = "@" + cloud_server(self.local_url)
        if type == FEDERATED_USERS and id.endswith(suffix):
            return USERS, id.removesuffix(suffix)
        if type == USERS:
            return FEDERATED_USERS, f"{id}@{cloud_server(self.remote_url)}"
        return type, id


def cloud_server(url: str) -> str:
    """Return the server in the cloud ids of a Nextcloud's users: its URL without scheme, OCS path and final slash."""
    return server_url(url).partition("://")[2]


def server_url(url: str) -> str:
    """Return the URL of a Nextcloud without OCS path and final slash, as it stands in mentions."""
    return url.partition("/ocs/v")[0].rstrip("/")


def renamed_object(raw: Raw, members: dict[str, Raw], changes: Mapping[str, Callable[[str], str]]) -> Raw:
    """Return an object with ``changes``, by member name, applied to its strings; ``raw`` itself if none changes.

    ``members`` is the decoded ``raw``.
    """
    changed = {}
    for name, change in changes.items():
        value = read_string(members.get(name, ABSENT))
        if value is not None and (new := change(value)) != value:
            changed[name] = Raw(_encoder.encode(new))
    return Raw(_encoder.encode({**members, **changed})) if changed else raw


def renamed_user(entry: dict[str, Raw], names: Names) -> dict[str, Raw]:
    """Return an entry of a list of participants (7.3) with the local names of its session and actor.

    Raises:
        NotPassedOn: see ``Names.session``.
    """
    changed = dict(entry)
    for key in ("sessionId", "sessionid"):
        session = read_string(entry.get(key, ABSENT))
        if session is not None:
            changed[key] = Raw(_encoder.encode(names.session(session)))
    _rename_actor(changed, "actorType", "actorId", names)
    return changed


def renamed_chat(data: Raw, names: Names) -> Raw:
    """Return a chat message with the local names of rooms, authors and mentions, and any other message as it is.

    Raises:
        NotPassedOn: there are more than ``MAX_COMMENTS`` comments, or ``MAX_MENTIONS`` mentions in one. A name may grow
            by the length of a URL, and each comment becomes an event of its own.
    """
    members = _object(data)
    if members is None or read_string(members.get("type", ABSENT)) != "chat":
        return data
    chat = _member(members, "chat")
    if chat is None:
        return data
    changed = dict(chat)
    if (comment := _object(chat.get("comment", ABSENT))) is not None:
        changed["comment"] = _encode(_renamed_comment(comment, names))
    if (comments := _list(chat.get("comments", ABSENT))) is not None:
        if len(comments) > MAX_COMMENTS:
            raise NotPassedOn("too many comments")
        changed["comments"] = _encode(
            [raw if (comment := _object(raw)) is None else _renamed_comment(comment, names) for raw in comments]
        )
    return data if changed == chat else _encode({**members, "chat": _encode(changed)})


def _renamed_comment(comment: dict[str, Raw], names: Names) -> dict[str, Raw]:
    changed = dict(comment)
    _rename_actor(changed, "actorType", "actorId", names)
    _rename_actor(changed, "lastEditActorType", "lastEditActorId", names)
    _replace(changed, "token", names.room_value)
    if (parameters := _member(comment, "messageParameters")) is not None:
        if len(parameters) > MAX_MENTIONS:
            raise NotPassedOn("too many mentions")
        changed["messageParameters"] = _encode(
            {
                key: _renamed_mention(value, names) if key.startswith("mention-") else value
                for key, value in parameters.items()
            }
        )
    if (parent := _member(comment, "parent")) is not None:
        changed["parent"] = _encode(_renamed_parent(parent, names))
    return changed


def _renamed_parent(comment: dict[str, Raw], names: Names) -> dict[str, Raw]:
    """Rename a comment that another one answers, without its own parent, which Talk never sends."""
    return _renamed_comment({key: value for key, value in comment.items() if key != "parent"}, names)


def _renamed_mention(raw: Raw, names: Names) -> Raw:
    """Rename a mention of a user or of the room (12.2-k); a user without ``server`` is one of the host's Nextcloud."""
    mention = _object(raw)
    if mention is None:
        return raw
    changed, type = dict(mention), read_string(mention.get("type", ABSENT))
    if type == "user":
        server = read_string(mention.get("server", ABSENT))
        if not server:
            changed["server"] = _encode(server_url(names.remote_url))
            if "mention-id" not in mention and "id" in mention:
                changed["mention-id"] = mention["id"]
        elif server_url(server) == server_url(names.local_url):
            del changed["server"]
    elif type == "call":
        _replace(changed, "id", names.room_value)
    return raw if changed == mention else _encode(changed)


def _rename_actor(members: dict[str, Raw], type_key: str, id_key: str, names: Names) -> None:
    """Change type and id of an actor, if there is one, in place."""
    type, id = read_string(members.get(type_key, ABSENT)), read_string(members.get(id_key, ABSENT))
    if type is not None and id is not None:
        type, id = names.actor(type, id)
        members[type_key], members[id_key] = _encode(type), _encode(id)


def _replace(members: dict[str, Raw], key: str, change: Callable[[str], str]) -> None:
    """Change a string member, if there is one, in place."""
    value = read_string(members.get(key, ABSENT))
    if value is not None:
        members[key] = _encode(change(value))


def _member(members: dict[str, Raw], name: str) -> dict[str, Raw] | None:
    """Return the members of the object that is a member; ``None`` if there is no such object."""
    return _object(members[name]) if name in members else None


def _object(raw: Raw) -> dict[str, Raw] | None:
    """Return the members of a JSON object; ``None`` if it is anything else."""
    try:
        return _objects.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None


def _list(raw: Raw) -> list[Raw] | None:
    """Return the items of a JSON array; ``None`` if it is anything else."""
    try:
        return _lists.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None


def _encode(value: object) -> Raw:
    return Raw(_encoder.encode(value))
