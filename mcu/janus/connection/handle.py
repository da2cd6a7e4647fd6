"""A handle of Janus: an attachment to VideoRoom with at most one PeerConnection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from mcu.base import IceCandidate
from mcu.janus.connection.messages import HandleInfo, JanusError, JanusMessage, error_of
from mcu.janus.connection.transactions import Expect

if TYPE_CHECKING:
    from mcu.janus.connection.session import Answer, JanusSession

ANSWER_TIMEOUT = 5.0  # seconds to wait for outstanding answers before a handle is detached


class HandleListener(Protocol):
    """The receiver of a handle's events."""

    def on_event(self, message: JanusMessage) -> None:
        """Handle an event of Janus."""

    def on_refused(self, body: Mapping[str, Any], error: JanusError) -> None:
        """Handle the error that answers a plugin request without a caller; ``body``: that request."""

    def on_claimed(self) -> None:
        """Handle the return of the connection: events that Janus sent while it was broken are lost."""

    def on_handle_info(self, info: HandleInfo) -> None:
        """Apply the Admin API's report of the handle, requested after the connection was broken."""

    def on_lost(self) -> None:
        """Handle the loss of the session, and of the handle with it."""


class Handle:
    """A handle of a session; events reach the listener in the order in which Janus sent them."""

    def __init__(self, session: JanusSession, number: int, listener: HandleListener | None) -> None:
        self.session = session
        self.id = number
        self.listener = listener
        self.negotiated = False  # Janus has sent a description over it
        self._outstanding: set[Answer] = set()
        # Requests whose answers have no caller and are passed to the listener as events; empty: of a candidate.
        self._unawaited: dict[Answer, Mapping[str, Any]] = {}
        session.handles[number] = self

    def receive(self, message: JanusMessage) -> None:
        """Pass an event to the listener."""
        self.negotiated = self.negotiated or message.jsep is not None
        self.notify(message.janus, lambda listener: listener.on_event(message))

    def receive_info(self, info: HandleInfo) -> None:
        """Pass the Admin API's report to the listener."""
        self.notify("handle_info", lambda listener: listener.on_handle_info(info))

    def notify(self, event: str, call: Callable[[HandleListener], None]) -> None:
        """Call the listener, if there is one; an exception is logged with the name of the event."""
        if self.listener is None:
            return
        try:
            call(self.listener)
        except Exception:  # one reader serves all handles: an exception would end it for all
            self.session.log.exception("an event of Janus was not handled: %s", event)

    async def request(
        self,
        body: Mapping[str, Any],
        sdp: str | None = None,
        type: str = "offer",
        *,
        rid_order: str = "",
        repeatable: bool = True,
    ) -> JanusMessage:
        """Send a plugin request that is answered by an event, with a description where ``sdp`` is given.

        ``rid_order``: the order in which an offer lists its simulcast layers, where that is known. ``repeatable``: a
        second delivery to Janus does no harm. If the call is cancelled, a late answer reaches the listener as an event.

        Raises:
            JanusError: the plugin or the core refused.
            RequestInterrupted: the answer may have been lost with a connection; the session goes on.
            McuLost: the session is lost.
        """
        jsep = None if sdp is None else {"type": type, "sdp": sdp} | ({"rid_order": rid_order} if rid_order else {})
        fields = {"handle_id": self.id, "body": body, "jsep": jsep}
        return await self._result(self.session.post("message", Expect.EVENT, repeatable=repeatable, **fields), body)

    def send(self, body: Mapping[str, Any]) -> None:
        """Send a plugin request, once, without waiting; its answer reaches the listener as an event."""
        answer = self._track(self.session.post("message", Expect.EVENT, repeatable=False, handle_id=self.id, body=body))
        self._leave_to_listener(answer, body)

    async def trickle(self, candidate: IceCandidate | None) -> None:
        """Send a candidate of the client to Janus; ``None``: the end of candidates.

        Raises:
            JanusError: Janus refused it.
            McuLost: the session is lost.
        """
        fields: dict[str, Any] = {"completed": True}
        if candidate is not None:
            fields = {
                "candidate": candidate.candidate,
                "sdpMid": candidate.sdp_mid,
                "sdpMLineIndex": candidate.sdp_mline_index,
            }
            fields = {name: value for name, value in fields.items() if value is not None}
        await self._result(self.session.post("trickle", Expect.ACK, handle_id=self.id, candidate=fields), {})

    def detach(self) -> asyncio.Future[None]:
        """Close the handle: no further event reaches the listener. The future is done when Janus has detached it.

        Janus 1.1.2 sometimes crashes when a handle is detached while one of its requests is being processed, so
        outstanding answers are waited for. After ``ANSWER_TIMEOUT`` the calls without an answer raise McuLost.
        """
        self.session.handles.pop(self.id, None)
        self.session.detaching.add(self.id)
        self.listener = None
        loop = asyncio.get_running_loop()
        detached: asyncio.Future[None] = loop.create_future()
        if not self._outstanding:
            self._send_detach(detached)
            return detached
        answered = asyncio.gather(*self._outstanding)
        timer = loop.call_later(ANSWER_TIMEOUT, self._fail_outstanding)
        answered.add_done_callback(lambda _: timer.cancel())
        answered.add_done_callback(lambda _: self._send_detach(detached))
        return detached

    def on_answer(self, answer: Answer, message: JanusMessage) -> None:
        """Pass an answer that has no caller to the listener, in order with the events."""
        self.negotiated = self.negotiated or message.jsep is not None
        body = self._unawaited.get(answer)
        if body is not None:
            self._receive_answer(body, message)

    def _leave_to_listener(self, answer: Answer, body: Mapping[str, Any]) -> None:
        self._unawaited[answer] = body
        answer.add_done_callback(lambda answer: self._unawaited.pop(answer, None))

    def _receive_answer(self, body: Mapping[str, Any], message: JanusMessage) -> None:
        """Pass an answer that has no caller to the listener: as an event, or as the error of its request."""
        error = error_of(message)
        if error is None:
            self.receive(message)
        else:
            self.notify("error", lambda listener: listener.on_refused(body, error))

    def _fail_outstanding(self) -> None:
        for answer in list(self._outstanding):
            if not answer.done():
                answer.set_result(None)

    def _send_detach(self, detached: asyncio.Future[None]) -> None:
        answer = self.session.post("detach", handle_id=self.id)
        answer.add_done_callback(lambda _: self.session.detaching.discard(self.id))
        answer.add_done_callback(lambda _: detached.set_result(None))

    def _track(self, answer: Answer) -> Answer:
        self._outstanding.add(answer)
        answer.add_done_callback(self._outstanding.discard)
        return answer

    async def _result(self, answer: Answer, body: Mapping[str, Any]) -> JanusMessage:
        try:
            message = await asyncio.shield(self._track(answer))
        except asyncio.CancelledError:
            if answer.done():  # the answer arrived in the same loop iteration as the cancellation
                late = answer.result()
                if late is not None:
                    self._receive_answer(body, late)
            else:
                self._leave_to_listener(answer, body)
            raise
        return self.session.require_success(message)
