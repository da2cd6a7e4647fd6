"""A Janus session: its requests and its handles, and the WebSocket that carries it at the moment.

A session outlives its WebSocket for as long as Janus lets it be claimed again: requests wait, handles stay, and who
owns one looks afterwards what it has missed. Lost for good, all that waits for it fails at once, each handle hears of
it, and the client (client.py) opens another. Sending is synchronous, in the order of the calls; a task writes. Events
reach a handle in the order in which Janus sent them, synchronously, from the one reader.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp

from mcu.base import McuLost
from mcu.janus.connection.handle import Handle, HandleListener
from mcu.janus.connection.log import JanusLog
from mcu.janus.connection.protocol import (
    NO_SUCH_SESSION,
    PLUGIN,
    Expect,
    InvalidJanusMessage,
    JanusError,
    JanusMessage,
    Route,
    Settled,
    Transactions,
    encode,
    failure,
    parse,
)
from mcu.janus.connection.request_queue import RequestQueue
from mcu.janus.labels import control

KEEPALIVE = 3.0  # seconds; Janus counts the time in which a session may be claimed again from its last request


Reply = asyncio.Future[JanusMessage | None]  # None: the session was lost

INTERRUPTED = JanusMessage(janus="interrupted")  # stands for an answer that was lost with a connection


class Interrupted(McuLost):
    """The connection broke while Janus worked on a request; the session goes on, what came of it is not known.

    Nothing but what the request was about is touched: who asked clears it away and may begin again.
    """


class JanusSession:
    """A Janus session, carried by one WebSocket after another.

    After construction ``carry`` must be running, then ``open``. When a connection has ended, either ``carry`` and
    ``claim`` over another one, or ``lose``. What is asked for in between waits.
    """

    def __init__(self, secrets: Mapping[str, str], timeout: float, instance: str, log: JanusLog) -> None:
        self.id = 0
        self.log = log
        self.instance = instance  # whose handles these are (``mcu.janus.labels``)
        self.control: Handle
        self.lost = False
        self.over = False  # Janus has ended it: there is nothing to claim
        self.heard = 0.0  # when Janus said something, by the loop's clock
        self.attaching = 0  # handles that are about to be ours
        self.handles: dict[int, Handle] = {}
        self.leaving: set[int] = set()  # handles that Janus is to let go, or is asked to in a moment
        self._secrets = secrets
        self._timeout = timeout  # seconds, for requests of the session's own
        self._transactions = Transactions()
        self._replies: dict[str, Reply] = {}
        self._undo: dict[str, Callable[[JanusMessage], object]] = {}
        self._outgoing = RequestQueue()
        self._usable = asyncio.Event()  # requests may go out: it is not, or not to be, claimed
        self._usable.set()
        self._ended = asyncio.Event()
        self._why = ""
        self._socket: aiohttp.ClientWebSocketResponse | None = None

    async def open(self) -> None:
        """Create the Janus session and the control handle, over which rooms are created and destroyed.

        Raises:
            JanusError: Janus does not let us.
            McuLost: the connection ended.
        """
        created = await self.request("create", undo=lambda late: self.post("destroy", session_id=late.data.id))
        self.id = created.data.id
        self.control = await self.attach(control(self.instance), None)

    async def carry(self, socket: aiohttp.ClientWebSocketResponse) -> str:
        """Read, write and keep alive until the connection ends, and return why. The session outlives it."""
        self._socket = socket
        self.heard = asyncio.get_running_loop().time()
        tasks = [
            asyncio.create_task(self._read(socket), name="janus-read"),
            asyncio.create_task(self._write(socket), name="janus-write"),
            asyncio.create_task(self._keep_alive(), name="janus-keepalive"),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            first = next(task for task in tasks if task in done)
            if (error := first.exception()) is not None:  # of ours: another connection may do better
                self.log.error("a connection to Janus failed", exc_info=error)
                return "an error of ours"
            return first.result()
        finally:
            self._socket = None
            if self.id:
                self._usable.clear()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def claim(self) -> None:
        """Take the session over to the connection that carries it now; what was asked for meanwhile goes out then.

        Whoever owns a handle is told to look what it has missed.

        Raises:
            JanusError: Janus has no such session any more, or does not give it to us.
            McuLost: the session, or the connection, is lost.
        """
        socket = self._socket
        if socket is None or self.lost:
            raise McuLost("the connection to Janus is gone")
        transaction = self._transactions.begin(Expect.SUCCESS)
        reply = self._replies[transaction] = asyncio.get_running_loop().create_future()
        try:
            await socket.send_str(encode("claim", transaction, self._secrets, {"session_id": self.id}))
            message = await reply
        except (OSError, aiohttp.ClientError) as error:
            raise McuLost("the connection broke") from error
        finally:
            del self._replies[transaction]
            self._transactions.abandon(transaction)
        if message is None:
            raise McuLost("the connection to Janus is gone")
        refusal = failure(message)
        if refusal is not None:
            raise refusal
        self._resume()

    def _resume(self) -> None:
        for transaction in self._outgoing.resume():
            reply = self._replies.get(transaction)
            if reply is not None and not reply.done():
                self._transactions.abandon(transaction)  # its answer may come yet, and is undone then
                reply.set_result(INTERRUPTED)
        self._usable.set()
        for handle in list(self.handles.values()):
            handle.inform("claimed", lambda owner: owner.on_resumed())

    def post(self, janus: str, expect: Expect = Expect.SUCCESS, *, again: bool = True, **fields: Any) -> Reply:
        """Send a request at once; the future brings what answers it, ``None`` when the session is lost.

        ``again``: that Janus gets it twice does no harm. If not, the future brings ``INTERRUPTED`` where the answer may
        have been lost with a connection; so it does if the second of two is refused.
        """
        return self._begin(janus, expect, None, again, fields)[1]

    async def request(
        self,
        janus: str,
        expect: Expect = Expect.SUCCESS,
        undo: Callable[[JanusMessage], object] | None = None,
        **fields: Any,
    ) -> JanusMessage:
        """Send a request and return what answers it; ``undo`` is called when it succeeds after we were cancelled.

        One that leaves something to undo is not sent a second time.

        Raises:
            JanusError: Janus or the plugin refused.
            Interrupted: the answer may have been lost with a connection.
            McuLost: the session is lost.
        """
        transaction, reply = self._begin(janus, expect, undo, undo is None, fields)
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

    def checked(self, message: JanusMessage | None) -> JanusMessage:
        """Return what answered a request unless it is an error.

        Raises:
            JanusError: Janus or the plugin refused.
            Interrupted: the answer may have been lost with a connection.
            McuLost: the session is lost.
        """
        if message is None:
            raise McuLost("the connection to Janus is gone")
        if message is INTERRUPTED:
            raise Interrupted("the connection to Janus broke during the request")
        error = failure(message)
        if error is None:
            return message
        if error.code == NO_SUCH_SESSION:
            self.end("Janus has forgotten the session")
            raise McuLost("Janus has forgotten the session") from error
        raise error

    def _begin(
        self,
        janus: str,
        expect: Expect,
        undo: Callable[[JanusMessage], object] | None,
        again: bool,
        fields: Mapping[str, Any],
    ) -> tuple[str, Reply]:
        reply: Reply = asyncio.get_running_loop().create_future()
        if self.lost:
            reply.set_result(None)
            return "", reply
        transaction = self._transactions.begin(expect, undo is not None)
        self._replies[transaction] = reply
        reply.add_done_callback(lambda _: self._close(transaction))
        if undo is not None:
            self._undo[transaction] = undo
        self._outgoing.put(transaction, self._encoded(janus, transaction, fields), again=again)
        return transaction, reply

    def _close(self, transaction: str) -> None:
        """Follow a request no longer that is answered or given up."""
        self._replies.pop(transaction, None)
        if not self._outgoing.close(transaction):
            self._transactions.forget(transaction)
            self._undo.pop(transaction, None)

    def tell(self, janus: str, **fields: Any) -> None:
        """Send a request whose answer nobody follows; a plugin's answer reaches the handle as an event."""
        if not self.lost:
            self._outgoing.tell(self._encoded(janus, self._transactions.unheard(), fields))

    async def attach(self, opaque: str, owner: HandleListener | None) -> Handle:
        """Open a handle to VideoRoom; ``opaque`` names it in Janus' own views."""
        self.attaching += 1
        try:
            while True:
                with contextlib.suppress(Interrupted):  # then the handle, if there is one, is nobody's: see ``sweep``
                    attached = await self.request("attach", undo=self._let_go, plugin=PLUGIN, opaque_id=opaque)
                    return Handle(self, attached.data.id, owner)
        finally:
            self.attaching -= 1

    def _let_go(self, late: JanusMessage) -> None:
        self.post("detach", handle_id=late.data.id)

    def lose(self) -> None:
        """Give the session up for good: fail what waits and tell every handle. Idempotent."""
        if self.lost:
            return
        self.lost = True
        for reply in list(self._replies.values()):
            if not reply.done():
                reply.set_result(None)
        handles, self.handles = self.handles, {}
        for handle in handles.values():
            handle.inform("lost", lambda owner: owner.on_lost())

    def end(self, why: str) -> None:
        """Janus has ended the session: ``carry`` returns ``why``, and there is nothing to claim."""
        self.over = True
        self._why = self._why or why
        self._ended.set()

    def _encoded(self, janus: str, transaction: str, fields: Mapping[str, Any]) -> str:
        return encode(janus, transaction, self._secrets, {"session_id": self.id, **fields})

    async def _write(self, socket: aiohttp.ClientWebSocketResponse) -> str:
        await self._usable.wait()
        while True:
            text = await self._outgoing.take()
            try:
                await socket.send_str(text)
            except (OSError, aiohttp.ClientError):
                return "the connection broke"

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> str:
        clock = asyncio.get_running_loop().time
        while True:
            frame = await socket.receive()
            if frame.type is not aiohttp.WSMsgType.TEXT:
                if isinstance(socket.exception(), aiohttp.ServerTimeoutError):
                    return "Janus does not answer any more"
                return "the connection was closed"
            self.heard = clock()
            try:
                message = parse(frame.data)
            except InvalidJanusMessage as error:
                self.log.warning("%s", error)
                continue
            if self.take(message) is Route.SESSION_ENDED:
                self.end("Janus ended the session")
                return self._why

    def take(self, message: JanusMessage) -> Route:
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

    def _deliver(self, settled: Settled, message: JanusMessage) -> None:
        undo = self._undo.pop(settled.transaction, None)
        reply = self._replies.get(settled.transaction)
        # A reply that is done was cancelled, and who waited for it has not had its turn to abandon the request yet.
        if settled.late or reply is None or reply.done():
            if undo is not None and failure(message) is None:
                undo(message)
            return
        error = failure(message)
        if error is not None and error.code != NO_SUCH_SESSION and self._outgoing.repeated(settled.transaction):
            reply.set_result(INTERRUPTED)  # the first may have had success
            return
        if (handle := self.handles.get(message.sender)) is not None:
            handle.heard(reply, message)
        reply.set_result(message)

    async def _keep_alive(self) -> str:
        await self._usable.wait()
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
