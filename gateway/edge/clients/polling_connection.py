"""A long-polling connection: one client connection over successive HTTP requests.

Source: docs/protocol.md, Long polling (an extension); reference 2.1, 2.5.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Protocol

import msgspec
from msgspec import Raw

from gateway.core.ids import ConnectionId
from gateway.core.outbox import Outbox
from gateway.core.throttle import Address
from gateway.edge.clients.traffic import TrafficCounters
from gateway.edge.clients.websocket_connection import BATCH_SIZE, MESSAGE_LIMIT
from gateway.flows.client_connection import ClientConnection
from gateway.flows.dispatch import Dispatcher
from gateway.standstill import PeerTimer

FETCH_TIME = 25.0  # seconds that a fetch waits for messages
SILENCE = 60.0  # seconds without a fetch after which the connection is lost
PAUSE_TIMEOUT = 15.0  # seconds that posted messages wait while the flows have paused the connection
MESSAGES_PER_ITERATION = 16  # posted messages that are handled in one loop iteration
TOO_BIG = 1009  # close codes of RFC 6455 7.4.1
NORMAL_CLOSURE = 1000

_texts = msgspec.json.Decoder(str)


class PostTurns:
    """Spreads the work of long posts, of all connections, over iterations of the event loop."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def wait(self) -> None:
        """Wait for an iteration of the event loop in which no other caller continues."""
        async with self._lock:
            await asyncio.sleep(0)


class ConnectionOwner(Protocol):
    """The endpoint that holds the connections."""

    dispatch: Dispatcher
    counters: TrafficCounters
    turns: PostTurns

    def remove(self, secret: str) -> None:
        """Remove an ended connection."""

    def keep_last_answer(self, secret: str, answer: bytes) -> None:
        """Keep the last answer of an ended connection for a while, to repeat it if it does not reach the client."""


