"""The messages that clients send: one Struct per message type, named after it and decoded once.

Source: signaling API; reference 2.2-2.4, 3.1, 4.1, 5.1, 10. Unknown keys are ignored, ``null`` equals an
absent key, a wrong type makes the whole message invalid. ``data`` stays as the client sent it, byte for byte.
"""

from __future__ import annotations

import json
import re
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from gateway.wire.internal import Internal

ABSENT = Raw()  # default of every opaque member; encoders omit this object only, compared by identity


def is_given(raw: Raw) -> bool:
    """Return whether an opaque value is present and not ``null``."""
    size = len(raw)
    return size > 4 or (size > 0 and bytes(raw) != b"null")


class Auth(Struct, frozen=True, gc=False):
    """The client's credentials; ``params`` goes to the backend unread (1.0), or has a token (2.0) or a proof (3.4)."""

    type: str | None = None
    url: str | None = None
    params: Raw = ABSENT


MessageCount = Annotated[int, Meta(ge=0)]


class Ack(Struct, frozen=True, gc=False):
    """The number of messages of the session that the client has received (feature ``ack``)."""

    received: MessageCount


class Hello(Struct, frozen=True, gc=False):
    """The handshake that opens (3.1) or resumes (2.8) a session."""

    version: str | None = None
    resumeid: str | None = None
    received: MessageCount | None = None  # with ``resumeid``: number of messages received (feature ``ack``)
    features: list[str] | None = None
    auth: Auth | None = None


class TokenParams(Struct, frozen=True):
    """``auth.params`` of hello 2.0."""

    token: str | None = None


class InternalParams(Struct, frozen=True):
    """``auth.params`` of an internal client (3.4)."""

    random: str | None = None
    token: str | None = None
    backend: str | None = None


class FederationTarget(Struct, frozen=True, gc=False):
    """The room of another signaling server to join (12); without ``roomid`` it has the local room's id."""

    signaling: str | None = None  # base URL of the other signaling server
    url: str | None = None  # base URL of its Nextcloud
    roomid: str | None = None
    token: str | None = None  # of hello 2.0, for the other server


class RoomJoin(Struct, frozen=True, gc=False):
    """Join the room, or leave the current one when ``roomid`` is empty (4.1, 4.2)."""

    roomid: str | None = None
    sessionid: str | None = None  # Nextcloud's
    federation: FederationTarget | None = None


class Recipient(Struct, frozen=True, gc=False):
    """The recipient of a message (5.1)."""

    type: str | None = None
    sessionid: str | None = None
    userid: str | None = None


class Message(Struct, frozen=True, gc=False):
    """A message to other sessions (5.1), or a media message to the SFU (9)."""

    recipient: Recipient | None = None
    data: Raw = ABSENT


Nanoseconds = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class Transient(Struct, frozen=True, gc=False):
    """Sets or removes an entry of the room's transient data (10); an absent ``value`` removes the entry."""

    type: str | None = None
    key: str | None = None
    value: Raw = ABSENT
    ttl: Nanoseconds | None = None  # missing, zero or less: the entry does not expire


class ClientMessage(Struct, frozen=True, gc=False):
    """The envelope of every message (2.2); ``type`` names the valid member."""

    id: str | None = None
    type: str | None = None
    hello: Hello | None = None
    room: RoomJoin | None = None
    message: Message | None = None
    ack: Ack | None = None
    control: Message | None = None
    transient: Transient | None = None
    internal: Internal | None = None


_RELAYED_MEMBERS = (("message", "data"), ("control", "data"), ("transient", "value"))  # relayed byte for byte

_decoder = msgspec.json.Decoder(ClientMessage)
_token_decoder = msgspec.json.Decoder(TokenParams)
_internal_decoder = msgspec.json.Decoder(InternalParams)


def decode(text: str) -> ClientMessage:
    """Decode one message.

    Raises:
        msgspec.DecodeError: not JSON, or a known field has a wrong type.
    """
    try:
        return _decoder.decode(text)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        if not has_lone_surrogate(text):
            raise
    except RecursionError as error:
        raise msgspec.DecodeError("nested too deeply") from error
    try:
        return _decode_lenient(text)
    except RecursionError as error:
        raise msgspec.DecodeError("nested too deeply") from error


def _decode_lenient(text: str) -> ClientMessage:
    """Decode a message with escaped lone surrogates, which stay in the relayed value."""
    message = _decoder.decode(without_lone_surrogates(text))
    for name, member in _RELAYED_MEMBERS:
        body = getattr(message, name)
        if body is not None and is_given(getattr(body, member)):
            start, end = span(text, name, member)
            restored = msgspec.structs.replace(body, **{member: Raw(text[start:end].encode())})
            message = msgspec.structs.replace(message, **{name: restored})
    return message


def decode_token(params: Raw) -> str:
    """Return the token of hello 2.0's ``params``; empty when there is none.

    Raises:
        msgspec.DecodeError: ``params`` is not an object with a string ``token``.
    """
    return _token_decoder.decode(params).token or ""


def decode_internal(params: Raw) -> InternalParams:
    """Return the ``params`` of an internal client.

    Raises:
        msgspec.DecodeError: ``params`` has wrong types.
    """
    return _internal_decoder.decode(params)


# A JSON text may escape a lone surrogate, which encodes no character: JavaScript writes one for a string that was cut
# in the middle of an emoji. msgspec rejects it even in a skipped value. Such a message is decoded a second time, with
# the surrogate replaced by U+FFFD, whose escape has the same length; the relayed value is cut out of the original text.
_SURROGATES = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)


def has_lone_surrogate(text: str) -> bool:
    """Return whether the JSON text has an escape of a lone surrogate."""
    return any(match.group(1) for match in _SURROGATES.finditer(text))


def without_lone_surrogates(text: str) -> str:
    """Replace escapes of lone surrogates by the escape of U+FFFD, which has the same length."""
    return _SURROGATES.sub(lambda match: "\\ufffd" if match.group(1) else match.group(0), text)


_json = json.JSONDecoder(strict=False, parse_int=str, parse_float=str)  # accepts numbers of any length
_space = re.compile(r"[ \t\n\r]*")


def span(text: str, *path: str) -> tuple[int, int]:
    """Return the span of the value at ``path``, which must exist in the JSON text; the last duplicate key counts."""
    position = _skip(text, 0)
    end = len(text)
    for key in path:
        position, end = _member(text, position, key)
    return position, end


def _member(text: str, position: int, wanted: str) -> tuple[int, int]:
    """Return the span of the member ``wanted`` of the JSON object at ``position``."""
    found = (position, position)
    position = _skip(text, position + 1)
    while text[position] == '"':
        key, position = _json.raw_decode(text, position)
        start = _skip(text, _skip(text, position) + 1)
        _, end = _json.raw_decode(text, start)
        if key == wanted:
            found = (start, end)
        position = _skip(text, end)
        if text[position] == ",":
            position = _skip(text, position + 1)
    return found


def _skip(text: str, position: int) -> int:
    match = _space.match(text, position)
    return match.end() if match else position


# Decodes an object to the number of its members ``type``; numbers stay texts, of any length.
_type_counter = json.JSONDecoder(
    object_pairs_hook=lambda pairs: sum(name == "type" for name, _ in pairs), parse_int=str, parse_float=str
)


def has_two_types(text: str) -> bool:
    """Return whether a JSON text is an object with several members ``type``, or nested too deeply to tell."""
    try:
        count = _type_counter.decode(text)
    except RecursionError:
        return True
    except ValueError:  # no JSON text
        return False
    return isinstance(count, int) and count > 1
