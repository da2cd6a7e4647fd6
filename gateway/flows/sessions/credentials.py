"""The credentials of a hello message, read and checked for their structure.

Source: reference 3.1-3.4.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec
from msgspec import Raw, Struct

from gateway.core import backends
from gateway.core.session import ClientType
from gateway.wire import client as wire
from gateway.wire.client import Auth, Hello, is_given
from gateway.wire.errors import Code, ProtocolError

_VERSIONS = ("1.0", "2.0")


class TicketCredentials(Struct, frozen=True):
    """Parameters that only Nextcloud understands (hello 1.0)."""

    client_type: ClientType
    url: str  # of the backend, in canonical form
    params: Raw


class TokenCredentials(Struct, frozen=True):
    """A token that Nextcloud has signed (hello 2.0); not verified yet."""

    client_type: ClientType
    url: str
    text: str


class InternalCredentials(Struct, frozen=True):
    """The proof that an internal client knows the shared secret (3.4); not verified yet."""

    url: str
    random: str
    checksum: str


Credentials: TypeAlias = TicketCredentials | TokenCredentials | InternalCredentials


def read_credentials(hello: Hello) -> Credentials:
    """Return the credentials of a hello that opens a session.

    Raises:
        ProtocolError: ``invalid_hello_version`` or ``invalid_format``.
    """
    check_version(hello)
    auth = hello.auth
    if auth is None or not is_given(auth.params):
        raise _invalid()
    try:
        client_type = ClientType(auth.type or "client")
    except ValueError as error:
        raise _invalid() from error
    if client_type is ClientType.INTERNAL:
        return _shared_secret_proof(auth)
    if not auth.url:
        raise _invalid()
    url = _canonical(auth.url)
    if hello.version == "1.0":
        return TicketCredentials(client_type, url, auth.params)
    return TokenCredentials(client_type, url, _token(auth))


def check_version(hello: Hello) -> None:
    """Check the protocol version that the client speaks.

    Raises:
        ProtocolError: ``invalid_hello_version``.
    """
    if hello.version not in _VERSIONS:
        raise ProtocolError(Code.INVALID_HELLO_VERSION.error())


def _shared_secret_proof(auth: Auth) -> InternalCredentials:
    try:
        params = wire.decode_internal(auth.params)
    except msgspec.DecodeError as error:
        raise _invalid() from error
    return InternalCredentials(_canonical(params.backend), params.random or "", params.token or "")


def _token(auth: Auth) -> str:
    try:
        text = wire.decode_token(auth.params)
    except msgspec.DecodeError as error:
        raise _invalid() from error
    if not text:
        raise _invalid()
    return text


def _canonical(url: str | None) -> str:
    try:
        return backends.canonical(url or "")
    except ValueError as error:
        raise _invalid() from error


def _invalid() -> ProtocolError:
    return ProtocolError(Code.INVALID_FORMAT.error())
