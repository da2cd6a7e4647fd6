"""Rewrite the names in messages between a client and the server that hosts its federated room, in both directions.

A client in a federated room has a session here (its local id) and one at the host (its remote id). The room may have
different ids at both, and a user of one Nextcloud is a federated user at the other. In each message the
client, its room and all users have the names of the recipient's side. Other sessions have the host's ids on both sides.

``data`` stays byte for byte unless a name in it changes.

Source: reference 12.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct

from gateway.wire.client import ABSENT, ClientMessage, is_given, span
from gateway.wire.errors import Error
from gateway.wire.federated_names import Names, NotPassedOn, renamed_chat, renamed_object, renamed_user
from gateway.wire.media import CONTROL, SFU_TYPES, read_string
from gateway.wire.remote_messages import (
    RemoteControl,
    RemoteError,
    RemoteEvent,
    RemoteEventBody,
    RemoteMessage,
    RemoteMessageBody,
    RemoteParticipantsBody,
    RemoteRelayed,
    RemoteRoomBody,
    RemoteRoomMessage,
)
from gateway.wire.server import Dialout, FlagsBody, Republish, RoomDataBody, RoomListBody, Transient

SESSION_DATA = "sd:"  # prefix of the key of a session's own transient entry (10)
DATA_BYTES = 65_536  # the most in ``data`` or in a transient value: a client's whole message has no more (2.1)
_EVENTS = frozenset(  # target and type of the events that clients get
    {("room", type) for type in ("join", "leave", "message", "switchto")}
    | {("participants", type) for type in ("update", "flags", "message")}
    | {("roomlist", type) for type in ("invite", "disinvite", "update")}
)

_encoder = msgspec.json.Encoder()
_objects = msgspec.json.Decoder(dict[str, Raw])
_participants = msgspec.json.Decoder(RemoteParticipantsBody)
_roomlist = msgspec.json.Decoder(RoomListBody)


class _AlreadyJoined(Struct, frozen=True):
    """The details of the error ``already_joined``."""

    room: RemoteRoomBody


_already_joined = msgspec.json.Decoder(_AlreadyJoined)


# -- from the client to the host


def to_remote(text: str, message: ClientMessage, names: Names) -> str:
    """Return a client's message with the host's names; ``message`` is the decoded ``text``.

    Only two things change: the recipient, if it is the client, and the ``key`` of the client's own transient data. The
    rest stays byte for byte.
    """
    recipient = None if message.message is None else message.message.recipient
    if message.type == "message" and recipient is not None:
        if recipient.type == "session" and recipient.sessionid == names.local_session:
            return _replaced(text, names.remote_session, "message", "recipient", "sessionid")
    elif (
        message.type == "transient"
        and message.transient is not None
        and message.transient.key == SESSION_DATA + names.local_session
    ):
        return _replaced(text, SESSION_DATA + names.remote_session, "transient", "key")
    return text


def _replaced(text: str, value: str, *path: str) -> str:
    """Return a JSON object with another string at a path of member names."""
    start, end = span(text, *path)
    return text[:start] + _encoder.encode(value).decode() + text[end:]


# -- from the host to the client


def to_local(message: RemoteMessage, names: Names) -> RemoteMessage:
    """Return a message of the host with the local names.

    Raises:
        NotPassedOn: the message names another room, has the client's local id as an id of the host, is malformed, or is
            not meant for clients.
    """
    renamed = _RENAMED.get(type(message))
    if renamed is None:
        raise NotPassedOn(type(message).__name__)
    return renamed(message, names)


def _room(body: RemoteRoomBody, names: Names) -> RemoteRoomBody:
    if body.roomid is UNSET:
        raise NotPassedOn("room without an id")
    return msgspec.structs.replace(body, roomid=names.room(body.roomid)) if body.roomid else body


def _error(error: Error, names: Names) -> Error:
    """Rename the room in the details of ``already_joined``; details of another form or room are dropped."""
    if error.code != "already_joined" or not is_given(error.details):
        return error
    try:
        details = _already_joined.decode(error.details)
        details = _AlreadyJoined(_room(details.room, names))
    except (msgspec.DecodeError, NotPassedOn):
        return Error(error.code, error.message)
    return Error(error.code, error.message, Raw(_encoder.encode(details)))


def properties_of_joined_room(error: Error) -> Raw:
    """Return the room's properties in the details of an ``already_joined``; ``ABSENT`` if there are none."""
    try:
        return _already_joined.decode(error.details).room.properties
    except msgspec.DecodeError:
        return ABSENT


def _body(body: RemoteMessageBody, names: Names, *, control: bool) -> RemoteMessageBody:
    sender, recipient = body.sender, body.recipient
    if sender is not None and sender.sessionid:
        sender = msgspec.structs.replace(sender, sessionid=names.session(sender.sessionid))
    if recipient is not None and recipient.sessionid:
        recipient = msgspec.structs.replace(recipient, sessionid=names.session(recipient.sessionid))
    if not is_given(body.data):
        raise NotPassedOn("message without data")
    if len(body.data) > DATA_BYTES:
        raise NotPassedOn("more data than a client can send")
    return RemoteMessageBody(sender, _data(body.data, names, control=control), recipient)


