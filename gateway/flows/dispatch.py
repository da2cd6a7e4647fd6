"""Connections and their messages: who is who, and what is done next.

Source: reference 2.2-2.8. Messages of one session are handled one after another, whatever connection they
came on (invariant 5): while a hello or a join waits for Nextcloud, what follows waits in the inbox. Everything else
is done at once, without a task.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable

import msgspec

from gateway.core.acknowledged import AcknowledgedOutbox
from gateway.core.session import Session
from gateway.core.throttle import Address, ThrottledAction
from gateway.core.token_bucket import TokenBucket
from gateway.flows.bye import HELLO_TIMEOUT, bye
from gateway.flows.internal.requests import InternalRequests
from gateway.flows.ports import Connection
from gateway.flows.rooms.membership import RoomMembership
from gateway.flows.rooms.relay import Relay
from gateway.flows.rooms.transient import TransientRequests
from gateway.flows.services import Services
from gateway.flows.sessions.admission import Admission
from gateway.flows.sessions.closing import SessionCloser
from gateway.flows.sessions.hello import Forged, HelloRequests, check
from gateway.wire import client as client_messages
from gateway.wire import server
from gateway.wire.client import ClientMessage
from gateway.wire.errors import Code, Error, ProtocolError
from gateway.wire.structure import is_complete

log = logging.getLogger("portunus.flows")

HELLO_TIME = 2.0  # seconds from the connect to a hello (2.5)
PAUSE_AT = 64  # messages in an inbox at which no more are read from the connection

_KNOWN = frozenset(  # what metrics tell apart
    {"hello", "room", "message", "control", "transient", "internal", "ack", "bye"}
)

_INVALID = server.encode(server.ErrorMessage(Code.INVALID_FORMAT.error()))
_TOO_MUCH = server.encode(server.ErrorMessage(Code.TOO_MANY_REQUESTS.error()))


class Inbox:
    """Messages that wait for an earlier one; it belongs to the session once there is one."""

    __slots__ = ("bucket", "busy", "waiting")

    def __init__(self, bucket: TokenBucket) -> None:
        self.bucket = bucket
        self.busy = False
        self.waiting: deque[tuple[ClientConnection, str]] = deque()


class ClientConnection:
    """One connection, and the session that it is for."""

    __slots__ = ("_until_gone", "connection", "gone", "hello_by", "inbox", "session")

    def __init__(self, connection: Connection, hello_by: float, inbox: Inbox) -> None:
        self.connection = connection
        self.session: Session | None = None
        self.inbox = inbox
        self.hello_by: float | None = hello_by  # None: said hello, or saying it right now
        self.gone = False
        self._until_gone: asyncio.Future[None] | None = None

    @property
    def address(self) -> Address:
        """Where the client really is."""
        return self.connection.address

    def lose(self) -> None:
        """Speak for nobody from now on."""
        self.gone = True
        if self._until_gone is not None and not self._until_gone.done():
            self._until_gone.set_result(None)

    async def until_gone(self, seconds: float) -> None:
        """Wait, but no longer than the client is connected; one request at a time may."""
        if not self.gone:
            self._until_gone = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._until_gone], timeout=seconds)


class Dispatch:
    """Takes what connections hear."""

    def __init__(
        self,
        services: Services,
        hello: HelloRequests,
        rooms: RoomMembership,
        relay: Relay,
        sessions: SessionCloser,
        shared: TransientRequests,
        internal: InternalRequests,
    ) -> None:
        self._services = services
        self._hello = hello
        self._rooms = rooms
        self._relay = relay
        self._sessions = sessions
        self._shared = shared
        self._internal = internal
        self._counted = services.counters.messages
        self._clients: dict[int, ClientConnection] = {}
        self._strangers: set[ClientConnection] = set()  # not said hello yet
        self._admission = Admission(services)
        self._inboxes: dict[str, Inbox] = {}  # of open sessions
        self._welcome = server.encode(server.Welcome(services.server_welcome))

    # -- what a connection tells

    def admits(self, address: Address) -> bool:
        """Whether one more connection from this address may be opened; ask before ``opened``."""
        return self._admission.admits(address)

    def opened(self, connection: Connection) -> ClientConnection:
        """Welcome a new connection (2.3)."""
        now = self._services.clock()
        client = ClientConnection(connection, now + HELLO_TIME, Inbox(TokenBucket(self._services.settings.limits, now)))
        self._services.delivery.add(connection)
        self._clients[connection.id] = client
        self._strangers.add(client)
        self._admission.entered(client)
        connection.send(self._welcome)
        return client

    def received(self, client: ClientConnection, text: str, *, waited: bool = False) -> None:
        """Handle a message, at once or after those before it."""
        inbox = client.inbox
        if not waited:
            if client.gone:  # a displaced connection may still be heard; it speaks for nobody
                return
            bucket = inbox.bucket
            bucket.messages -= 1.0
            bucket.octets -= len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
            if (bucket.messages < 0.0 or bucket.octets < 0.0) and not self._affords(client, bucket):
                return
            if client.session is not None:
                client.session.heard += 1
        if inbox.busy:
            inbox.waiting.append((client, text))
            if len(inbox.waiting) >= PAUSE_AT:
                client.connection.pause()
            return
        work = self._handle(client, text)
        if work is not None:
            inbox.busy = True
            self._services.tasks.spawn(self._work(client, inbox, work), "request")

    def _affords(self, client: ClientConnection, bucket: TokenBucket) -> bool:
        """Fill a client's bucket up; one that sends too much all the same loses its connection."""
        if bucket.refill(self._services.settings.limits, self._services.clock()):
            return True
        self._services.count_excess("messages_per_second" if bucket.messages < 0.0 else "bytes_per_second")
        self._say(client, _TOO_MUCH)
        client.connection.finish()
        if client.session is None:
            client.lose()  # its hello opens no session any more
        return False

    def received_binary(self, client: ClientConnection) -> None:
        """Refuse a binary frame (2.1)."""
        if not client.gone:
            self._say(client, _INVALID)

    def closed(self, client: ClientConnection) -> None:
        """Note that a connection is lost; its session waits for a resume (2.5)."""
        client.lose()
        connection = client.connection
        self._services.delivery.remove(connection)
        self._clients.pop(connection.id, None)
        self._no_stranger(client)
        self._admission.left(client)
        if client.session is not None:
            self._services.hub.detach(client.session, connection.id, self._services.clock())

    def sweep(self, now: float) -> None:
        """End connections that say no hello, and sessions whose time is over; called once a second (2.5)."""
        for client in [client for client in self._strangers if client.hello_by is not None and client.hello_by <= now]:
            client.connection.send(bye(HELLO_TIMEOUT))
            client.connection.finish()
            self._no_stranger(client)
        self._sessions.sweep(now)
        for session in [session for session in self._inboxes if session not in self._services.hub.sessions]:
            del self._inboxes[session]

    # -- order

    async def _work(self, client: ClientConnection, inbox: Inbox, work: Awaitable[None]) -> None:
        try:
            await work
        finally:
            inbox.busy = False
            if client.inbox is not inbox:  # resumed: what came with the hello goes behind what the session has to do
                client.inbox.waiting.extend(inbox.waiting)
                inbox.waiting.clear()
            self._drain(client.inbox)

    def _drain(self, inbox: Inbox) -> None:
        while inbox.waiting and not inbox.busy:
            client, text = inbox.waiting.popleft()
            if not inbox.waiting and not client.gone:
                client.connection.resume()
            self.received(client, text, waited=True)

    # -- what to do

    def _handle(self, client: ClientConnection, text: str) -> Awaitable[None] | None:
        """Carry a message out, or return what must be awaited to have it carried out."""
        if client.session is not None and not client.session.open:
            return None
        try:
            message = client_messages.decode(text)
        except msgspec.DecodeError:
            self._say(client, _INVALID)
            return None
        session, kind = client.session, message.type
        self._counted[kind if kind in _KNOWN else "unknown"] += 1
        if session is None:
            return self._before_hello(client, message)
        if kind == "message":
            error = self._relay.message(session, message)
            if error is not None:
                self._fail(client, message, error)
        elif kind == "control":
            error = self._relay.control(session, message)
            if error is not None:
                self._fail(client, message, error)
        elif kind == "transient":
            error = self._shared.update(session, message)
            if error is not None:
                self._fail(client, message, error)
        elif kind == "internal" and session.is_internal:
            done = self._internal.handle(session, message)
            if not isinstance(done, Error):
                return done
            self._fail(client, message, done)
        elif kind == "room":
            return self._room(client, session, message)
        elif kind == "ack":
            self._acknowledge(client, session, message)
        elif kind == "bye":
            self._services.delivery.send(session, server.encode(server.Bye(id=message.id or "")))
            self._sessions.end(session)
        elif kind == "hello" and message.hello is not None:
            self._again(client, message, message.hello)
        elif not is_complete(message):
            self._fail(client, message, Code.INVALID_FORMAT.error())
        return None  # anything else is ignored (2.4)

    def _acknowledge(self, client: ClientConnection, session: Session, message: ClientMessage) -> None:
        """Note what a client has received, and tell it what came from it; unknown to clients without ``ack``.

        One that waited until its connection was gone may be older than what the resume told.
        """
        outbox = session.outbox
        if not isinstance(outbox, AcknowledgedOutbox):
            return
        if message.ack is None or not (outbox.acknowledge(message.ack.received) or client.gone):
            self._fail(client, message, Code.INVALID_FORMAT.error())
        elif not client.gone:
            client.connection.send(server.encode(server.Ack(server.AckBody(session.heard))))

    def _before_hello(self, client: ClientConnection, message: ClientMessage) -> Awaitable[None] | None:
        if (
            client.gone or client.hello_by is None or client not in self._strangers
        ):  # the last: it was said bye meanwhile
            return None
        if not is_complete(message):
            self._fail(client, message, Code.INVALID_FORMAT.error())
        elif message.type != "hello" or message.hello is None:
            self._fail(client, message, Code.HELLO_EXPECTED.error())
        elif message.hello.resumeid:
            return self._resume(client, message, message.hello)
        else:
            client.hello_by = None  # suspended while we ask (2.5)
            return self._open(client, message, message.hello)
        return None

    def _again(self, client: ClientConnection, message: ClientMessage, hello: client_messages.Hello) -> None:
        """Ignore a second hello, unless something is wrong with it (2.4)."""
        try:
            check(hello)
        except ProtocolError as error:
            self._fail(client, message, error.error)

    async def _open(self, client: ClientConnection, message: ClientMessage, hello: client_messages.Hello) -> None:
        session: Session | None = None
        try:
            session = await self._hello.open(client, hello, message.id or "")
        except ProtocolError as error:
            self._fail(client, message, error.error)
        finally:
            if session is None:
                client.hello_by = self._services.clock() + HELLO_TIME
        if session is not None:
            self._greeted(client, session)
            self._inboxes[session.id] = client.inbox

    def _resume(
        self, client: ClientConnection, message: ClientMessage, hello: client_messages.Hello
    ) -> Awaitable[None] | None:
        session = self._services.hub.resumable(hello.resumeid or "")
        before = None if session is None else self._clients.get(session.connection or 0)
        try:
            session = self._hello.resume(client, hello, message.id or "")
        except Forged as error:
            return self._refuse_late(client, message, error.error)
        except ProtocolError as error:
            self._fail(client, message, error.error)
            return None
        if before is not None:
            before.lose()  # what it said before is still carried out
        self._greeted(client, session)
        client.inbox = self._inboxes.setdefault(session.id, client.inbox)
        if session.evicted_by is not None:
            self._sessions.end(session)
        return None

    async def _refuse_late(self, client: ClientConnection, message: ClientMessage, error: Error) -> None:
        await self._services.throttling.failed(client, ThrottledAction.HELLO_RESUME)
        self._fail(client, message, error)

    def _greeted(self, client: ClientConnection, session: Session) -> None:
        client.session = session
        client.hello_by = None
        self._no_stranger(client)

    def _no_stranger(self, client: ClientConnection) -> None:
        if client in self._strangers:
            self._strangers.discard(client)
            self._admission.greeted(client)

    def _room(self, client: ClientConnection, session: Session, message: ClientMessage) -> Awaitable[None] | None:
        room = message.room
        if room is None:
            self._fail(client, message, Code.INVALID_FORMAT.error())
            return None
        if not room.roomid:
            self._rooms.leave(session, message.id or "")
            return None
        return self._join(session, message, room)

    async def _join(self, session: Session, message: ClientMessage, room: client_messages.RoomJoin) -> None:
        try:
            await self._rooms.join(session, room, message.id or "")
        except ProtocolError as error:
            if session.open:
                reply = server.ErrorMessage(error.error, message.id or "")
                self._services.delivery.send(session, server.encode(reply))

    def _fail(self, client: ClientConnection, message: ClientMessage, error: Error) -> None:
        self._say(client, server.encode(server.ErrorMessage(error, message.id or "")))

    def _say(self, client: ClientConnection, message: bytes) -> None:
        if client.session is not None:
            self._services.delivery.send(client.session, message)
        elif not client.gone:
            client.connection.send(message)
