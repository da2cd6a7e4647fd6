"""One connection to Janus: a WebSocket, a Janus session on it, its requests and its handles.

A session is not repaired: when it is lost, all that waits for it fails at once, each handle hears of it, and the client
(client.py) opens another. Sending is synchronous, in the order of the calls; a task writes. Events reach a handle in
the order in which Janus sent them, synchronously, from the one reader.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp

from mcu.base import McuLost
from mcu.janus.handle import Handle, Hears
from mcu.janus.labels import control
from mcu.janus.protocol import (
    NO_SUCH_SESSION,
    PLUGIN,
    Expect,
    JanusError,
    Message,
    ProtocolError,
    Route,
    Settled,
    Transactions,
    encode,
    failure,
    parse,
)

log = logging.getLogger("portunus.mcu.janus")

KEEPALIVE = 25.0  # seconds; Janus ends a session after 60 without one (session_timeout)


Reply = asyncio.Future[Message | None]  # None: the session was lost


class Session:
    """A Janus session and the WebSocket below it.

    After construction ``run`` must be running; then ``open``.
    """

    def __init__(
        self,
        socket: aiohttp.ClientWebSocketResponse,
        secrets: Mapping[str, str],
        timeout: float,
        on_end: Callable[[str], None],
        instance: str,
    ) -> None:
        self.id = 0
        self.instance = instance  # whose handles these are (``mcu.janus.labels``)
        self.control: Handle
        self.lost = False
        self.handles: dict[int, Handle] = {}
        self._socket = socket
        self._secrets = secrets
        self._timeout = timeout  # seconds, for requests of the session's own
        self._on_end = on_end  # told why, before anybody hears that the session is lost
        self._transactions = Transactions()
        self._replies: dict[str, Reply] = {}
        self._undo: dict[str, Callable[[Message], object]] = {}
        self._outgoing: asyncio.Queue[str] = asyncio.Queue()
        self._ended = asyncio.Event()
        self._why = ""

    async def open(self) -> None:
        """Create the Janus session and the control handle, over which rooms are created and destroyed.

        Raises:
            JanusError: Janus does not let us.
            McuLost: the connection ended.
        """
        created = await self.request("create", undo=lambda late: self.tell("destroy", session_id=late.data.id))
        self.id = created.data.id
        self.control = await self.attach(control(self.instance), None)

    async def run(self) -> None:
        """Read, write and keep alive until the connection ends. Cancelling it ends the session."""
        tasks = [
            asyncio.create_task(self._read(), name="janus-read"),
            asyncio.create_task(self._write(), name="janus-write"),
            asyncio.create_task(self._keep_alive(), name="janus-keepalive"),
        ]
        why = "we have ended the session"
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            why = next(iter(done)).result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self.lost = True
            self._on_end(why)
            self._lose()
            with contextlib.suppress(OSError, aiohttp.ClientError):
                await self._socket.close()

    def post(self, janus: str, expect: Expect = Expect.SUCCESS, **fields: Any) -> Reply:
        """Send a request at once; the future brings what answers it, ``None`` when the session is lost."""
        return self._begin(janus, expect, None, fields)[1]

    async def request(
        self,
        janus: str,
        expect: Expect = Expect.SUCCESS,
        undo: Callable[[Message], object] | None = None,
        **fields: Any,
    ) -> Message:
        """Send a request and return what answers it; ``undo`` is called when it succeeds after we were cancelled.

        Raises:
            JanusError: Janus or the plugin refused.
            McuLost: the session is lost.
        """
        transaction, reply = self._begin(janus, expect, undo, fields)
        try:
            message = await reply
        except asyncio.CancelledError:
            self._transactions.abandon(transaction)
            if reply.done() and not reply.cancelled():  # it came in the very turn in which we were cancelled
                came = reply.result()
                if undo is not None and came is not None and failure(came) is None:
                    undo(came)
            raise
        return self.checked(message)

    def checked(self, message: Message | None) -> Message:
        """Return what answered a request unless it is an error.

        Raises:
            JanusError: Janus or the plugin refused.
            McuLost: the session is lost.
        """
        if message is None:
            raise McuLost("the connection to Janus is gone")
        error = failure(message)
        if error is None:
            return message
        if error.code == NO_SUCH_SESSION:
            self.end("Janus has forgotten the session")
            raise McuLost("Janus has forgotten the session") from error
        raise error

    def _begin(
        self, janus: str, expect: Expect, undo: Callable[[Message], object] | None, fields: Mapping[str, Any]
    ) -> tuple[str, Reply]:
        reply: Reply = asyncio.get_running_loop().create_future()
        if self.lost:
            reply.set_result(None)
            return "", reply
        transaction = self._transactions.begin(expect, undo is not None)
        self._replies[transaction] = reply
        reply.add_done_callback(lambda _: self._replies.pop(transaction, None))
        if undo is not None:
            self._undo[transaction] = undo
        self._send(janus, transaction, fields)
        return transaction, reply

    def tell(self, janus: str, **fields: Any) -> None:
        """Send a request whose answer nobody follows; a plugin's answer reaches the handle as an event."""
        if not self.lost:
            self._send(janus, self._transactions.unheard(), fields)

    async def attach(self, opaque: str, owner: Hears | None) -> Handle:
        """Open a handle to VideoRoom; ``opaque`` names it in Janus' own views."""
        attached = await self.request(
            "attach",
            undo=lambda late: self.tell("detach", handle_id=late.data.id),
            plugin=PLUGIN,
            opaque_id=opaque,
        )
        return Handle(self, attached.data.id, owner)

    def _lose(self) -> None:
        """Fail what waits and tell every handle."""
        for reply in list(self._replies.values()):
            if not reply.done():
                reply.set_result(None)
        handles, self.handles = self.handles, {}
        for handle in handles.values():
            if handle.owner is not None:
                handle.owner.on_lost()

    def end(self, why: str) -> None:
        """Give the session up: ``run`` returns ``why``."""
        self._why = self._why or why
        self._ended.set()

    def _send(self, janus: str, transaction: str, fields: Mapping[str, Any]) -> None:
        frame = encode(janus, transaction, self._secrets, {"session_id": self.id, **fields})
        self._outgoing.put_nowait(frame)

    async def _write(self) -> str:
        while True:
            frame = await self._outgoing.get()
            try:
                await self._socket.send_str(frame)
            except (OSError, aiohttp.ClientError):
                return "the connection broke"

    async def _read(self) -> str:
        while True:
            frame = await self._socket.receive()
            if frame.type is not aiohttp.WSMsgType.TEXT:
                if isinstance(self._socket.exception(), aiohttp.ServerTimeoutError):
                    return "Janus does not answer any more"
                return "the connection was closed"
            try:
                message = parse(frame.data)
            except ProtocolError as error:
                log.warning("%s", error)
                continue
            if self.take(message) is Route.SESSION_ENDED:
                return "Janus ended the session"

    def take(self, message: Message) -> Route:
        """Give a message to whom it concerns."""
        route = self._transactions.route(message)
        if route is Route.REPLY:
            settled = self._transactions.settle(message)
            if settled is None:
                return route
            self._deliver(settled, message)
        elif route is Route.HANDLE and (handle := self.handles.get(message.sender)) is not None:
            handle.take(message)
        return route

    def _deliver(self, settled: Settled, message: Message) -> None:
        undo = self._undo.pop(settled.transaction, None)
        reply = self._replies.get(settled.transaction)
        # A reply that is done was cancelled, and who waited for it has not had its turn to abandon the request yet.
        if settled.late or reply is None or reply.done():
            if undo is not None and failure(message) is None:
                undo(message)
            return
        if (handle := self.handles.get(message.sender)) is not None:
            handle.heard(reply, message)
        reply.set_result(message)

    async def _keep_alive(self) -> str:
        while True:
            try:
                async with asyncio.timeout(KEEPALIVE):
                    await self._ended.wait()
                return self._why
            except TimeoutError:
                if not self.id:
                    continue
            try:
                async with asyncio.timeout(self._timeout):
                    await self.request("keepalive", Expect.ACK)
            except (TimeoutError, JanusError, McuLost):
                return "Janus did not answer a keepalive"
