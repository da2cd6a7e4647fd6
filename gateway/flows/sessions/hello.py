"""Hello requests: they open a session or resume one.

Source: reference 2.8, 3.1-3.5.
"""

from __future__ import annotations

from msgspec import UNSET, Raw

from gateway.core.acknowledged import FEATURE, AcknowledgedOutbox
from gateway.core.ids import ENTROPY, has_form_of_an_id
from gateway.core.limits import Backend, exceeds
from gateway.core.outbox import Outbox
from gateway.core.session import ClientType, Session
from gateway.core.session_counts import LimitReached
from gateway.core.throttle import ThrottledAction
from gateway.flows.bye import SESSION_RESUMED, bye
from gateway.flows.client_connection import ClientConnection
from gateway.flows.ports import Connection, NextcloudError
from gateway.flows.rooms.events import PARTICIPANTS_UPDATE, RoomEvents
from gateway.flows.services import Services
from gateway.flows.sessions.credentials import (
    InternalCredentials,
    TicketCredentials,
    TokenCredentials,
    check_version,
    read_credentials,
)
from gateway.wire import checksum, server, structure
from gateway.wire.backend import AuthRequest
from gateway.wire.claims import Claims, TokenError
from gateway.wire.client import ABSENT, ClientMessage, Hello, is_given
from gateway.wire.errors import Code, Error, ProtocolError

MIN_INTERNAL_RANDOM = 32  # bytes of the random text that an internal client signs (3.4)
FEDERATION = "federation-v2"  # feature of a Nextcloud that accepts sessions of other servers (3.3)

_TOKEN_ERRORS = {code.value[0]: code for code in (Code.INVALID_TOKEN, Code.TOKEN_NOT_VALID_YET, Code.TOKEN_EXPIRED)}


class ForgedResumeId(ProtocolError):
    """The resume id has no valid form, or resembles an open session's id; the error is sent after a delay (14.1)."""


