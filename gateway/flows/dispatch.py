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
from gateway.flows.internal.requests import Internal
from gateway.flows.ports import Connection
from gateway.flows.rooms.membership import Rooms
from gateway.flows.rooms.relay import Relay
from gateway.flows.rooms.transient import Transient
from gateway.flows.services import Services
from gateway.flows.sessions.admission import Admission
from gateway.flows.sessions.closing import Sessions
from gateway.flows.sessions.hello import Forged, Hello, check
from gateway.wire import client, server
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
        self.waiting: deque[tuple[Client, str]] = deque()


class Client:
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
        hello: Hello,
        rooms: Rooms,
        relay: Relay,
        sessions: Sessions,
        shared: Transient,
        internal: Internal,
    ) -> None:
        self._services = services
        self._hello = hello
        self._rooms = rooms
        self._relay = relay
        self._sessions = sessions
        self._shared = shared
        self._internal = internal
        self._counted = services.counters.messages
        self._clients: dict[int, Client] = {}
        self._strangers: set[Client] = set()  # not said hello yet
        self._admission = Admission(services)
        self._inboxes: dict[str, Inbox] = {}  # of open sessions
        self._welcome = server.encode(server.Welcome(services.server_welcome))

    # -- what a connection tells

    def admits(self, address: Address) -> bool:
        """Whether one more connection from this address may be opened; ask before ``opened``."""
        return self._admission.admits(address)

    def opened(self, connection: Connection) -> Client:
        """Welcome a new connection (2.3)."""
        now = self._services.clock()
        who = Client(connection, now + HELLO_TIME, Inbox(TokenBucket(self._services.limits, now)))
        self._services.delivery.add(connection)
        self._clients[connection.id] = who
        self._strangers.add(who)
        self._admission.entered(who)
        connection.send(self._welcome)
        return who

    def received(self, who: Client, text: str, *, waited: bool = False) -> None:
        """Handle a message, at once or after those before it."""
        inbox = who.inbox
        if not waited:
            if who.gone:  # a displaced connection may still be heard; it speaks for nobody
                return
            bucket = inbox.bucket
            bucket.messages -= 1.0
            bucket.octets -= len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
            if (bucket.messages < 0.0 or bucket.octets < 0.0) and not self._affords(who, bucket):
                return
            if who.session is not None:
                who.session.heard += 1
        if inbox.busy:
            inbox.waiting.append((who, text))
            if len(inbox.waiting) >= PAUSE_AT:
                who.connection.pause()
            return
        work = self._handle(who, text)
        if work is not None:
            inbox.busy = True
            self._services.tasks.spawn(self._work(who, inbox, work), "request")

    def _affords(self, who: Client, bucket: TokenBucket) -> bool:
        """Fill a client's bucket up; one that sends too much all the same loses its connection."""
        if bucket.refill(self._services.limits, self._services.clock()):
            return True
        self._services.count_excess("messages_per_second" if bucket.messages < 0.0 else "bytes_per_second")
        self._say(who, _TOO_MUCH)
        who.connection.finish()
        if who.session is None:
            who.lose()  # its hello opens no session any more
        return False

    def received_binary(self, who: Client) -> None:
        """Refuse a binary frame (2.1)."""
        if not who.gone:
            self._say(who, _INVALID)

    def closed(self, who: Client) -> None:
        """Note that a connection is lost; its session waits for a resume (2.5)."""
        who.lose()
        connection = who.connection
        self._services.delivery.remove(connection)
        self._clients.pop(connection.id, None)
        self._no_stranger(who)
        self._admission.left(who)
        if who.session is not None:
            self._services.hub.detach(who.session, connection.id, self._services.clock())

    def sweep(self, now: float) -> None:
        """End connections that say no hello, and sessions whose time is over; called once a second (2.5)."""
        for who in [who for who in self._strangers if who.hello_by is not None and who.hello_by <= now]:
            who.connection.send(bye(HELLO_TIMEOUT))
            who.connection.finish()
            self._no_stranger(who)
        self._sessions.sweep(now)
        for session in [session for session in self._inboxes if session not in self._services.hub.sessions]:
            del self._inboxes[session]

    # -- order

    async def _work(self, who: Client, inbox: Inbox, work: Awaitable[None]) -> None:
        try:
            await work
        finally:
            inbox.busy = False
            if who.inbox is not inbox:  # resumed: what came with the hello goes behind what the session has to do
                who.inbox.waiting.extend(inbox.waiting)
                inbox.waiting.clear()
            self._drain(who.inbox)

    def _drain(self, inbox: Inbox) -> None:
        while inbox.waiting and not inbox.busy:
            who, text = inbox.waiting.popleft()
            if not inbox.waiting and not who.gone:
                who.connection.resume()
            self.received(who, text, waited=True)

    # -- what to do

    def _handle(self, who: Client, text: str) -> Awaitable[None] | None:
        """Carry a message out, or return what must be awaited to have it carried out."""
        if who.session is not None and not who.session.open:
            return None
        try:
            message = client.decode(text)
        except msgspec.DecodeError:
            self._say(who, _INVALID)
            return None
        session, kind = who.session, message.type
        self._counted[kind if kind in _KNOWN else "unknown"] += 1
        if session is None:
            return self._before_hello(who, message)
        if kind == "message":
            error = self._relay.message(session, message)
            if error is not None:
                self._fail(who, message, error)
        elif kind == "control":
            error = self._relay.control(session, message)
            if error is not None:
                self._fail(who, message, error)
        elif kind == "transient":
            error = self._shared.update(session, message)
            if error is not None:
                self._fail(who, message, error)
        elif kind == "internal" and session.is_internal:
            done = self._internal.handle(session, message)
            if not isinstance(done, Error):
                return done
            self._fail(who, message, done)
        elif kind == "room":
            return self._room(who, session, message)
        elif kind == "ack":
            self._acknowledge(who, session, message)
        elif kind == "bye":
            self._services.delivery.send(session, server.encode(server.Bye(id=message.id or "")))
            self._sessions.end(session)
        elif kind == "hello" and message.hello is not None:
            self._again(who, message, message.hello)
        elif not is_complete(message):
            self._fail(who, message, Code.INVALID_FORMAT.error())
        return None  # anything else is ignored (2.4)

    def _acknowledge(self, who: Client, session: Session, message: ClientMessage) -> None:
        """Note what a client has received, and tell it what came from it; unknown to clients without ``ack``.

        One that waited until its connection was gone may be older than what the resume told.
        """
        outbox = session.outbox
        if not isinstance(outbox, AcknowledgedOutbox):
            return
        if message.ack is None or not (outbox.acknowledge(message.ack.received) or who.gone):
            self._fail(who, message, Code.INVALID_FORMAT.error())
        elif not who.gone:
            who.connection.send(server.encode(server.Ack(server.AckBody(session.heard))))

    def _before_hello(self, who: Client, message: ClientMessage) -> Awaitable[None] | None:
        if who.gone or who.hello_by is None or who not in self._strangers:  # the last: it was said bye meanwhile
            return None
        if not is_complete(message):
            self._fail(who, message, Code.INVALID_FORMAT.error())
        elif message.type != "hello" or message.hello is None:
            self._fail(who, message, Code.HELLO_EXPECTED.error())
        elif message.hello.resumeid:
            return self._resume(who, message, message.hello)
        else:
            who.hello_by = None  # suspended while we ask (2.5)
            return self._open(who, message, message.hello)
        return None

    def _again(self, who: Client, message: ClientMessage, hello: client.Hello) -> None:
        """Ignore a second hello, unless something is wrong with it (2.4)."""
        try:
            check(hello)
        except ProtocolError as error:
            self._fail(who, message, error.error)

    async def _open(self, who: Client, message: ClientMessage, hello: client.Hello) -> None:
        session: Session | None = None
        try:
            session = await self._hello.open(who, hello, message.id or "")
        except ProtocolError as error:
            self._fail(who, message, error.error)
        finally:
            if session is None:
                who.hello_by = self._services.clock() + HELLO_TIME
        if session is not None:
            self._greeted(who, session)
            self._inboxes[session.id] = who.inbox

    def _resume(self, who: Client, message: ClientMessage, hello: client.Hello) -> Awaitable[None] | None:
        session = self._services.hub.resumable(hello.resumeid or "")
        before = None if session is None else self._clients.get(session.connection or 0)
        try:
            session = self._hello.resume(who, hello, message.id or "")
        except Forged as error:
            return self._refuse_late(who, message, error.error)
        except ProtocolError as error:
            self._fail(who, message, error.error)
            return None
        if before is not None:
            before.lose()  # what it said before is still carried out
        self._greeted(who, session)
        who.inbox = self._inboxes.setdefault(session.id, who.inbox)
        if session.evicted_by is not None:
            self._sessions.end(session)
        return None

    async def _refuse_late(self, who: Client, message: ClientMessage, error: Error) -> None:
        await self._services.throttling.failed(who, ThrottledAction.HELLO_RESUME)
        self._fail(who, message, error)

    def _greeted(self, who: Client, session: Session) -> None:
        who.session = session
        who.hello_by = None
        self._no_stranger(who)

    def _no_stranger(self, who: Client) -> None:
        if who in self._strangers:
            self._strangers.discard(who)
            self._admission.greeted(who)

    def _room(self, who: Client, session: Session, message: ClientMessage) -> Awaitable[None] | None:
        room = message.room
        if room is None:
            self._fail(who, message, Code.INVALID_FORMAT.error())
            return None
        if not room.roomid:
            self._rooms.leave(session, message.id or "")
            return None
        return self._join(session, message, room)

    async def _join(self, session: Session, message: ClientMessage, room: client.RoomJoin) -> None:
        try:
            await self._rooms.join(session, room, message.id or "")
        except ProtocolError as error:
            if session.open:
                reply = server.ErrorMessage(error.error, message.id or "")
                self._services.delivery.send(session, server.encode(reply))

    def _fail(self, who: Client, message: ClientMessage, error: Error) -> None:
        self._say(who, server.encode(server.ErrorMessage(error, message.id or "")))

    def _say(self, who: Client, message: bytes) -> None:
        if who.session is not None:
            self._services.delivery.send(who.session, message)
        elif not who.gone:
            who.connection.send(message)
