"""The messages that the gateway sends: one Struct per message type, named after it and encoded once for all receivers.

Source: signaling API; reference 2.2, 2.3, 2.7, 3.5, 4, 5.1, 7.3, 7.4, 10.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import Raw, Struct

from gateway.wire.backend import BackendError
from gateway.wire.client import ABSENT
from gateway.wire.errors import Error
from gateway.wire.internal import CallError

_encoder = msgspec.json.Encoder()


class ServerInfo(Struct, frozen=True):
    """The server's version and its sorted feature ids."""

    version: str
    features: tuple[str, ...]


class Welcome(Struct, frozen=True, tag_field="type", tag="welcome"):
    """The first message on a connection (2.3)."""

    welcome: ServerInfo


class HelloBody(Struct, frozen=True):
    """The session that was opened or resumed (3.5)."""

    version: str
    sessionid: str
    resumeid: str
    userid: str
    server: ServerInfo
    received: int | msgspec.UnsetType = msgspec.UNSET  # feature ``ack``: number of messages received from the client


class AckBody(Struct, frozen=True):
    """The number of messages received from the client."""

    received: int


class Ack(Struct, frozen=True, tag_field="type", tag="ack"):
    """Reply to an ``ack`` of the client (docs/protocol.md, Acknowledged delivery)."""

    ack: AckBody


class Hello(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="hello"):
    """Reply to a hello."""

    hello: HelloBody
    id: str = ""


class ErrorMessage(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="error"):
    """Reply to a request that failed; ``id`` is absent if the request has none, or none that can be read."""

    error: Error | BackendError
    id: str = ""


class ByeBody(Struct, frozen=True):
    """The reason of a ``bye``."""

    reason: str


class Bye(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="bye"):
    """The end of the session, or of this connection (2.5, 2.7)."""

    bye: ByeBody | None = None
    id: str = ""


class Bandwidth(Struct, frozen=True):
    """The maximum bitrates of a stream in bit/s (4.1)."""

    maxstreambitrate: int
    maxscreenbitrate: int


class RoomBody(Struct, frozen=True, omit_defaults=True):
    """The room of the session; an empty ``roomid`` means none."""

    roomid: str | msgspec.UnsetType = msgspec.UNSET
    properties: Raw = ABSENT
    bandwidth: Bandwidth | None = None


class Room(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="room"):
    """Reply to a join or leave; without ``id`` a change by the backend (4.1, 4.6)."""

    room: RoomBody
    id: str = ""


class AlreadyJoined(Struct, frozen=True):
    """Details of the error ``already_joined``."""

    room: RoomBody


class Sender(Struct, frozen=True, omit_defaults=True):
    """The sender of a message, and the type of its recipient (5.1)."""

    type: str
    sessionid: str
    userid: str = ""


class Recipient(Struct, frozen=True, omit_defaults=True):
    """The virtual session that a message to an internal client addresses, by the client's own id (11.4)."""

    sessionid: str
    userid: str = ""
    type: str | msgspec.UnsetType = msgspec.UNSET  # always given


class MessageBody(Struct, frozen=True, omit_defaults=True):
    """A message of another session, of the SFU, or (without a sender) of the gateway."""

    sender: Sender | None
    data: Raw
    recipient: Recipient | None = None


class Message(Struct, frozen=True, tag_field="type", tag="message"):
    """A ``message``, see ``MessageBody``."""

    message: MessageBody


class Control(Struct, frozen=True, tag_field="type", tag="control"):
    """A message that controls its receiver (5.3), in the form of any other message."""

    control: MessageBody


def encode_sender(sender: Sender, *, control: bool = False) -> bytes:
    """Encode the part of a message before ``data``; ``Relay`` appends ``data`` byte for byte and ``MESSAGE_END``."""
    body = MessageBody(sender, Raw(b"0"))
    return _encoder.encode(Control(body) if control else Message(body))[: -len(b"0" + MESSAGE_END)]


MESSAGE_END = b"}}"  # the part of a message behind ``data``


class JoinEntry(Struct, frozen=True, omit_defaults=True):
    """A session in a join event (4.3)."""

    sessionid: str
    userid: str | msgspec.UnsetType = msgspec.UNSET  # always given
    features: tuple[str, ...] = ()
    user: Raw = ABSENT
    roomsessionid: str = ""
    federated: bool = False


class RoomDataBody(Struct, frozen=True):
    """A message of the backend to the room (6.7)."""

    roomid: str
    data: Raw


