"""A client's connection in the dispatcher, with its session, if any, and its inbox."""

from __future__ import annotations

import asyncio
from collections import deque

from gateway.core.session import Session
from gateway.core.throttle import Address, network
from gateway.core.token_bucket import TokenBucket
from gateway.flows.ports import Connection


class Inbox:
    """A client's messages that wait until an earlier one is handled; after the hello the inbox is the session's."""

    __slots__ = ("bucket", "busy", "size", "waiting")

    def __init__(self, bucket: TokenBucket) -> None:
        self.bucket = bucket
        self.busy = False  # whether a task handles a message of this inbox
        self.size = 0  # characters of the messages that wait
        self.waiting: deque[tuple[ClientConnection, str]] = deque()


class ClientConnection:
    """A client's connection, its inbox, and its session after the hello."""

    __slots__ = ("_until_gone", "connection", "gone", "hello_by", "inbox", "network", "session")

    def __init__(self, connection: Connection, hello_by: float, inbox: Inbox) -> None:
        self.connection = connection
        self.network = network(connection.address)  # the number by which the client's address is counted
        self.session: Session | None = None
        self.inbox = inbox
        # Deadline for a hello, in monotonic seconds; None: a hello was accepted, or is being authenticated.
        self.hello_by: float | None = hello_by
        self.gone = False  # closed, replaced by another connection of the session, or over a limit before its hello
        self._until_gone: asyncio.Future[None] | None = None

    @property
    def address(self) -> Address:
        """The address of the client (14.2)."""
        return self.connection.address

    def set_gone(self) -> None:
        """Mark the connection as gone: messages that arrive later are ignored, and ``wait_until_gone`` ends."""
        self.gone = True
        if self._until_gone is not None and not self._until_gone.done():
            self._until_gone.set_result(None)

    async def wait_until_gone(self, seconds: float) -> None:
        """Wait until the connection is gone, at most ``seconds``; only one task at a time may wait."""
        if not self.gone:
            self._until_gone = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._until_gone], timeout=seconds)
