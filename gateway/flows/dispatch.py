"""The dispatcher: accepts connections and their messages, and calls the flow that handles a message.

Source: reference 2.2-2.8. The messages of one session are handled one after another, on whichever connection they
arrived (invariant 5): while the handler of a message waits, as for Nextcloud's answer to a hello or a join, later
messages wait in the inbox. Messages whose handlers do not wait are handled at once, without a task.
"""

from __future__ import annotations

import logging

import msgspec

from gateway.core.acknowledged import AcknowledgedOutbox
from gateway.core.session import Session
from gateway.core.throttle import Address
from gateway.core.token_bucket import TokenBucket
from gateway.flows.bye import HELLO_TIMEOUT, bye
from gateway.flows.call_log import SessionEnd
from gateway.flows.client_connection import ClientConnection, Inbox
from gateway.flows.ports import Connection
from gateway.flows.postponed import Handler, Postponed, repeat
from gateway.flows.services import Services
from gateway.flows.sessions.admission import Admission
from gateway.flows.sessions.closing import SessionCloser
from gateway.flows.sessions.hello import ForgedResumeId, HelloRequests
from gateway.flows.tasks import Work
from gateway.wire import server, structure
from gateway.wire.client import ClientMessage, Hello, decode
from gateway.wire.errors import Code, Error, ProtocolError

HELLO_TIME = 2.0  # seconds from the connect to a hello (2.5)
PAUSE_AT = 64  # messages in an inbox at which the gateway stops reading from the connection
PAUSE_AT_SIZE = 131_072  # the same in characters
# The same while a join of another server's room waits for its host, so that a request to leave is seen (12.3-e).
PAUSE_JOIN_AT = 1000
PAUSE_JOIN_AT_SIZE = 262_144
ACKNOWLEDGEMENT_SIZE = 256  # characters; a longer message is handled in order, whatever it is
# Messages that this server handles itself when the client's room is at another server (12.1).
HANDLED_HERE = frozenset({"hello", "bye", "room", "ack"})
WITHDRAWS_JOIN = frozenset({"bye", "room"})  # messages that withdraw such a room's unanswered join (12.3-e)

log = logging.getLogger("portunus.flows")

_INVALID_FORMAT = server.encode(server.ErrorMessage(Code.INVALID_FORMAT.error()))
_TOO_MANY = server.encode(server.ErrorMessage(Code.TOO_MANY_REQUESTS.error()))


