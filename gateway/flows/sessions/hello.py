"""Hello: open a session, or resume one.

Source: reference 2.8, 3.1-3.5.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

import msgspec
from msgspec import UNSET, Raw

from gateway.core import backends
from gateway.core.acknowledged import FEATURE, AcknowledgedOutbox
from gateway.core.hub import LimitReached
from gateway.core.ids import ENTROPY
from gateway.core.limits import Backend
from gateway.core.outbox import Outbox
from gateway.core.session import ClientType, Session
from gateway.core.throttle import Address, ThrottledAction
from gateway.flows.bye import SESSION_RESUMED, bye
from gateway.flows.ports import Connection, NextcloudError
from gateway.flows.rooms.events import PARTICIPANTS_UPDATE, RoomEvents
from gateway.flows.services import Services
from gateway.wire import checksum, client, server, token
from gateway.wire.backend import AuthRequest
from gateway.wire.client import Auth, given
from gateway.wire.errors import Code, Error, ProtocolError
from gateway.wire.token import TokenError

INTERNAL_RANDOM = 32  # bytes, at least (3.4)

_VERSIONS = ("1.0", "2.0")
_TOKEN_ERRORS = {code.value[0]: code for code in (Code.INVALID_TOKEN, Code.TOKEN_NOT_VALID_YET, Code.TOKEN_EXPIRED)}


class Client(Protocol):
    """The connection that says hello."""

    connection: Connection
    gone: bool

    @property
    def address(self) -> Address:
        """Where it really is."""

    def until_gone(self, seconds: float) -> Awaitable[None]:
        """See ``throttling.Caller``."""


class Forged(ProtocolError):
    """A resume id that this server did not make; it is answered after the delay for a failed attempt."""


class HelloRequests:
    """Carries out ``hello`` requests."""

    def __init__(self, services: Services, notify: RoomEvents) -> None:
        self._services = services
        self._notify = notify

    async def open(self, who: Client, hello: client.Hello, request: str) -> Session | None:
        """Authenticate a client, open a session and reply; ``None`` when the client is gone by then.

        Raises:
            ProtocolError: the client may try again on the same connection.
        """
        _check_version(hello)
        auth = _check_auth(hello)
        kind, userid, user = ClientType(auth.type or "client"), "", client.ABSENT
        if kind is ClientType.INTERNAL:
            backend, url = await self._trust_internal(who, auth)
        else:
            text = "" if hello.version == "1.0" else _token(auth)
            backend, url = self._backend(auth)
            if text and kind is ClientType.FEDERATION:
                await self._check_federation(url)
            userid, user = await (self._verify_token(url, text) if text else self._ask_backend(backend, url, auth))
        if who.gone:
            return None
        session = self._new_session(backend, url, userid, user, tuple(hello.features or ()), kind)
        try:
            self._services.hub.open(session, self._services.clock())
        except LimitReached as error:
            self._services.counters.limit_exceeded[backend.id] += 1
            raise ProtocolError(Code.SESSION_LIMIT_EXCEEDED.error()) from error
        self._services.counters.sessions_total[backend.id, kind.value] += 1
        self._attach(session, who.connection, hello, request)
        if session.location.is_known:
            self._services.counters.client_countries[session.location.country] += 1
        return session

    def resume(self, who: Client, hello: client.Hello, request: str) -> Session:
        """Give a session a new connection, reply, and deliver what it missed (2.8).

        One that was shown out of its room meanwhile hears that last; end it then.

        Raises:
            Forged: the id is none; await ``failed`` before the answer.
            ProtocolError: no such session, or too many forged ids before.
        """
        _check_version(hello)
        services, resume_id = self._services, hello.resumeid or ""
        services.throttling.check(who, ThrottledAction.HELLO_RESUME)
        session = services.hub.resumable(resume_id)
        if session is None:
            services.counters.resume_failed_total += 1
            kind = ProtocolError if services.ids.is_resume_id(resume_id) else Forged
            raise kind(Code.NO_SUCH_SESSION.error())
        _acknowledge(session, hello)
        services.counters.resumed_total[session.backend.id, session.client_type.value] += 1
        holder = services.delivery.connection(session)
        if holder is not None:
            holder.displace(bye(SESSION_RESUMED))
        if session.evicted_by is not None:
            session.outbox.truncate_after(session.evicted_by)
        session.outbox.attached()
        updated = session.outbox.holds(PARTICIPANTS_UPDATE)  # among what it missed (5.6)
        self._attach(session, who.connection, hello, request)
        room = services.hub.room_of(session)
        if room is not None and not updated and session.evicted_by is None:
            self._notify.participants_on_resume(session, room)
        return session

    def _attach(self, session: Session, connection: Connection, hello: client.Hello, request: str) -> None:
        services = self._services
        services.hub.attach(session, connection.id)
        session.location = services.locate(connection.address)
        body = server.HelloBody(
            hello.version or "",
            session.id,
            session.resume_id,
            session.shown_userid,
            services.facts_for(session),
            session.heard if isinstance(session.outbox, AcknowledgedOutbox) else UNSET,
        )
        connection.send(server.encode(server.Hello(body, request)))
        connection.adopt(session.outbox)

    def _new_session(
        self, backend: Backend, url: str, userid: str, user: Raw, features: tuple[str, ...], kind: ClientType
    ) -> Session:
        services = self._services
        ids = services.ids.make(services.entropy(ENTROPY))
        outbox = (AcknowledgedOutbox if FEATURE in features else Outbox)(services.outbox_bytes)
        return Session(ids, backend, url, userid, user, features, outbox, kind)

    def _backend(self, auth: Auth) -> tuple[Backend, str]:
        url = _url(auth.url)
        backend = self._services.backends.find(url)
        if backend is None:
            raise ProtocolError(Code.INVALID_BACKEND.error())
        return backend, url

    async def _ask_backend(self, backend: Backend, url: str, auth: Auth) -> tuple[str, Raw]:
        """Hello 1.0: Nextcloud knows (3.2)."""
        try:
            answer = await self._services.nextcloud.ask(backend, url, AuthRequest(auth.params))
        except NextcloudError as error:
            raise ProtocolError(Code.INTERNAL_ERROR.error(message=str(error))) from error
        if answer.type == "error" and answer.error is not None:
            raise ProtocolError(Error(answer.error.code or "", answer.error.message or "", answer.error.details))
        if answer.type != "auth" or answer.auth is None:
            raise ProtocolError(Code.AUTH_FAILED.error())
        user = answer.auth.user
        return answer.auth.userid or "", user.copy() if given(user) else client.ABSENT

    async def _check_federation(self, url: str) -> None:
        """Nextcloud must know how to deal with the sessions of other servers (3.3)."""
        if not await self._services.nextcloud.supports(url, "federation-v2"):
            raise ProtocolError(Code.FEDERATION_UNSUPPORTED.error())

    async def _trust_internal(self, who: Client, auth: Auth) -> tuple[Backend, str]:
        """An internal client knows the secret, and says which backend it works for (3.4)."""
        services = self._services
        params = _internal_params(auth)
        url = _url(params.backend)
        if not services.settings.internal_secret:
            raise ProtocolError(Code.INVALID_CLIENT_TYPE.error())
        services.throttling.check(who, ThrottledAction.HELLO_INTERNAL)
        random, backend = params.random or "", services.backends.find(url)
        known = checksum.verify(services.settings.internal_secret, random, params.token or "", b"")
        if known and len(random.encode()) >= INTERNAL_RANDOM and backend is not None:
            return backend, url
        code = Code.INVALID_BACKEND if known and len(random.encode()) >= INTERNAL_RANDOM else Code.INVALID_TOKEN
        await services.throttling.failed(who, ThrottledAction.HELLO_INTERNAL)
        raise ProtocolError(code.error())

    async def _verify_token(self, url: str, text: str) -> tuple[str, Raw]:
        """Hello 2.0: the token knows (3.3)."""
        try:
            key = await self._services.nextcloud.token_key(url)
        except NextcloudError as error:
            raise ProtocolError(Code.INTERNAL_ERROR.error(message=str(error))) from error
        if not key:
            raise ProtocolError(Code.INVALID_TOKEN.error())
        try:
            claims = token.verify(text, key, self._services.wall_clock())
        except TokenError as error:
            raise ProtocolError(_TOKEN_ERRORS[error.code].error()) from error
        return claims.userid, client.ABSENT if claims.user is None else Raw(claims.user)


def _acknowledge(session: Session, hello: client.Hello) -> None:
    """Take note of what a client received before, so that the rest, and only that, is sent again."""
    outbox = session.outbox
    if not isinstance(outbox, AcknowledgedOutbox):
        return
    if hello.received is None:
        outbox.acknowledge_all()
    elif not outbox.acknowledge(hello.received):
        raise ProtocolError(Code.INVALID_FORMAT.error())


def check(hello: client.Hello) -> None:
    """Check the structure of a hello (3.1).

    Raises:
        ProtocolError: it would be refused whoever says it.
    """
    _check_version(hello)
    if hello.resumeid:
        return
    auth = _check_auth(hello)
    if auth.type == ClientType.INTERNAL.value:
        _url(_internal_params(auth).backend)
        return
    _url(auth.url)
    if hello.version != "1.0":
        _token(auth)


def _check_version(hello: client.Hello) -> None:
    if hello.version not in _VERSIONS:
        raise ProtocolError(Code.INVALID_HELLO_VERSION.error())


def _check_auth(hello: client.Hello) -> Auth:
    """Check the structure of ``auth`` (3.1)."""
    auth = hello.auth
    if auth is None or not given(auth.params):
        raise ProtocolError(Code.INVALID_FORMAT.error())
    kind = auth.type or "client"
    if kind != "internal" and (kind not in ("client", "federation") or not auth.url):
        raise ProtocolError(Code.INVALID_FORMAT.error())
    return auth


def _token(auth: Auth) -> str:
    """Return the token, whatever it is worth; there must be one before anything is looked up (3.1)."""
    try:
        text = client.decode_token(auth.params)
    except msgspec.DecodeError as error:
        raise ProtocolError(Code.INVALID_FORMAT.error()) from error
    if not text:
        raise ProtocolError(Code.INVALID_FORMAT.error())
    return text


def _internal_params(auth: Auth) -> client.InternalParams:
    try:
        return client.decode_internal(auth.params)
    except msgspec.DecodeError as error:
        raise ProtocolError(Code.INVALID_FORMAT.error()) from error


def _url(text: str | None) -> str:
    try:
        return backends.canonical(text or "")
    except ValueError as error:
        raise ProtocolError(Code.INVALID_FORMAT.error()) from error