class PollingConnection:
    """The connection of one client; implements ``flows.ports.Connection``. Its id is negative, unlike a WebSocket's."""

    def __init__(
        self, id: ConnectionId, secret: str, address: Address, user_agent: str, owner: ConnectionOwner
    ) -> None:
        self.id = id
        self.address = address
        self.user_agent = user_agent
        self.accepted = 0  # number of messages received from the client
        self.secret = secret
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._own: deque[bytes] = deque()  # messages of this connection, not of a session's outbox
        self._outbox: Outbox | None = None
        self._sent: deque[tuple[bytes, bool]] = deque()  # sent but not acknowledged; True: from the outbox
        self._sent_of_outbox = 0  # number of messages in _sent that are from the outbox
        self._acknowledged = 0  # number of messages that the client acknowledged
        self._waiter: asyncio.Future[None] | None = None  # wakes the waiting fetch
        self._running = asyncio.Event()  # cleared while paused
        self._running.set()
        self._posting = asyncio.Lock()
        self.posts = 0  # requests with messages that are being delivered or wait
        self._code: int | None = None  # close code, once the connection is being closed
        self._lost = False
        self._timer: PeerTimer | None = None
        self._client: ClientConnection | None = None

    def open(self) -> None:
        """Register with the dispatch; the first fetch returns the welcome message."""
        self._client = self._owner.dispatch.connection_opened(self)
        self._restart_timer()

    # -- flows.ports.Connection

    def send(self, message: bytes) -> None:
        """See ``Connection.send``."""
        self._own.append(message)
        self.wake()

    def adopt(self, outbox: Outbox) -> None:
        """See ``Connection.adopt``."""
        outbox.rewind()
        self._outbox, self._sent_of_outbox = outbox, 0
        self.wake()

    def wake(self) -> None:
        """See ``Connection.wake``."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def finish(self) -> None:
        """See ``Connection.finish``."""
        self._close(NORMAL_CLOSURE)

    def displace(self, last: bytes) -> None:
        """See ``Connection.displace``."""
        self._release()
        self.send(last)
        self.finish()

    def pause(self) -> None:
        """See ``Connection.pause``."""
        self._running.clear()

    def resume(self) -> None:
        """See ``Connection.resume``."""
        self._running.set()

    # -- requests

    async def deliver(self, first: int, messages: Sequence[Raw]) -> bool:
        """Pass on posted messages, numbered from ``first`` on; return False if messages before ``first`` are missing.

        Each is the JSON of a text, which is decoded when its turn comes; any other value counts as a binary message.
        If the flows pause the connection for ``PAUSE_TIMEOUT`` seconds, the client has to post the rest again;
        ``accepted`` counts the messages that were passed on.
        """
        self.posts += 1
        try:
            return await self._deliver(first, messages)
        finally:
            self.posts -= 1

    async def _deliver(self, first: int, messages: Sequence[Raw]) -> bool:
        async with self._posting:
            repeated = self.accepted + 1 - first  # messages of an earlier request
            if repeated < 0:
                return False
            for count, message in enumerate(messages[repeated:], 1):
                if count % MESSAGES_PER_ITERATION == 0:
                    await self._owner.turns.wait()
                try:
                    async with asyncio.timeout(PAUSE_TIMEOUT):
                        await self._running.wait()
                except TimeoutError:
                    break
                if self._code is not None or self._lost or self._client is None:
                    break
                self.accepted += 1
                self._pass_on(self._client, message)
        return True

    async def fetch(self, received: int) -> bytes | None:
        """Acknowledge ``received`` messages, wait for further messages, and return an answer with them.

        ``None``: ``received`` is not a possible number.
        """
        if not self.acknowledge(received):
            return None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(_Replaced())
        self._restart_timer()
        if not self._ready:
            self._waiter = waiter = self._loop.create_future()
            try:
                async with asyncio.timeout(FETCH_TIME):
                    await waiter
            except TimeoutError:
                pass
            except _Replaced:
                return self._render([])
            self._restart_timer()
        self._gather()
        if self._code is not None and not self._sent:
            self.lose()
            last = self._render([])
            self._owner.keep_last_answer(self.secret, last)
            return last
        return self._render([message for message, _ in self._sent])

    def acknowledge(self, received: int) -> bool:
        """Drop the sent messages up to number ``received``; return ``False`` if that number is not possible."""
        count = received - self._acknowledged
        if not 0 <= count <= len(self._sent):
            return False
        from_outbox = 0
        for _ in range(count):
            message, is_from_outbox = self._sent.popleft()
            from_outbox += is_from_outbox
            self._owner.counters.messages_out += 1
            self._owner.counters.bytes_out += len(message)
        self._acknowledged = received
        if from_outbox and self._outbox is not None:
            self._sent_of_outbox -= from_outbox
            self._outbox.confirm(self._sent_of_outbox)
            self._outbox.confirm_delivered()
        return True

    def lose(self) -> None:
        """End the connection; its session waits for a resume. Idempotent."""
        if self._lost:
            return
        self._lost = True
        self._release()
        if self._timer is not None:
            self._timer.cancel()
        self._owner.remove(self.secret)
        self._running.set()
        self.wake()
        if self._client is not None:
            self._owner.dispatch.connection_closed(self._client)

    # -- private

    def _pass_on(self, client: ClientConnection, posted: Raw) -> None:
        try:
            message = _texts.decode(posted)
        except msgspec.DecodeError:
            size = len(posted)  # like a binary message of a WebSocket, it counts against the limits
            self._owner.counters.bytes_in += size
            if self._owner.dispatch.received_frame(client, size):
                self._owner.dispatch.received_binary(client)
            return
        if (size := len(message.encode(errors="surrogatepass"))) > MESSAGE_LIMIT:
            self._close(TOO_BIG)
        else:
            counters = self._owner.counters
            counters.messages_in += 1
            counters.bytes_in += size
            self._owner.dispatch.message_received(client, message, size)

    @property
    def _ready(self) -> bool:
        waiting = self._outbox is not None and self._outbox.waiting
        return bool(self._sent or self._own or waiting or self._lost or self._code is not None)

    def _gather(self) -> None:
        """Move waiting messages to the unacknowledged messages, until these have ``BATCH_SIZE`` bytes."""
        space = BATCH_SIZE - sum(len(message) for message, _ in self._sent)
        while self._own and space > 0:
            message = self._own.popleft()
            self._sent.append((message, False))
            space -= len(message)
        if self._outbox is not None and space > 0:
            taken = self._outbox.take(space)
            self._sent.extend((message, True) for message in taken)
            self._sent_of_outbox += len(taken)

    def _render(self, messages: list[bytes]) -> bytes:
        closed = b"" if not self._lost else b',"closed":%d' % (self._code or NORMAL_CLOSURE)
        head = b'{"accepted":%d,"first":%d,"messages":[' % (self.accepted, self._acknowledged + 1)
        return b"".join((head, b",".join(messages), b"]", closed, b"}"))

    def _close(self, code: int) -> None:
        """Begin to close: the connection ends when the client has acknowledged all messages."""
        if self._code is None:
            self._code = code
            self.wake()

    def _release(self) -> None:
        """Detach the outbox; keep copies of its unacknowledged messages to send."""
        if self._outbox is not None:
            self._outbox.rewind()
            self._outbox = None
            self._sent = deque((message, False) for message, _ in self._sent)

    def _restart_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._lost:
            self._timer = PeerTimer(SILENCE, self.lose)


class _Replaced(Exception):
    """A newer fetch replaced the waiting fetch."""
