"""The form of every message that a server may send to a client, independent of the gateway's own Structs.

Source: signaling API; reference 2-11, 13. Messages of the gateway are checked against these forms; an unknown key is an
error. ``data`` of a relayed message is opaque; ``data`` of a media message has a form of its own.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType, convert, field

from tests.conversations.event_forms import Event
from tests.conversations.form_types import Closed, Json, Name


class Server(Closed):
    version: Name
    features: list[Name]

    def __post_init__(self) -> None:
        if self.features != sorted(set(self.features)):
            raise ValueError("feature ids are sorted and unique")


class Welcome(Closed, tag="welcome"):
    welcome: Server


class HelloBody(Closed):
    version: Literal["1.0", "2.0"]
    sessionid: Name
    resumeid: Name
    userid: str
    server: Server
    received: int | UnsetType = UNSET  # acknowledged delivery, an extension

    def __post_init__(self) -> None:
        if self.sessionid == self.resumeid:
            raise ValueError("the resume id must differ from the public id")


class Hello(Closed, tag="hello"):
    hello: HelloBody
    id: Name | UnsetType = UNSET


class Error(Closed):
    code: Name
    message: Name
    details: dict[str, Json] | UnsetType = UNSET


class ErrorMessage(Closed, tag="error"):
    error: Error
    id: Name | UnsetType = UNSET


class ByeReason(Closed):
    reason: Literal["hello_timeout", "room_join_timeout", "session_resumed", "room_session_reconnected"]


class Bye(Closed, tag="bye"):
    """The end of a session: a reply has an ``id`` and no reason, an unrequested one a reason and no ``id``."""

    bye: ByeReason | UnsetType = UNSET
    id: Name | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.bye is not UNSET and self.id is not UNSET:
            raise ValueError("a reply has no reason")


class AckBody(Closed):
    received: int


class Ack(Closed, tag="ack"):
    """Acknowledged delivery, an extension for clients that announce ``ack``."""

    ack: AckBody


class Bandwidth(Closed):
    maxstreambitrate: int
    maxscreenbitrate: int


class RoomBody(Closed):
    roomid: str
    properties: Json | UnsetType = UNSET
    bandwidth: Bandwidth | UnsetType = UNSET


class Room(Closed, tag="room"):
    room: RoomBody
    id: Name | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.id is UNSET and self.room.bandwidth is not UNSET:
            raise ValueError("only a reply has the bandwidth")


class JoinedRoom(Closed):
    """The details of the error ``already_joined``."""

    room: RoomBody


class Sender(Closed):
    type: Literal["session", "user", "room", "call"]
    sessionid: Name
    userid: Name | UnsetType = UNSET


class Recipient(Closed):
    """A virtual session, with the id that its internal client gave it."""

    type: Literal["session"]
    sessionid: Name
    userid: Name | UnsetType = UNSET


class RelayedBody(Closed):
    """A relayed message; ``sender`` is null only if the server itself sends it."""

    sender: Sender | None
    data: Json
    recipient: Recipient | UnsetType = UNSET


class Message(Closed, tag="message"):
    message: RelayedBody


class Control(Closed, tag="control"):
    control: RelayedBody

    def __post_init__(self) -> None:
        if self.control.sender is None:
            convert(self.control.data, HangUp)


class HangUpBody(Closed):
    reason: Literal["disinvited"]


class HangUp(Closed):
    type: Literal["hangup"]
    hangup: HangUpBody


class Description(Closed):
    type: Literal["offer", "answer"]
    sdp: Name


class DescriptionData(Closed):
    """The ``data`` of an offer or answer of the SFU."""

    to: Name
    from_: Name = field(name="from")
    type: Literal["offer", "answer"]
    roomType: Literal["video", "screen"]  # noqa: N815 - the name on the wire
    payload: Description
    sid: str


class CandidateInit(Closed):
    candidate: str
    sdpMLineIndex: int | UnsetType = UNSET  # noqa: N815 - the name on the wire
    sdpMid: str | UnsetType = UNSET  # noqa: N815 - the name on the wire


class CandidatePayload(Closed):
    candidate: CandidateInit


class CandidateData(Closed):
    """The ``data`` of a candidate of the SFU."""

    to: Name
    from_: Name = field(name="from")
    type: Literal["candidate"]
    roomType: Literal["video", "screen"]  # noqa: N815 - the name on the wire
    payload: CandidatePayload
    sid: str


# -- transient data, internal clients


class TransientSet(Closed, tag="set"):
    key: Name
    value: Json
    oldvalue: Json | UnsetType = UNSET


class TransientRemove(Closed, tag="remove"):
    key: Name
    oldvalue: Json | UnsetType = UNSET


class TransientInitial(Closed, tag="initial"):
    data: Annotated[dict[Name, Json], Meta(min_length=1)]


class Transient(Closed, tag="transient"):
    transient: TransientSet | TransientRemove | TransientInitial


class DialRequest(Closed):
    number: Annotated[str, Meta(pattern=r"^\+[0-9]{2,}$")]
    options: Json | UnsetType = UNSET


class Dial(Closed):
    roomid: Annotated[str, Meta(pattern=r"^[0-9]+$")]
    backend: Annotated[str, Meta(pattern=r"^https?://.*/$")]
    request: DialRequest


class InternalDial(Closed, tag="dialout", tag_field="type"):
    dialout: Dial


class Internal(Closed, tag="internal"):
    internal: InternalDial
    id: Name


class DialoutFailure(Closed):
    type: Name
    error: Error | UnsetType = UNSET


class Dialout(Closed, tag="dialout"):
    dialout: DialoutFailure


class RepublishBody(Closed):
    """The stream that the client is asked to offer again, an extension."""

    roomType: Literal["video", "screen"]  # noqa: N815 - the name on the wire
    sid: str
    reason: Literal["lost", "drained"]


class Republish(Closed, tag="republish"):
    republish: RepublishBody


ServerMessage = (
    Ack
    | Welcome
    | Hello
    | ErrorMessage
    | Bye
    | Room
    | Message
    | Control
    | Event
    | Transient
    | Internal
    | Dialout
    | Republish
)


def check_message(received: Json, *, mcu: bool = False) -> None:
    """Check the form of one message to a client; with an SFU, media messages have the SFU's form.

    Raises:
        AssertionError: the message has another form.
    """
    try:
        message = convert(received, ServerMessage)
        if isinstance(message, ErrorMessage) and message.error.code == "already_joined":
            convert(message.error.details, JoinedRoom)
        if mcu and isinstance(message, Message):
            _check_media(message.message.data)
    except (msgspec.ValidationError, ValueError) as error:
        raise AssertionError(f"not a form of the protocol: {error}; received {received}") from error


def _check_media(data: Json) -> None:
    if isinstance(data, dict) and isinstance(data.get("payload"), dict) and data.get("type") in _MEDIA:
        convert(data, _MEDIA[data["type"]])


_MEDIA: dict[str, type[Closed]] = {"offer": DescriptionData, "answer": DescriptionData, "candidate": CandidateData}