class Dispatcher:
    """Handles the connections of all clients and their messages."""

    def __init__(
        self, services: Services, hello: HelloRequests, closer: SessionCloser, handlers: dict[str, Handler]
    ) -> None:
        self._services = services
        self._hello = hello
        self._closer = closer
        self._handlers = {"hello": hello.check_repeated, "bye": closer.bye, **handlers}
        self._message_counts = services.counters.messages
        self._clients: dict[int, ClientConnection] = {}
        self._awaiting_hello: set[ClientConnection] = set()
        self._admission = Admission(services)
        self._inboxes: dict[str, Inbox] = {}  # of open sessions
        self._welcome = server.encode(server.Welcome(services.server_welcome))

    # -- events of connections

    def admits(self, address: Address) -> bool:
        """Return whether one more connection from this address is allowed; call it before ``connection_opened``."""
        return self._admission.admits(address)

    def would_admit(self, address: Address) -> bool:
        """Return the result of ``admits`` without counting a refusal."""
        return self._admission.exceeded(address) is None

    def connection_opened(self, connection: Connection) -> ClientConnection:
        """Register a new connection and send the welcome message (2.3)."""
        now = self._services.clock()
        inbox = Inbox(TokenBucket.before_hello(self._services.settings.limits, now))
        client = ClientConnection(connection, now + HELLO_TIME, inbox)
        self._services.delivery.add(connection)
        self._clients[connection.id] = client
        self._awaiting_hello.add(client)
        self._admission.connection_opened(client.network)
        connection.send(self._welcome)
        return client

    def message_received(self, client: ClientConnection, text: str, size: int) -> None:
        """Handle a message at once, or after the earlier messages of its inbox.

        ``size`` is that of its last frame in bytes; ``received_frame`` has counted the fragments before it.
        """
        if client.gone:  # a replaced connection may still receive; its messages no longer count
            return
        inbox = client.inbox
        bucket = inbox.bucket
        bucket.messages -= 1.0
        bucket.octets -= size
        if (bucket.messages < 0.0 or bucket.octets < 0.0) and not self._refill(client, bucket):
            return
        if client.session is not None:
            client.session.received += 1
        self._handle(client, inbox, text)

    def received_frame(self, client: ClientConnection, size: int) -> bool:
        """Count a frame of ``size`` bytes that is no text message; ``False``: too many, the connection is closed."""
        if client.gone:
            return True  # the connection was replaced and is being closed: its close frame is handled
        bucket = client.inbox.bucket
        bucket.messages -= 1.0
        bucket.octets -= size
        return (bucket.messages >= 0.0 and bucket.octets >= 0.0) or self._refill(client, bucket)

    def received_binary(self, client: ClientConnection) -> None:
        """Send the error for a binary message (2.1)."""
        if not client.gone:
            self._send(client, _INVALID_FORMAT)

    def connection_closed(self, client: ClientConnection) -> None:
        """Forget a closed connection; its session stays open for a resume (2.5)."""
        client.set_gone()
        connection = client.connection
        self._services.delivery.remove(connection)
        self._clients.pop(connection.id, None)
        self._end_hello_timer(client)
        self._admission.connection_closed(client.network)
        if client.session is not None:
            self._services.hub.detach(client.session, connection.id, self._services.clock())

    def sweep(self, now: float) -> None:
        """Close connections without a hello, and end sessions whose time is over; called once a second (2.5)."""
        waiting = self._awaiting_hello
        for client in [client for client in waiting if client.hello_by is not None and client.hello_by <= now]:
            client.connection.send(bye(HELLO_TIMEOUT))
            client.connection.finish()
            self._end_hello_timer(client)
        self._closer.sweep(now)
        for id in [id for id in self._inboxes if id not in self._services.hub.sessions]:
            del self._inboxes[id]

    def _refill(self, client: ClientConnection, bucket: TokenBucket) -> bool:
        """Refill an empty bucket after the hello; if it stays empty, close the connection and return ``False``."""
        before_hello = client.session is None
        if not before_hello and bucket.refill(self._services.settings.limits, self._services.clock()):
            return True
        period = "before_hello" if before_hello else "per_second"
        self._services.count_excess(f"{'messages' if bucket.messages < 0.0 else 'bytes'}_{period}")
        self._send(client, _TOO_MANY)
        client.connection.finish()
        if before_hello:
            client.set_gone()  # a hello that is being authenticated opens no session
        return False

    # -- order of messages

    def is_held(self, session: Session) -> bool:
        """Return whether so many messages of a session wait that no further ones are read."""
        inbox = self._inboxes.get(session.id)
        return inbox is not None and inbox.busy and _is_full(inbox, session)

    async def _run_handler(self, client: ClientConnection, inbox: Inbox, work: Work) -> None:
        """Run the rest of a handler, then handle the messages that waited for it."""
        try:
            await work
        finally:
            inbox.busy = False
            if client.inbox is not inbox:  # resumed: messages after the hello wait behind the session's own inbox
                client.inbox.waiting.extend(inbox.waiting)
                client.inbox.size += inbox.size
                inbox.waiting.clear()
                inbox.size = 0
            self._drain(client.inbox)

    def _drain(self, inbox: Inbox) -> None:
        """Handle the waiting messages, up to the next one whose handler waits."""
        while inbox.waiting and not inbox.busy:
            client, text = inbox.waiting.popleft()
            inbox.size -= len(text)
            if not inbox.waiting and not client.gone:
                client.connection.resume()
            self._handle(client, client.inbox, text)

    @staticmethod
    def _withdraw_join_for(session: Session | None, text: str) -> None:
        """Withdraw a session's join of another server's room if a waiting message is ``bye`` or ``room`` (12.3-e)."""
        if session is None or session.joining is None:
            return
        try:
            message = decode(text)
            structure.check(message)
            if message.type == "room":
                room = structure.room(message.room)
                if room.roomid and room.federation is not None:
                    structure.federation(room.federation)
        except (msgspec.DecodeError, ProtocolError):
            return  # the message will be refused when it is handled
        if message.type in WITHDRAWS_JOIN:
            session.joining.withdraw()

    # -- handling of messages

    def _handle(self, client: ClientConnection, inbox: Inbox, text: str) -> None:
        """Handle a message at once, or after the earlier messages of the client's inbox.

        An acknowledgement does not wait: else an outbox would fill while its session waits for others.
        """
        if inbox.busy and not _is_acknowledgement(client.session, text):
            inbox.waiting.append((client, text))
            inbox.size += len(text)
            if _is_full(inbox, client.session):
                client.connection.pause()
            self._withdraw_join_for(client.session, text)
            return
        session = client.session
        if session is not None and not session.accepts_messages:
            return
        try:
            message = decode(text)
        except msgspec.DecodeError:
            self._send(client, _INVALID_FORMAT)
            return
        try:
            work = self._begin(client, session, message, text)
        except ProtocolError as error:
            self._fail(client, message, error.error)
            return
        except Exception:
            self._fail_internally(client, message)
            return
        if work is not None:
            inbox.busy = True
            if session is not None and session.joining is not None:
                for _, waiting in inbox.waiting:
                    self._withdraw_join_for(session, waiting)
                if inbox.waiting and not _is_full(inbox, session):
                    inbox.waiting[-1][0].connection.resume()
            work = self._answer_failure(client, message, work)
            self._services.tasks.spawn(self._run_handler(client, inbox, work), "request")

    def _begin(
        self, client: ClientConnection, session: Session | None, message: ClientMessage, text: str
    ) -> Work | None:
        """Handle a message, and return the rest of its handler if that has to wait.

        Raises:
            ProtocolError: the request cannot be carried out.
        """
        type = message.type or ""
        handler = self._handlers.get(type)
        self._message_counts[type if handler is not None or type == "ack" else "unknown"] += 1
        if session is None:
            return self._handle_hello(client, message)
        if session.seat is not None and type not in HANDLED_HERE:
            session.seat.forward(text, message)
        elif handler is not None:
            try:
                return handler(session, message)
            except Postponed as postponed:
                return repeat(handler, session, message, postponed)
        else:
            self._handle_other(client, session, message)
        return None

    async def _answer_failure(self, client: ClientConnection, message: ClientMessage, work: Work) -> None:
        """Run the rest of a handler, and send its error unless the session has ended meanwhile."""
        try:
            await work
        except ProtocolError as error:
            if client.session is None or client.session.open:
                self._fail(client, message, error.error)
        except Exception:
            self._fail_internally(client, message)

    def _fail_internally(self, client: ClientConnection, message: ClientMessage) -> None:
        """Log a fault of this program with its traceback; the client, which waits for a reply, learns only of it."""
        type = message.type if message.type in self._handlers else "unknown"
        log.exception("a message of type %s was not handled", type)
        if client.session is None or client.session.open:
            self._fail(client, message, Code.INTERNAL_ERROR.error())

    def _handle_other(self, client: ClientConnection, session: Session, message: ClientMessage) -> None:
        """Handle an acknowledgement; ignore a message of an unknown type, and refuse one without a type (2.4)."""
        structure.check(message)
        if message.type == "ack":
            self._acknowledge(client, session, message)

    def _acknowledge(self, client: ClientConnection, session: Session, message: ClientMessage) -> None:
        """Drop the messages that a client has received, and send the number received from it.

        Without the feature ``ack`` the message is ignored. An acknowledgement that waited until its connection was gone
        may be older than the number in the hello that resumed the session.
        """
        outbox = session.outbox
        if not isinstance(outbox, AcknowledgedOutbox):
            return
        received = structure.acknowledgement(message.ack).received
        if not (outbox.acknowledge(received) or client.gone):
            raise ProtocolError(Code.INVALID_FORMAT.error())
        if not client.gone:
            client.connection.send(server.encode(server.Ack(server.AckBody(session.received))))

    # -- hello

    def _handle_hello(self, client: ClientConnection, message: ClientMessage) -> Work | None:
        """Handle the message of a client without a session, which has to be a hello (2.4)."""
        if client.gone or client.hello_by is None or client not in self._awaiting_hello:
            return None  # closed, over its limit, or HELLO_TIME is over
        structure.check(message)
        if message.type != "hello":
            raise ProtocolError(Code.HELLO_EXPECTED.error())
        hello, request_id = structure.hello(message.hello), message.id or ""
        if hello.resumeid:
            return self._resume(client, hello, request_id)
        client.hello_by = None  # the time limit is suspended during the authentication (2.5)
        return self._open(client, hello, request_id)

    async def _open(self, client: ClientConnection, hello: Hello, request_id: str) -> None:
        session: Session | None = None
        try:
            opening, traces = self._hello.open(client, hello, request_id), self._services.traces
            session = await (opening if traces is None else traces.hello(opening))
        finally:
            if session is None:
                client.hello_by = self._services.clock() + HELLO_TIME
        if session is not None:
            self._set_session(client, session)
            client.inbox.bucket = TokenBucket(self._services.settings.limits, self._services.clock())
            self._inboxes[session.id] = client.inbox

    def _resume(self, client: ClientConnection, hello: Hello, request_id: str) -> Work | None:
        resumable = self._services.hub.find_resumable(hello.resumeid or "")
        replaced = None if resumable is None else self._clients.get(resumable.connection or 0)
        try:
            session = self._hello.resume(client, hello, request_id)
        except ForgedResumeId as error:
            return self._hello.refuse_forged(client, error)
        if replaced is not None:
            replaced.set_gone()  # messages that it sent before are still handled
        self._set_session(client, session)
        client.inbox = self._inboxes.setdefault(session.id, client.inbox)
        if session.evicted_by is not None:
            self._closer.end(session, SessionEnd.REMOVED)
        return None

    def _set_session(self, client: ClientConnection, session: Session) -> None:
        client.session = session
        client.hello_by = None
        self._end_hello_timer(client)

    def _end_hello_timer(self, client: ClientConnection) -> None:
        if client in self._awaiting_hello:
            self._awaiting_hello.discard(client)
            self._admission.hello_ended(client.network)

    # -- replies

    def _fail(self, client: ClientConnection, message: ClientMessage, error: Error) -> None:
        self._send(client, server.encode(server.ErrorMessage(error, message.id or "")))

    def _send(self, client: ClientConnection, message: bytes) -> None:
        if client.session is not None:
            self._services.delivery.send(client.session, message)
        elif not client.gone:
            client.connection.send(message)


def _is_full(inbox: Inbox, session: Session | None) -> bool:
    """Return whether so many messages wait that the gateway stops reading from the connection."""
    if session is not None and session.joining is not None:
        return len(inbox.waiting) >= PAUSE_JOIN_AT or inbox.size >= PAUSE_JOIN_AT_SIZE
    return len(inbox.waiting) >= PAUSE_AT or inbox.size >= PAUSE_AT_SIZE


def _is_acknowledgement(session: Session | None, text: str) -> bool:
    """Return whether a message of a session is an acknowledgement."""
    if session is None or len(text) > ACKNOWLEDGEMENT_SIZE or '"ack"' not in text:
        return False
    try:
        return decode(text).type == "ack"
    except msgspec.DecodeError:
        return False
