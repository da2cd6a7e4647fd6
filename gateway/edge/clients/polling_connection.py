"""One connection that is made of HTTP requests.

Source: docs/protocol.md, Long polling (an extension); reference 2.1, 2.5 (numbers).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Protocol

from gateway.core.ids import ConnectionId
from gateway.core.outbox import Outbox
from gateway.core.throttle import Address
from gateway.edge.clients.websocket import BATCH, MESSAGE_LIMIT, TrafficCounters
from gateway.flows.client_connection import ClientConnection
from gateway.flows.dispatch import Dispatch

FETCH_TIME = 25.0  # seconds that a fetch waits at most
SILENCE = 60.0  # seconds without a fetch that end the connection
PATIENCE = 15.0  # seconds that new messages wait for a client's earlier ones
TOO_BIG = 1009  # the close codes are those of the WebSocket
NORMAL = 1000


class Owner(Protocol):
    """Who has the connections."""

    dispatch: Dispatch
    counters: TrafficCounters

    def forget(self, secret: str) -> None:
        """Drop a connection that is over."""

    def remember(self, secret: str, last: bytes) -> None:
        """Keep the last answer of a connection that is over for a while: it may be lost on its way."""


class PollingConnection:
    """One client; implements ``flows.ports.Connection``. WebSockets have positive ids, these have negative ones."""

    def __init__(self, id: ConnectionId, secret: str, address: Address, user_agent: str, of: Owner) -> None:
        self.id = id
        self.address = address
        self.user_agent = user_agent
        self.accepted = 0  # messages of the client that came
        self.secret = secret
        self._endpoint = of
        self._loop = asyncio.get_running_loop()
        self._own: deque[bytes] = deque()
        self._adopted: Outbox | None = None
        self._sent: deque[tuple[bytes, bool]] = deque()  # not acknowledged, and whether it is the outbox'
        self._taken = 0  # of the outbox, among those
        self._first = 0  # how many were acknowledged before
        self._waiter: asyncio.Future[None] | None = None  # the fetch that waits
        self._running = asyncio.Event()  # not paused
        self._running.set()
        self._posting = asyncio.Lock()
        self._code: int | None = None  # why it is being closed
        self._lost = False
        self._timer: asyncio.TimerHandle | None = None
        self._client: ClientConnection | None = None

    def open(self) -> None:
        """Begin; the client is welcomed with its first fetch."""
        self._client = self._endpoint.dispatch.opened(self)
        self._renew()

    # -- flows.ports.Connection

    def send(self, message: bytes) -> None:
        """See ``Connection.send``."""
        self._own.append(message)
        self.wake()

    def adopt(self, outbox: Outbox) -> None:
        """See ``Connection.adopt``."""
        outbox.rewind()
        self._adopted, self._taken = outbox, 0
        self.wake()

    def wake(self) -> None:
        """See ``Connection.wake``."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def finish(self) -> None:
        """See ``Connection.finish``."""
        self._end(NORMAL)

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

    async def deliver(self, first: int, messages: list[Any]) -> bool:
        """Take messages of the client, the first of which has this number; ``False`` when some before are missing.

        Fewer may be taken when earlier ones take long; ``accepted`` says how many came.
        """
        async with self._posting:
            known = self.accepted + 1 - first
            if known < 0:
                return False
            for message in messages[known:]:
                try:
                    async with asyncio.timeout(PATIENCE):
                        await self._running.wait()
                except TimeoutError:
                    break
                if self._code is not None or self._lost or self._client is None:
                    break
                self.accepted += 1
                self._take(self._client, message)
        return True

    async def fetch(self, received: int) -> bytes | None:
        """Return an answer with what the client has not received, waiting for something; ``None``: no such number."""
        if not self.acknowledge(received):
            return None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(_Replaced())
        self._renew()
        if not self._ready:
            self._waiter = waiter = self._loop.create_future()
            try:
                async with asyncio.timeout(FETCH_TIME):
                    await waiter
            except TimeoutError:
                pass
            except _Replaced:
                return self._render([])
            self._renew()
        self._gather()
        if self._code is not None and not self._sent:
            self.lose()
            last = self._render([])
            self._endpoint.remember(self.secret, last)
            return last
        return self._render([message for message, _ in self._sent])

    def lose(self) -> None:
        """End: the session waits for a resume. Idempotent."""
        if self._lost:
            return
        self._lost = True
        self._release()
        if self._timer is not None:
            self._timer.cancel()
        self._endpoint.forget(self.secret)
        self._running.set()
        self.wake()
        if self._client is not None:
            self._endpoint.dispatch.closed(self._client)

    # -- inside

    def _take(self, client: ClientConnection, message: Any) -> None:
        if not isinstance(message, str):
            self._endpoint.dispatch.received_binary(client)
        elif (size := len(message.encode(errors="replace"))) > MESSAGE_LIMIT:
            self._end(TOO_BIG)
        else:
            counters = self._endpoint.counters
            counters.messages_in += 1
            counters.bytes_in += size
            self._endpoint.dispatch.received(client, message)

    @property
    def _ready(self) -> bool:
        waiting = self._adopted is not None and self._adopted.waiting
        return bool(self._sent or self._own or waiting or self._lost or self._code is not None)

    def _gather(self) -> None:
        """Take what waits, as far as one answer has room."""
        room = BATCH - sum(len(message) for message, _ in self._sent)
        while self._own and room > 0:
            message = self._own.popleft()
            self._sent.append((message, False))
            room -= len(message)
        if self._adopted is not None and room > 0:
            taken = self._adopted.take(room)
            self._sent.extend((message, True) for message in taken)
            self._taken += len(taken)

    def acknowledge(self, received: int) -> bool:
        """Give up what the client has, ``received`` messages in all; ``False`` when that cannot be."""
        count = received - self._first
        if not 0 <= count <= len(self._sent):
            return False
        theirs = 0
        for _ in range(count):
            message, of_outbox = self._sent.popleft()
            theirs += of_outbox
            self._endpoint.counters.messages_out += 1
            self._endpoint.counters.bytes_out += len(message)
        self._first = received
        if theirs and self._adopted is not None:
            self._taken -= theirs
            self._adopted.confirm(self._taken)
        return True

    def _render(self, messages: list[bytes]) -> bytes:
        over = b"" if not self._lost else b',"closed":%d' % (self._code or NORMAL)
        head = b'{"accepted":%d,"first":%d,"messages":[' % (self.accepted, self._first + 1)
        return b"".join((head, b",".join(messages), b"]", over, b"}"))

    def _end(self, code: int) -> None:
        if self._code is None:
            self._code = code
            self.wake()

    def _release(self) -> None:
        """Give the outbox back with what was not acknowledged; it may be sent here all the same."""
        if self._adopted is not None:
            self._adopted.rewind()
            self._adopted = None
            self._sent = deque((message, False) for message, _ in self._sent)

    def _renew(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._lost:
            self._timer = self._loop.call_later(SILENCE, self.lose)


class _Replaced(Exception):
    """Another fetch took the place of this one."""
