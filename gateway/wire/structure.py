"""Checks of the members that each type of client message requires.

Source: reference 2.4, 5.2. The functions return the checked member, so that flows need no checks of their own. The few
checks that have to be elsewhere are named in docs/architecture.md, "Structure of messages".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, TypeVar

from msgspec import Raw

from gateway.wire.client import (
    Ack,
    ClientMessage,
    FederationTarget,
    Hello,
    Message,
    RoomJoin,
    Transient,
    has_two_types,
    is_given,
)
from gateway.wire.errors import Code, ProtocolError
from gateway.wire.internal import AddSession, CallReport, InCallFlags, Internal, RemoveSession, UpdateSession
from gateway.wire.media import ROOM_TYPES, MediaMessage, decode_media_message

InternalBody: TypeAlias = AddSession | UpdateSession | RemoveSession | InCallFlags | CallReport
_T = TypeVar("_T")
_Named = TypeVar("_Named", AddSession, UpdateSession, RemoveSession)
_BACKSLASH = ord("\\")


def check(message: ClientMessage) -> None:
    """Check a message of any type; a message of an unknown type is accepted.

    Raises:
        ProtocolError: ``invalid_format``.
    """
    if not message.type:
        raise _invalid()
    requirement = _REQUIREMENTS.get(message.type)
    if requirement is not None:
        requirement(message)


def recipient_and_data(body: Message | None) -> tuple[str, str, Raw]:
    """Return the recipient's type, its session or user id, and the data of a message to other sessions (5.1).

    The id is empty for the types ``room`` and ``call``.

    Raises:
        ProtocolError: ``invalid_format``.
    """
    if body is not None:
        recipient, data = body.recipient, body.data
        if recipient is not None and (len(data) > 4 or is_given(data)):  # longer than null: given
            type = recipient.type
            if type == "session":
                if recipient.sessionid:
                    return type, recipient.sessionid, data
            elif type == "room" or type == "call":
                return type, "", data
            elif type == "user" and recipient.userid:
                return type, recipient.userid, data
    raise _invalid()


def media_data(data: Raw) -> MediaMessage | None:
    """Decode the known fields of ``data``; ``None``: it is relayed unchecked (5.2, ``decode_media_message``).

    Raises:
        ProtocolError: ``invalid_format``, ``type`` stands twice: some clients read the first one, others the last.
    """
    text = bytes(data)
    # To search for one octet first costs a quarter of a search for two, and most messages have no escape.
    if (text.count(b"type") > 1 or (_BACKSLASH in text and b"\\u" in text)) and has_two_types(text.decode()):
        raise _invalid()
    return decode_media_message(text)


def media_type(message: MediaMessage) -> str:
    """Return the type of ``data`` that is about no room type or a known one; required if there is an SFU (5.2).

    Raises:
        ProtocolError: ``invalid_format``.
    """
    if not message.type or (message.roomType and message.roomType not in ROOM_TYPES):
        raise _invalid()
    return message.type


def acknowledgement(body: Ack | None) -> Ack:
    """Return the body of an acknowledgement (feature ``ack``); without the feature it is ignored unchecked.

    Raises:
        ProtocolError: ``invalid_format``.
    """
    return _present(body)


def hello(body: Hello | None) -> Hello:
    """Return the body of a hello; its credentials are not checked.

    Raises:
        ProtocolError: ``invalid_format``.
    """
    return _present(body)


def room(body: RoomJoin | None) -> RoomJoin:
    """Return the body of a request to join or leave a room (4.1, 4.2).

    Raises:
        ProtocolError: ``invalid_format``.
    """
    return _present(body)


def federation(target: FederationTarget) -> tuple[str, str, str]:
    """Return the URL of the signaling server (``https`` or ``http``), that of its Nextcloud, and the token (12.1).

    Raises:
        ProtocolError: ``invalid_format``.
    """
    if not (target.signaling and target.url and target.token):
        raise _invalid()
    signaling = target.signaling
    for scheme, http in (("wss:", "https:"), ("ws:", "http:")):
        if signaling[: len(scheme)].lower() == scheme:
            signaling = http + signaling[len(scheme) :]
    return signaling, target.url, target.token


def transient(body: Transient | None) -> Transient:
    """Return a change of transient data (10): it has a type, and a key if the type is known.

    Raises:
        ProtocolError: ``invalid_format``.
    """
    body = _present(body)
    if not body.type or (body.type in ("set", "remove") and not body.key):
        raise _invalid()
    return body


def internal(message: Internal | None) -> InternalBody | None:
    """Return the body of an internal client's request (11); ``None`` for an unknown type.

    Raises:
        ProtocolError: ``invalid_format``.
    """
    message = _present(message)
    if not message.type:
        raise _invalid()
    body = _INTERNAL_BODIES.get(message.type)
    return None if body is None else body(message)


def _named(body: _Named | None) -> _Named:
    """Return a request about a virtual session if it names the session and its room (11.2, 11.3)."""
    body = _present(body)
    if not (body.sessionid and body.roomid):
        raise _invalid()
    return body


def _report(body: CallReport | None) -> CallReport:
    """Return a report about a phone call if it has the member that its type requires (11.6)."""
    body = _present(body)
    incomplete = (body.type == "error" and body.error is None) or (body.type == "status" and body.status is None)
    if not body.type or incomplete:
        raise _invalid()
    return body


def _present(body: _T | None) -> _T:
    if body is None:
        raise _invalid()
    return body


def _invalid() -> ProtocolError:
    return ProtocolError(Code.INVALID_FORMAT.error())


_REQUIREMENTS: dict[str, Callable[[ClientMessage], object]] = {
    "hello": lambda message: hello(message.hello),
    "room": lambda message: room(message.room),
    "message": lambda message: recipient_and_data(message.message),
    "control": lambda message: recipient_and_data(message.control),
    "transient": lambda message: transient(message.transient),
    "internal": lambda message: internal(message.internal),
}

_INTERNAL_BODIES: dict[str, Callable[[Internal], InternalBody]] = {
    "addsession": lambda message: _named(message.addsession),
    "updatesession": lambda message: _named(message.updatesession),
    "removesession": lambda message: _named(message.removesession),
    "incall": lambda message: _present(message.incall),
    "dialout": lambda message: _report(message.dialout),
}
