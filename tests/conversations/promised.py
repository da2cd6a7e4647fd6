"""The form of everything that a server may send to clients, written from the protocol document alone.

Source: signaling API; reference 2-11, 13. Nothing here knows the gateway's own Structs: what it sends is
held against this. An unknown key is an error. ``data`` of a relayed message is its sender's; that of a media message
has the form that the document gives.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType, convert, field

from tests.conversations.promised_base import Closed, Json, Name
from tests.conversations.promised_events import Event


class Server(Closed):
    version: Name
    features: list[Name]

    def __post_init__(self) -> None:
        if self.features != sorted(set(self.features)):
            raise ValueError("feature ids are sorted, each once")


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
            raise ValueError("the id to resume is a secret")


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
    """The reply has an ``id`` and no reason, the push a reason and no ``id``."""

    bye: ByeReason | UnsetType = UNSET
    id: Name | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.bye is not UNSET and self.id is not UNSET:
            raise ValueError("a reply gives no reason")


class Received(Closed):
    received: int


class Ack(Closed, tag="ack"):
    """Acknowledged delivery, an extension: to clients that announce it."""

    ack: Received


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
            raise ValueError("only a reply tells the bandwidth")


class JoinedRoom(Closed):
    """Details of ``already_joined``."""

    room: RoomBody


class Sender(Closed):
    type: Literal["session", "user", "room", "call"]
    sessionid: Name
    userid: Name | UnsetType = UNSET


class Recipient(Closed):
    """A virtual session, by the name that its owner gave it."""

    type: Literal["session"]
    sessionid: Name
    userid: Name | UnsetType = UNSET


class Relayed(Closed):
    """``sender`` is null only where the server itself speaks."""

    sender: Sender | None
    data: Json
    recipient: Recipient | UnsetType = UNSET


class Message(Closed, tag="message"):
    message: Relayed


class Control(Closed, tag="control"):
    control: Relayed

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


class Described(Closed):
    """``data`` of an offer or answer of the SFU."""

    to: Name
    from_: Name = field(name="from")
    type: Literal["offer", "answer"]
    roomType: Literal["video", "screen"]  # noqa: N815 - as it is written
    payload: Description
    sid: str


class CandidateText(Closed):
    candidate: str
    sdpMLineIndex: int | UnsetType = UNSET  # noqa: N815 - as it is written
    sdpMid: str | UnsetType = UNSET  # noqa: N815 - as it is written


class CandidatePayload(Closed):
    candidate: CandidateText


class Candidate(Closed):
    """``data`` of a candidate of the SFU."""

    to: Name
    from_: Name = field(name="from")
    type: Literal["candidate"]
    roomType: Literal["video", "screen"]  # noqa: N815 - as it is written
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


class StreamGone(Closed):
    """An extension: which stream the client is asked to offer again."""

    roomType: Literal["video", "screen"]  # noqa: N815 - the wire's name
    sid: str
    reason: Literal["lost", "drained"]


class Republish(Closed, tag="republish"):
    republish: StreamGone


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


def check_message(heard: Json, *, mcu: bool = False) -> None:
    """Check one message to a client; with an SFU, media messages come from it.

    Raises:
        AssertionError: it has not the form that the document gives it.
    """
    try:
        message = convert(heard, ServerMessage)
        if isinstance(message, ErrorMessage) and message.error.code == "already_joined":
            convert(message.error.details, JoinedRoom)
        if mcu and isinstance(message, Message):
            _check_media(message.message.data)
    except (msgspec.ValidationError, ValueError) as error:
        raise AssertionError(f"not the form of the document: {error}; heard {heard}") from error


def _check_media(data: Json) -> None:
    if isinstance(data, dict) and isinstance(data.get("payload"), dict) and data.get("type") in _MEDIA:
        convert(data, _MEDIA[data["type"]])


_MEDIA: dict[str, type[Closed]] = {"offer": Described, "answer": Described, "candidate": Candidate}