class HelloRequests:
    """Opens and resumes sessions."""

    def __init__(self, services: Services, events: RoomEvents) -> None:
        self._services = services
        self._events = events

    async def open(self, client: ClientConnection, hello: Hello, request_id: str) -> Session | None:
        """Authenticate a client, open its session and reply; ``None`` when the client has disconnected meanwhile.

        Raises:
            ProtocolError: the client may try again on the same connection.
        """
        credentials, userid, user = read_credentials(hello), "", ABSENT
        self._check_drain()
        features = tuple(hello.features or ())
        self._check_features(features)
        match credentials:
            case InternalCredentials():
                client_type = ClientType.INTERNAL
                backend, url = await self._verify_shared_secret(client, credentials)
            case TokenCredentials(client_type):
                backend, url = self._find_backend(credentials.url)
                userid, user = await self._verify_token(backend, url, credentials)
            case TicketCredentials(client_type):
                backend, url = self._find_backend(credentials.url)
                userid, user = await self._ask_nextcloud(client, backend, url, credentials)
        if client.gone:
            return None
        if self._services.backends.by_id(backend.id) is not backend:  # a reload has changed it meanwhile
            backend, url = self._same_backend(backend, url)
        self._check_drain()
        self._check_size("user_bytes", len(user))
        if client_type is not ClientType.INTERNAL:
            self._check_sessions(client, backend, userid)
        session = self._new_session(backend, url, userid, user, features, client_type)
        try:
            self._services.hub.open(session, self._services.clock(), client.network)
        except LimitReached as error:
            self._services.counters.limit_exceeded[backend.id] += 1
            self._services.refusals.session_limit(backend)
            raise ProtocolError(Code.SESSION_LIMIT_EXCEEDED.error()) from error
        self._services.counters.sessions_total[backend.id, client_type.value] += 1
        self._attach(session, client.connection, hello, request_id)
        self._services.calls.opened(session)
        if session.location.is_known:
            self._services.counters.client_countries[session.location.country] += 1
        return session

    def _check_drain(self) -> None:
        """Refuse a session while the gateway drains, and count the refusal (2.5).

        Raises:
            ProtocolError: ``shutdown_scheduled``.
        """
        drain = self._services.drain
        if drain.active:
            drain.refused += 1
            raise ProtocolError(Code.SHUTDOWN_SCHEDULED.error())

    def _check_features(self, features: tuple[str, ...]) -> None:
        self._check_size("features", len(features))
        self._check_size("feature_length", max(map(len, features), default=0))

    def _check_size(self, limit: str, size: int) -> None:
        """Check a size or number of session data, which each member of a room gets, against the limit of this name.

        Raises:
            ProtocolError: ``limit_exceeded``.
        """
        if exceeds(size, getattr(self._services.settings.limits, limit)):
            self._services.count_excess(limit)
            raise ProtocolError(Code.LIMIT_EXCEEDED.error())

    def _check_sessions(self, client: ClientConnection, backend: Backend, userid: str) -> None:
        """Check the numbers of sessions, connected or not, of a client's user and of its address.

        Raises:
            ProtocolError: ``session_limit_exceeded``.
        """
        limits, hub = self._services.settings.limits, self._services.hub
        counts = {
            "sessions_per_user": len(hub.sessions_of_user(backend, userid)) if userid else 0,
            "sessions_per_address": hub.count_of_network(client.network),
        }
        for limit, count in counts.items():
            if exceeds(count + 1, getattr(limits, limit)):
                self._services.count_excess(limit)
                raise ProtocolError(Code.SESSION_LIMIT_EXCEEDED.error())

    def resume(self, client: ClientConnection, hello: Hello, request_id: str) -> Session:
        """Attach a session to a new connection, reply, and send the messages that the client missed (2.8).

        Messages after the event that evicted the session from its room are dropped; the caller ends such a session.

        Raises:
            ForgedResumeId: await ``refuse_forged`` before the error is sent.
            ProtocolError: ``invalid_hello_version``, ``no_such_session``, or ``invalid_format``: a wrong ``received``.
        """
        check_version(hello)
        services, resume_id = self._services, hello.resumeid or ""
        session = services.hub.find_resumable(resume_id)
        if session is None:
            services.counters.resume_failed_total += 1
            if has_form_of_an_id(resume_id) and not services.hub.resembles_an_id(resume_id):
                raise ProtocolError(Code.NO_SUCH_SESSION.error())
            raise ForgedResumeId(Code.NO_SUCH_SESSION.error())
        _acknowledge(session, hello)
        services.counters.resumed_total[session.backend.id, session.client_type.value] += 1
        replaced = services.delivery.connection(session)
        if replaced is not None:
            replaced.displace(bye(SESSION_RESUMED))
        if session.evicted_by is not None:
            session.outbox.truncate_after(session.evicted_by)
        session.outbox.connection_attached()
        session.outbox.repeat()
        has_list = session.outbox.holds(PARTICIPANTS_UPDATE)  # the missed messages contain a list of participants (5.6)
        self._attach(session, client.connection, hello, request_id)
        services.calls.resumed(session)
        room = services.hub.room_of(session)
        if not has_list and session.evicted_by is None:
            if room is not None:
                self._events.participants_on_resume(session, room)
            elif session.seat is not None:
                session.seat.list_participants()
        return session

    async def refuse_forged(self, client: ClientConnection, error: ForgedResumeId) -> None:
        """Count a forged resume id, and raise the error after the delay that follows from the count (14.1).

        Raises:
            ForgedResumeId: the id is wrong.
            ProtocolError: ``too_many_requests``, the address is blocked after many forged ids.
        """
        await self._services.throttling.refuse(client, ThrottledAction.HELLO_RESUME)
        raise error

    def check_repeated(self, session: Session, message: ClientMessage) -> None:
        """Ignore the hello of a client that has a session, unless its structure is invalid (2.4).

        Raises:
            ProtocolError: ``invalid_format`` or ``invalid_hello_version``.
        """
        hello = structure.hello(message.hello)
        if hello.resumeid:
            check_version(hello)
        else:
            read_credentials(hello)

    def _attach(self, session: Session, connection: Connection, hello: Hello, request_id: str) -> None:
        services = self._services
        services.hub.attach(session, connection.id)
        session.location = services.locate(connection.address)
        body = server.HelloBody(
            hello.version or "",
            session.id,
            session.resume_id,
            session.shown_userid,
            services.server_info_for(session),
            session.received if isinstance(session.outbox, AcknowledgedOutbox) else UNSET,
        )
        connection.send(server.encode(server.Hello(body, request_id)))
        connection.adopt(session.outbox)

    def _new_session(
        self,
        backend: Backend,
        url: str,
        userid: str,
        user: Raw,
        features: tuple[str, ...],
        client_type: ClientType,
    ) -> Session:
        services = self._services
        ids = services.ids.make(services.entropy(ENTROPY))
        outbox = (AcknowledgedOutbox if FEATURE in features else Outbox)(services.outbox_bytes)
        return Session(ids, backend, url, userid, user, features, outbox, client_type)

    def _find_backend(self, url: str) -> tuple[Backend, str]:
        """Return the backend of a client's URL, and the URL for requests to it (3.6)."""
        found = self._services.backends.find_with_base_url(url)
        if found is None:
            self._services.refusals.unknown_url("hellos of clients", url, self._services.backends)
            raise ProtocolError(Code.INVALID_BACKEND.error())
        return found

    def _same_backend(self, backend: Backend, url: str) -> tuple[Backend, str]:
        """Return the changed settings of the backend that has authenticated a client, if the URL still belongs to it.

        Raises:
            ProtocolError: ``invalid_backend``.
        """
        found = self._find_backend(url)
        if found[0].id != backend.id:  # it is configured, for another backend: there is nothing to correct
            raise ProtocolError(Code.INVALID_BACKEND.error())
        return found

    async def _ask_nextcloud(
        self, client: ClientConnection, backend: Backend, url: str, ticket: TicketCredentials
    ) -> tuple[str, Raw]:
        """Have Nextcloud check a ticket, and return the user id and user data of its answer (3.2)."""
        turn = self._services.backend_turns.turn(
            backend.id, client.network, known=False, wanted=lambda: not client.gone
        )
        try:
            async with turn:
                answer = await self._services.nextcloud.ask(backend, url, AuthRequest(ticket.params))
        except NextcloudError as error:
            raise ProtocolError(Code.INTERNAL_ERROR.error(message=str(error))) from error
        if answer.type == "error" and answer.error is not None:
            raise ProtocolError(Error(answer.error.code or "", answer.error.message or "", answer.error.details))
        if answer.type != "auth" or answer.auth is None:
            self._services.refusals.unexpected_answer(backend, url, "auth")
            raise ProtocolError(Code.AUTH_FAILED.error())
        if answer.auth.userid:
            self._services.backend_turns.user_authenticated(backend.id, client.network)
        user = answer.auth.user
        return answer.auth.userid or "", user.copy() if is_given(user) else ABSENT

    async def _verify_shared_secret(self, client: ClientConnection, proof: InternalCredentials) -> tuple[Backend, str]:
        """Verify the proof of an internal client, and return the backend that it names and its URL (3.4)."""
        services = self._services
        if not services.settings.internal_secret:
            services.refusals.internal(configured=False)
            raise ProtocolError(Code.INVALID_CLIENT_TYPE.error())
        found = services.backends.find_with_base_url(proof.url)
        signed = checksum.verify(services.settings.internal_secret, proof.random, proof.checksum, b"")
        valid = signed and len(proof.random.encode()) >= MIN_INTERNAL_RANDOM
        if valid and found is not None:
            return found
        if valid:
            services.refusals.unknown_url("hellos of internal clients", proof.url, services.backends)
        else:
            services.refusals.internal(configured=True)
        await services.throttling.refuse(client, ThrottledAction.HELLO_INTERNAL)
        raise ProtocolError((Code.INVALID_BACKEND if valid else Code.INVALID_TOKEN).error())

    async def _verify_token(self, backend: Backend, url: str, token: TokenCredentials) -> tuple[str, Raw]:
        """Verify a token with Nextcloud's public key, and return its user id and user data (3.3).

        Raises:
            ProtocolError: the token is refused; ``internal_error``, Nextcloud could not be asked for its key.
        """
        services, nextcloud = self._services, self._services.nextcloud
        federated = token.client_type is ClientType.FEDERATION
        try:
            if federated and not await nextcloud.supports(url, FEDERATION):
                services.refusals.no_federation(backend, url)
                raise ProtocolError(Code.FEDERATION_UNSUPPORTED.error())
            key = await nextcloud.token_key(url)
            if not key:
                services.refusals.no_token_key(backend, url)
                raise ProtocolError(Code.INVALID_TOKEN.error())
            claims = await self._verify(token.text, key, url)
        except NextcloudError as error:
            raise ProtocolError(Code.INTERNAL_ERROR.error(message=str(error))) from error
        except TokenError as error:
            services.refusals.token(backend, url, error.code, token.text, services.wall_clock(), services.backends)
            raise ProtocolError(_TOKEN_ERRORS[error.code].error()) from error
        return claims.userid, ABSENT if claims.user is None else Raw(claims.user)

    async def _verify(self, token: str, key: str, url: str) -> Claims:
        """Verify a token; if another key may fit it, ask Nextcloud for its key again: the cached one may be old (3.3).

        Raises:
            NextcloudError: another key may fit, but Nextcloud could not be asked for it.
            TokenError: the token is invalid.
        """
        from gateway.wire.token import verify  # at the first hello 2.0: see ``gateway.wire.claims``

        try:
            return verify(token, key, self._services.wall_clock())
        except TokenError as error:
            if not error.other_key:
                raise
            renewed = await self._services.nextcloud.renewed_token_key(url, key)
            if not renewed:
                raise
        return verify(token, renewed, self._services.wall_clock())


def _acknowledge(session: Session, hello: Hello) -> None:
    """Drop the messages that the client has received, so that only the rest is sent again."""
    outbox = session.outbox
    if not isinstance(outbox, AcknowledgedOutbox):
        return
    if hello.received is None:
        outbox.acknowledge_all()
    elif not outbox.acknowledge(hello.received):
        raise ProtocolError(Code.INVALID_FORMAT.error())
