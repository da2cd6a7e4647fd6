"""The messages of a server that hosts a federated room, decoded into Structs.

A message with a member of a wrong type is refused as a whole. Members and types of messages that are not listed here do
not reach the client. Members that some servers leave out have defaults.

Source: signaling API; reference 12.2.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from gateway.wire.client import ABSENT, MessageCount, has_lone_surrogate, is_given, span, without_lone_surrogates
from gateway.wire.errors import Error
from gateway.wire.server import (
    Ack,
    Dialout,
    FlagsBody,
    JoinEntry,
    Republish,
    RoomDataBody,
    RoomListBody,
    SwitchToBody,
    Transient,
)

_Id = Annotated[str, Meta(min_length=1, max_length=1024)]  # characters; those of deployed servers have about 200
_Participants = Annotated[list[dict[str, Raw]], Meta(max_length=10_000)]


class RemoteServerInfo(Struct, frozen=True):
    """The host's feature ids."""

    features: tuple[str, ...] | None = None


class RemoteWelcome(Struct, frozen=True, tag_field="type", tag="welcome"):
    """The first message of the host."""

    welcome: RemoteServerInfo


class RemoteHelloBody(Struct, frozen=True):
    """Public and private id of the session at the host; ``received``: messages that the host has (feature ``ack``)."""

    sessionid: _Id
    resumeid: _Id
    received: MessageCount | None = None


class RemoteHello(Struct, frozen=True, tag_field="type", tag="hello"):
    """Reply to a hello."""

    hello: RemoteHelloBody
    id: str = ""


class RemoteError(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="error"):
    """Reply to a request that failed."""

    error: Error
    id: str = ""


class RemoteRoomBody(Struct, frozen=True, omit_defaults=True):
    """The room of the session; an empty ``roomid`` means none."""

    roomid: str | UnsetType = UNSET
    properties: Raw = ABSENT
    bandwidth: Raw = ABSENT


class RemoteRoomMessage(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="room"):
    """Reply to a join or leave; without ``id``, the host or its Nextcloud has changed the session's room."""

    room: RemoteRoomBody
    id: str = ""


class RemoteByeBody(Struct, frozen=True):
    """The reason of a ``bye``."""

    reason: str = ""


class RemoteBye(Struct, frozen=True, tag_field="type", tag="bye"):
    """The end of the session at the host."""

    bye: RemoteByeBody | None = None


class RemoteRecipient(Struct, frozen=True, omit_defaults=True):
    """The recipient of a message."""

    type: str | UnsetType = UNSET
    sessionid: str = ""
    userid: str = ""


class RemoteSender(Struct, frozen=True, omit_defaults=True):
    """The sender of a message; ``type`` is that of the recipient (5.1)."""

    type: str | UnsetType = UNSET
    sessionid: str = ""
    userid: str = ""


class RemoteMessageBody(Struct, frozen=True, omit_defaults=True):
    """A message of another session or of the SFU; without a sender, of the host itself."""

    sender: RemoteSender | None = None
    data: Raw = ABSENT
    recipient: RemoteRecipient | None = None


class RemoteRelayed(Struct, frozen=True, tag_field="type", tag="message"):
    """A ``message``, see ``RemoteMessageBody``."""

    message: RemoteMessageBody


class RemoteControl(Struct, frozen=True, tag_field="type", tag="control"):
    """A ``control`` message, see ``RemoteMessageBody``."""

    control: RemoteMessageBody


class RemoteParticipantsBody(Struct, frozen=True, omit_defaults=True):
    """The participants and their in-call flags (7.3), or one value for all of them (7.4)."""

    roomid: str
    users: _Participants | None = None
    changed: _Participants | None = None
    incall: Raw = ABSENT
    all: bool = False


class RemoteEventBody(Struct, frozen=True, omit_defaults=True):
    """An event; ``type`` says which member it has."""

    target: str
    type: str
    join: tuple[JoinEntry, ...] | None = None
    leave: tuple[str, ...] | None = None
    message: RoomDataBody | None = None
    update: Raw = ABSENT  # of participants, or of the list of rooms
    invite: RoomListBody | None = None
    disinvite: RoomListBody | None = None
    switchto: SwitchToBody | None = None
    flags: FlagsBody | None = None


class RemoteEvent(Struct, frozen=True, tag_field="type", tag="event"):
    """An event, see ``RemoteEventBody``."""

    event: RemoteEventBody


RemoteMessage: TypeAlias = (
    RemoteWelcome
    | RemoteHello
    | RemoteError
    | RemoteRelayed
    | RemoteControl
    | RemoteEvent
    | RemoteBye
    | RemoteRoomMessage
    | Ack
    | Dialout
    | Republish
    | Transient
)

_decoder: msgspec.json.Decoder[RemoteMessage] = msgspec.json.Decoder(RemoteMessage)
_encoder = msgspec.json.Encoder()


def decode(text: str) -> RemoteMessage:
    """Decode a message of the host.

    Raises:
        msgspec.DecodeError: not JSON, of an unknown type, or a known member has a wrong type.
    """
    try:
        try:
            return _decoder.decode(text)
        except msgspec.DecodeError:
            if not has_lone_surrogate(text):
                raise
        message = _decoder.decode(without_lone_surrogates(text))
        for name in ("message", "control"):  # their data is relayed with the lone surrogates (5.1)
            body = getattr(message, name, None)
            if isinstance(body, RemoteMessageBody) and is_given(body.data):
                start, end = span(text, name, "data")
                body = msgspec.structs.replace(body, data=Raw(text[start:end].encode()))
                message = msgspec.structs.replace(message, **{name: body})
        return message
    except RecursionError as error:
        raise msgspec.DecodeError("nested too deeply") from error


def encode(message: RemoteMessage) -> bytes:
    """Encode a message for the client."""
    return _encoder.encode(message)
