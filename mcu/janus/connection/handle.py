"""One handle of Janus: an attachment to VideoRoom, one peer, at most one PeerConnection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from mcu.base import Candidate
from mcu.janus.connection.protocol import Expect, HandleInfo, JanusMessage

if TYPE_CHECKING:
    from mcu.janus.connection.session import JanusSession, Reply

PATIENCE = 5.0  # seconds to wait for answers that are outstanding before a handle is detached


class HandleListener(Protocol):
    """The owner of a handle."""

    def on_event(self, message: JanusMessage) -> None:
        """Take what Janus says of the handle."""

    def on_resumed(self) -> None:
        """Learn that the connection was away: what Janus said meanwhile nobody has heard."""

    def on_told(self, info: HandleInfo) -> None:
        """Take what the Admin API tells of the handle after the connection was away."""

    def on_lost(self) -> None:
        """Learn that the session is gone and the handle with it."""


class Handle:
    """A handle of a session; events reach the owner in the order in which Janus sent them."""

    def __init__(self, session: JanusSession, number: int, owner: HandleListener | None) -> None:
        self.session = session
        self.id = number
        self.owner = owner
        self._outstanding: set[Reply] = set()
        self._left: set[Reply] = set()  # of these nobody waits for the answer: it is the owner's event
        session.handles[number] = self

    def take(self, message: JanusMessage) -> None:
        """Pass an event to the owner."""
        self.inform(message.janus, lambda owner: owner.on_event(message))

    def told(self, info: HandleInfo) -> None:
        """Pass what the Admin API tells to the owner."""
        self.inform("handle_info", lambda owner: owner.on_told(info))

    def inform(self, what: str, say: Callable[[HandleListener], None]) -> None:
        """Say something to the owner, if there is one."""
        if self.owner is None:
            return
        try:
            say(self.owner)
        except Exception:  # all streams hear from one place: one that fails must not take the others down
            self.session.log.exception("an event of Janus was not handled: %s", what)

    async def ask(
        self,
        body: Mapping[str, Any],
        sdp: str | None = None,
        type: str = "offer",
        *,
        rid_order: str = "",
        again: bool = True,
    ) -> JanusMessage:
        """Send a plugin request that is answered by an event, with a description where ``sdp`` is given.

        ``rid_order`` says in which order an offer names its layers, where that is known. ``again``: that Janus gets the
        request twice does no harm. Cancelled, its late answer reaches the owner like any event.

        Raises:
            JanusError: the plugin or the core refused.
            Interrupted: the answer may have been lost with a connection; the session goes on.
            McuLost: the session is lost.
        """
        jsep = None if sdp is None else {"type": type, "sdp": sdp} | ({"rid_order": rid_order} if rid_order else {})
        request = {"handle_id": self.id, "body": body, "jsep": jsep}
        return await self._answer(self.session.post("message", Expect.EVENT, again=again, **request))

    def tell(self, body: Mapping[str, Any]) -> None:
        """Send a plugin request, once, and leave what answers it to the owner's ``on_event``."""
        reply = self._follow(self.session.post("message", Expect.EVENT, again=False, handle_id=self.id, body=body))
        self._left.add(reply)
        reply.add_done_callback(self._left.discard)

    async def trickle(self, candidate: Candidate | None) -> None:
        """Hand a candidate of the peer to Janus; ``None`` ends the list.

        Raises:
            JanusError: Janus refused it.
            McuLost: the session is lost.
        """
        wire: dict[str, Any] = {"completed": True}
        if candidate is not None:
            wire = {
                "candidate": candidate.candidate,
                "sdpMid": candidate.sdp_mid,
                "sdpMLineIndex": candidate.sdp_mline_index,
            }
            wire = {name: value for name, value in wire.items() if value is not None}
        await self._answer(self.session.post("trickle", Expect.ACK, handle_id=self.id, candidate=wire))

    def detach(self) -> asyncio.Future[None]:
        """Close the handle: no event is passed on any more. The future is done when Janus has let it go.

        Janus 1.1.2 now and then crashes when a handle goes while it works on a request of that handle, so answers that
        are outstanding are waited for. Whoever still waits for one after ``PATIENCE`` gets McuLost.
        """
        self.session.handles.pop(self.id, None)
        self.session.leaving.add(self.id)
        self.owner = None
        loop = asyncio.get_running_loop()
        detached: asyncio.Future[None] = loop.create_future()
        if not self._outstanding:
            self._send_detach(detached)
            return detached
        answered = asyncio.gather(*self._outstanding)
        late = loop.call_later(PATIENCE, self._give_up)
        answered.add_done_callback(lambda _: late.cancel())
        answered.add_done_callback(lambda _: self._send_detach(detached))
        return detached

    def heard(self, reply: Reply, message: JanusMessage) -> None:
        """Learn, in the order of the events, that a request was answered."""
        if reply in self._left:
            self.take(message)

    def _give_up(self) -> None:
        for reply in list(self._outstanding):
            if not reply.done():
                reply.set_result(None)

    def _send_detach(self, detached: asyncio.Future[None]) -> None:
        reply = self.session.post("detach", handle_id=self.id)
        reply.add_done_callback(lambda _: self.session.leaving.discard(self.id))
        reply.add_done_callback(lambda _: detached.set_result(None))

    def _follow(self, reply: Reply) -> Reply:
        self._outstanding.add(reply)
        reply.add_done_callback(self._outstanding.discard)
        return reply

    async def _answer(self, reply: Reply) -> JanusMessage:
        try:
            message = await asyncio.shield(self._follow(reply))
        except asyncio.CancelledError:
            if reply.done():  # it came in the very turn in which we were cancelled
                late = reply.result()
                if late is not None:
                    self.take(late)
            else:
                self._left.add(reply)
                reply.add_done_callback(self._left.discard)
            raise
        return self.session.checked(message)