def _data(data: Raw, names: Names, *, control: bool) -> Raw:
    """Rename the client's session in a media message, and in a request to mute the client (12.2-g, 12.2-h)."""
    try:
        members = _objects.decode(data)
    except (msgspec.DecodeError, RecursionError):  # not an object, or one with a lone surrogate
        return data
    if control:
        return _renamed_mute(data, members, names)
    type = read_string(members.get("type", ABSENT))
    if type in SFU_TYPES:
        return renamed_object(data, members, dict.fromkeys(("from", "to"), names.session_value))
    if type == CONTROL:
        payload = members.get("payload", ABSENT)
        try:
            changed = _renamed_mute(payload, _objects.decode(payload), names)
        except (msgspec.DecodeError, RecursionError):
            return data
        return data if changed is payload else Raw(_encoder.encode({**members, "payload": changed}))
    return data


def _renamed_mute(data: Raw, members: dict[str, Raw], names: Names) -> Raw:
    """Rename ``peerId`` in a request to mute; ``members`` is the decoded ``data``."""
    if read_string(members.get("action", ABSENT)) != "forceMute":
        return data
    return renamed_object(data, members, {"peerId": names.session_value})


def _event(event: RemoteEventBody, names: Names) -> RemoteEventBody:
    if (event.target, event.type) not in _EVENTS:
        raise NotPassedOn("event of an unknown type")
    join, leave, flags, message = event.join, event.leave, event.flags, event.message
    if join is not None:
        join = tuple(msgspec.structs.replace(entry, sessionid=names.session(entry.sessionid)) for entry in join)
    if leave is not None:
        leave = tuple(names.session(session) for session in leave)
    if flags is not None:
        flags = FlagsBody(names.room(flags.roomid), names.session(flags.sessionid), flags.flags)
    if message is not None:
        message = RoomDataBody(names.room(message.roomid), renamed_chat(message.data, names))
    switchto = event.switchto
    if switchto is not None:
        if switchto.roomid is UNSET:
            raise NotPassedOn("switchto without a room")
        switchto = msgspec.structs.replace(switchto, roomid=names.room(switchto.roomid))
    return RemoteEventBody(
        event.target,
        event.type,
        join=join,
        leave=leave,
        message=message,
        update=_update(event, names),
        invite=_listed_room(event.invite, names),
        disinvite=_listed_room(event.disinvite, names),
        switchto=switchto,
        flags=flags,
    )


def _update(event: RemoteEventBody, names: Names) -> Raw:
    """Rename the room in an update of the list of rooms; in an update of participants also the session and all actors.

    Raises:
        NotPassedOn: the update is malformed, or see ``to_local``.
    """
    if not is_given(event.update):
        return ABSENT
    try:
        if event.target != "participants":
            return Raw(_encoder.encode(_listed_room(_roomlist.decode(event.update), names)))
        update = _participants.decode(event.update)
    except msgspec.DecodeError as error:
        raise NotPassedOn("malformed update") from error
    renamed = msgspec.structs.replace(
        update,
        roomid=names.room(update.roomid),
        users=_renamed_users(update.users, names),
        changed=_renamed_users(update.changed, names),
    )
    return Raw(_encoder.encode(renamed))


def _renamed_users(entries: list[dict[str, Raw]] | None, names: Names) -> list[dict[str, Raw]] | None:
    return None if entries is None else [renamed_user(entry, names) for entry in entries]


def _listed_room(body: RoomListBody | None, names: Names) -> RoomListBody | None:
    return None if body is None else msgspec.structs.replace(body, roomid=names.room(body.roomid))


def _transient(message: Transient, names: Names) -> Transient:
    body = message.transient
    data = body.data
    if max(map(len, (body.value, body.oldvalue, *(data or {}).values()))) > DATA_BYTES:
        raise NotPassedOn("a greater value than a client can set")
    if data is not None:
        data = {_transient_key(key, names): value for key, value in data.items()}
    return Transient(msgspec.structs.replace(body, key=_transient_key(body.key, names), data=data))


def _transient_key(key: str, names: Names) -> str:
    if not key.startswith(SESSION_DATA):
        return key
    return SESSION_DATA + names.session(key.removeprefix(SESSION_DATA))


_RENAMED: dict[type, Callable[[Any, Names], RemoteMessage]] = {  # by the type of the host's message
    RemoteRoomMessage: lambda message, names: RemoteRoomMessage(_room(message.room, names), message.id),
    RemoteError: lambda message, names: RemoteError(_error(message.error, names), message.id),
    RemoteRelayed: lambda message, names: RemoteRelayed(_body(message.message, names, control=False)),
    RemoteControl: lambda message, names: RemoteControl(_body(message.control, names, control=True)),
    RemoteEvent: lambda message, names: RemoteEvent(_event(message.event, names)),
    Transient: _transient,
    Dialout: lambda message, _: message,
    Republish: lambda message, _: message,
}