class ParticipantsBody(Struct, frozen=True, omit_defaults=True):
    """The participants and their in-call flags (7.3), or one value for all of them (7.4)."""

    roomid: str
    users: list[dict[str, Raw]] | msgspec.UnsetType = msgspec.UNSET
    incall: int | msgspec.UnsetType = msgspec.UNSET
    all: bool = False


class RoomListBody(Struct, frozen=True, omit_defaults=True):
    """A change in a user's list of rooms (6.1-6.4)."""

    roomid: str
    properties: Raw = ABSENT
    reason: str = ""


class SwitchToBody(Struct, frozen=True, omit_defaults=True):
    """The room that the client is directed to (6.8)."""

    roomid: str | msgspec.UnsetType = msgspec.UNSET  # always given
    details: Raw = ABSENT


class FlagsBody(Struct, frozen=True):
    """The flags of a virtual session (7.5)."""

    roomid: str
    sessionid: str
    flags: int


class EventBody(Struct, frozen=True, omit_defaults=True):
    """An event; ``type`` names the valid member."""

    target: str
    type: str
    join: tuple[JoinEntry, ...] | None = None
    leave: tuple[str, ...] | None = None
    message: RoomDataBody | None = None
    update: ParticipantsBody | RoomListBody | None = None
    invite: RoomListBody | None = None
    disinvite: RoomListBody | None = None
    switchto: SwitchToBody | None = None
    flags: FlagsBody | None = None
    resumed: bool | None = None  # of ``federation_resumed`` (12.3)


class Event(Struct, frozen=True, tag_field="type", tag="event"):
    """An event, see ``EventBody``."""

    event: EventBody


class TransientBody(Struct, frozen=True, omit_defaults=True):
    """A change of one entry of transient data, or all entries at once (``initial``)."""

    type: str
    key: str = ""
    value: Raw = ABSENT
    oldvalue: Raw = ABSENT
    data: dict[str, Raw] | None = None


class Transient(Struct, frozen=True, tag_field="type", tag="transient"):
    """A change of transient data, or all of them; see ``TransientBody`` (10)."""

    transient: TransientBody


class CallTarget(Struct, frozen=True, omit_defaults=True):
    """The number to call (11.6)."""

    number: str
    options: Raw = ABSENT


class CallOrder(Struct, frozen=True):
    """A phone call to place for a room; ``backend`` is the base URL of its Nextcloud."""

    roomid: str
    backend: str
    request: CallTarget


class InternalBody(Struct, frozen=True):
    """The body of a request to an internal client."""

    type: str
    dialout: CallOrder


class InternalRequest(Struct, frozen=True, tag_field="type", tag="internal"):
    """A request to an internal client, which answers with the same ``id``."""

    internal: InternalBody
    id: str


class DialoutBody(Struct, frozen=True, omit_defaults=True):
    """The failure of a phone call of the room."""

    type: str
    error: CallError | None = None


class Dialout(Struct, frozen=True, tag_field="type", tag="dialout"):
    """The failure of a phone call, see ``DialoutBody`` (11.6)."""

    dialout: DialoutBody


class RepublishBody(Struct, frozen=True, rename={"room_type": "roomType"}):
    """The stream that was lost, the ``sid`` of its connection, and the reason."""

    room_type: str
    sid: str
    reason: str


class Republish(Struct, frozen=True, tag_field="type", tag="republish"):
    """A request to the client to offer a lost stream again (docs/protocol.md, Offering again)."""

    republish: RepublishBody


ServerMessage = (
    Welcome
    | Hello
    | Ack
    | ErrorMessage
    | Bye
    | Room
    | Message
    | Control
    | Event
    | Transient
    | InternalRequest
    | Dialout
    | Republish
)


def encode(message: ServerMessage) -> bytes:
    """Encode a message once for all its receivers."""
    return _encoder.encode(message)


def encode_join_entry(entry: JoinEntry) -> bytes:
    """Encode an entry of a join event; ``join_event`` puts entries together."""
    return _encoder.encode(entry)


def join_event(entries: Iterable[bytes]) -> bytes:
    """Return a join event with encoded entries."""
    return b"".join((_JOIN_HEAD, b",".join(entries), _JOIN_TAIL))


_JOIN_HEAD, _JOIN_TAIL = _encoder.encode(Event(EventBody("room", "join", join=(JoinEntry(""),)))).split(
    _encoder.encode(JoinEntry(""))
)
