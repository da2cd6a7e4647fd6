"""The requests and answers between the gateway and a Nextcloud backend, in both directions.

Source: reference 3.2, 4.1, 4.2, 4.5 (requests to Nextcloud), 6 (requests from Nextcloud).
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec
from msgspec import Raw, Struct, UnsetType

from gateway.wire.client import ABSENT

UNSET = msgspec.UNSET


class BackendError(Struct, frozen=True, omit_defaults=True):
    """An error object of Nextcloud; passed to the client unchanged."""

    code: str | None = ""
    message: str | None = ""
    details: Raw = ABSENT


# --- gateway -> Nextcloud


class AuthRequest(Struct, frozen=True):
    """A request to authenticate a client (hello 1.0); ``params`` is forwarded unchanged."""

    params: Raw
    version: str = "1.0"


class RoomRequest(Struct, frozen=True, omit_defaults=True):
    """A request to admit a session to a room (no ``action``), or a report that it left (``action`` is ``leave``)."""

    roomid: str
    userid: str | UnsetType = UNSET
    sessionid: str | UnsetType = UNSET
    action: str = ""
    actorid: str = ""
    actortype: str = ""
    incall: int | UnsetType = UNSET
    version: str | UnsetType = UNSET  # the caller gives "1.0"; as a default it would be omitted


class SessionRequest(Struct, frozen=True, omit_defaults=True):
    """Reports a virtual session (11.2, 11.3); ``action`` is ``add`` or ``remove``."""

    roomid: str
    action: str
    sessionid: str
    userid: str = ""
    user: Raw = ABSENT
    version: str | UnsetType = UNSET  # the caller gives "1.0"; as a default it would be omitted


class PingEntry(Struct, frozen=True, omit_defaults=True):
    """A session that is still connected; ``sessionid`` is Nextcloud's, the actor that of a federated session (12.4)."""

    userid: str = ""
    sessionid: str | UnsetType = UNSET
    actorid: str = ""
    actortype: str = ""


class PingRequest(Struct, frozen=True):
    """Reports the sessions that are still in a room (``roomid`` empty: in several rooms)."""

    roomid: str
    entries: tuple[PingEntry, ...]
    version: str = "1.0"


type_of_request = {AuthRequest: "auth", RoomRequest: "room", SessionRequest: "session", PingRequest: "ping"}
BackendRequest = AuthRequest | RoomRequest | SessionRequest | PingRequest

_encoder = msgspec.json.Encoder()


def encode_request(request: BackendRequest) -> bytes:
    """Encode a request with its envelope, ``{"type": T, "T": {…}}``."""
    name = type_of_request[type(request)]
    return _encoder.encode({"type": name, name: request})


# --- Nextcloud's answers


class AuthAnswer(Struct, frozen=True):
    """The authenticated user; an empty ``userid`` means an anonymous client."""

    userid: str | None = None
    user: Raw = Raw()  # empty = absent, as for each Raw() below; a JSON null is b"null"


class RoomSession(Struct, frozen=True):
    """The ``session`` member of a room answer: properties of the joining session."""

    userid: str | None = None


_room_session = msgspec.json.Decoder(RoomSession)


class RoomAnswer(Struct, frozen=True):
    """The room that was joined; ``permissions`` is ``None`` when the answer has none."""

    roomid: str | None = None
    properties: Raw = Raw()
    session: Raw = Raw()  # decoded on its own, since PHP encodes an empty object as []
    permissions: list[str] | None = None

    @property
    def userid(self) -> str:
        """The user id that Nextcloud assigns to the joining session in this room; empty: none (4.1)."""
        try:
            return _room_session.decode(self.session).userid or ""
        except msgspec.DecodeError:
            return ""


class BackendAnswer(Struct, frozen=True):
    """An answer of Nextcloud without its OCS envelope; ``type`` names the valid member."""

    type: str | None = None
    auth: AuthAnswer | None = None
    room: RoomAnswer | None = None
    error: BackendError | None = None


# --- Nextcloud -> gateway: the rooms API. A Nextcloud that knows a server with the feature ``changed-users`` leaves out
# ``alluserids``, the ``userids`` of update and delete, and ``users``: the members of the room stand in their place.


ParticipantEntry = dict[str, Raw]  # opaque except for sessionId, userId, inCall and permissions


class Invite(Struct, frozen=True):
    """Users became members of the room; ``alluserids`` lists all members."""

    userids: list[str] | None = None
    alluserids: list[str] | None = None
    properties: Raw = Raw()


