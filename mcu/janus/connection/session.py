"""A Janus session: its requests and its handles, carried by one WebSocket after another.

A session outlives its WebSocket for as long as Janus lets it be claimed again: requests wait, handles stay, and after
the claim the listener of each handle is called, because it may have missed events. When the session is lost, every
pending request fails at once, each handle's listener is called, and the connector (connector.py) opens another session.
Sending is synchronous, in the order of the calls; a task writes to the socket. Events reach a handle synchronously, in
the order in which Janus sent them, from the one reader.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp

from mcu.base import McuLost
from mcu.janus.connection import traced_request
from mcu.janus.connection.handle import Handle, HandleListener
from mcu.janus.connection.log import JanusLog
from mcu.janus.connection.messages import (
    NO_SUCH_SESSION,
    PLUGIN,
    InvalidJanusMessage,
    JanusError,
    JanusMessage,
    encode,
    error_of,
    parse,
)
from mcu.janus.connection.request_queue import RequestQueue
from mcu.janus.connection.transactions import Expect, Route, SettledRequest, Transactions
from mcu.janus.labels import control_label
from mcu.request_trace import request_trace

KEEPALIVE = 3.0  # seconds between keepalives: a session can be claimed for a limited time after its last request
STALLED_AFTER = 3.0  # seconds without an answer to a keepalive

Answer = asyncio.Future[JanusMessage | None]  # None: the session was lost
Undo = Callable[[JanusMessage], object]  # removes the object that a late success has created on Janus
Clock = Callable[[], float]  # seconds

INTERRUPTED_ANSWER = JanusMessage(janus="interrupted")  # stands for an answer that may have been lost with a connection


class RequestInterrupted(McuLost):
    """The connection broke while Janus processed a request; the session goes on, the request's effect is unknown.

    The caller removes any object that the request may have created, and may begin again.
    """


class JanusSession:
    """A Janus session, carried by one WebSocket after another.

    After construction ``carry`` must be running, then ``open``. When a connection has ended, either ``carry`` and
    ``claim`` over another one, or ``lose``. Requests made in between wait.
    """

    def __init__(self, secrets: Mapping[str, str], instance: str, log: JanusLog, clock: Clock) -> None:
        self.id = 0  # 0: not created yet
        self.log = log
        self.instance = instance  # the gateway's name in labels (``mcu.janus.labels``)
        self.control: Handle
        self.lost = False
        self.ended_by_janus = False  # so it cannot be claimed
        self.last_received = 0.0  # time of Janus' last frame
        self.attaching = 0  # number of handles that are being created
        self.handles: dict[int, Handle] = {}
        self.detaching: set[int] = set()  # handles whose detach is on its way, or about to be sent
        self._secrets = secrets
        self._clock = clock
        self._transactions = Transactions()
        self._answers: dict[str, Answer] = {}
        self._undo: dict[str, Undo] = {}
        self._queue = RequestQueue()
        self._may_send = asyncio.Event()  # cleared while the session has to be claimed
        self._may_send.set()
        self.stalled = asyncio.Event()  # set while a keepalive is not answered; requests wait
        self.answering = asyncio.Event()  # set while not stalled
        self._ended = asyncio.Event()
        self._end_reason = ""
        self._socket: aiohttp.ClientWebSocketResponse | None = None

    @property
    def carried(self) -> bool:
        """Whether a connection carries the session now."""
        return self._socket is not None

    async def open(self) -> None:
        """Create the Janus session and the control handle, over which rooms are created and destroyed.

        Raises:
            JanusError: Janus refused.
            McuLost: the connection ended.
        """
        created = await self.request("create", undo=lambda late: self.post("destroy", session_id=late.data.id))
        self.id = created.data.id
        self.control = await self.attach(control_label(self.instance), None)

    async def carry(self, socket: aiohttp.ClientWebSocketResponse) -> str:
        """Read, write and send keepalives until the connection ends, and return the reason. The session outlives it."""
        self._socket = socket
        self.last_received = self._clock()
        self._on_answering()
        tasks = [
            asyncio.create_task(self._read(socket), name="janus-read"),
            asyncio.create_task(self._write(socket), name="janus-write"),
            asyncio.create_task(self._keep_alive(), name="janus-keepalive"),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            first = next(task for task in tasks if task in done)
            if (error := first.exception()) is not None:  # a fault of this program: the next connection may work
                self.log.error("a connection to Janus failed", exc_info=error)
                return "an internal error"
            return first.result()
        finally:
            self._socket = None
            if self.id:
                self._may_send.clear()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def claim(self) -> None:
        """Claim the session for the connection that carries it now, then send the requests that have waited.

        The listener of each handle is called, since it may have missed events.

        Raises:
            JanusError: Janus has no such session any more, or refuses the claim.
            McuLost: the session, or the connection, is lost.
        """
        socket = self._socket
        if socket is None or self.lost:
            raise McuLost("the connection to Janus is gone")
        transaction = self._transactions.begin(Expect.SUCCESS)
        answer = self._answers[transaction] = asyncio.get_running_loop().create_future()
        try:
            await socket.send_str(encode("claim", transaction, self._secrets, {"session_id": self.id}))
            message = await answer
        except (OSError, aiohttp.ClientError) as error:
            raise McuLost("the connection broke") from error
        finally:
            del self._answers[transaction]
            self._transactions.abandon(transaction)
        if message is None:
            raise McuLost("the connection to Janus is gone")
        refusal = error_of(message)
        if refusal is not None:
            raise refusal
        self._resume()

    def _on_stall(self) -> None:
        self._may_send.clear()
        self.answering.clear()
        self.stalled.set()

    def _on_answering(self) -> None:
        self.stalled.clear()
        self.answering.set()

    def _resume(self) -> None:
        for transaction in self._queue.requeue():
            answer = self._answers.get(transaction)
            if answer is not None and not answer.done():
                self._transactions.abandon(transaction)  # a success may still arrive, and is undone then
                answer.set_result(INTERRUPTED_ANSWER)
        self._may_send.set()
        for handle in list(self.handles.values()):
            handle.notify("claimed", lambda listener: listener.on_claimed())

    def post(self, janus: str, expect: Expect = Expect.SUCCESS, *, repeatable: bool = True, **fields: Any) -> Answer:
        """Queue a request and return the future of its answer; its result is ``None`` when the session is lost.

        ``repeatable``: a second delivery to Janus does no harm. The result is ``INTERRUPTED_ANSWER`` if the answer
        to a request that is not repeatable may have been lost with a connection, or if a second delivery is refused.
        """
        return self._begin(janus, expect, None, repeatable, fields)[1]

    async def request(
        self,
        janus: str,
        expect: Expect = Expect.SUCCESS,
        undo: Undo | None = None,
        **fields: Any,
    ) -> JanusMessage:
        """Send a request and return its answer; ``undo`` is called when it succeeds after the call was cancelled.

        A request with ``undo`` is not repeatable.

        Raises:
            JanusError: Janus or the plugin refused.
            RequestInterrupted: the answer may have been lost with a connection.
            McuLost: the session is lost.
        """
        transaction, answer = self._begin(janus, expect, undo, undo is None, fields)
        try:
            message = await answer
        except asyncio.CancelledError:
            self._transactions.abandon(transaction)
            if answer.done() and not answer.cancelled():  # it arrived in the same loop iteration as the cancellation
                late = answer.result()
                if undo is not None and late is not None and error_of(late) is None:
                    undo(late)
            raise
        return self.require_success(message)

    def require_success(self, message: JanusMessage | None) -> JanusMessage:
        """Return the answer to a request unless it is an error.

        Raises:
            JanusError: Janus or the plugin refused.
            RequestInterrupted: the answer may have been lost with a connection.
            McuLost: the session is lost.
        """
        if message is None:
            raise McuLost("the connection to Janus is gone")
        if message is INTERRUPTED_ANSWER:
            raise RequestInterrupted("the connection to Janus broke during the request")
        error = error_of(message)
        if error is None:
            return message
        if error.code == NO_SUCH_SESSION:
            self._end("Janus has no such session any more")
            raise McuLost("Janus has no such session any more") from error
        raise error

    def _begin(
        self, janus: str, expect: Expect, undo: Undo | None, repeatable: bool, fields: Mapping[str, Any]
    ) -> tuple[str, Answer]:
        answer: Answer = asyncio.get_running_loop().create_future()
        if self.lost:
            answer.set_result(None)
            return "", answer
        transaction = self._transactions.begin(expect, undo is not None, fields.get("handle_id", 0))
        self._answers[transaction] = answer
        answer.add_done_callback(lambda _: self._forget(transaction))
        if undo is not None:
            self._undo[transaction] = undo
        text = encode(janus, transaction, self._secrets, {"session_id": self.id, **fields})
        self._queue.put(transaction, text, repeatable=repeatable)
        if (trace := request_trace.get()) is not None:
            traced_request.record(trace, janus, fields, answer)
        return transaction, answer

    def _forget(self, transaction: str) -> None:
        """Forget a request that is answered or cancelled."""
        self._answers.pop(transaction, None)
        if not self._queue.forget(transaction):
            self._transactions.forget(transaction)
            self._undo.pop(transaction, None)

    async def attach(self, opaque_id: str, listener: HandleListener | None) -> Handle:
        """Attach a handle to VideoRoom; ``opaque_id`` names the handle in Janus' Admin API and events.

        Raises:
            JanusError: Janus refused.
            McuLost: the session is lost.
        """
        self.attaching += 1
        try:
            while True:
                with contextlib.suppress(RequestInterrupted):  # a handle that Janus created is an orphan (``sweep``)
                    attached = await self.request("attach", undo=self._detach_late, plugin=PLUGIN, opaque_id=opaque_id)
                    return Handle(self, attached.data.id, listener)
        finally:
            self.attaching -= 1

    def _detach_late(self, attached: JanusMessage) -> None:
        self.post("detach", handle_id=attached.data.id)

    def lose(self) -> None:
        """Give up the session: fail its requests and notify the listener of each handle. Idempotent."""
        if self.lost:
            return
        self.lost = True
        self._end("the session was given up", by_janus=False)
        for answer in list(self._answers.values()):
            if not answer.done():
                answer.set_result(None)
        handles, self.handles = self.handles, {}
        for handle in handles.values():
            handle.notify("lost", lambda listener: listener.on_lost())

    def _end(self, reason: str, *, by_janus: bool = True) -> None:
        """Mark the session as ended: ``carry`` returns the reason, and the session cannot be claimed."""
        self.ended_by_janus = self.ended_by_janus or by_janus
        self._end_reason = self._end_reason or reason
        self._ended.set()

    async def _write(self, socket: aiohttp.ClientWebSocketResponse) -> str:
        while True:
            await self._may_send.wait()
            text = await self._queue.next_text()
            try:
                await socket.send_str(text)
            except (OSError, aiohttp.ClientError):
                return "the connection broke"

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> str:
        while True:
            frame = await socket.receive()
            if frame.type is not aiohttp.WSMsgType.TEXT:
                return "the connection was closed"
            self.last_received = self._clock()
            try:
                message = parse(frame.data)
            except InvalidJanusMessage as error:
                self.log.warning("%s", error)
                continue
            if self.receive(message) is Route.SESSION_ENDED:
                self._end("Janus ended the session")
                return self._end_reason

    def receive(self, message: JanusMessage) -> Route:
        """Pass a message to the request that it answers or to its handle, and return its route."""
        route = self._transactions.route(message)
        if route is Route.REQUEST:
            settled = self._transactions.settle(message)
            if settled is not None:
                self._deliver(settled, message)
        elif route is Route.HANDLE and (handle := self.handles.get(message.sender)) is not None:
            handle.receive(message)
        return route

    def _deliver(self, settled: SettledRequest, message: JanusMessage) -> None:
        undo = self._undo.pop(settled.transaction, None)
        answer = self._answers.get(settled.transaction)
        # An answer that is done was cancelled, and its caller has not yet run to abandon the request.
        if settled.undo or answer is None or answer.done():
            if undo is not None and error_of(message) is None:
                undo(message)
            return
        error = error_of(message)
        if error is not None and error.code != NO_SUCH_SESSION and self._queue.was_repeated(settled.transaction):
            answer.set_result(INTERRUPTED_ANSWER)  # the first delivery may have succeeded
            return
        if (handle := self.handles.get(settled.handle)) is not None:
            handle.on_answer(answer, message)
        answer.set_result(message)

    async def _keep_alive(self) -> str:
        while True:
            await self._may_send.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KEEPALIVE):
                    await self._ended.wait()
                return self._end_reason
            if not self.id:
                continue
            answer = self.post("keepalive", Expect.ACK)
            try:
                await self._wait_through_stall(answer)
                self.require_success(answer.result())
            except McuLost:
                return self._end_reason
            except JanusError:
                return "Janus refused a keepalive"
            finally:
                answer.cancel()

    async def _wait_through_stall(self, answer: Answer) -> None:
        """Wait for the answer to a keepalive; after ``STALLED_AFTER`` Janus is stalled until the answer."""
        answered, _ = await asyncio.wait([answer], timeout=STALLED_AFTER)
        if answered:
            return
        self._on_stall()
        await asyncio.wait([answer])
        self._may_send.set()
        self._on_answering()