class Disinvite(Struct, frozen=True):
    """Users, or guests by their Nextcloud session ids, were removed from the room; ``alluserids`` remain members."""

    userids: list[str] | None = None
    sessionids: list[str] | None = None
    alluserids: list[str] | None = None
    properties: Raw = Raw()


class Update(Struct, frozen=True):
    """The room has new properties, to be sent to the room lists of ``userids``, or of the members."""

    userids: list[str] | None = None
    properties: Raw = Raw()


class Delete(Struct, frozen=True):
    """The room was deleted."""

    userids: list[str] | None = None


class InCall(Struct, frozen=True):
    """Call membership changed: of the sessions in ``changed``, or of all sessions with ``all``."""

    incall: Raw = Raw()
    all: bool | None = None
    changed: list[ParticipantEntry] | None = None
    users: list[ParticipantEntry] | None = None


class Participants(Struct, frozen=True):
    """Participants changed; ``permissions`` in an entry of ``changed`` replaces that session's permissions."""

    changed: list[ParticipantEntry] | None = None
    users: list[ParticipantEntry] | None = None


class Message(Struct, frozen=True):
    """An application message to the members of the room."""

    data: Raw = Raw()


class SwitchTo(Struct, frozen=True):
    """Directs sessions to another room; ``sessions`` is a list of Nextcloud's ids, or an object id -> details."""

    roomid: str | None = None
    sessions: Raw = Raw()


class Dialout(Struct, frozen=True):
    """Requests a call to a number (E.164) that joins the room; ``options`` are for the SIP bridge."""

    number: str | None = None
    options: Raw = Raw()


RoomsRequestBody: TypeAlias = (
    Invite | Disinvite | Update | Delete | InCall | Participants | Message | SwitchTo | Dialout
)


class RoomsRequest(Struct, frozen=True):
    """A request of the rooms API; ``type`` names the valid member, which ``decode_rooms_request`` requires."""

    type: str | None = None
    invite: Invite | None = None
    disinvite: Disinvite | None = None
    update: Update | None = None
    delete: Delete | None = None
    incall: InCall | None = None
    participants: Participants | None = None
    message: Message | None = None
    switchto: SwitchTo | None = None
    dialout: Dialout | None = None

    @property
    def body(self) -> RoomsRequestBody:
        """The member that ``type`` names."""
        body: RoomsRequestBody = getattr(self, str(self.type))
        return body


class UnsupportedRequest(Exception):
    """The request's ``type`` is unknown to this server; ``str()`` is the type."""


_rooms_types = frozenset(field for field in RoomsRequest.__struct_fields__ if field != "type")
_rooms_decoder = msgspec.json.Decoder(RoomsRequest)
_session_list_decoder = msgspec.json.Decoder(list[str] | dict[str, Raw] | None)


def decode_rooms_request(body: bytes) -> RoomsRequest:
    """Decode the body of a rooms API request.

    Raises:
        msgspec.DecodeError: not a JSON object of the expected types, or the object named by ``type`` is missing.
        UnsupportedRequest: an unknown ``type`` (reference 1.4, row 11).
    """
    try:
        body.decode()  # opaque members are sent to clients as they are
        request = _rooms_decoder.decode(body)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError("no UTF-8") from error
    except RecursionError as error:
        raise msgspec.DecodeError("nested too deeply") from error
    if request.type not in _rooms_types:
        raise UnsupportedRequest(request.type or "")
    if getattr(request, str(request.type)) is None:
        raise msgspec.DecodeError(f"object {request.type} is missing")
    return request


def decode_switched_sessions(sessions: Raw) -> dict[str, Raw]:
    """Return the details by Nextcloud session id, in the order given; an empty value means no details (6.8).

    Raises:
        msgspec.DecodeError: neither a list of strings nor an object.
    """
    if not bytes(sessions):
        return {}
    listed = _session_list_decoder.decode(sessions)
    return listed if isinstance(listed, dict) else dict.fromkeys(listed or (), ABSENT)


def encode_call(callid: str) -> bytes:
    """Encode the answer to a dialout request that an internal client has accepted (11.6)."""
    return _encoder.encode({"type": "dialout", "dialout": {"callid": callid}})


def encode_call_error(error: Struct) -> bytes:
    """Encode the answer to a dialout request that failed."""
    return _encoder.encode({"type": "dialout", "dialout": {"error": error}})
